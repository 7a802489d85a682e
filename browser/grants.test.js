// Tests of grants that expire and of tickets that count once, with the fakes of harness.js.

import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';
import { answer, begin, last, message, pass, position, requests, settled, sockets, sources } from './harness.js';

const errorsOf = (stream) => {
  const errors = [];
  stream.addEventListener('error', ({ status, reason }) => errors.push(status ?? reason));
  return errors;
};

describe('a WebSocket is renewed with a token', () => {
  const renewing = async (token, expires = 300) => {
    let asked = 0;
    const { stream, log } = await begin({ ws: 'http://x/ws', token: () => token(++asked) });
    const errors = errorsOf(stream);
    sockets[0].deliver({ ready: '1-1', heartbeat: 30, expires });
    // The server has heartbeats, and the time passes.
    const wait = async (ms) => {
      for (; ms > 0; ms -= 20_000) {
        await pass(Math.min(ms, 20_000));
        last(sockets).deliver({ position: '1-1' });
      }
    };
    return { stream, log, errors, wait, asked: () => asked, sent: () => sockets[0].sent.map((text) => JSON.parse(text).token) };
  };

  test('again and again, a minute before it expires', async () => {
    const { stream, log, errors, wait, sent } = await renewing(async (n) => 'token ' + n);
    await wait(239_000);
    assert.deepEqual(sent(), []);
    await wait(2000);
    assert.deepEqual(sent(), ['token 1']);
    sockets[0].deliver({ renewed: '1-9', expires: 100 });
    assert.equal(stream.lastEventId, '1-1', 'an answer is no position');
    await wait(74_000);
    assert.deepEqual(sent(), ['token 1']);
    await wait(2000); // a quarter of 100 s is left
    assert.deepEqual(sent(), ['token 1', 'token 2']);
    sockets[0].deliver({ renewed: '1-9' }); // for ever
    await wait(1000_000);
    assert.deepEqual(sent(), ['token 1', 'token 2']);
    assert.deepEqual(errors, []);
    assert.deepEqual(log, ['open', 'open']);
    assert.equal(sockets.length, 1);
  });

  test('also where the stream begins with a gap or a beginning', async () => {
    for (const first of [{ gap: '1-1' }, { begin: '1-0' }]) {
      await begin({ ws: 'http://x/ws', token: async () => 'fresh' });
      const socket = last(sockets);
      socket.deliver({ ...first, heartbeat: 60, expires: 60 });
      await pass(46_000);
      assert.deepEqual(socket.sent, ['{"token":"fresh"}']);
    }
  });

  test('not without the option, nor without a time', async () => {
    await begin({ ws: 'http://x/ws', silence: 600_000 });
    sockets[0].deliver({ ready: '1-1', expires: 60 });
    await begin({ ws: 'http://x/ws', silence: 600_000, token: async () => 'x' });
    sockets[1].deliver({ ready: '1-1' });
    await pass(300_000);
    assert.deepEqual([sockets[0].sent, sockets[1].sent], [[], []]);
  });

  test('a refusal is an error with its status, and the stream goes on until it expires', async () => {
    const { stream, errors, wait, sent } = await renewing(async () => 'foreign');
    await wait(241_000);
    sockets[0].deliver({ renewed: '1-1', status: 403 });
    assert.deepEqual(errors, [403]);
    sockets[0].deliver(message('1-2', 'more'));
    assert.equal(stream.lastEventId, '1-2');
    await wait(59_000);
    assert.deepEqual(sent(), ['foreign'], 'a token is not sent again');
    sockets[0].onclose({ code: 3000, reason: 'expired' });
    assert.equal(stream.state, 'waiting');
    await pass(2000);
    assert.equal(sockets.length, 2);
  });

  test('a temporary refusal is tried again', async () => {
    const { errors, wait, sent } = await renewing(async (n) => 'token ' + n);
    await wait(241_000);
    sockets[0].deliver({ renewed: '1-1', status: 503 });
    assert.deepEqual(errors, [503]);
    await wait(46_000);
    assert.deepEqual(sent(), ['token 1', 'token 2']);
  });

  for (const [how, token] of [['throws', () => { throw new Error('offline'); }], ['is rejected', () => Promise.reject(new Error('offline'))],
    ['returns nothing', async () => undefined]]) {
    test(`a function that ${how} is asked again, with pauses of a second at least`, async () => {
      const { stream, errors, wait, asked, sent } = await renewing(token);
      await wait(320_000);
      assert.ok(asked() >= 3 && asked() <= 8, `asked ${asked()} times`);
      assert.equal(errors.length, asked());
      assert.match(errors[0], /^no token: /);
      assert.deepEqual(sent(), []);
      assert.equal(stream.state, 'open', 'the server ends it');
    });
  }

  test('a function that fails first and then returns a token', async () => {
    const { wait, sent } = await renewing(async (n) => { if (n < 3) throw new Error('offline'); return 'late'; });
    await wait(299_000);
    assert.ok(sent().includes('late'));
  });

  test('a late token is not sent on another connection', async () => {
    let give;
    const { stream, errors, wait } = await renewing(() => new Promise((resolve) => (give = resolve)));
    await wait(241_000);
    sockets[0].onclose({ code: 1006 });
    await pass(2000);
    sockets[1].deliver({ ready: '1-1' });
    give('late');
    await settled();
    assert.deepEqual([sockets[0].sent, sockets[1].sent], [[], []]);
    assert.deepEqual(errors, [undefined]);
    stream.close();
  });
});

describe('an event stream is granted anew before it expires', () => {
  const renewing = async (more) => {
    let n = 0;
    const { stream, log } = await begin({ sse: async () => `http://x/events?ticket=${++n}`, token: async () => 'x', silence: 600_000, transports: ['sse'], ...more });
    const errors = errorsOf(stream);
    const source = last(sources);
    source.deliver({ ready: '1-1', expires: 300 }, message('1-2', 'one'));
    await pass(239_000);
    return { stream, log, errors, source, tickets: () => n };
  };

  test('by a stream of its own, which takes its place', async () => {
    const { stream, log, errors, source } = await renewing();
    assert.equal(sources.length, 1);
    await pass(2000);
    assert.equal(sources.length, 2);
    assert.equal(last(sources).url.searchParams.get('ticket'), '2');
    assert.equal(position(last(sources)), '1-2');
    source.deliver(message('1-3', 'two'));
    assert.ok(!source.closed, 'until the new one is open');
    last(sources).deliver({ ready: '1-2', expires: 100 }, message('1-3', 'two'), message('1-4', 'three'));
    assert.ok(source.closed);
    assert.deepEqual(log.filter((text) => text.startsWith('message')), ['message 1-2 one', 'message 1-3 two', 'message 1-4 three']);
    await pass(76_000);
    assert.equal(sources.length, 3);
    assert.equal(position(last(sources)), '1-4');
    assert.deepEqual(errors, []);
    assert.equal(stream.state, 'open');
    assert.ok(!log.includes('waiting') && !log.includes('connecting'));
  });

  test('over fetch with fresh headers', async () => {
    let n = 0;
    const { stream } = await begin({ sse: 'http://x/events', headers: async () => ({ Authorization: `Bearer ${++n}` }), token: async () => 'x', transports: ['sse'] });
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1', expires: 20 });
    await pass(16_000);
    assert.equal(requests[1].init.headers.Authorization, 'Bearer 2');
    await requests[1].respond();
    await requests[1].deliver({ ready: '1-1', expires: 2000 });
    assert.ok(requests[0].init.signal.aborted);
    assert.equal(stream.state, 'open');
  });

  test('a refusal is an error with its status, and the stream goes on until it expires', async () => {
    const { stream, errors, source } = await renewing();
    await pass(2000);
    Object.assign(last(sources), { readyState: 2 }).onerror({});
    await settled();
    await last(requests).respond(403);
    assert.deepEqual(errors, [403]);
    assert.equal(stream.state, 'open');
    source.deliver(message('1-3', 'two'));
    assert.equal(stream.lastEventId, '1-3');
    await pass(120_000);
    assert.equal(sources.length, 2, 'it is not asked for again');
  });

  test('a failure is tried again, with pauses, and as late as the server asks', async () => {
    const { stream, errors } = await renewing();
    await pass(2000);
    Object.assign(last(sources), { readyState: 2 }).onerror({});
    await settled();
    await last(requests).respond(503, { 'Retry-After': '50' });
    assert.deepEqual(errors, [503]);
    await pass(49_000);
    assert.equal(sources.length, 2);
    await pass(2000);
    assert.equal(sources.length, 3);
    for (let i = 0; i < 30; i++) {
      const n = sources.length;
      Object.assign(last(sources), { readyState: 0 }).onerror({}); // the network is gone
      await pass(1000);
      if (sources.length === n) break;
    }
    assert.ok(sources.length <= 8, `${sources.length} attempts`);
    assert.equal(stream.state, 'open');
  });

  test('polls are granted each time', async () => {
    await begin({ sse: 'http://x/events', token: async () => 'x', transports: ['poll'] });
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1', expires: 20 });
    await pass(40_000);
    assert.equal(requests.length, 1);
  });
});

describe('a ticket counts once', () => {
  // Each ticket is accepted once: what follows gets 401.
  const office = () => {
    const spent = new Set();
    let n = 0;
    return {
      ticket: async () => `http://x/events?ticket=${++n}`,
      accepts: (url) => {
        const ticket = url.searchParams.get('ticket');
        return !spent.has(ticket) && !!spent.add(ticket);
      },
    };
  };

  for (const status of [503, 403, 204]) {
    test(`the answer after a failed EventSource is ${status}, and no 401 of its ticket`, async () => {
      const { ticket, accepts } = office();
      answer((request) => request.respond(accepts(request.url) ? status : 401));
      const { stream } = await begin({ sse: ticket, transports: ['sse'] });
      const errors = errorsOf(stream);
      assert.ok(accepts(sources[0].url));
      Object.assign(sources[0], { readyState: 2 }).onerror({});
      await settled();
      assert.equal(requests.length, 1);
      assert.deepEqual(errors, [status]);
      assert.equal(stream.readyState, status === 503 ? Fanfare.CONNECTING : Fanfare.CLOSED);
    });
  }

  test('a stream that is granted when an EventSource failed is used', async () => {
    const { ticket, accepts } = office();
    answer((request) => request.respond(accepts(request.url) ? 200 : 401));
    const { stream } = await begin({ sse: ticket, transports: ['sse'], lastEventId: '1-1' });
    accepts(sources[0].url);
    Object.assign(sources[0], { readyState: 2 }).onerror({});
    await settled();
    assert.equal(position(requests[0]), '1-1');
    await requests[0].deliver({ ready: '1-1' });
    assert.equal(stream.state, 'open');
  });

  test('a function that fails after an EventSource did is a failure, and nothing more', async () => {
    let n = 0;
    const { stream } = await begin({ sse: () => { if (++n === 2) throw new Error('offline'); return 'http://x/events'; }, transports: ['sse'] });
    Object.assign(sources[0], { readyState: 2 }).onerror({});
    await pass(2000);
    assert.equal(requests.length, 0);
    assert.equal(sources.length, 2);
    assert.equal(stream.state, 'connecting');
  });
});
