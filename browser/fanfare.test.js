// Tests of fanfare.js with fakes of the browser's APIs, in fake time. internal/chromium tests it
// in a real browser.

import { test, describe, beforeEach, afterEach, mock } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';

let sockets, sources, requests, answer;
let jumped; // how far the clock is ahead of the timers

class FakeSocket {
  sent = [];
  constructor(url, protocols) {
    Object.assign(this, { url: new URL(url), protocols });
    sockets.push(this);
  }
  send(data) { this.sent.push(data); }
  close() { this.closed = true; }
  deliver(...envelopes) { for (const e of envelopes) this.onmessage?.({ data: JSON.stringify(e) }); }
  end(code = 1006) { this.onclose?.({ code }); }
}

class FakeSource {
  constructor(url, options) {
    Object.assign(this, { url: new URL(url), options });
    sources.push(this);
  }
  close() { this.closed = true; }
  deliver(...envelopes) { for (const e of envelopes) this.onmessage?.({ data: JSON.stringify(e) }); }
}

// The response to a fetch is a stream to which the test writes.
class FakeRequest {
  constructor(url, init) {
    Object.assign(this, { url: new URL(url), init });
    requests.push(this);
  }
  respond(status = 200, headers = {}) {
    const body = status === 204 ? null : new ReadableStream({ start: (c) => (this.controller = c) });
    this.resolve(new Response(body, { status, headers: { 'Content-Type': 'text/event-stream', ...headers } }));
    return settled();
  }
  write(text) {
    this.controller.enqueue(new TextEncoder().encode(text));
    return settled();
  }
  deliver(...envelopes) { return this.write(envelopes.map((e) => `id: x\ndata: ${JSON.stringify(e)}\n\n`).join('')); }
  end() {
    this.controller.close();
    return settled();
  }
}

const realNow = performance.now.bind(performance);
// Streams and promises need real turns of the event loop.
const settled = async () => {
  for (let i = 0; i < 8; i++) await new Promise((resolve) => setImmediate(resolve));
};
const pass = async (ms) => {
  for (; ms > 0; ms -= 500) {
    mock.timers.tick(Math.min(ms, 500));
    await settled();
  }
};

let open = [];
async function begin(options = { ws: 'http://x/ws', sse: 'http://x/events' }) {
  const stream = new Fanfare(options);
  const log = [];
  for (const type of ['open', 'message', 'tick', 'gap', 'error', 'statechange']) {
    stream.addEventListener(type, (e) => log.push(type === 'statechange' ? stream.state : type === 'error' ? `error ${e.code ?? e.status ?? ''}`.trim() :
      [type, e.lastEventId, e.data].filter(Boolean).join(' ')));
  }
  open.push(stream);
  await settled();
  return { stream, log };
}

beforeEach(() => {
  [sockets, sources, requests, open, jumped] = [[], [], [], [], 0];
  globalThis.WebSocket = FakeSocket;
  globalThis.EventSource = FakeSource;
  globalThis.fetch = (url, init) => new Promise((resolve, reject) => {
    const request = new FakeRequest(url, init);
    request.resolve = resolve;
    request.fail = () => { reject(new TypeError('network')); return settled(); };
    init.signal?.addEventListener('abort', () => reject(init.signal.reason));
    answer?.(request);
  });
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1.7e12 });
  const monotonic = Date.now;
  performance.now = () => monotonic.call(Date);
  Date.now = () => monotonic.call(Date) + jumped;
  mock.method(Math, 'random', () => 0.5);
});

afterEach(() => {
  for (const stream of open) stream.close();
  answer = undefined;
  performance.now = realNow;
  mock.timers.reset();
  mock.restoreAll();
});

const message = (id, data, more) => ({ id, topic: 'a', data, ...more });
const last = (list) => list.at(-1);
const position = ({ url }) => url.searchParams.get('lastEventId');

test('behaves as an EventSource does', async () => {
  const { stream, log } = await begin();
  assert.equal(stream.readyState, Fanfare.CONNECTING);
  assert.equal(sockets[0].url.protocol, 'ws:');
  assert.equal(position(sockets[0]), null);
  const events = [];
  stream.onmessage = (e) => events.push(e);
  stream.addEventListener('tick', (e) => events.push(e));
  sockets[0].deliver({ ready: '1-1' }, message('1-2', 'one'), message('1-3', 'two', { type: 'tick' }),
    message(undefined, 'state'), message('1-4', 'AP8=', { encoding: 'base64' }));
  assert.equal(stream.readyState, Fanfare.OPEN);
  assert.equal(stream.transport, 'ws');
  assert.deepEqual(log.slice(0, 2), ['open', 'open'], 'the state and the event');
  assert.deepEqual(events.map(({ type, data, lastEventId, topic }) => [type, data, lastEventId, topic]), [
    ['message', 'one', '1-2', 'a'], ['tick', 'two', '1-3', 'a'], ['message', 'state', '', 'a'], ['message', new Uint8Array([0, 255]), '1-4', 'a'],
  ]);
  assert.equal(stream.lastEventId, '1-4');
  stream.close();
  assert.equal(stream.readyState, Fanfare.CLOSED);
  assert.ok(sockets[0].closed);
  sockets[0].deliver(message('1-5', 'too late'));
  assert.equal(stream.lastEventId, '1-4');
  await pass(60_000);
  assert.equal(sockets.length, 1, 'no link after close');
});

test('a listener may close the stream', async () => {
  const { stream } = await begin();
  let n = 0;
  stream.onmessage = () => { n++; stream.close(); };
  sockets[0].deliver({ ready: '1-1' }, message('1-2', 'one'), message('1-3', 'two'));
  assert.equal(n, 1);
});

test('each link resumes after the last position received', async () => {
  const { stream, log } = await begin();
  sockets[0].deliver({ ready: '1-1' }, message('1-2', 'one'), message(undefined, 'state'));
  await pass(10_000);
  sockets[0].end();
  assert.equal(stream.state, 'waiting');
  await pass(1000);
  assert.equal(position(sockets[1]), '1-2');
  sockets[1].deliver({ gap: '1-9', topics: ['a'] });
  assert.equal(last(log), 'gap 1-9');
  sockets[1].deliver({ position: '1-12' });
  await pass(10_000);
  sockets[1].end();
  await pass(1000);
  assert.equal(position(sockets[2]), '1-12');
});

test('begins after the position in the options', async () => {
  await begin({ ws: 'http://x/ws?token=1', lastEventId: '1-7', topics: ['a', 'b'], protocols: ['p'] });
  assert.equal(sockets[0].url.href, 'ws://x/ws?token=1&heartbeat=1&envelope=1&lastEventId=1-7&topic=a&topic=b&refusals=close');
  assert.deepEqual(sockets[0].protocols, ['p']);
});

test('needs a URL', () => {
  assert.throws(() => new Fanfare({}), TypeError);
  assert.throws(() => new Fanfare({ ws: 'http://x/ws', transports: ['sse'] }), TypeError);
  assert.throws(() => new Fanfare({ sse: 'http://' }), TypeError);
});

describe('failures', () => {
  test('the next transport is tried after two failures, and the first again after the last', async () => {
    const { stream } = await begin();
    for (const n of [1, 2]) {
      assert.equal(sockets.length, n);
      sockets[n - 1].end();
      await pass(2000);
    }
    for (const n of [1, 2]) {
      assert.equal(sources.length, n);
      sources[n - 1].onerror({});
      assert.ok(sources[n - 1].closed, 'the EventSource does not reconnect by itself');
      await pass(5000);
    }
    assert.equal(last(requests).url.searchParams.get('poll'), '1');
    for (const n of [1, 2]) {
      assert.equal(requests.length, n);
      await requests[n - 1].fail();
      while (requests.length === n && sockets.length < 3) await pass(500);
    }
    assert.equal(sockets.length, 3);
    sockets[2].deliver({ ready: '1-1' });
    assert.equal(stream.transport, 'ws');
  });

  test('a WebSocket that is cut soon after it opened is a failure', async () => {
    await begin();
    for (const n of [0, 1]) {
      sockets[n].deliver({ ready: '1-1' }, message(`1-${n + 2}`, 'x'));
      await pass(3000);
      sockets[n].end();
      await pass(2000);
    }
    assert.equal(sources.length, 1);
    assert.equal(position(sources[0]), '1-3');
  });

  test('a WebSocket that does not open in time is closed', async () => {
    await begin();
    await pass(9_500);
    assert.equal(sockets.length, 1);
    await pass(2_000);
    assert.ok(sockets[0].closed);
    assert.equal(sockets.length, 2);
  });

  test('waits grow up to a bound, with jitter', async () => {
    mock.method(Math, 'random', () => 0.999);
    await begin({ ws: 'http://x/ws', maxRetry: 4000 });
    const waits = [];
    for (let i = 0; i < 6; i++) {
      const n = sockets.length;
      const began = Date.now();
      sockets[n - 1].end();
      while (sockets.length === n) await pass(250);
      waits.push((Date.now() - began) / 1000);
    }
    assert.deepEqual(waits.map(Math.round), [1, 1, 2, 4, 4, 4]);
  });

  test('a preferred transport is tried again, and used only once it is open', async () => {
    const { stream } = await begin();
    sockets[0].end();
    await pass(1000);
    sockets[1].end();
    await pass(2000);
    sources[0].deliver({ ready: '1-1' }, message('1-2', 'over SSE'));
    await pass(11_000);
    assert.equal(sockets.length, 3, 'a probe');
    assert.equal(position(sockets[2]), '1-2');
    sources[0].deliver(message('1-3', 'meanwhile'));
    sockets[2].end();
    assert.equal(stream.transport, 'sse');
    await pass(15_000);
    assert.equal(sockets.length, 3, 'the next probe waits longer');
    await pass(6_000);
    assert.equal(sockets.length, 4);
    const log = [];
    stream.onmessage = ({ data }) => log.push(data);
    stream.onstatechange = () => log.push(stream.state);
    sockets[3].deliver({ ready: '1-3' });
    assert.ok(sources[0].closed);
    assert.equal(sockets.length, 4, 'the link that was tried is used: one handshake');
    sockets[3].deliver(message('1-4', 'over WebSocket'));
    assert.equal(stream.transport, 'ws');
    assert.deepEqual(log, ['open', 'over WebSocket'], 'the stream stays open; statechange reports the transport');
  });

  test('a probe is closed with the stream', async () => {
    const { stream } = await begin();
    sockets[0].end();
    await pass(1000);
    sockets[1].end();
    await pass(2000);
    sources[0].deliver({ ready: '1-1' });
    await pass(11_000);
    stream.close();
    assert.ok(sockets[2].closed);
  });
});

describe('responses and close codes', () => {
  for (const [code, wait, why] of [
    [1006, 0, 'a network failure'], [1012, 0, 'a restart'], [1001, 0, 'the request has ended'], [3000, 0, 'credentials may be renewed'],
    [1013, 10_000, 'overload, so later'], [4000, 0, 'a code of the application'],
  ]) {
    test(`reconnects after ${code}: ${why}`, async () => {
      const { stream } = await begin();
      sockets[0].deliver({ ready: '1-1' });
      await pass(10_000);
      sockets[0].end(code);
      assert.equal(stream.state, 'waiting');
      await pass(wait);
      assert.equal(sockets.length, 1);
      await pass(1000);
      assert.equal(sockets.length, 2);
    });
  }

  for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 1010, 3003, 3500, 4999]) {
    test(`does not reconnect after ${code}`, async () => {
      const { stream, log } = await begin();
      sockets[0].deliver({ ready: '1-1' });
      sockets[0].end(code);
      assert.equal(stream.readyState, Fanfare.CLOSED);
      assert.equal(last(log), `error ${code}`);
      await pass(60_000);
      assert.equal(sockets.length, 1);
    });
  }

  for (const status of [204, 401, 403]) {
    test(`does not reconnect after ${status}`, async () => {
      const { stream } = await begin({ sse: 'http://x/events', headers: { Authorization: 'x' } });
      await requests[0].respond(status);
      assert.equal(stream.readyState, Fanfare.CLOSED);
    });
  }

  test('a transport is not tried again after another 4xx', async () => {
    const { stream } = await begin({ sse: 'http://x/events', headers: {} });
    await requests[0].respond(404);
    await pass(2000);
    assert.equal(requests[1].url.searchParams.get('poll'), '1');
    await requests[1].respond(410);
    assert.equal(stream.readyState, Fanfare.CLOSED);
  });

  test('a temporary refusal is tried again after Retry-After', async () => {
    await begin({ sse: 'http://x/events', headers: {}, transports: ['sse'] });
    await requests[0].respond(503, { 'Retry-After': '7' });
    await pass(6500);
    assert.equal(requests.length, 1);
    await pass(2000);
    assert.equal(requests.length, 2);
    await requests[1].respond(200, { 'Content-Type': 'text/html' });
    await pass(2000);
    assert.equal(requests.length, 3, 'a response that is not a stream is a failure');
    await requests[2].respond();
    await requests[2].write('retry: 20000\n\n');
    await requests[2].end();
    await pass(19_500);
    assert.equal(requests.length, 3);
    await pass(3000);
    assert.equal(requests.length, 4);
  });
});

describe('over fetch', () => {
  test('headers are computed for each request', async () => {
    let n = 0;
    await begin({ sse: 'http://x/events', headers: async () => ({ Authorization: `token ${++n}` }) });
    assert.equal(requests[0].init.headers.Authorization, 'token 1');
    await requests[0].fail();
    await pass(2000);
    assert.equal(requests[1].init.headers.Authorization, 'token 2');
  });

  const wire = ': a comment\nretry: 1000\nid: 1-1\ndata: {"ready":"1-1"}\n\nevent: x\ndata:{"id":"1-2","topic":"a",\ndata: "data":"über"}\n\n:\nid: 1-2\n\ndata: {"id":"1-3","topic":"a","data":"half';
  for (const [name, size, text] of [
    ['in one piece', 1e6, wire], ['byte by byte', 1, wire], ['with CRLF, byte by byte', 1, wire.replaceAll('\n', '\r\n')],
    ['with CRLF, in one piece', 1e6, wire.replaceAll('\n', '\r\n')], ['with a byte order mark', 3, '\uFEFF' + wire],
  ]) {
    test(`an event stream is read ${name}`, async () => {
      const { stream, log } = await begin({ sse: 'http://x/events', headers: {} });
      await requests[0].respond();
      const bytes = new TextEncoder().encode(text);
      for (let i = 0; i < bytes.length; i += size) requests[0].controller.enqueue(bytes.slice(i, i + size));
      for (let i = 0; i < 40; i++) await settled();
      assert.deepEqual(log.filter((h) => h.startsWith('message')), ['message 1-2 über']);
      await requests[0].end();
      assert.equal(stream.lastEventId, '1-2', 'an incomplete event is dropped');
    });
  }

  test('an event may have 1 MiB', async () => {
    const { stream } = await begin({ sse: 'http://x/events', headers: {} });
    let size = 0;
    stream.onmessage = ({ data }) => (size = data.length);
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1' }, message('1-2', 'x'.repeat(1 << 20)));
    assert.equal(size, 1 << 20);
  });

  test('an ID may have any characters', async () => {
    const { stream } = await begin({ sse: 'http://x/events', headers: {} });
    await requests[0].respond();
    await requests[0].deliver({ ready: 'ü &?#+%' });
    await pass(10_000);
    await requests[0].end();
    await pass(4000);
    assert.equal(position(requests[1]), 'ü &?#+%');
    assert.equal(stream.lastEventId, 'ü &?#+%');
  });
});

describe('long polling', () => {
  const options = { sse: 'http://x/events', transports: ['poll'] };

  test('each request resumes after the previous one, without a pause', async () => {
    const { stream, log } = await begin(options);
    for (let i = 0; i < 3; i++) {
      assert.equal(position(requests[i]), i ? `1-${i + 1}` : null);
      await requests[i].respond();
      await requests[i].deliver({ ready: `1-${i + 1}` }, message(`1-${i + 2}`, `m${i}`));
      await requests[i].end();
    }
    assert.equal(requests.length, 4);
    assert.equal(stream.transport, 'poll');
    assert.deepEqual(log, ['open', 'open', 'message 1-2 m0', 'message 1-3 m1', 'message 1-4 m2'], 'the stream stays open');
  });

  test('an empty response after a while is not a failure, an immediate one is', async () => {
    const { stream } = await begin(options);
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1' });
    await pass(25_000);
    await requests[0].end();
    assert.equal(requests.length, 2);
    assert.equal(stream.state, 'open');
    await requests[1].respond();
    await requests[1].deliver({ ready: '1-1' });
    await requests[1].end();
    assert.equal(requests.length, 2);
    assert.equal(stream.state, 'waiting');
    await pass(2000);
    assert.equal(requests.length, 3);
  });

  test('a response may be held back until its end', async () => {
    await begin({ ...options, lastEventId: '1-1' });
    await pass(26_000);
    assert.equal(requests.length, 1);
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1' }, { position: '1-5' });
    await requests[0].end();
    assert.equal(position(requests[1]), '1-5');
  });
});

describe('silence', () => {
  test('a silent link is closed', async () => {
    const { stream } = await begin();
    sockets[0].deliver({ ready: '1-1' });
    for (let i = 0; i < 5; i++) {
      await pass(30_000);
      sockets[0].deliver({ position: '1-1' });
    }
    assert.equal(sockets.length, 1, 'positions are heartbeats');
    await pass(47_000);
    assert.ok(sockets[0].closed);
    sockets[1].deliver({ ready: '1-1' });
    assert.equal(stream.state, 'open');
  });

  test('comments of a fetched stream are signs of life', async () => {
    await begin({ sse: 'http://x/events', headers: {} });
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1' });
    for (let i = 0; i < 8; i++) {
      await pass(15_000);
      await requests[0].write(':\n');
    }
    assert.equal(requests.length, 1);
  });

  test('a computer that has slept for an hour reconnects at once', async () => {
    await begin();
    sockets[0].deliver({ ready: '1-1' }, message('1-2', 'x'));
    await pass(20_000);
    jumped = 3_600_000; // timers stand still meanwhile
    await pass(15_500);
    assert.ok(sockets[0].closed);
    assert.equal(position(sockets[1]), '1-2');
  });

  test('a clock that is set back has no effect', async () => {
    const { stream } = await begin();
    sockets[0].deliver({ ready: '1-1' });
    jumped = -3_600_000;
    await pass(30_000);
    assert.equal(stream.state, 'open');
    assert.equal(sockets.length, 1);
    await pass(60_000);
    assert.ok(sockets[0].closed, 'silence is still noticed');
  });

  test('a waiting stream reconnects at once when the network is back', async () => {
    const target = new EventTarget();
    globalThis.addEventListener = target.addEventListener.bind(target);
    try {
      mock.method(Math, 'random', () => 0.999);
      await begin({ ws: 'http://x/ws' });
      for (let i = 0; i < 4; i++) {
        sockets[i].end();
        if (i < 3) await pass(10_000);
      }
      assert.equal(sockets.length, 4);
      target.dispatchEvent(new Event('online'));
      assert.equal(sockets.length, 5);
      target.dispatchEvent(new Event('online'));
      assert.equal(sockets.length, 5, 'only a waiting stream');
    } finally {
      delete globalThis.addEventListener;
    }
  });
});

describe('sending', () => {
  test('uses the WebSocket, and POST if none is open', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', post: 'http://x/messages', headers: { 'X-Token': '1' } });
    sockets[0].deliver({ ready: '1-1' });
    await stream.send('hello');
    assert.deepEqual(sockets[0].sent, ['hello']);
    sockets[0].end();
    const sending = stream.send('by post');
    await settled();
    const { url, init } = last(requests);
    assert.deepEqual([url.href, init.method, init.body, init.headers['X-Token']], ['http://x/messages', 'POST', 'by post', '1']);
    last(requests).resolve(new Response(null, { status: 204 }));
    await sending;
    const refused = stream.send('again');
    await settled();
    last(requests).resolve(new Response('too long', { status: 400 }));
    await assert.rejects(refused, /too long/);
  });

  test('is rejected if it is impossible', async () => {
    const { stream } = await begin();
    await assert.rejects(stream.send('x'), /no WebSocket is open/);
  });

  test('asks for other topics on the WebSocket, or with a new stream', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', topics: ['a'] });
    sockets[0].deliver({ ready: '1-1' });
    stream.setTopics(['b', 'c']);
    assert.deepEqual(sockets[0].sent, ['{"topics":["b","c"]}']);
    sockets[0].deliver({ topics: ['b', 'c'], position: '1-4' });
    assert.equal(stream.lastEventId, '1-4');
    for (const n of [0, 1]) {
      sockets[n].end();
      await pass(2000);
    }
    assert.deepEqual(sources[0].url.searchParams.getAll('topic'), ['b', 'c']);
    sources[0].deliver({ ready: '1-4' });
    stream.setTopics(['d']);
    assert.deepEqual(sources[1].url.searchParams.getAll('topic'), ['d']);
    assert.equal(position(sources[1]), '1-4');
  });
});

describe('in a listener', () => {
  test('setTopics resumes after the current message', async () => {
    const { stream } = await begin({ sse: 'http://x/events', topics: ['a'] });
    stream.addEventListener('message', () => stream.setTopics(['a', 'b']));
    sources[0].deliver({ ready: '1-1' }, message('1-2', 'one'));
    assert.equal(sources.length, 2);
    assert.equal(position(sources[1]), '1-2');
  });

  test('close keeps the position of the current message', async () => {
    const { stream } = await begin();
    let at;
    stream.onmessage = () => { stream.close(); at = stream.lastEventId; };
    sockets[0].deliver({ ready: '1-1' }, message('1-2', 'one'));
    assert.equal(at, '1-2');
  });

  for (const state of ['waiting', 'connecting']) {
    test(`close while ${state} is final`, async () => {
      const { stream } = await begin();
      stream.onstatechange = () => stream.state === state && stream.close();
      sockets[0].deliver({ ready: '1-1' });
      sockets[0].end();
      await pass(5000);
      assert.equal(stream.state, 'closed');
      assert.equal(sockets.length, 1);
    });
  }
});

describe('edge cases', () => {
  test('silence may be three times the patience', async () => {
    await begin({ ws: 'http://x/ws', silence: 30_000 });
    sockets[0].deliver({ ready: '1-1' });
    for (let i = 0; i < 6; i++) {
      await pass(5_000);
      sockets[0].deliver({ position: '1-1' });
    }
    assert.equal(sockets.length, 1);
  });

  test('a first poll with a position alone is not a failure', async () => {
    const { log } = await begin({ sse: 'http://x/events', transports: ['poll'] });
    await requests[0].respond();
    await requests[0].write('retry: 3000\nid: 1-1\ndata: {"ready":"1-1"}\n\n');
    await requests[0].end();
    assert.equal(requests.length, 2);
    assert.deepEqual(log, ['open', 'open']);
  });

  test('a preferred transport is tried again during long polling', async () => {
    await begin({ ws: 'http://x/ws', sse: 'http://x/events', transports: ['ws', 'poll'] });
    sockets[0].end();
    await pass(2000);
    sockets[1].end();
    await pass(3000);
    let tried = sockets.length;
    for (let i = 0; i < 900; i++) {
      await last(requests).respond();
      await last(requests).deliver({ ready: `1-${i + 1}` }, message(`1-${i + 2}`, 'x'));
      await last(requests).end();
      await pass(1000);
      if (sockets.length > tried) sockets[(tried = sockets.length) - 1].end();
    }
    assert.ok(sockets.length > 4 && sockets.length < 10, `${sockets.length} in a quarter of an hour`);
  });

  test('nothing is sent on a WebSocket that is still connecting', async () => {
    globalThis.WebSocket = class extends FakeSocket {
      readyState = 0;
      send(data) {
        if (this.readyState === 0) throw new Error('InvalidStateError');
        super.send(data);
      }
      deliver(...envelopes) {
        this.readyState = 1;
        super.deliver(...envelopes);
      }
    };
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', post: 'http://x/post', topics: ['a'] });
    sockets[0].end();
    await pass(1000);
    sockets[1].end();
    await pass(2000);
    sources[0].deliver({ ready: '1-1' });
    await pass(11_000);
    answer = (request) => request.resolve(new Response(null, { status: 204 }));
    await stream.send('by post');
    assert.equal(last(requests).init.body, 'by post');
    stream.setTopics(['b']);
    assert.deepEqual(last(sources).url.searchParams.getAll('topic'), ['b']);
    assert.deepEqual(last(sockets).sent, []);
  });

  test('a transport whose constructor throws is a failure', async () => {
    globalThis.WebSocket = class { constructor() { throw new DOMException('insecure', 'SecurityError'); } };
    await begin();
    await pass(10_000);
    assert.equal(sources.length, 1);
  });

  test('a probe that receives several messages is one probe', async () => {
    await begin({ sse: 'http://x/events', headers: {} });
    await requests[0].fail();
    await pass(2000);
    await requests[1].fail();
    await pass(3000);
    await requests[2].respond();
    await requests[2].deliver({ ready: '1-1' });
    await pass(11_000);
    const n = requests.length;
    await requests[3].respond();
    await requests[3].deliver({ ready: '1-1' }, message('1-2', 'x'), message('1-3', 'x'));
    assert.equal(requests.length, n);
  });

  test('an empty poll that was held back does not change the state', async () => {
    const { stream } = await begin({ sse: 'http://x/events', transports: ['poll'], lastEventId: '1-1' });
    await requests[0].respond();
    await pass(6000);
    await requests[0].end();
    await requests[1].respond();
    await requests[1].deliver({ ready: '1-1' }, message('1-2', 'x'));
    assert.equal(stream.state, 'open');
  });

  test('refused topics are not requested again', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', topics: ['a'] });
    sockets[0].deliver({ ready: '1-1' });
    stream.setTopics(['secret']);
    sockets[0].deliver({ position: '1-1' });
    sockets[0].deliver({ position: '1-1', status: 403 });
    await pass(10_000);
    sockets[0].end();
    await pass(1000);
    assert.deepEqual(sockets[1].url.searchParams.getAll('topic'), ['a']);
  });
});

