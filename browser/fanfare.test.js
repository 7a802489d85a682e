// The logic of fanfare.js, with stand-ins for what a browser has, in a time of its own.
// internal/chromium has the real ones.

import { test, describe, beforeEach, afterEach, mock } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';

let sockets, sources, requests, answer;
let jumped; // the clock, against the timers

class FakeSocket {
  sent = [];
  constructor(url, protocols) {
    Object.assign(this, { url: new URL(url), protocols });
    sockets.push(this);
  }
  send(data) { this.sent.push(data); }
  close() { this.closed = true; }
  say(...envelopes) { for (const e of envelopes) this.onmessage?.({ data: JSON.stringify(e) }); }
  end(code = 1006) { this.onclose?.({ code }); }
}

class FakeSource {
  constructor(url, options) {
    Object.assign(this, { url: new URL(url), options });
    sources.push(this);
  }
  close() { this.closed = true; }
  say(...envelopes) { for (const e of envelopes) this.onmessage?.({ data: JSON.stringify(e) }); }
}

// The answer to a fetch is a stream that the test writes to.
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
  say(...envelopes) { return this.write(envelopes.map((e) => `id: x\ndata: ${JSON.stringify(e)}\n\n`).join('')); }
  end() {
    this.controller.close();
    return settled();
  }
}

const realNow = performance.now.bind(performance);
// Streams and promises need turns of the real event loop.
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
  const heard = [];
  for (const type of ['open', 'message', 'tick', 'gap', 'error', 'statechange']) {
    stream.addEventListener(type, (e) => heard.push(type === 'statechange' ? stream.state : type === 'error' ? `error ${e.code ?? e.status ?? ''}`.trim() :
      [type, e.lastEventId, e.data].filter(Boolean).join(' ')));
  }
  open.push(stream);
  await settled();
  return { stream, heard };
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
  const { stream, heard } = await begin();
  assert.equal(stream.readyState, Fanfare.CONNECTING);
  assert.equal(sockets[0].url.protocol, 'ws:');
  assert.equal(position(sockets[0]), null);
  const events = [];
  stream.onmessage = (e) => events.push(e);
  stream.addEventListener('tick', (e) => events.push(e));
  sockets[0].say({ ready: '1-1' }, message('1-2', 'one'), message('1-3', 'two', { type: 'tick' }),
    message(undefined, 'state'), message('1-4', 'AP8=', { encoding: 'base64' }));
  assert.equal(stream.readyState, Fanfare.OPEN);
  assert.equal(stream.transport, 'ws');
  assert.deepEqual(heard.slice(0, 2), ['open', 'open'], 'the state and the event');
  assert.deepEqual(events.map(({ type, data, lastEventId, topic }) => [type, data, lastEventId, topic]), [
    ['message', 'one', '1-2', 'a'], ['tick', 'two', '1-3', 'a'], ['message', 'state', '', 'a'], ['message', new Uint8Array([0, 255]), '1-4', 'a'],
  ]);
  assert.equal(stream.lastEventId, '1-4');
  stream.close();
  assert.equal(stream.readyState, Fanfare.CLOSED);
  assert.ok(sockets[0].closed);
  sockets[0].say(message('1-5', 'too late'));
  assert.equal(stream.lastEventId, '1-4');
  await pass(60_000);
  assert.equal(sockets.length, 1, 'nothing comes after close');
});

test('a listener may close the stream', async () => {
  const { stream } = await begin();
  let n = 0;
  stream.onmessage = () => { n++; stream.close(); };
  sockets[0].say({ ready: '1-1' }, message('1-2', 'one'), message('1-3', 'two'));
  assert.equal(n, 1);
});

test('each link resumes behind the last position that was told', async () => {
  const { stream, heard } = await begin();
  sockets[0].say({ ready: '1-1' }, message('1-2', 'one'), message(undefined, 'state'));
  await pass(10_000);
  sockets[0].end();
  assert.equal(stream.state, 'waiting');
  await pass(1000);
  assert.equal(position(sockets[1]), '1-2');
  sockets[1].say({ gap: '1-9', topics: ['a'] });
  assert.equal(last(heard), 'gap 1-9');
  sockets[1].say({ position: '1-12' });
  await pass(10_000);
  sockets[1].end();
  await pass(1000);
  assert.equal(position(sockets[2]), '1-12');
});

test('begins at the position that a page was made at', async () => {
  await begin({ ws: 'http://x/ws?token=1', lastEventId: '1-7', topics: ['a', 'b'], protocols: ['p'] });
  assert.equal(sockets[0].url.href, 'ws://x/ws?token=1&heartbeat=1&envelope=1&lastEventId=1-7&topic=a&topic=b');
  assert.deepEqual(sockets[0].protocols, ['p']);
});

test('needs a URL', () => {
  assert.throws(() => new Fanfare({}), TypeError);
  assert.throws(() => new Fanfare({ ws: 'http://x/ws', transports: ['sse'] }), TypeError);
  assert.throws(() => new Fanfare({ sse: 'http://' }), TypeError);
});

describe('what does not get through', () => {
  test('the next transport is tried after two failures, and the last one comes back to the first', async () => {
    const { stream } = await begin();
    for (const n of [1, 2]) {
      assert.equal(sockets.length, n);
      sockets[n - 1].end();
      await pass(2000);
    }
    for (const n of [1, 2]) {
      assert.equal(sources.length, n);
      sources[n - 1].onerror({});
      assert.ok(sources[n - 1].closed, 'the browser does not reconnect beside us');
      await pass(5000);
    }
    assert.equal(last(requests).url.searchParams.get('poll'), '1');
    for (const n of [1, 2]) {
      assert.equal(requests.length, n);
      await requests[n - 1].fail();
      while (requests.length === n && sockets.length < 3) await pass(500);
    }
    assert.equal(sockets.length, 3);
    sockets[2].say({ ready: '1-1' });
    assert.equal(stream.transport, 'ws');
  });

  test('a WebSocket that opens and is killed at once is a failure', async () => {
    await begin();
    for (const n of [0, 1]) {
      sockets[n].say({ ready: '1-1' }, message(`1-${n + 2}`, 'x'));
      await pass(3000);
      sockets[n].end();
      await pass(2000);
    }
    assert.equal(sources.length, 1);
    assert.equal(position(sources[0]), '1-3');
  });

  test('one that never says anything is given up', async () => {
    await begin();
    await pass(9_500);
    assert.equal(sockets.length, 1);
    await pass(2_000);
    assert.ok(sockets[0].closed);
    assert.equal(sockets.length, 2);
  });

  test('waits grow, with jitter, to a bound', async () => {
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

  test('a better transport is tried again, and taken only when it stands', async () => {
    const { stream } = await begin();
    sockets[0].end();
    await pass(1000);
    sockets[1].end();
    await pass(2000);
    sources[0].say({ ready: '1-1' }, message('1-2', 'over SSE'));
    await pass(11_000);
    assert.equal(sockets.length, 3, 'on trial');
    assert.equal(position(sockets[2]), '1-2');
    sources[0].say(message('1-3', 'meanwhile'));
    sockets[2].end();
    assert.equal(stream.transport, 'sse');
    await pass(15_000);
    assert.equal(sockets.length, 3, 'not so soon again');
    await pass(6_000);
    assert.equal(sockets.length, 4);
    const heard = [];
    stream.onmessage = ({ data }) => heard.push(data);
    stream.onstatechange = () => heard.push(stream.state);
    sockets[3].say({ ready: '1-3' });
    assert.ok(sources[0].closed);
    assert.equal(position(sockets[4]), '1-3', 'the trial is over, and the link begins where the other one was');
    sockets[4].say({ ready: '1-3' }, message('1-4', 'over WebSocket'));
    assert.equal(stream.transport, 'ws');
    assert.deepEqual(heard, ['open', 'over WebSocket'], 'it is open all the time; statechange tells of the transport');
  });

  test('a trial ends with the stream', async () => {
    const { stream } = await begin();
    sockets[0].end();
    await pass(1000);
    sockets[1].end();
    await pass(2000);
    sources[0].say({ ready: '1-1' });
    await pass(11_000);
    stream.close();
    assert.ok(sockets[2].closed);
  });
});

describe('what the server says', () => {
  for (const [code, wait, why] of [
    [1006, 0, 'a network that fails'], [1012, 0, 'a restart: soon'], [1001, 0, 'a request that has ended'], [3000, 0, 'credentials may be new'],
    [1013, 10_000, 'overload: later'], [4000, 0, 'an application that wants it so'],
  ]) {
    test(`comes back after ${code}: ${why}`, async () => {
      const { stream } = await begin();
      sockets[0].say({ ready: '1-1' });
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
    test(`stays away after ${code}`, async () => {
      const { stream, heard } = await begin();
      sockets[0].say({ ready: '1-1' });
      sockets[0].end(code);
      assert.equal(stream.readyState, Fanfare.CLOSED);
      assert.equal(last(heard), `error ${code}`);
      await pass(60_000);
      assert.equal(sockets.length, 1);
    });
  }

  for (const status of [204, 401, 403]) {
    test(`stays away after ${status}`, async () => {
      const { stream } = await begin({ sse: 'http://x/events', headers: { Authorization: 'x' } });
      await requests[0].respond(status);
      assert.equal(stream.readyState, Fanfare.CLOSED);
    });
  }

  test('another 4xx is the end of that transport', async () => {
    const { stream } = await begin({ sse: 'http://x/events', headers: {} });
    await requests[0].respond(404);
    await pass(2000);
    assert.equal(requests[1].url.searchParams.get('poll'), '1');
    await requests[1].respond(410);
    assert.equal(stream.readyState, Fanfare.CLOSED);
  });

  test('what may pass is tried again after the time that it says', async () => {
    await begin({ sse: 'http://x/events', headers: {}, transports: ['sse'] });
    await requests[0].respond(503, { 'Retry-After': '7' });
    await pass(6500);
    assert.equal(requests.length, 1);
    await pass(2000);
    assert.equal(requests.length, 2);
    await requests[1].respond(200, { 'Content-Type': 'text/html' });
    await pass(2000);
    assert.equal(requests.length, 3, 'a page, perhaps of a proxy');
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
  test('headers are asked for each time', async () => {
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
      const { stream, heard } = await begin({ sse: 'http://x/events', headers: {} });
      await requests[0].respond();
      const bytes = new TextEncoder().encode(text);
      for (let i = 0; i < bytes.length; i += size) requests[0].controller.enqueue(bytes.slice(i, i + size));
      for (let i = 0; i < 40; i++) await settled();
      assert.deepEqual(heard.filter((h) => h.startsWith('message')), ['message 1-2 über']);
      await requests[0].end();
      assert.equal(stream.lastEventId, '1-2', 'half an event is none');
    });
  }

  test('an event may have a megabyte', async () => {
    const { stream } = await begin({ sse: 'http://x/events', headers: {} });
    let size = 0;
    stream.onmessage = ({ data }) => (size = data.length);
    await requests[0].respond();
    await requests[0].say({ ready: '1-1' }, message('1-2', 'x'.repeat(1 << 20)));
    assert.equal(size, 1 << 20);
  });

  test('ids may be odd', async () => {
    const { stream } = await begin({ sse: 'http://x/events', headers: {} });
    await requests[0].respond();
    await requests[0].say({ ready: 'ü &?#+%' });
    await pass(10_000);
    await requests[0].end();
    await pass(4000);
    assert.equal(position(requests[1]), 'ü &?#+%');
    assert.equal(stream.lastEventId, 'ü &?#+%');
  });
});

describe('long polling', () => {
  const options = { sse: 'http://x/events', transports: ['poll'] };

  test('each request resumes behind the one before it, without a pause', async () => {
    const { stream, heard } = await begin(options);
    for (let i = 0; i < 3; i++) {
      assert.equal(position(requests[i]), i ? `1-${i + 1}` : null);
      await requests[i].respond();
      await requests[i].say({ ready: `1-${i + 1}` }, message(`1-${i + 2}`, `m${i}`));
      await requests[i].end();
    }
    assert.equal(requests.length, 4);
    assert.equal(stream.transport, 'poll');
    assert.deepEqual(heard, ['open', 'open', 'message 1-2 m0', 'message 1-3 m1', 'message 1-4 m2'], 'and it is open all the time');
  });

  test('a quiet time is not a failure, but answers without content that come at once are', async () => {
    const { stream } = await begin(options);
    await requests[0].respond();
    await requests[0].say({ ready: '1-1' });
    await pass(25_000);
    await requests[0].end();
    assert.equal(requests.length, 2);
    assert.equal(stream.state, 'open');
    await requests[1].respond();
    await requests[1].say({ ready: '1-1' });
    await requests[1].end();
    assert.equal(requests.length, 2);
    assert.equal(stream.state, 'waiting');
    await pass(2000);
    assert.equal(requests.length, 3);
  });

  test('a response that is held back until its end is waited for', async () => {
    await begin({ ...options, lastEventId: '1-1' });
    await pass(26_000);
    assert.equal(requests.length, 1);
    await requests[0].respond();
    await requests[0].say({ ready: '1-1' }, { position: '1-5' });
    await requests[0].end();
    assert.equal(position(requests[1]), '1-5');
  });
});

describe('silence', () => {
  test('a link without a sign of life is given up', async () => {
    const { stream } = await begin();
    sockets[0].say({ ready: '1-1' });
    for (let i = 0; i < 5; i++) {
      await pass(30_000);
      sockets[0].say({ position: '1-1' });
    }
    assert.equal(sockets.length, 1, 'positions are heartbeats');
    await pass(65_000);
    assert.ok(sockets[0].closed);
    sockets[1].say({ ready: '1-1' });
    assert.equal(stream.state, 'open');
  });

  test('comments of a fetched stream count', async () => {
    await begin({ sse: 'http://x/events', headers: {} });
    await requests[0].respond();
    await requests[0].say({ ready: '1-1' });
    for (let i = 0; i < 8; i++) {
      await pass(15_000);
      await requests[0].write(':\n');
    }
    assert.equal(requests.length, 1);
  });

  test('a computer that has slept for an hour reconnects at once', async () => {
    await begin();
    sockets[0].say({ ready: '1-1' }, message('1-2', 'x'));
    await pass(20_000);
    jumped = 3_600_000; // timers stand still meanwhile
    await pass(15_500);
    assert.ok(sockets[0].closed);
    assert.equal(position(sockets[1]), '1-2');
  });

  test('a clock that is set back changes nothing', async () => {
    const { stream } = await begin();
    sockets[0].say({ ready: '1-1' });
    jumped = -3_600_000;
    await pass(30_000);
    assert.equal(stream.state, 'open');
    assert.equal(sockets.length, 1);
    await pass(60_000);
    assert.ok(sockets[0].closed, 'and silence is noticed all the same');
  });

  test('whoever waits hurries when the network is back', async () => {
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
      assert.equal(sockets.length, 5, 'but only who waits');
    } finally {
      delete globalThis.addEventListener;
    }
  });
});

describe('sending', () => {
  test('goes over the WebSocket, and by POST where there is none', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', post: 'http://x/messages', headers: { 'X-Token': '1' } });
    sockets[0].say({ ready: '1-1' });
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

  test('says that it cannot', async () => {
    const { stream } = await begin();
    await assert.rejects(stream.send('x'), /no WebSocket is open/);
  });

  test('asks for other topics: on the WebSocket, or with another stream', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', topics: ['a'] });
    sockets[0].say({ ready: '1-1' });
    stream.setTopics(['b', 'c']);
    assert.deepEqual(sockets[0].sent, ['{"topics":["b","c"]}']);
    sockets[0].say({ topics: ['b', 'c'], position: '1-4' });
    assert.equal(stream.lastEventId, '1-4');
    for (const n of [0, 1]) {
      sockets[n].end();
      await pass(2000);
    }
    assert.deepEqual(sources[0].url.searchParams.getAll('topic'), ['b', 'c']);
    sources[0].say({ ready: '1-4' });
    stream.setTopics(['d']);
    assert.deepEqual(sources[1].url.searchParams.getAll('topic'), ['d']);
    assert.equal(position(sources[1]), '1-4');
  });
});

describe('in a listener', () => {
  test('asking for other topics goes on behind the message at hand', async () => {
    const { stream } = await begin({ sse: 'http://x/events', topics: ['a'] });
    stream.addEventListener('message', () => stream.setTopics(['a', 'b']));
    sources[0].say({ ready: '1-1' }, message('1-2', 'one'));
    assert.equal(sources.length, 2);
    assert.equal(position(sources[1]), '1-2');
  });

  test('closing leaves the position of the message at hand', async () => {
    const { stream } = await begin();
    let at;
    stream.onmessage = () => { stream.close(); at = stream.lastEventId; };
    sockets[0].say({ ready: '1-1' }, message('1-2', 'one'));
    assert.equal(at, '1-2');
  });

  for (const state of ['waiting', 'connecting']) {
    test(`closing while ${state} is for good`, async () => {
      const { stream } = await begin();
      stream.onstatechange = () => stream.state === state && stream.close();
      sockets[0].say({ ready: '1-1' });
      sockets[0].end();
      await pass(5000);
      assert.equal(stream.state, 'closed');
      assert.equal(sockets.length, 1);
    });
  }
});

describe('odd circumstances', () => {
  test('a silence as long as three times the patience', async () => {
    await begin({ ws: 'http://x/ws', silence: 30_000 });
    sockets[0].say({ ready: '1-1' });
    for (let i = 0; i < 6; i++) {
      await pass(5_000);
      sockets[0].say({ position: '1-1' });
    }
    assert.equal(sockets.length, 1);
  });

  test('a first poll, which brings a position alone, is no failure', async () => {
    const { heard } = await begin({ sse: 'http://x/events', transports: ['poll'] });
    await requests[0].respond();
    await requests[0].write('retry: 3000\nid: 1-1\ndata: {"ready":"1-1"}\n\n');
    await requests[0].end();
    assert.equal(requests.length, 2);
    assert.deepEqual(heard, ['open', 'open']);
  });

  test('while polls come and go, a better way is tried now and then', async () => {
    await begin({ ws: 'http://x/ws', sse: 'http://x/events', transports: ['ws', 'poll'] });
    sockets[0].end();
    await pass(2000);
    sockets[1].end();
    await pass(3000);
    let tried = sockets.length;
    for (let i = 0; i < 900; i++) {
      await last(requests).respond();
      await last(requests).say({ ready: `1-${i + 1}` }, message(`1-${i + 2}`, 'x'));
      await last(requests).end();
      await pass(1000);
      if (sockets.length > tried) sockets[(tried = sockets.length) - 1].end();
    }
    assert.ok(sockets.length > 4 && sockets.length < 10, `${sockets.length} in a quarter of an hour`);
  });

  test('a WebSocket that still connects is not sent on', async () => {
    globalThis.WebSocket = class extends FakeSocket {
      readyState = 0;
      send(data) {
        if (this.readyState === 0) throw new Error('InvalidStateError');
        super.send(data);
      }
      say(...envelopes) {
        this.readyState = 1;
        super.say(...envelopes);
      }
    };
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', post: 'http://x/post', topics: ['a'] });
    sockets[0].end();
    await pass(1000);
    sockets[1].end();
    await pass(2000);
    sources[0].say({ ready: '1-1' });
    await pass(11_000);
    sockets[2].say({ ready: '1-1' });
    answer = (request) => request.resolve(new Response(null, { status: 204 }));
    await stream.send('by post');
    assert.equal(last(requests).init.body, 'by post');
    stream.setTopics(['b']);
    assert.deepEqual(last(sockets).url.searchParams.getAll('topic'), ['b']);
  });

  test('a way that throws is left for the next', async () => {
    globalThis.WebSocket = class { constructor() { throw new DOMException('insecure', 'SecurityError'); } };
    await begin();
    await pass(10_000);
    assert.equal(sources.length, 1);
  });

  test('a trial that brings much at once is one trial', async () => {
    await begin({ sse: 'http://x/events', headers: {} });
    await requests[0].fail();
    await pass(2000);
    await requests[1].fail();
    await pass(3000);
    await requests[2].respond();
    await requests[2].say({ ready: '1-1' });
    await pass(11_000);
    const n = requests.length;
    await requests[3].respond();
    await requests[3].say({ ready: '1-1' }, message('1-2', 'x'), message('1-3', 'x'));
    assert.equal(requests.length, n + 1);
  });

  test('a poll that is held back and brings nothing leaves the state as it is', async () => {
    const { stream } = await begin({ sse: 'http://x/events', transports: ['poll'], lastEventId: '1-1' });
    await requests[0].respond();
    await pass(6000);
    await requests[0].end();
    await requests[1].respond();
    await requests[1].say({ ready: '1-1' }, message('1-2', 'x'));
    assert.equal(stream.state, 'open');
  });

  test('topics that are refused are not asked for again', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', topics: ['a'] });
    sockets[0].say({ ready: '1-1' });
    stream.setTopics(['secret']);
    sockets[0].say({ topics: ['a'], position: '1-1', status: 403 });
    await pass(10_000);
    sockets[0].end();
    await pass(1000);
    assert.deepEqual(sockets[1].url.searchParams.getAll('topic'), ['a']);
  });
});

describe('sharing', () => {
  const options = { ws: 'http://x/ws', sse: 'http://x/events', shared: true };
  let held, queue;

  beforeEach(() => {
    [held, queue] = [new Set(), []];
    const grant = async () => {
      const next = queue.find(({ name }) => !held.has(name));
      if (!next) return;
      queue.splice(queue.indexOf(next), 1);
      held.add(next.name);
      await next.f();
      held.delete(next.name);
      next.resolve();
      grant();
    };
    globalThis.navigator ??= {}; // Node 20 has none
    Object.defineProperty(globalThis.navigator, 'locks', {
      configurable: true,
      value: {
        request: (name, { signal }, f) => new Promise((resolve, reject) => {
          const entry = { name, f, resolve };
          queue.push(entry);
          signal.addEventListener('abort', () => {
            if (!queue.includes(entry)) return;
            queue.splice(queue.indexOf(entry), 1);
            reject(signal.reason);
          });
          grant();
        }),
      },
    });
  });

  afterEach(async () => {
    for (const stream of open) stream.close();
    await settled();
    delete globalThis.navigator.locks;
  });

  const texts = (heard) => heard.filter((h) => h.startsWith('message') || h.startsWith('gap'));

  test('one tab connects, all hear', async () => {
    const tabs = [await begin(options), await begin(options), await begin(options)];
    assert.equal(sockets.length, 1);
    sockets[0].say({ ready: '1-1' }, message('1-2', 'one'), { gap: '1-4' }, message('1-5', 'two'));
    await settled();
    for (const { stream, heard } of tabs) {
      assert.deepEqual(texts(heard), ['message 1-2 one', 'gap 1-4', 'message 1-5 two']);
      assert.equal(stream.readyState, Fanfare.OPEN);
      assert.equal(stream.lastEventId, '1-5');
    }
    assert.deepEqual(tabs.map(({ stream }) => stream.transport), ['ws', 'shared', 'shared']);
    await tabs[2].stream.send('from a tab');
    await settled();
    assert.deepEqual(sockets[0].sent, ['from a tab']);
  });

  test('when that tab is gone, the next one goes on where it was', async () => {
    const tabs = [await begin(options), await begin(options), await begin(options)];
    sockets[0].say({ ready: '1-1' }, message('1-2', 'one'));
    await settled();
    tabs[0].stream.close();
    await settled();
    assert.equal(tabs[1].stream.transport, undefined);
    assert.equal(sockets.length, 2);
    assert.equal(position(sockets[1]), '1-2');
    sockets[1].say({ ready: '1-2' }, message('1-3', 'two'));
    await settled();
    for (const { heard } of tabs.slice(1)) assert.deepEqual(texts(heard), ['message 1-2 one', 'message 1-3 two']);
    assert.equal(tabs[0].stream.readyState, Fanfare.CLOSED);
    assert.equal(tabs[2].stream.readyState, Fanfare.OPEN);
  });

  test('a tab that is further on than the next one hears nothing twice', async () => {
    const channels = [];
    const Real = globalThis.BroadcastChannel;
    globalThis.BroadcastChannel = class extends Real {
      constructor(name) {
        super(name);
        channels.push(this);
      }
    };
    const tabs = [await begin(options), await begin(options), await begin(options)];
    globalThis.BroadcastChannel = Real;
    sockets[0].say({ ready: '1-1' }, message('1-2', 'one'));
    await settled();
    const { onmessage } = channels[1];
    channels[1].onmessage = null; // it is the next one, and does not get what follows
    sockets[0].say(message('1-3', 'two'));
    await settled();
    channels[1].onmessage = onmessage;
    tabs[0].stream.close();
    await settled();
    assert.equal(position(sockets[1]), '1-2');
    sockets[1].say({ ready: '1-2' }, message('1-3', 'two'), message('1-4', 'three'));
    await settled();
    for (const { heard } of tabs.slice(1)) assert.deepEqual(texts(heard), ['message 1-2 one', 'message 1-3 two', 'message 1-4 three']);
  });

  test('a tab that joins hears what comes from then on, or what it missed, or of a gap', async () => {
    await begin(options);
    sockets[0].say({ ready: '1-1' }, message('1-2', 'one'), message('1-3', 'two'));
    await settled();
    const fresh = await begin(options);
    const behind = await begin({ ...options, lastEventId: '1-2' });
    const lost = await begin({ ...options, lastEventId: '1-0' });
    await settled();
    sockets[0].say(message('1-4', 'three'));
    await settled();
    assert.deepEqual(texts(fresh.heard), ['message 1-4 three']);
    assert.deepEqual(texts(behind.heard), ['message 1-3 two', 'message 1-4 three']);
    assert.deepEqual(texts(lost.heard), ['gap 1-3', 'message 1-4 three']);
    assert.equal(fresh.stream.readyState, Fanfare.OPEN);
  });

  test('streams that are not the same share nothing', async () => {
    await begin(options);
    await begin({ ...options, topics: ['a'] });
    await begin({ ...options, ws: 'http://x/ws2' });
    assert.equal(sockets.length, 3);
  });

  test('tabs wait for the one that leads, whatever wakes them', async () => {
    const target = new EventTarget();
    globalThis.addEventListener = target.addEventListener.bind(target);
    try {
      const tabs = [await begin(options), await begin(options), await begin(options)];
      sockets[0].say({ ready: '1-1' }, message('1-2', 'one'));
      await settled();
      sockets[0].end();
      await settled();
      assert.deepEqual(tabs.map(({ stream }) => stream.state), ['waiting', 'waiting', 'waiting']);
      target.dispatchEvent(new Event('online'));
      await settled();
      assert.equal(sockets.length, 2);
    } finally {
      delete globalThis.addEventListener;
    }
  });

  test('a tab that begins elsewhere than the one that leads is told of a gap', async () => {
    await begin({ ...options, lastEventId: '1-10' });
    const behind = await begin({ ...options, lastEventId: '1-5' });
    sockets[0].say({ ready: '1-10' }, message('1-11', 'x'));
    await settled();
    assert.deepEqual(texts(behind.heard), ['gap 1-10', 'message 1-11 x']);
  });

  test('topics that a tab has asked for stay when another one leads', async () => {
    const tabs = [];
    for (let i = 0; i < 3; i++) tabs.push(await begin({ ...options, topics: ['a'] }));
    sockets[0].say({ ready: '1-1' });
    await settled();
    tabs[2].stream.setTopics(['b']);
    await settled();
    assert.deepEqual(sockets[0].sent, ['{"topics":["b"]}']);
    tabs[0].stream.close();
    await settled();
    assert.deepEqual(sockets[1].url.searchParams.getAll('topic'), ['b']);
  });

  test('the same relative URL on two pages is not the same stream', async () => {
    try {
      for (const page of ['a', 'b']) {
        globalThis.document = { baseURI: `http://x/rooms/${page}/`, addEventListener() {} };
        await begin({ ws: 'ws', shared: true });
      }
      assert.equal(sockets.length, 2);
    } finally {
      delete globalThis.document;
    }
  });

  test('where locks are refused each tab connects', async () => {
    globalThis.navigator.locks.request = () => Promise.reject(new DOMException('x', 'SecurityError'));
    await begin(options);
    assert.equal(sockets.length, 1);
  });
});
