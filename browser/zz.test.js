// A model of a server with keys and events, and of tabs that come and go in random order, fall back
// to event streams and return to WebSockets. Each tab ends with the newest value of each key, and has
// each event once and in order.

import { test, beforeEach, afterEach } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';
import './fanfare-shared.js';
import { FakeChannel, channels, open, pass, position, settled, sockets, sources } from './harness.js';

const runs = +(process.env.MODEL_RUNS ?? 30);
const first = +(process.env.MODEL_SEED ?? 1);

// mulberry32
const random = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};

const idOf = (n) => '1f-' + n.toString(16);

const TR=[]; const links_=[];
class Server {
  log = []; // of { n, key, data }
  publish(key) {
    const n = this.log.length + 1;
    this.log.push({ n, key, data: String(n) });
  }
  get head() { return this.log.length; }
  events(after, upTo) { return this.log.filter(({ n, key }) => !key && n > after && n <= upTo); }
  // newest returns the messages that are the newest of their keys, up to one.
  newest(upTo) {
    const values = new Map();
    for (const m of this.log) {
      if (!m.key || m.n > upTo) continue;
      values.delete(m.key);
      values.set(m.key, m);
    }
    return [...values.values()];
  }
}

// Link is what the server sends on one connection, by the rules of rounds and beginnings. It may
// read from a server that is behind, which knows of nothing after its head.
class Link {
  queue = []; // functions that return the next envelope, or nothing
  constructor(server, socket, next) {
    Object.assign(this, { server, socket, next }); links_.push(socket); TR.push(`L${links_.length-1} dialled ${socket.constructor.name} at ${position(socket)}`);
    const id = position(socket);
    this.position = id ? parseInt(id.split('-')[1], 16) : 0;
    this.head = Math.max(this.position, Math.floor(next() * (server.head + 1)));
    if (id && id !== '1-0') this.queue.push(() => ({ ready: id }));
    else this.begin();
  }
  begin() {
    const upTo = this.head;
    this.queue.push(() => ({ begin: '1-0' }), ...this.server.events(0, upTo).map(({ data }) => () => ({ topic: 'a', data })),
      ...this.values(0), () => {
        this.position = upTo;
        return { ready: idOf(upTo) };
      });
  }
  // values of the keys that have changed after a position, each as it is once it is sent.
  values(after) {
    return this.server.newest(this.head).filter(({ n }) => n > after).map(({ key }) => () => {
      const { data } = this.server.newest(this.head).find((m) => m.key === key);
      return { topic: 'a', key, data };
    });
  }
  round() {
    const upTo = this.head;
    if (upTo === this.position) return this.queue.push(() => ({ position: idOf(upTo) }));
    const message = ({ n, key, data }) => () => {
      this.position = n;
      return { id: idOf(n), topic: 'a', data, ...(key && { key }) };
    };
    const events = this.server.events(this.position, upTo);
    const news = this.server.newest(upTo).filter(({ n }) => n > this.position);
    if (this.next() < 0.5) this.queue.push(...[...events, ...news].sort((a, b) => a.n - b.n).map(message));
    else this.queue.push(...this.values(this.position), ...events.map(message));
    this.queue.push(() => {
      this.position = upTo;
      return { position: idOf(upTo) };
    });
  }
  step(catchesUp) {
    if (this.socket.closed) return;
    this.head += catchesUp ? this.server.head - this.head : Math.floor(this.next() * (this.server.head - this.head + 1));
    if (!this.queue.length) this.round();
    const e = this.queue.shift()(); TR.push(`L${links_.indexOf(this.socket)} ${JSON.stringify(e)}`); this.socket.deliver(e);
  }
}

const Real = globalThis.BroadcastChannel;
beforeEach(() => { globalThis.BroadcastChannel = FakeChannel; });
afterEach(() => {
  for (const stream of open) stream.close();
  globalThis.BroadcastChannel = Real;
});

let NT=0;
const run = async (seed, shared) => {
  const next = random(seed);
  const below = (n) => Math.floor(next() * n);
  const server = new Server();
  const links = new Map(); // by socket
  const tabs = [];
  const connected = () => {
    for (const socket of [...sockets, ...sources]) if (!links.has(socket)) links.set(socket, new Link(server, socket, next));
    return [...links.values()].filter(({ socket }) => !socket.closed && (socket.onclose || socket.onerror));
  };
  const cut = (link) => (link?.socket.onclose ? link.socket.end() : link?.socket.onerror({}));
  const some = (list) => list[below(list.length)];
  const join = async () => {
    const stream = new Fanfare({ ws: 'http://x/ws', sse: 'http://x/events', transports: ['ws', 'sse'], upgrade: 1000, good: 60_000, shared: shared ? 'user-17' : undefined, topics: ['a'] });
    open.push(stream);
    const tab = { stream, values: {}, events: [], n: NT++ };
 stream.addEventListener('statechange',()=>TR.push(`  tab ${tab.n} ${stream.state} ${stream.transport}`));
    stream.onbegin = () => TR.push(`  tab ${tab.n} begin`) && Object.assign(tab, { values: {}, events: [] });
    stream.ongap = () => assert.fail('a gap');
    stream.onmessage = ({ key, data, lastEventId }) => TR.push(`  tab ${tab.n} got ${key} ${data} ${lastEventId} pos ${stream.lastEventId}`) && (key ? (tab.values[key] = data) : tab.events.push(data));
    tabs.push(tab);
    await settled();
  };
  for (let i = 0; i < 12; i++) server.publish(some(['', 'x', 'y', 'z']));
  await join();
  for (let i = 0; i < 150; i++) {
    const what = below(20);
    if (what < 5) server.publish(some(['', '', 'x', 'y', 'z']));
    else if (what < 15) for (let n = below(6); n >= 0; n--) some(connected())?.step();
    else if (what < 17) await pass(some([100, 400, 1500]));
    else if (what < 18 && tabs.length < 4) await join();
    else if (what < 19) cut(some(connected()));
    else if (tabs.length > 1) tabs.splice(below(tabs.length), 1)[0].stream.close();
  }
  const isDone = ({ stream }) => stream.lastEventId === idOf(server.head);
  for (let i = 0; i < 400 && !(i > 20 && tabs.every(isDone)); i++) {
    for (const link of connected()) for (let n = 0; n < 8; n++) link.step(true);
    if (i % 4 === 0) await pass(1000);
  }
  const want = Object.fromEntries(server.newest(server.head).map(({ key, data }) => [key, data]));
  const events = server.events(0, server.head).map(({ data }) => data);
  console.log(TR.join('\n')+'\n'+tabs.map((t)=>t.n+JSON.stringify(t.values)).join(' ')+JSON.stringify(server.log));
  for (const tab of tabs) assert.deepEqual([tab.values, tab.events, tab.stream.lastEventId], [want, events, idOf(server.head)], `MODEL_SEED=${seed} MODEL_RUNS=1`);
  const count = channels.length;
  for (const { stream } of tabs) stream.close();
  await settled();
  return count;
};

for (const shared of [true]) {
  test(`tabs ${shared ? 'that share a link' : 'with links of their own'} show the state of the server`, async () => {
    for (let i = 0; i < runs; i++) {
      await run(first + i, shared);
      sockets.length = sources.length = open.length = 0;
    }
  });
}
