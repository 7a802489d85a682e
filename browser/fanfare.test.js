// Tests of fanfare.js with fakes of the browser's APIs, in fake time. internal/browsers tests it
// in a real browser.

import { test, describe, beforeEach, afterEach, mock } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';
import { FakeSocket, answer, begin, jump, last, message, open, pass, position, requests, settled, sockets, sources } from './harness.js';

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
    jump(3_600_000); // timers stand still meanwhile
    await pass(15_500);
    assert.ok(sockets[0].closed);
    assert.equal(position(sockets[1]), '1-2');
  });

  test('a clock that is set back has no effect', async () => {
    const { stream } = await begin();
    sockets[0].deliver({ ready: '1-1' });
    jump(-3_600_000);
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
    answer((request) => request.resolve(new Response(null, { status: 204 })));
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

describe('the life of a page', () => {
  let page;
  const fire = (type, target = page) => target.dispatchEvent(new Event(type));

  beforeEach(() => {
    page = new EventTarget();
    globalThis.addEventListener = page.addEventListener.bind(page);
    globalThis.document = Object.assign(new EventTarget(), { baseURI: 'http://x/', hidden: false });
  });
  afterEach(() => {
    for (const stream of open) stream.close();
    delete globalThis.addEventListener;
    delete globalThis.document;
  });

  for (const [leave, come, target] of [['pagehide', 'pageshow', () => page], ['freeze', 'resume', () => document]]) {
    test(`${leave} closes the link, ${come} resumes it`, async () => {
      const { stream, log } = await begin();
      sockets[0].deliver({ ready: '1-1' }, message('1-2', 'one'));
      fire(leave, target());
      assert.ok(sockets[0].closed);
      assert.equal(stream.state, 'waiting');
      stream.setTopics(['b']);
      await pass(120_000);
      fire('online');
      assert.equal(sockets.length, 1, 'nothing connects meanwhile');
      fire(come, target());
      assert.equal(position(sockets[1]), '1-2');
      fire(come, target());
      assert.equal(sockets.length, 2);
      sockets[1].deliver({ ready: '1-2' }, message('1-3', 'two'));
      assert.equal(last(log), 'message 1-3 two');
    });
  }

  test('a closed stream stays closed', async () => {
    const { stream } = await begin();
    stream.close();
    fire('pagehide');
    fire('pageshow');
    await pass(5000);
    assert.equal(stream.state, 'closed');
    assert.equal(sockets.length, 1);
  });

  for (const [type, target] of [['visibilitychange', () => document], ['online', () => page]]) {
    test(`${type} finds out whether an open link is dead`, async () => {
      await begin();
      sockets[0].deliver({ ready: '1-1' });
      await pass(5000);
      fire(type, target());
      await pass(1000);
      sockets[0].deliver({ position: '1-1' });
      await pass(5000);
      assert.equal(sockets.length, 1, 'it has been heard');
      fire(type, target());
      await pass(3500);
      assert.ok(sockets[0].closed);
      assert.equal(sockets.length, 2);
    });

    test(`${type} does not shorten a wait that the server has asked for`, async () => {
      await begin({ ws: 'http://x/ws' });
      sockets[0].end(1013);
      fire(type, target());
      await pass(4000);
      assert.equal(sockets.length, 1);
      await begin({ sse: 'http://x/events', headers: {}, transports: ['sse'] });
      await requests[0].respond(503, { 'Retry-After': '20' });
      fire(type, target());
      fire('pagehide');
      fire('pageshow');
      await pass(19_000);
      assert.equal(requests.length, 1);
      await pass(3000);
      assert.equal(requests.length, 2);
    });
  }

  test('a poll that may be dead is made anew, and the stream stays open', async () => {
    const { stream } = await begin({ sse: 'http://x/events', transports: ['poll'] });
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1' });
    await requests[0].end();
    await pass(3000);
    fire('online');
    await pass(3500);
    assert.ok(requests.length > 2);
    assert.equal(stream.state, 'open');
  });
});

describe('options', () => {
  test('undefined means the default', async () => {
    const names = ['retry', 'maxRetry', 'silence', 'patience', 'good', 'upgrade', 'transports', 'topics', 'headers', 'protocols', 'lastEventId', 'shared', 'withCredentials', 'post'];
    const { stream } = await begin({ ws: 'http://x/ws', sse: undefined, ...Object.fromEntries(names.map((name) => [name, undefined])) });
    assert.equal(stream.lastEventId, '');
    for (let i = 0; i < 40; i++) {
      last(sockets).end();
      await pass(500);
    }
    assert.ok(sockets.length < 10, `${sockets.length} attempts in 20 s`);
  });

  for (const value of [0, -1, NaN, 'x', null]) {
    test(`no time is too short: ${value}`, async () => {
      const { stream } = await begin({ ws: 'http://x/ws', retry: value, maxRetry: value, silence: value, patience: value, good: value, upgrade: value });
      sockets[0].deliver({ ready: '1-1' });
      for (let i = 0; i < 10; i++) {
        last(sockets).end();
        mock.timers.tick(90);
      }
      assert.ok(sockets.length <= 10, `${sockets.length} attempts in 0.9 s`);
      assert.notEqual(stream.state, 'closed');
    });
  }

  test('wrong ones are named', () => {
    globalThis.document = { baseURI: 'http://x/', addEventListener() {} };
    try {
      assert.throws(() => new Fanfare({}), /ws or sse/);
      assert.throws(() => new Fanfare(), /ws or sse/);
      assert.throws(() => new Fanfare({ ws: '/ws', transports: [] }), /ws or sse/);
      assert.throws(() => new Fanfare({ ws: '/ws', transports: ['webtransport'] }), /webtransport/);
      for (const shared of [true, 17, {}]) assert.throws(() => new Fanfare({ ws: '/ws', shared }), /shared names no user/);
    } finally {
      delete globalThis.document;
    }
  });

  test('the name and the password of the page are in no address', async () => {
    globalThis.document = { baseURI: 'http://ann:p%40ss@x/a@b/page', hidden: false, addEventListener() {} };
    try {
      const { stream } = await begin({ ws: '/ws', sse: 'events', post: 'post', headers: {} });
      last(sockets).end();
      await pass(25_000);
      assert.equal(sockets[0].url.origin + sockets[0].url.pathname, 'ws://x/ws');
      assert.match(requests[0].url.href, /^http:\/\/x\/a@b\/events\?/);
      stream.send('by post').catch(() => {});
      await settled();
      assert.equal(last(requests).url.href, 'http://x/a@b/post');
    } finally {
      delete globalThis.document;
    }
  });

  test('functions are asked at each attempt', async () => {
    let n = 0;
    await begin({ ws: async () => `http://x/ws?ticket=${++n}`, protocols: () => ['chat', `bearer.${n}`] });
    assert.equal(sockets[0].url.searchParams.get('ticket'), '1');
    assert.deepEqual(sockets[0].protocols, ['chat', 'bearer.1'].map((text) => text.replace('1', n)));
    sockets[0].end();
    await pass(2000);
    assert.equal(sockets[1].url.searchParams.get('ticket'), '2');
    await begin({ sse: () => new URL('http://x/events'), transports: ['poll'] });
    assert.equal(last(requests).url.pathname, '/events');
  });

  for (const [how, f] of [['throws', () => { throw new Error('x'); }], ['is rejected', () => Promise.reject(new Error('x'))], ['never ends', () => new Promise(() => {})],
    ['returns no URL', () => 'http://']]) {
    test(`a function that ${how} is a failure`, async () => {
      await begin({ ws: f, sse: 'http://x/events', lastEventId: '1-1' });
      await pass(25_000);
      assert.ok(sources.length > 0);
      assert.equal(sockets.length, 0);
    });
  }

  test('a late ticket of a closed stream is not used', async () => {
    let give;
    const { stream } = await begin({ ws: () => new Promise((resolve) => (give = resolve)) });
    stream.close();
    give('http://x/ws');
    await settled();
    assert.equal(sockets.length, 0);
  });

  test('silence follows the heartbeat of the server', async () => {
    for (const [options, heartbeat] of [[{}, 60], [{ silence: 20_000 }, 60], [{}, 5], [{}, 30]]) {
      await begin({ ws: 'http://x/ws', ...options });
      const n = sockets.length;
      last(sockets).deliver({ ready: '1-1', heartbeat });
      for (let i = 0; i < 5; i++) {
        await pass(heartbeat * 1000);
        last(sockets).deliver({ position: '1-1' });
      }
      assert.equal(sockets.length, n, `heartbeats of ${heartbeat} s`);
      await pass(Math.max(heartbeat * 1000 + 5000, Math.min(heartbeat * 3000, 45_000)) + 500);
      assert.ok(sockets[n - 1].closed, 'silence is noticed');
      last(open).close();
    }
  });

  test('a poll may be quiet for longer than a stream', async () => {
    await begin({ sse: 'http://x/events', transports: ['poll'], silence: 5000 });
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1', heartbeat: 2 });
    await requests[0].end();
    await pass(24_000);
    assert.ok(requests.length < 5, `${requests.length} requests`);
  });
});

describe('ends', () => {
  const refusalsOf = (stream) => {
    const statuses = [];
    stream.addEventListener('error', ({ status }) => statuses.push(status));
    return statuses;
  };

  for (const status of [204, 401, 403]) {
    test(`an EventSource that is refused with ${status}`, async () => {
      const { stream } = await begin({ sse: 'http://x/events' });
      const statuses = refusalsOf(stream);
      sources[0].readyState = 2;
      sources[0].onerror({});
      await settled();
      await requests[0].respond(status);
      assert.equal(stream.readyState, Fanfare.CLOSED);
      assert.deepEqual(statuses, [status]);
    });
  }

  test('an EventSource that gets an empty stream asks why, and waits as long', async () => {
    const { stream } = await begin({ sse: 'http://x/events', transports: ['sse'] });
    const statuses = refusalsOf(stream);
    sources[0].onopen();
    sources[0].readyState = 0;
    sources[0].onerror({});
    await settled();
    await requests[0].respond(503, { 'Retry-After': '30' });
    assert.deepEqual(statuses, [503]);
    await pass(29_000);
    assert.equal(sources.length, 1);
    await pass(3000);
    assert.equal(sources.length, 2);
  });

  test('a stream that is granted when an EventSource failed is used', async () => {
    const { stream, log } = await begin({ sse: 'http://x/events' });
    sources[0].readyState = 2;
    sources[0].onerror({});
    await settled();
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1' }, message('1-2', 'one'));
    assert.equal(stream.transport, 'sse');
    assert.equal(last(log), 'message 1-2 one');
  });

  for (const [code, reason, status, isFinal] of [[3000, 'unauthorized', 401, true], [3003, '', 403, true], [3000, 'expired', undefined, false]]) {
    test(`a WebSocket that is closed with ${code} ${reason}`, async () => {
      const { stream } = await begin();
      assert.equal(sockets[0].url.searchParams.get('refusals'), 'close');
      const statuses = refusalsOf(stream);
      sockets[0].deliver({ ready: '1-1' });
      await pass(10_000);
      sockets[0].onclose({ code, reason });
      assert.deepEqual(statuses, [status]);
      assert.equal(stream.state, isFinal ? 'closed' : 'waiting');
      await pass(2000);
      assert.equal(sockets.length, isFinal ? 1 : 2);
    });
  }

  test('a WebSocket cannot send headers: another transport decides', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', headers: { Authorization: 'x' } });
    sockets[0].onclose({ code: 3000, reason: 'unauthorized' });
    await pass(2000);
    await requests[0].respond(401);
    assert.equal(stream.state, 'closed');
  });

  test('setTopics that is refused on a WebSocket is asked for over SSE', async () => {
    for (const isGranted of [true, false]) {
      const { stream, log } = await begin({ ws: 'http://x/ws', sse: 'http://x/events', topics: ['a'], transports: ['ws', 'sse'] });
      const statuses = refusalsOf(stream);
      const socket = last(sockets);
      socket.deliver({ ready: '1-1' });
      stream.setTopics(['b']);
      socket.deliver({ position: '1-1', status: 403 });
      const source = last(sources);
      assert.deepEqual(source.url.searchParams.getAll('topic'), ['b']);
      assert.equal(stream.state, 'open');
      if (isGranted) {
        source.deliver({ ready: '1-1' }, { id: '1-2', topic: 'b', data: 'b' });
        assert.ok(socket.closed);
        assert.equal(stream.transport, 'sse');
        assert.equal(last(log), 'message 1-2 b');
        assert.deepEqual(statuses, []);
      } else {
        source.readyState = 2;
        source.onerror({});
        await settled();
        await last(requests).respond(403);
        assert.deepEqual(statuses, [403]);
        socket.deliver(message('1-2', 'still here'));
        assert.equal(last(log), 'message 1-2 still here');
        assert.equal(stream.transport, 'ws');
      }
      stream.close();
    }
  });

  test('setTopics that is refused over SSE keeps the stream', async () => {
    const { stream, log } = await begin({ sse: 'http://x/events', topics: ['a'] });
    const statuses = refusalsOf(stream);
    sources[0].deliver({ ready: '1-1' });
    stream.setTopics(['secret']);
    sources[1].readyState = 2;
    sources[1].onerror({});
    await settled();
    await requests[0].respond(403);
    assert.deepEqual(statuses, [403]);
    sources[0].deliver(message('1-2', 'still here'));
    assert.equal(last(log), 'message 1-2 still here');
    sources[0].onerror({});
    await pass(2000);
    assert.deepEqual(last(sources).url.searchParams.getAll('topic'), ['a']);
  });

  test('setTopics that is refused while the stream reconnects keeps the stream', async () => {
    const { stream } = await begin({ sse: 'http://x/events', headers: {}, topics: ['a'] });
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1' });
    await requests[0].end();
    stream.setTopics(['secret']);
    await pass(4000);
    await requests[1].respond(403);
    assert.notEqual(stream.state, 'closed');
    await pass(4000);
    assert.deepEqual(last(requests).url.searchParams.getAll('topic'), ['a']);
  });
});

describe('the choice of a transport', () => {
  beforeEach(() => {
    const kept = new Map();
    Object.defineProperty(globalThis, 'sessionStorage', { configurable: true, value: { getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, v) } });
  });
  afterEach(() => delete globalThis.sessionStorage);

  test('what worked is tried first on the next page', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events' });
    for (let i = 0; i < 2; i++) {
      sockets[i].end();
      await pass(3000);
    }
    sources[0].deliver({ ready: '1-1' });
    await pass(100);
    stream.close();
    (await begin({ ws: 'http://y/ws', sse: 'http://y/events' })).stream.close();
    assert.equal(sources.length, 1, 'another origin');
    const n = sockets.length;
    await begin({ ws: 'http://x/ws', sse: 'http://x/events' });
    assert.equal(sources.length, 2);
    sources[1].deliver({ ready: '1-1' });
    await pass(11_000);
    assert.equal(sockets.length, n + 1, 'a WebSocket is tried again');
    last(sockets).deliver({ ready: '1-1' });
    await pass(6000);
    await begin({ ws: 'http://x/ws', sse: 'http://x/events' });
    assert.equal(sockets.length, n + 2);
  });

  const polling = async () => {
    const { stream } = await begin({ sse: 'http://x/events', lastEventId: '1-1', upgrade: 1000 });
    for (let i = 0; i < 2; i++) {
      sources[i].onerror({});
      await pass(4000);
    }
    await requests[0].respond();
    await requests[0].deliver({ ready: '1-1' }, message('1-2', 'x'));
    await requests[0].end();
    await last(requests).respond();
    await pass(1500);
    assert.equal(sources.length, 3);
    return stream;
  };

  test('SSE that holds each piece back until the next is not taken', async () => {
    const stream = await polling();
    await pass(3500);
    assert.ok(sources[2].closed, 'its first piece is late');
    await pass(3000);
    sources[3].deliver({ ready: '1-2' });
    await last(requests).deliver(message('1-3', 'x'));
    await pass(4000);
    assert.ok(sources[3].closed, 'a message is late');
    assert.equal(stream.transport, 'poll');
  });

  test('SSE that is prompt is taken', async () => {
    const stream = await polling();
    sources[2].deliver({ ready: '1-2', heartbeat: 15 });
    await pass(10_000);
    assert.equal(stream.transport, 'poll', 'one piece proves nothing');
    sources[2].deliver({ position: '1-2' });
    await pass(1500);
    assert.equal(stream.transport, 'sse');
    const got = [];
    stream.onmessage = ({ data }) => got.push(data);
    sources[2].deliver(message('1-3', 'y'));
    assert.deepEqual(got, ['y']);
  });

  test('what both links have received is dispatched once', async () => {
    const { stream } = await begin({ ws: 'http://x/ws', sse: 'http://x/events' });
    for (let i = 0; i < 2; i++) {
      sockets[i].end();
      await pass(3000);
    }
    const got = [];
    stream.onmessage = ({ data }) => got.push(data);
    sources[0].deliver({ ready: '1-1' }, message('1-2', 'one'));
    await pass(11_000);
    sources[0].deliver(message('1-3', 'two'), message('1-4', 'three'), { position: '1-9' });
    sockets[2].deliver({ ready: '1-2' });
    assert.equal(stream.lastEventId, '1-9');
    sockets[2].deliver(message('1-3', 'two'));
    sources[0].deliver(message('1-4', 'from a link that was replaced'));
    sockets[2].deliver(message('1-4', 'three'), message('1-a', 'four'));
    assert.deepEqual(got, ['one', 'two', 'three', 'four']);
    assert.equal(stream.lastEventId, '1-a');
  });

  test('what comes of new topics leaves each event of the old ones once', async () => {
    const { stream } = await begin({ sse: 'http://x/events', topics: ['a', 'c'] });
    const got = [];
    stream.onmessage = ({ data }) => got.push(data);
    sources[0].deliver({ ready: '1-1' });
    last(sources).deliver({ ready: '1-1' });
    stream.setTopics(['a', 'b']);
    await settled();
    const next = last(sources);
    assert.equal(position(next), '1-1');
    sources.at(-2).deliver(message('1-3', 'three'), message('1-4', 'of a topic that is left', { topic: 'c' }));
    next.deliver({ ready: '1-1' }, message('1-2', 'two', { topic: 'b' }), message('1-3', 'three'), { position: '1-5' });
    assert.deepEqual(got, ['three', 'of a topic that is left', 'two']);
    assert.equal(stream.lastEventId, '1-5');
  });
});

describe('an EventSource', () => {
  test('has the constants, the attributes and the handlers', async () => {
    const { stream } = await begin({ sse: 'http://x/events', withCredentials: true });
    assert.deepEqual([stream.CONNECTING, stream.OPEN, stream.CLOSED], [0, 1, 2]);
    assert.equal(stream.url, 'http://x/events');
    assert.equal(stream.withCredentials, true);
    for (const name of ['onopen', 'onmessage', 'onerror']) assert.equal(stream[name], null);
    assert.ok('onmessage' in stream);
    let event;
    stream.onmessage = (e) => (event = e);
    sources[0].deliver({ ready: '1-1' }, message('1-2', 'one'));
    assert.equal(event.origin, 'http://x');
    assert.equal(stream.readyState === stream.OPEN, true);
    stream.onmessage = null;
    sources[0].deliver(message('1-3', 'two'));
    assert.equal(event.data, 'one');
  });

  test('a message has no event of the page for its type', async () => {
    const { stream } = await begin();
    const seen = [];
    stream.onstatechange = stream.onopen = stream.onerror = stream.ongap = ({ type }) => seen.push(type);
    sockets[0].deliver({ ready: '1-1' });
    seen.length = 0;
    const got = [];
    stream.onmessage = ({ data }) => got.push(data);
    for (const type of ['statechange', 'open', 'error', 'gap']) sockets[0].deliver(message(`1-${type}`, type, { type }));
    assert.deepEqual(seen, []);
    assert.deepEqual(got, ['statechange', 'open', 'error', 'gap']);
  });

  test('what is no envelope is an error event', async () => {
    const { stream, log } = await begin();
    sockets[0].deliver({ ready: '1-1' });
    log.length = 0;
    for (const data of ['no JSON', 'null', '7', '[]', '"text"', '{}', '{"id":"1-2","topic":"a","encoding":"base64","data":"***"}']) sockets[0].onmessage({ data });
    assert.deepEqual(log, Array(7).fill('error'));
    assert.equal(stream.state, 'open');
  });

  test('URLs in a worker are relative to its script', async () => {
    globalThis.location = { href: 'http://x/workers/worker.js' };
    try {
      await begin({ ws: '../ws' });
      assert.equal(sockets[0].url.host + sockets[0].url.pathname, 'x/ws');
    } finally {
      delete globalThis.location;
    }
  });

  for (const [type, isStream] of [['text/event-stream', true], ['TEXT/Event-Stream; charset=utf-8', true], ['text/event-streams', false], ['text/event-stream-x', false], ['text/html', false]]) {
    test(`a response of ${type} is ${isStream ? 'a' : 'no'} stream`, async () => {
      const { stream } = await begin({ sse: 'http://x/events', headers: {} });
      await requests[0].respond(200, { 'Content-Type': type });
      await requests[0].deliver({ ready: '1-1' });
      assert.equal(stream.state === 'open', isStream);
    });
  }
});
