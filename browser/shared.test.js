// Tests of tabs that share a link, with fakes.

import { test, describe, beforeEach, afterEach } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';
import { FakeChannel, begin, channels, last, message, open, pass, position, settled, sockets } from './harness.js';

describe('shared tabs', () => {
  const options = { ws: 'http://x/ws', sse: 'http://x/events', shared: 'user-17' };
  const Real = globalThis.BroadcastChannel;
  beforeEach(async () => {
    await import('./fanfare-shared.js'); // which takes real time
    globalThis.BroadcastChannel = FakeChannel;
  });
  afterEach(() => {
    for (const stream of open) stream.close();
    globalThis.BroadcastChannel = Real;
  });

  const texts = (log) => log.filter((h) => h.startsWith('message') || h.startsWith('gap'));
  const links = () => sockets.filter(({ closed }) => !closed);
  // tabs begins some, the first of which leads.
  const tabs = async (n, more) => {
    const all = [];
    for (let i = 0; i < n; i++) {
      all.push(await begin({ ...options, ...more }));
      last(sockets).deliver({ ready: '1-1' });
      await pass(600);
    }
    assert.equal(links().length, 1);
    assert.deepEqual(all.map(({ stream }) => stream.transport), ['ws', ...Array(n - 1).fill('shared')]);
    return all;
  };

  test('one leads, and all receive', async () => {
    const all = await tabs(3);
    links()[0].deliver(message('1-2', 'one'), { gap: '1-4' }, message('1-5', 'AP8=', { encoding: 'base64' }));
    for (const { stream, log } of all) {
      assert.deepEqual(texts(log), ['message 1-2 one', 'gap 1-4', 'message 1-5 0,255']);
      assert.equal(stream.lastEventId, '1-5');
      assert.equal(stream.readyState, Fanfare.OPEN);
    }
    await all[2].stream.send('from a tab');
    assert.deepEqual(links()[0].sent, ['from a tab']);
  });

  test('the leader that leaves names the next', async () => {
    const all = await tabs(3);
    links()[0].deliver(message('1-2', 'one'));
    all[0].stream.close();
    await settled();
    assert.equal(links().length, 1);
    assert.equal(position(links()[0]), '1-2');
    links()[0].deliver({ ready: '1-2' }, message('1-3', 'two'));
    await pass(600);
    links()[0].deliver(message('1-4', 'three'));
    for (const { log } of all.slice(1)) assert.deepEqual(texts(log), ['message 1-2 one', 'message 1-3 two', 'message 1-4 three']);
    assert.equal(links().length, 1);
  });

  test('a leader that does not answer is left, and nothing is lost or doubled', async () => {
    const all = await tabs(2);
    const [old] = links();
    await pass(14_000);
    old.deliver({ position: '1-1' });
    channels[0].frozen = true;
    await pass(18_500);
    assert.equal(all[1].stream.transport, undefined);
    old.deliver(message('1-2', 'one')); // it is posted once the tab thaws
    last(sockets).deliver({ ready: '1-1' }, message('1-2', 'one'));
    await pass(600);
    channels[0].frozen = false;
    old.deliver(message('1-3', 'two'));
    last(sockets).deliver(message('1-3', 'two'));
    await pass(1000);
    for (const link of links()) link.deliver(message('1-4', 'three'));
    await settled();
    for (const { log } of all) assert.deepEqual(texts(log), ['message 1-2 one', 'message 1-3 two', 'message 1-4 three']);
    assert.equal(links().length, 1);
  });

  test('a post that is missing is noticed', async () => {
    const all = await tabs(2);
    channels[1].frozen = true;
    links()[0].deliver(message('1-2', 'one'));
    channels[1].frozen = false;
    links()[0].deliver(message('1-3', 'two'));
    await settled();
    assert.equal(position(last(sockets)), '1-1');
    last(sockets).deliver({ ready: '1-1' }, message('1-2', 'one'), message('1-3', 'two'));
    await pass(600);
    assert.deepEqual(texts(all[1].log), ['message 1-2 one', 'message 1-3 two']);
    assert.equal(links().length, 1);
  });

  test('a tab that joins gets its own beginning, and no gap', async () => {
    const [first] = await tabs(1);
    links()[0].deliver(message('1-2', 'one'), message('1-3', 'two'), message('1-4', 'three'));
    const second = await begin(options);
    last(sockets).deliver(message(undefined, 'state'), { ready: '1-4' });
    const third = await begin({ ...options, lastEventId: '1-2' });
    last(sockets).deliver({ ready: '1-2' });
    await pass(600);
    links()[0].deliver(message('1-5', 'four'));
    assert.deepEqual(texts(second.log), ['message state', 'message 1-5 four']);
    assert.deepEqual(texts(third.log), ['message 1-3 two', 'message 1-4 three', 'message 1-5 four']);
    assert.equal(links().length, 1);
    assert.equal(first.stream.transport, 'ws');
  });

  test('the leader keeps at most 1,000 events and 1 MiB', async () => {
    for (const [count, size] of [[1500, 10], [20, 100_000]]) {
      await tabs(1, { shared: `user-${count}` });
      for (let i = 2; i < count; i++) links()[0].deliver(message(`1-${i.toString(16)}`, 'x'.repeat(size)));
      const behind = await begin({ ...options, shared: `user-${count}`, lastEventId: '1-3' });
      last(sockets).deliver({ ready: '1-3' });
      await pass(1000);
      assert.equal(links().length, 2, 'its position is no longer kept');
      for (let i = 4; i < count; i++) last(sockets).deliver(message(`1-${i.toString(16)}`, 'x'.repeat(size)));
      await pass(7000);
      assert.equal(links().length, 1);
      assert.equal(texts(behind.log).length, count - 4);
      for (const stream of open.splice(0)) stream.close();
    }
  });

  test('other users, URLs and topics are not shared', async () => {
    for (const more of [{}, { shared: 'user-18' }, { topics: ['a'] }, { ws: 'http://x/ws2' }, { withCredentials: true }]) {
      await begin({ ...options, ...more });
      last(sockets).deliver({ ready: '1-1' });
      await pass(600);
    }
    assert.equal(links().length, 5);
  });

  test('setTopics concerns one tab', async () => {
    const all = await tabs(3, { topics: ['a'] });
    all[1].stream.setTopics(['b']);
    await settled();
    assert.deepEqual(links().map(({ url }) => url.searchParams.getAll('topic')), [['a'], ['b']]);
    links()[1].deliver({ ready: '1-1' }, { id: '1-2', topic: 'b', data: 'b' });
    links()[0].deliver(message('1-3', 'a'));
    await pass(600);
    assert.deepEqual(all.map(({ log }) => texts(log)), [['message 1-3 a'], ['message 1-2 b'], ['message 1-3 a']]);
    all[0].stream.setTopics(['b']);
    assert.deepEqual(links()[0].sent, ['{"topics":["b"]}']);
    await settled();
    assert.deepEqual(last(sockets).url.searchParams.getAll('topic'), ['a'], 'another tab leads those that stay');
  });

  test('a tab that is shown asks the leader to look at its link, also a hidden one', async () => {
    const page = (globalThis.document = Object.assign(new EventTarget(), { baseURI: 'http://x/', hidden: false }));
    try {
      const all = await tabs(2);
      const old = links()[0];
      page.hidden = true; // of the leader
      channels[0].onmessage({ data: ['somebody', 'ping', true] });
      await pass(3500);
      assert.ok(old.closed);
      assert.equal(all[0].stream.transport, undefined);
      assert.equal(position(last(sockets)), '1-1');
    } finally {
      for (const stream of open) stream.close();
      delete globalThis.document;
    }
  });

  test('a link that is down is not waited for, except as long as the server has asked', async () => {
    const all = await tabs(2);
    sockets[0].end(1013);
    await pass(9500);
    assert.equal(links().length, 0);
    await pass(4000);
    assert.ok(links().length > 0);
    for (const { stream } of all) assert.notEqual(stream.state, 'open');
  });

  for (const [what, refuse] of [
    ['BroadcastChannel is missing', () => { globalThis.BroadcastChannel = undefined; }],
    ['BroadcastChannel is refused', () => { globalThis.BroadcastChannel = class { constructor() { throw new DOMException('x', 'SecurityError'); } }; }],
    ['its messages are refused', () => { globalThis.BroadcastChannel = class extends FakeChannel { postMessage() { throw new DOMException('x', 'InvalidStateError'); } }; }],
    ['nothing arrives', () => { globalThis.BroadcastChannel = class extends FakeChannel { postMessage() {} }; }],
  ]) {
    test(`each tab has its own link where ${what}`, async () => {
      refuse();
      const all = [await begin(options), await begin(options)];
      for (const socket of sockets) socket.deliver({ ready: '1-1' }, message('1-2', 'one'));
      await pass(20_000);
      for (const socket of sockets) socket.deliver(message('1-3', 'two'));
      for (const { log } of all) assert.deepEqual(texts(log), ['message 1-2 one', 'message 1-3 two']);
    });
  }

  test('a channel that WebKit has closed is left', async () => {
    const all = await tabs(2);
    channels[1].postMessage = () => { throw new DOMException('closed', 'InvalidStateError'); };
    channels[0].frozen = true;
    await pass(16_000);
    await settled();
    last(sockets).deliver({ ready: '1-1' }, message('1-2', 'one'));
    assert.deepEqual(texts(all[1].log), ['message 1-2 one']);
  });

  const begins = { begin: '1-0' };
  const value = (key, data, more) => ({ topic: 'a', key, data, ...more });
  // keep applies what a tab dispatches to a map and to a list.
  const keep = ({ stream }) => {
    const state = { values: {}, events: [], begun: [] };
    stream.addEventListener('begin', ({ partial }) => Object.assign(state, { values: {}, events: [], begun: [...state.begun, partial.join()] }));
    stream.addEventListener('message', ({ key, removed, data, lastEventId }) => {
      if (removed) delete state.values[key];
      else if (key) state.values[key] = data;
      else state.events.push(data);
      if (lastEventId) assert.equal(stream.lastEventId, lastEventId);
    });
    return state;
  };
  // lead begins a tab, which leads once it has begun.
  const lead = async (...envelopes) => {
    const tab = await begin(options);
    last(sockets).deliver(begins, ...envelopes);
    await pass(1000);
    return tab;
  };

  test('a tab that joins begins with what the leader keeps', async () => {
    await lead({ topic: 'a', data: 'old' }, value('x', '1'), value('y', '1'), value('z', '1'), { ready: '1-9' });
    const [link] = links();
    link.deliver(value('x', '2', { id: '1-a' }), message('1-b', 'whole', { first: true }), value('y', '', { id: '1-c', removed: true }), message('1-d', 'more'),
      { topic: 'b', key: 'z', data: 'of b', id: '1-e' }, value('w', '1'), { position: '1-f' });
    const n = sockets.length;
    const second = await begin(options);
    assert.equal(sockets.length, n, 'it needs no link');
    assert.deepEqual([second.stream.transport, second.stream.lastEventId], ['shared', '1-f']);
    assert.deepEqual(second.log, ['open', 'open', 'begin 1-0', 'message whole', 'message more', 'message 1', 'message 2', 'message of b', 'message 1']);
    link.deliver(message('1-10', 'news'));
    assert.equal(last(second.log), 'message 1-10 news');
  });

  test('a tab that joins in the beginning or in a round gets the rest of it', async () => {
    const first = await lead({ ready: '1-9' });
    const [link] = links();
    link.deliver(begins, value('x', '1'));
    const second = await begin(options);
    assert.equal(second.stream.lastEventId, '1-0');
    link.deliver(value('y', '1'), { position: '1-a' }, value('x', '2'));
    const third = await begin(options);
    assert.equal(third.stream.lastEventId, '1-a');
    link.deliver(value('y', '2'), { position: '1-c' });
    const values = ['begin 1-0', 'message 1', 'message 1', 'message 2', 'message 2'];
    assert.deepEqual([first, second].map(({ log }) => log.slice(-5)), [values, values]);
    assert.deepEqual(third.log.slice(2), ['begin 1-0', 'message 1', 'message 2', 'message 2']);
    for (const stream of open) assert.equal(stream.lastEventId, '1-c');
    assert.equal(links().length, 1);
  });

  test('a tab that resumes within a round of the leader gets its values, which are newer than the events that follow them', async () => {
    await lead({ ready: '1-1' });
    const [link] = links();
    channels[0].frozen = true;
    const second = await begin(options);
    channels[0].frozen = false;
    const state = keep(second);
    last(sockets).deliver(begins, value('x', 'as of 3'), { topic: 'a', data: 'event 4' }, { ready: '1-4' });
    // The leader's round is up to 8: x, which has changed at 6, and then the events.
    link.deliver(value('x', 'as of 6'), message('1-4', 'event 4'), message('1-5', 'event 5'));
    await pass(600);
    assert.equal(second.stream.transport, 'shared');
    link.deliver(message('1-8', 'event 8'));
    assert.deepEqual(state, { values: { x: 'as of 6' }, events: ['event 4', 'event 5', 'event 8'], begun: [''] });
  });

  for (const isNext of [false, true]) {
    test(`a leader that has let go of a value of a round ${isNext ? 'lets tabs join once the round is over' : 'lets nobody resume within it'}`, async () => {
      await lead({ ready: '1-1' });
      const [link] = links();
      link.deliver(value('x', 'as of 900'), ...Array.from({ length: 1000 }, (_, i) => message(`1-${(i + 2).toString(16)}`, 'event')));
      if (isNext) link.deliver(value('y', 'after it', { id: '1-a00' }));
      const second = await begin(options);
      const state = keep(second);
      last(sockets).deliver(begins, value('x', 'as of 900'), { ready: isNext ? '1-a00' : '1-300' });
      await pass(2000);
      assert.equal(second.stream.transport, isNext ? 'shared' : 'ws');
      assert.equal(state.values.x, 'as of 900');
    });
  }

  test('a heartbeat in a beginning does not end it', async () => {
    await lead({ ready: '1-9' });
    const [link] = links();
    link.deliver(begins, value('x', '1'), { position: '1-0' });
    const second = await begin(options);
    link.deliver(value('y', '1'), { position: '1-a' });
    assert.deepEqual(second.log.slice(2), ['begin 1-0', 'message 1', 'message 1']);
    assert.equal(second.stream.lastEventId, '1-a');
    const third = await begin({ ...options, lastEventId: '1-a' });
    assert.deepEqual(third.log.slice(2), [], 'it has the values');
    assert.equal(third.stream.transport, 'shared');
  });

  test('when all begin again, or the stream ends, each tab does', async () => {
    const tabs = [await lead({ ready: '1-9' })];
    tabs.push(await begin(options), await begin({ ...options, lastEventId: '1-9' }));
    const states = tabs.map(keep);
    const [link] = links();
    assert.equal(links().length, 1);
    link.deliver(value('x', '1', { id: '1-a' }), { begin: '1-0', partial: ['a'] }, value('y', '1'), { position: '1-8' }, message('1-c', 'bye', { end: true }), { end: '1-c' });
    for (const state of states) assert.deepEqual(state, { values: { y: '1' }, events: ['bye'], begun: ['a'] });
    await pass(60_000);
    for (const { stream, log } of tabs) assert.deepEqual([last(log), stream.state, stream.lastEventId], ['ended', 'closed', '1-c']);
    assert.equal(links().length, 0);
    const n = sockets.length;
    await pass(60_000);
    assert.equal(sockets.length, n);
  });

  test('a tab that takes over has the beginning too', async () => {
    const first = await lead(value('x', '1'), { ready: '1-9' });
    await begin(options);
    links()[0].deliver(value('y', '1', { id: '1-a' }));
    first.stream.close();
    last(sockets).deliver({ ready: '1-a' }, value('x', '2', { id: '1-b' }));
    await pass(1000);
    const third = await begin(options);
    assert.deepEqual(third.log.slice(2), ['begin 1-0', 'message 1', 'message 2']);
    assert.equal(links().length, 1);
  });

  for (const [count, size] of [[1500, 10], [20, 100_000]]) {
    test(`of ${count} values with ${size} bytes the leader keeps the newest, and says that its beginning is partial`, async () => {
      await lead({ ready: '1-1' });
      const leads = links()[0];
      for (let i = 2; i < count; i++) leads.deliver(value(`k${i}`, 'x'.repeat(size), { id: `1-${i.toString(16)}` }));
      // A tab begins with a link of its own, which has all.
      const whole = await begin(options);
      const state = keep(whole);
      assert.equal(links().length, 2);
      last(sockets).deliver(begins, ...Array.from({ length: count - 2 }, (_, i) => value(`k${i + 2}`, 'x')), { ready: `1-${(count - 1).toString(16)}` });
      await pass(10_000);
      leads.deliver(value('k2', 'new', { id: '1-fff' }));
      assert.equal(links().length, 1);
      assert.deepEqual([Object.keys(state.values).length, state.values.k2, state.begun], [count - 2, 'new', ['']]);
      // One that cannot have a link takes the leader's.
      const stuck = await begin(options);
      const part = keep(stuck);
      last(sockets).end();
      await settled();
      assert.equal(stuck.stream.transport, 'shared');
      assert.deepEqual(part.begun, ['a']);
      assert.equal(Object.keys(part.values).length, size > 10 ? 6 : 1000);
      assert.equal(part.values.k2, 'new');
      assert.equal(stuck.stream.lastEventId, '1-fff');
    });
  }

  test('a value that changes again and again leaves a place for others', async () => {
    await lead(value('x', '1'), { ready: '1-1' });
    for (let i = 2; i < 3000; i++) links()[0].deliver(value('hot', String(i), { id: `1-${i.toString(16)}` }), { position: `1-${i.toString(16)}` });
    const second = await begin(options);
    assert.deepEqual(second.log.slice(2), ['begin 1-0', 'message 1', 'message 2999']);
    const third = await begin({ ...options, lastEventId: '1-7d0' });
    assert.deepEqual(third.log.slice(2), ['message 1-bb7 2999'], 'one that resumes gets the newest value');
  });

  test('a tab that was ahead of the leader ends with the newest values, and no event twice', async () => {
    await lead({ ready: '1-1' });
    const [link] = links();
    link.deliver(value('x', 'old', { id: '1-2' }));
    channels[0].frozen = true; // a leader that does not answer yet
    const ahead = await begin(options);
    channels[0].frozen = false;
    const state = keep(ahead);
    last(sockets).deliver(begins, value('x', 'new'), { topic: 'a', data: 'event' }, { ready: '1-5' });
    await pass(600);
    assert.equal(ahead.stream.transport, 'shared');
    link.deliver(value('x', 'older'), { position: '1-3' }, message('1-4', 'event'), value('x', 'new', { id: '1-5' }));
    assert.deepEqual(state, { values: { x: 'new' }, events: ['event'], begun: [''] });
    assert.equal(ahead.stream.lastEventId, '1-5');
    link.deliver(message('1-6', 'more'));
    assert.deepEqual(state.events, ['event', 'more']);
  });

  for (const [how, welcomes] of [['before', true], ['after', false]]) {
    test(`a tab that was ahead of a leader keeps its values when that is cut, sent ${how} it joined`, async () => {
      await lead({ ready: '1-1' });
      const [link] = links();
      const round = [value('x', 'old'), message('1-2', 'event'), { position: '1-3' }];
      if (welcomes) link.deliver(...round);
      channels[0].frozen = true;
      const ahead = await begin(options);
      channels[0].frozen = false;
      const state = keep(ahead);
      last(sockets).deliver(begins, value('x', 'new'), { ready: '1-5' });
      await pass(600);
      assert.equal(ahead.stream.transport, 'shared');
      if (!welcomes) link.deliver(...round, value('x', 'older', { id: '1-4' }));
      link.end();
      open[0].close();
      await pass(600);
      assert.equal(position(last(sockets)), '1-5');
      last(sockets).deliver({ ready: '1-5' }, message('1-6', 'more'));
      assert.deepEqual(state, { values: { x: 'new' }, events: ['more'], begun: [''] });
    });
  }

  test('a tab that was ahead of a leader gets values that are newer than its own once the leader has caught up', async () => {
    await lead({ ready: '1-1' });
    const [link] = links();
    link.deliver(value('y', 'old', { id: '1-2' }), value('x', 'newest'));
    channels[0].frozen = true;
    const ahead = await begin(options);
    channels[0].frozen = false;
    const state = keep(ahead);
    last(sockets).deliver(begins, value('x', 'new'), value('y', 'new'), { ready: '1-5' });
    await pass(600);
    link.deliver(value('y', 'new', { id: '1-4' }));
    assert.deepEqual(state.values, { x: 'new', y: 'new' });
    link.deliver({ position: '1-5' });
    assert.deepEqual(state.values, { x: 'newest', y: 'new' });
    assert.equal(ahead.stream.lastEventId, '1-5');
  });

  test('a tab that shares a link comes without a position when it asks for other topics', async () => {
    await lead(value('x', '1'), { ready: '1-9' });
    const second = await begin(options);
    second.stream.setTopics(['b']);
    await settled();
    assert.deepEqual([last(sockets).url.searchParams.getAll('topic'), position(last(sockets))], [['b'], null]);
  });

});
