// Tests of state: keys, beginnings and ends, with fakes.

import { test, describe, mock } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';
import { begin, last, message, pass, position, requests, settled, sockets, sources } from './harness.js';

const begins = { begin: '1-0' };
const value = (key, data, more) => ({ topic: 'a', key, data, ...more });
const onlyFetch = { sse: 'http://x/events', headers: {}, transports: ['sse'] };

// Applies what a stream dispatches to a map and to a list, as a page does.
const keep = (stream) => {
  const state = { values: new Map(), events: [] };
  stream.addEventListener('begin', () => {
    state.values.clear();
    state.events = [];
  });
  stream.addEventListener('message', ({ key, removed, first, data }) => {
    if (removed) state.values.delete(key);
    else if (key) state.values.set(key, data);
    else state.events = first ? [data] : [...state.events, data];
  });
  return state;
};

describe('a beginning', () => {
  test('is an event with its topics and with those that lack something', async () => {
    const { stream } = await begin();
    const seen = [];
    stream.onbegin = ({ type, topics, partial, lastEventId }) => seen.push([type, topics, partial, lastEventId]);
    sockets[0].deliver(begins, { ready: '1f-3' }, { begin: '1-0', topics: ['a'], partial: ['a'] });
    assert.deepEqual(seen, [['begin', null, [], '1-0'], ['begin', ['a'], ['a'], '1-0']]);
    assert.equal(stream.state, 'open');
  });

  test('a message has its key, and whether it is a removal or a first event', async () => {
    const { stream } = await begin();
    const seen = [];
    stream.onmessage = ({ topic, key, removed, first, lastEventId, data }) => seen.push([topic, key, removed, first, lastEventId, data]);
    sockets[0].deliver(begins, value('x', '1'), message('1f-2', 'event'), value('x', '', { id: '1f-3', removed: true }), message('1f-4', 'whole', { first: true }));
    assert.deepEqual(seen, [['a', 'x', false, false, '', '1'], ['a', '', false, false, '1f-2', 'event'], ['a', 'x', true, false, '1f-3', ''], ['a', '', false, true, '1f-4', 'whole']]);
  });

  test('the last message of a topic is no end of the stream, and moves no position without an ID', async () => {
    const { stream, log } = await begin();
    sockets[0].deliver(begins, { topic: 'a', end: true, data: 'bye' }, message('1f-2', 'of another', { type: 'end' }));
    assert.equal(stream.state, 'open');
    assert.deepEqual(log.slice(2), ['begin 1-0', 'message bye']);
    assert.equal(stream.lastEventId, '1f-2');
  });

  test('types of its own events are messages', async () => {
    const { stream } = await begin();
    const seen = [];
    stream.onbegin = stream.onended = ({ type }) => seen.push(type);
    stream.onmessage = ({ data }) => seen.push(data);
    stream.addEventListener('end', ({ data }) => seen.push(data));
    sockets[0].deliver({ ready: '1f-1' }, ...['begin', 'ended', 'end'].map((type, i) => message(`1f-${i + 2}`, `of type ${type}`, { type })));
    assert.deepEqual(seen, ['of type begin', 'of type ended', 'of type end']);
  });

  for (const [name, options, links] of [
    ['WebSocket', { ws: 'http://x/ws' }, () => sockets], ['an EventSource', { sse: 'http://x/events', transports: ['sse'] }, () => sources],
    ['fetch', onlyFetch, () => requests], ['polling', { sse: 'http://x/events', transports: ['poll'] }, () => requests],
  ]) {
    const deliver = async (...envelopes) => {
      const link = last(links());
      if (link.respond) await link.respond();
      await link.deliver(...envelopes);
    };
    const cut = async () => {
      const link = last(links());
      if (link.end && !link.controller) link.end();
      else if (link.onerror) link.onerror({});
      else link.controller.error(new TypeError('network'));
      await settled();
      await pass(2000);
    };

    test(`over ${name}, one that is cut anywhere begins again`, async () => {
      const all = [begins, { topic: 'a', data: 'e1' }, value('x', '1'), value('y', '1'), { ready: '1f-5' }];
      for (let n = 1; n <= all.length; n++) {
        const { stream } = await begin(options);
        const state = keep(stream);
        await deliver(...all.slice(0, n));
        await cut();
        const isWhole = n === all.length;
        assert.equal(position(last(links())), isWhole ? '1f-5' : '1-0', `after ${n}`);
        await deliver(...(isWhole ? [{ ready: '1f-5' }] : all), value('x', '2', { id: '1f-6' }), value('y', '', { id: '1f-7', removed: true }), message('1f-8', 'e2'));
        assert.deepEqual([[...state.values], state.events, stream.lastEventId], [[['x', '2']], ['e1', 'e2'], '1f-8']);
        stream.close();
      }
    });

    test(`over ${name}, one that ends does not return`, async () => {
      const { stream, log } = await begin(options);
      await deliver(begins, { topic: 'a', end: true, data: 'all of it' }, { ready: '1f-4' }, { end: '1f-4' });
      assert.equal(last(log), 'ended');
      assert.equal(stream.state, 'closed');
      assert.equal(stream.lastEventId, '1f-4');
      const n = links().length;
      last(links()).end?.(1000);
      await pass(60_000);
      assert.equal(links().length, n);
      assert.ok(!log.includes('error 1000') && !log.includes('error'), log.join());
    });
  }

  test('a poll that ends in its beginning is a failure, and waits as long as the server asks', async () => {
    await begin({ sse: 'http://x/events', transports: ['poll'] });
    await requests[0].respond();
    await requests[0].deliver(begins, value('x', '1'));
    await pass(8000); // a slow link
    await requests[0].write('retry: 7000\n');
    await requests[0].end();
    await pass(6500);
    assert.equal(requests.length, 1);
    await pass(1500);
    assert.equal(position(last(requests)), '1-0');
  });

  test('a stream that is cut in each beginning waits longer and longer', async () => {
    mock.method(Math, 'random', () => 0.999);
    await begin({ ws: 'http://x/ws' });
    for (let i = 0; i < 5; i++) {
      const n = sockets.length;
      last(sockets).deliver(begins, value('x', '1'));
      await pass(6000);
      last(sockets).end();
      while (sockets.length === n) await pass(500);
    }
    last(sockets).deliver(begins);
    await pass(6000);
    const n = sockets.length;
    last(sockets).end();
    await pass(5000);
    assert.equal(sockets.length, n);
  });

  test('another transport does not take a stream over while that begins, or with a beginning', async () => {
    const { stream } = await begin();
    const state = keep(stream);
    for (let i = 0; i < 2; i++) {
      sockets[i].end();
      await pass(2000);
    }
    sources[0].deliver(begins, value('x', '1'));
    await pass(11_000);
    assert.equal(position(sockets[2]), '1-0');
    sockets[2].deliver(begins, value('x', '1'), { ready: '1f-2' });
    assert.equal(stream.transport, 'sse');
    sources[0].deliver(value('y', '1'), { ready: '1f-2' });
    assert.deepEqual([...state.values], [['x', '1'], ['y', '1']]);
    await pass(21_000);
    sockets[3].deliver({ ready: '1f-2' });
    assert.equal(stream.transport, 'ws');
  });

  test('a value that has come over two links counts the second time, without moving the position back', async () => {
    const { stream } = await begin();
    const state = keep(stream);
    for (let i = 0; i < 2; i++) {
      sockets[i].end();
      await pass(2000);
    }
    sources[0].deliver(begins, { ready: '1f-1' });
    await pass(11_000);
    sources[0].deliver(value('x', '2', { id: '1f-3' }), message('1f-4', 'event'));
    // The other link's server is behind: it sends an older value in a round, then the newest.
    sockets[2].deliver({ ready: '1f-1' }, value('x', '1'), { position: '1f-2' });
    assert.equal(stream.lastEventId, '1f-4');
    sockets[2].deliver(value('x', '2', { id: '1f-3' }), message('1f-4', 'event'), { position: '1f-4' });
    assert.deepEqual([[...state.values], state.events, stream.lastEventId], [[['x', '2']], ['event'], '1f-4']);
  });

  // twoLinks begins a stream at 1f-1 over SSE, which a WebSocket is about to replace.
  const twoLinks = async () => {
    const { stream } = await begin();
    const state = keep(stream);
    for (let i = 0; i < 2; i++) {
      sockets[i].end();
      await pass(2000);
    }
    sources[0].deliver(begins, { ready: '1f-1' });
    await pass(11_000);
    return { stream, state, old: sources[0], next: sockets[2] };
  };

  test('a value that one of two links has sent in a round leaves each event once', async () => {
    const { stream, state, old, next } = await twoLinks();
    // The round of the old link has the value first, without its ID.
    old.deliver(value('x', '2'), message('1f-3', 'one'), message('1f-4', 'two'), { position: '1f-4' });
    next.deliver({ ready: '1f-1' }, value('x', '2', { id: '1f-2' }));
    assert.equal(stream.lastEventId, '1f-4', 'a return would bring the events again');
    next.deliver(message('1f-3', 'one'), message('1f-4', 'two'), value('x', '5', { id: '1f-5' }));
    assert.equal(stream.lastEventId, '1f-5');
    next.deliver(message('1f-6', 'three'));
    assert.deepEqual([[...state.values], state.events, stream.lastEventId], [[['x', '5']], ['one', 'two', 'three'], '1f-6']);
  });

  test('values that one of two links has sent with IDs, and the other never does, hold no position back', async () => {
    const { stream, state, old, next } = await twoLinks();
    old.deliver(value('x', '2', { id: '1f-2' }), message('1f-3', 'one'), { position: '1f-3' });
    next.deliver({ ready: '1f-1' }, value('x', '4'), message('1f-3', 'one'), { position: '1f-5' });
    assert.deepEqual([[...state.values], state.events, stream.lastEventId], [[['x', '4']], ['one'], '1f-5']);
  });
});

describe('an end', () => {
  for (const [name, options] of [['an EventSource', { sse: 'http://x/events', transports: ['sse'] }], ['fetch', onlyFetch], ['polling', { sse: 'http://x/events', transports: ['poll'] }]]) {
    test(`a return over ${name} to a finished stream, which is answered with 204`, async () => {
      const { stream, log } = await begin({ ...options, lastEventId: '1f-4' });
      if (sources.length) {
        last(sources).readyState = 2;
        last(sources).onerror({});
        await settled();
      }
      await last(requests).respond(204);
      assert.deepEqual(log, ['closed', 'ended']);
      await pass(60_000);
      assert.equal(requests.length, 1);
      assert.equal(stream.lastEventId, '1f-4');
    });
  }

  test('204 without a position is a refusal', async () => {
    const { log } = await begin(onlyFetch);
    await requests[0].respond(204);
    assert.deepEqual(log, ['closed', 'error 204']);
  });

  test('is known on a transport that was just taken, also if all its messages had come', async () => {
    const { log } = await begin();
    for (let i = 0; i < 2; i++) {
      sockets[i].end();
      await pass(2000);
    }
    sources[0].deliver({ ready: '1f-1' });
    await pass(11_000);
    sources[0].deliver(value('x', '1', { id: '1f-2' }), value('x', '2', { id: '1f-3' }), message('1f-4', 'bye', { end: true }));
    sockets[2].deliver({ ready: '1f-1' }, value('x', '2', { id: '1f-3' }), message('1f-4', 'bye', { end: true }), { end: '1f-4' });
    assert.equal(last(log), 'ended');
  });

  test('of topics that the page no longer wants is not that of the stream', async () => {
    for (const options of [{ ws: 'http://x/ws', topics: ['a'] }, { ...onlyFetch, topics: ['a'] }]) {
      const { stream, log } = await begin(options);
      const links = options.ws ? sockets : requests;
      if (!options.ws) await requests[0].respond();
      await links[0].deliver(begins, { ready: '1f-1' });
      stream.setTopics(['b']);
      await settled();
      await links[0].deliver({ end: '1f-1' });
      assert.notEqual(stream.state, 'closed');
      assert.deepEqual(last(links).url.searchParams.getAll('topic'), ['b']);
      if (!options.ws) await last(requests).respond();
      await last(links).deliver(begins, { ready: '1f-2' }, { end: '1f-2' });
      assert.equal(last(log), 'ended');
    }
  });
});

describe('a change of topics', () => {
  for (const [name, options, links] of [
    ['a WebSocket', { ws: 'http://x/ws', topics: ['a'] }, () => sockets], ['an EventSource', { sse: 'http://x/events', transports: ['sse'], topics: ['a'] }, () => sources],
    ['fetch', { ...onlyFetch, topics: ['a'] }, () => requests], ['polling', { sse: 'http://x/events', transports: ['poll'], topics: ['a'] }, () => requests],
  ]) {
    const deliver = async (...envelopes) => {
      const link = last(links());
      if (link.respond && !link.controller) await link.respond();
      await link.deliver(...envelopes);
    };
    const isWebSocket = name === 'a WebSocket';
    const drop = async () => {
      if (isWebSocket) sockets[0].end();
      await pass(2000);
    };

    for (const resumed of [false, true]) {
      test(`over ${name}, until its answer no link has a position${resumed ? ', also if no beginning has been seen' : ''}`, async () => {
        const { stream } = await begin({ ...options, lastEventId: resumed ? '1f-1' : undefined });
        const state = keep(stream);
        await deliver(...(resumed ? [] : [begins, value('x', '1')]), { ready: '1f-1' });
        stream.setTopics(['a', 'b']);
        await drop();
        assert.deepEqual(last(links()).url.searchParams.getAll('topic'), ['a', 'b']);
        assert.equal(position(last(links())), null);
        await deliver(begins, value('x', '1'), { topic: 'b', key: 'y', data: '1' }, { ready: '1f-2' });
        assert.deepEqual([[...state.values], stream.lastEventId], [[['x', '1'], ['y', '1']], '1f-2']);
        const n = links().length;
        stream.setTopics(['b']);
        await drop();
        assert.equal(links().length, n + !isWebSocket);
      });
    }

    test(`over ${name}, a stream without beginnings loses nothing`, async () => {
      for (const lastEventId of [undefined, '1f-1']) {
        const { stream, log } = await begin({ ...options, lastEventId });
        const n = sockets.length - 1;
        await deliver({ ready: '1f-1' });
        stream.setTopics(['a', 'b']);
        if (isWebSocket) sockets[n].end();
        await pass(2000);
        if (lastEventId) {
          assert.equal(position(last(links())), null);
          await deliver({ topic: 'a', data: 'of Last' }, { ready: '1f-9' }); // it has no beginning
          await settled();
        }
        assert.equal(position(last(links())), '1f-1');
        await deliver({ ready: '1f-1' }, message('1f-2', 'one'));
        assert.deepEqual(log.filter((text) => /^(message|gap|begin|error 4)/.test(text)), ['message 1f-2 one']);
        stream.close();
      }
    });
  }

  for (const [name, fail] of [['is cut', () => sources[1].onerror({})], ['does not open', () => pass(12_000)]]) {
    test(`is asked for again if the link that asks ${name}`, async () => {
      const { stream } = await begin({ sse: 'http://x/events', transports: ['sse'], topics: ['a'] });
      sources[0].deliver({ ready: '1f-1' });
      stream.setTopics(['b']);
      await fail();
      sources[0].onerror({});
      await pass(2000);
      assert.deepEqual([last(sources).url.searchParams.getAll('topic'), position(last(sources))], [['b'], '1f-1']);
      last(sources).deliver({ ready: '1f-1' });
      assert.equal(stream.state, 'open');
    });
  }

  test('is one also if the page has changed the array that it has given before', async () => {
    const topics = ['a'];
    for (const options of [{ ws: 'http://x/ws' }, { sse: 'http://x/events', transports: ['sse'] }]) {
      const { stream } = await begin({ ...options, topics });
      const links = options.ws ? sockets : sources;
      links[0].deliver({ ready: '1f-1' });
      topics.push('b');
      stream.setTopics(topics);
      if (options.ws) links[0].end();
      await pass(1000);
      assert.deepEqual(last(links).url.searchParams.getAll('topic'), topics);
    }
  });

  test('a poll that ends meanwhile goes on with the topics that it had', async () => {
    for (const topics of [['a'], undefined]) {
      const { stream } = await begin({ sse: 'http://x/events', transports: ['poll'], topics });
      const polls = requests.splice(0);
      const next = () => polls.push(...requests.splice(0));
      await polls[0].respond();
      await polls[0].deliver(begins, { ready: '1f-1' });
      await polls[0].end();
      stream.setTopics(['b']);
      await settled();
      next();
      await polls[1].respond();
      await polls[1].deliver({ ready: '1f-1' }, message('1f-2', 'x'));
      await polls[1].end();
      next();
      const had = topics?.join() ?? '';
      assert.deepEqual(polls.map(({ url }) => [url.searchParams.getAll('topic').join(), position({ url })]), [[had, null], [had, '1f-1'], ['b', null], [had, '1f-2']]);
      await polls[2].respond();
      await polls[2].deliver(begins, { ready: '1f-3' });
      await polls[2].end();
      next();
      assert.deepEqual([last(polls).url.searchParams.getAll('topic'), position(last(polls))], [['b'], '1f-3']);
      stream.close();
    }
  });

  test('of several during one request the last counts, also if the link is cut', async () => {
    const { stream, log } = await begin({ ws: 'http://x/ws', topics: ['a'] });
    sockets[0].deliver(begins, { ready: '1f-1' });
    for (const topics of [['b'], ['c'], ['d']]) stream.setTopics(topics);
    assert.deepEqual(sockets[0].sent, ['{"topics":["b"]}']);
    sockets[0].deliver({ begin: '1-0', topics: ['b'] }, { topics: ['b'], position: '1f-1' });
    assert.deepEqual(last(sockets[0].sent), '{"topics":["d"]}');
    sockets[0].deliver({ status: 403, position: '1f-1' });
    await settled();
    assert.equal(last(log), 'error 403');
    stream.setTopics(['e']);
    stream.setTopics(['f']);
    sockets[0].deliver({ status: 403, position: '1f-1' });
    assert.deepEqual(last(sockets[0].sent), '{"topics":["f"]}');
    stream.setTopics(['g']);
    sockets[0].end();
    await pass(2000);
    assert.deepEqual([last(sockets).url.searchParams.getAll('topic'), position(last(sockets))], [['g'], null]);
  });

  test('while another transport is tried is asked for there', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', transports: ['sse', 'ws'], topics: ['a'] });
    for (let i = 0; i < 2; i++) {
      sources[i].onerror({});
      await pass(3000);
    }
    sockets[0].deliver({ ready: '1f-1' });
    await pass(11_000);
    stream.setTopics(['b']);
    sources[2].deliver({ ready: '1f-1' });
    assert.deepEqual(last(sources).url.searchParams.getAll('topic'), ['b']);
    last(sources).deliver({ ready: '1f-1' }, message('1f-2', 'x'));
    assert.equal(stream.lastEventId, '1f-2');
  });
});
