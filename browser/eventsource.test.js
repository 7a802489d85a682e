// What web-platform-tests checks of an EventSource, of a Fanfare that reads from a real server with
// fetch. Each case is named after theirs. Where a Fanfare differs on purpose, the case says so.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { Fanfare } from './fanfare.js';

let server, base, respond, requests;
const streams = [];

before(async () => {
  server = http.createServer((request, response) => {
    requests.push({ url: new URL(request.url, base), headers: request.headers, at: performance.now(), ended: new Promise((resolve) => response.on('close', resolve)) });
    respond(request, response, requests.length);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${server.address().port}`;
});
after(() => {
  for (const stream of streams) stream.close();
  server.closeAllConnections();
  server.close();
});

const until = async (condition, what) => {
  for (const began = Date.now(); !condition(); await new Promise((resolve) => setTimeout(resolve, 2))) {
    assert.ok(Date.now() - began < 20_000, what);
  }
};

// connect opens a stream to a server that responds with f.
const connect = (f, options) => {
  for (const stream of streams.splice(0)) stream.close();
  requests = [];
  respond = f;
  const stream = new Fanfare({ sse: base + '/events', headers: {}, transports: ['sse'], retry: 100, ...options });
  const seen = { got: [], errors: [], opened: 0 };
  stream.onmessage = ({ data }) => seen.got.push(data);
  stream.onerror = ({ status, data }) => seen.errors.push(data ?? status);
  stream.onopen = () => seen.opened++;
  streams.push(stream);
  return { stream, seen };
};

// body responds with an event stream, in one piece.
const body = (text, { status = 200, type = 'text/event-stream', ends = true, ...headers } = {}) => (request, response) => {
  response.writeHead(status, { 'Content-Type': type, ...headers });
  if (ends) response.end(text);
  else response.write(text || ':\n');
};

const m = (data, id) => JSON.stringify({ topic: 'a', data, ...(id && { id }) });
const open = 'data: {"ready":"1f-1"}\n\n';

// What of an event stream becomes a message.
const formats = [
  ['format-bom', 'one is left out', `\uFEFFdata:${m('1')}\n\ndata:${m('2')}\n\n`, ['1', '2']],
  ['format-bom-2', 'a second one is part of the name of a field', `\uFEFF\uFEFFdata:${m('1')}\n\ndata:${m('2')}\n\n`, ['2']],
  ['format-comments', 'are left out, long ones too', `data:${m('1')}\n:\0\n:\r\ndata:\n:${'x'.repeat(5000)}\ndata:\n:data:${m('fail')}\r\n\n`, ['1']],
  ['format-data-before-final-empty-line', 'an event without an empty line is dropped', `retry:1000\ndata:${m('1')}\n\n\ndata:${m('2')}`, ['1']],
  ['format-field-data', 'with and without a colon, a space and data', `data:${m('1')}\n\ndata\ndata: \ndata:${m(' 2')}\ndata\n\ndata:${m('3')}\n\n`, ['1', ' 2', '3']],
  ['format-field-event', 'the type is that of the envelope', `event:test\ndata:${m('1')}\n\n`, ['1']],
  ['format-field-event-empty', '', `event: \ndata:${m('1')}\n\n`, ['1']],
  ['format-field-id', 'the position is that of the envelope', `id:\ndata:${m('1', '1f-2')}\n\nid: 7\n\nid\ndata:${m('2', '1f-3')}\n\n`, ['1', '2']],
  ['format-field-id-null', '', `id: 7\0\ndata:${m('1', '1f-2')}\n\n`, ['1']],
  ['format-field-parsing', 'other names, cases and NUL are unknown fields',
    `data:{"topic":"a"\ndata:  ,\rData:1\ndata\0:2\nda-ta:3\rdata_5\n data:32\n\0data:4\ndata:"data"\rdata:\r\ndata::"1"}\n\n`, ['1']],
  ['format-field-retry-empty', '', `retry\ndata:${m('1')}\n\n`, ['1']],
  ['format-field-unknown', '', `data:${m('1')}\n data:x\ndata:\nfoobar:x\njustsometext\n:thisisacommentyay\n\n`, ['1']],
  ['format-leading-space', 'one space is left out, a tab is not', `data:\t${m('1')}\rdata: \ndata:\n\n`, ['1']],
  ['format-newlines', 'of three kinds', `data:{"topic":"a",\r\ndata\ndata:"data":"1"}\r\n\r\ndata:${m('2')}\r\rdata:${m('3')}\n\n`, ['1', '2', '3']],
  ['format-null-character', 'in data stays', `data:${m('\0')}\n\n\n\n`, ['\0']],
  ['format-utf-8', 'whatever the charset is', `data:${m('ok…✓')}\n\n`, ['ok…✓'], { type: 'text/event-stream;charset=windows-1252' }],
  ['event-data', 'has any text', `data:${m('\n\r {}":')}\n\ndata:${m('')}\n\n`, ['\n\r {}":', '']],
];

// Which responses open a stream, and what becomes of it otherwise: its state and the errors.
const responses = [
  ['format-mime-trailing-semicolon', '', { type: 'text/event-stream;' }, 'open', []],
  ['format-mime-valid-bogus', '', { type: 'text/event-stream;x=bogus' }, 'open', []],
  ['format-mime-bogus', 'is a failure, and not final', { type: 'text/x-bogus' }, 'waiting', [200]],
  ['request-status-error', 'of 204 is final', { status: 204 }, 'closed', [204]],
  ['request-status-error', 'of 205 is a failure', { status: 205 }, 'waiting', [205]],
  ['request-status-error', 'of 210 is a failure', { status: 210 }, 'waiting', [210]],
  ['request-status-error', 'of 299 is a failure', { status: 299 }, 'waiting', [299]],
  ['request-status-error', 'of 401 is final', { status: 401 }, 'closed', [401]],
  ['request-status-error', 'of 404 is final, if it is of the last transport', { status: 404 }, 'closed', [404]],
  ['request-status-error', 'of 410 is final, if it is of the last transport', { status: 410 }, 'closed', [410]],
  ['request-status-error', 'of 503 is a failure, and not final', { status: 503 }, 'waiting', [503]],
];

describe('web-platform-tests/eventsource', () => {
  for (const [name, why, text, want, more] of formats) {
    test(`${name}: ${why}`, async () => {
      const { stream, seen } = connect(body(text, more));
      await until(() => seen.errors.length, 'the end of the response');
      assert.deepEqual(seen.got, want);
      assert.deepEqual(seen.errors, [undefined], 'nothing but the end');
      assert.equal(stream.readyState, stream.CONNECTING);
    });
  }

  for (const [name, why, response, state, errors] of responses) {
    test(`${name}: ${response.type ?? ''} ${why}`, async () => {
      const { stream, seen } = connect(body(open, { ...response, ends: state !== 'open' }));
      await until(() => stream.state === state, state);
      assert.deepEqual(seen.errors.slice(0, 1), errors);
      assert.equal(seen.opened, state === 'open' ? 1 : 0);
    });
  }

  for (const status of [301, 302, 303, 307, 308]) {
    test(`request-redirect: ${status} is followed, and asked for again`, async () => {
      const { stream, seen } = connect((request, response, n) => {
        if (request.url.startsWith('/events')) response.writeHead(status, { Location: '/moved' + request.url.slice(7) }).end();
        else body(`data: ${m('1', '1f-2')}\n\n`, { ends: n === 2 })(request, response);
      });
      await until(() => requests.length === 4 && stream.state === 'open');
      assert.deepEqual(requests.map(({ url }) => [url.pathname, url.searchParams.get('lastEventId')]), [['/events', null], ['/moved', null], ['/events', '1f-2'], ['/moved', '1f-2']]);
      assert.equal(seen.opened, 2);
    });
  }

  for (const [name, field, least] of [['format-field-retry', 'retry:700', 700], ['format-field-retry: the last counts', 'retry:1\nretry:800', 800], ['format-field-retry-bogus', 'retry:5000x\nretry:-5000\nretry: 0x5000', 0]]) {
    test(name, async () => {
      const { seen } = connect(body(`${field}\n${open}`));
      await until(() => requests.length > 1 && seen.opened > 1);
      const waited = requests[1].at - requests[0].at;
      assert.ok(waited >= Math.max(100, least) && waited < least + 4000, `${waited} ms`);
    });
  }

  test('request-accept, request-cache-control', async () => {
    connect(body(open, { ends: false }));
    await until(() => requests.length);
    assert.match(requests[0].headers.accept, /^text\/event-stream\b/);
    assert.equal(requests[0].headers['cache-control'], 'no-cache');
  });

  test('eventsource-reconnect: resumes after the last ID, which an ID alone also moves', async () => {
    const { stream, seen } = connect((request, response, n) => body([
      `data: ${m('1', '1f-…')}\n\n`, 'data: {"ready":"1f-…"}\n\ndata: {"position":"2a-7"}\n\n', open,
    ][n - 1], { ends: n < 3 })(request, response));
    const states = [];
    stream.onstatechange = () => states.push([stream.state, stream.readyState]);
    await until(() => seen.opened === 3);
    assert.deepEqual(requests.map(({ url }) => url.searchParams.get('lastEventId')), [null, '1f-…', '2a-7']);
    assert.deepEqual(states.slice(0, 4), [['open', 1], ['waiting', 0], ['connecting', 0], ['open', 1]]);
    assert.deepEqual(seen.errors, [undefined, undefined], 'an error event for each');
  });

  test('eventsource-close, eventsource-request-cancellation: ends the request, and no event follows', async () => {
    for (const type of ['open', 'message']) {
      const { stream, seen } = connect(body(open + `data: ${m('1')}\n\ndata: ${m('2')}\n\n`, { ends: false }));
      stream.addEventListener(type, () => {
        stream.close();
        assert.equal(stream.readyState, stream.CLOSED);
      });
      await until(() => stream.readyState === stream.CLOSED);
      await requests[0].ended;
      await new Promise((resolve) => setTimeout(resolve, 300)); // longer than a reconnection takes
      assert.deepEqual([seen.got, seen.errors, requests.length], [type === 'open' ? [] : ['1'], [], 1]);
      stream.close();
    }
    const { stream } = connect(body(open));
    stream.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(requests.length, 0, 'before it has connected');
  });

  test('eventsource-onopen, eventsource-onmessage, eventsource-eventtarget: this, the target and once', async () => {
    const { stream } = connect(body(open + `data: ${m('1')}\n\ndata: ${m('2')}\n\n`, { ends: false }));
    const seen = [];
    stream.onopen = function ({ target, bubbles, cancelable }) { seen.push([this === stream, target === stream, bubbles, cancelable, this.readyState]); };
    stream.addEventListener('message', function (event) { seen.push([this === stream, event instanceof MessageEvent, event.origin === base, event.data]); }, { once: true });
    stream.onmessage = 7; // no function, so nothing
    const removed = () => seen.push('removed');
    stream.addEventListener('message', removed);
    stream.removeEventListener('message', removed);
    stream.addEventListener('message', ({ data }) => data === '2' && seen.push('last'));
    await until(() => seen.at(-1) === 'last');
    assert.deepEqual(seen, [[true, true, false, false, 1], [true, true, true, '1'], 'last']);
  });

  test('eventsource-prototype, interfaces: constants and attributes', () => {
    const { stream } = connect(body(open));
    for (const owner of [Fanfare, Fanfare.prototype, stream]) assert.deepEqual([owner.CONNECTING, owner.OPEN, owner.CLOSED], [0, 1, 2]);
    assert.ok(stream instanceof EventTarget);
    for (const name of ['url', 'withCredentials', 'readyState', 'onopen', 'onmessage', 'onerror', 'close']) assert.ok(name in stream, name);
    const untouched = new Fanfare({ sse: base + '/events' });
    assert.deepEqual([stream.withCredentials, stream.readyState, untouched.onmessage], [false, 0, null]);
    untouched.close();
    assert.throws(() => { stream.url = 'x'; }, TypeError);
    assert.throws(() => Fanfare({ sse: '/' }), TypeError, 'eventsource-constructor-no-new');
  });

  test('eventsource-url, eventsource-constructor-stringify, -empty-url, -url-bogus', () => {
    assert.equal(connect(body(open), { sse: new URL(base + '/a/../events?x#y') }).stream.url, base + '/events?x#y');
    for (const sse of ['http://this is invalid/', 'http://', '/relative in Node']) {
      assert.throws(() => new Fanfare({ sse }), TypeError, 'a TypeError, where an EventSource has a SyntaxError');
    }
    globalThis.document = { baseURI: base + '/page/', addEventListener() {} };
    try {
      assert.equal(connect(body(open), { sse: '../events' }).stream.url, base + '/events');
      assert.throws(() => new Fanfare({ sse: '' }), TypeError, 'an option that is empty is none, where an EventSource takes the page');
    } finally {
      delete globalThis.document;
    }
  });
});
