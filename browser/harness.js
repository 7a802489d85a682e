// Fakes of the browser's APIs, in fake time, for the tests of fanfare.js. internal/browsers tests
// it in real browsers.

import { beforeEach, afterEach, mock } from 'node:test';
import { Fanfare } from './fanfare.js';

export let sockets, sources, requests; // all that were made, in order
export let channels; // that are open
let answers; // each request
let jumped; // how far the clock is ahead of the timers

export const answer = (f) => (answers = f);
export const jump = (ms) => (jumped = ms);

export class FakeSocket {
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

// Channels deliver at once, but nothing to a tab that is frozen.
export class FakeChannel {
  constructor(name) {
    this.name = name;
    channels.push(this);
  }
  postMessage(data) {
    const copy = structuredClone(data);
    for (const other of [...channels]) if (other !== this && other.name === this.name && !other.frozen) other.onmessage?.({ data: copy });
  }
  close() { channels.splice(channels.indexOf(this), 1); }
}

const realNow = performance.now.bind(performance);
// Streams and promises need real turns of the event loop.
export const settled = async () => {
  for (let i = 0; i < 8; i++) await new Promise((resolve) => setImmediate(resolve));
};
export const pass = async (ms) => {
  for (; ms > 0; ms -= 500) {
    mock.timers.tick(Math.min(ms, 500));
    await settled();
  }
};

export let open = []; // streams
export async function begin(options = { ws: 'http://x/ws', sse: 'http://x/events' }) {
  const stream = new Fanfare(options);
  const log = [];
  for (const type of ['open', 'message', 'tick', 'gap', 'begin', 'ended', 'error', 'statechange']) {
    stream.addEventListener(type, (e) => log.push(type === 'statechange' ? stream.state : type === 'error' ? `error ${e.code ?? e.status ?? ''}`.trim() :
      [type, e.lastEventId, e.data].filter(Boolean).join(' ')));
  }
  open.push(stream);
  await settled();
  return { stream, log };
}

beforeEach(() => {
  [sockets, sources, requests, channels, open, jumped] = [[], [], [], [], [], 0];
  globalThis.WebSocket = FakeSocket;
  globalThis.EventSource = FakeSource;
  globalThis.fetch = (url, init) => new Promise((resolve, reject) => {
    const request = new FakeRequest(url, init);
    request.resolve = resolve;
    request.fail = () => { reject(new TypeError('network')); return settled(); };
    init.signal?.addEventListener('abort', () => reject(init.signal.reason));
    answers?.(request);
  });
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1.7e12 });
  const monotonic = Date.now;
  performance.now = () => monotonic.call(Date);
  Date.now = () => monotonic.call(Date) + jumped;
  mock.method(Math, 'random', () => 0.5);
});

afterEach(() => {
  for (const stream of open) stream.close();
  answers = undefined;
  performance.now = realNow;
  mock.timers.reset();
  mock.restoreAll();
});

export const message = (id, data, more) => ({ id, topic: 'a', data, ...more });
export const last = (list) => list.at(-1);
export const position = ({ url }) => url.searchParams.get('lastEventId');
