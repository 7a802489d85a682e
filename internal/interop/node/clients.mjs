// Runs clients from npm against a server of this kit. Each must get three messages, and after a
// cut the three that it missed, each once and in order. Prints a line for each client.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket as WSWebSocket } from 'ws';
import { EventSource as PackageEventSource } from 'eventsource';
import { EventSource as UndiciEventSource, WebSocket as UndiciWebSocket } from 'undici';
import ReconnectingWebSocket from 'reconnecting-websocket';

const base = process.argv[2];
const post = (path, body) => fetch(base + path, { method: 'POST', body });
const socketURL = (topic, position) => `${base.replace('http', 'ws')}/ws?topic=${topic}${position ? `&lastEventId=${position}` : ''}`;

// By name: open(topic, take) starts a client that calls take(id, data) for each message and
// reconnects after a cut. It returns a function that ends the client.
const clients = {
  'eventsource': (topic, take) => eventSource(PackageEventSource, topic, take),
  'undici EventSource': (topic, take) => eventSource(UndiciEventSource, topic, take),
  'ws': (topic, take) => byHand((url) => new WSWebSocket(url), topic, take),
  'ws, compressed': (topic, take) => byHand((url) => new WSWebSocket(url, { perMessageDeflate: { threshold: 0 } }), topic, take),
  'undici WebSocket': (topic, take) => byHand((url) => new UndiciWebSocket(url), topic, take),
  'reconnecting-websocket': async (topic, take) => {
    let position;
    const socket = new ReconnectingWebSocket(() => socketURL(topic, position), [], { WebSocket: WSWebSocket, minReconnectionDelay: 50, maxReconnectionDelay: 200 });
    const ready = new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        position = envelope(data, take) ?? position;
        resolve();
      };
    });
    await ready;
    return () => socket.close();
  },
};

async function eventSource(EventSource, topic, take) {
  const source = new EventSource(`${base}/events?topic=${topic}`);
  source.onmessage = ({ lastEventId, data }) => take(lastEventId, data);
  await once(source, 'open');
  return () => source.close();
}

function envelope(text, take) {
  const e = JSON.parse(text);
  if ('topic' in e) take(e.id, e.data);
  return e.id ?? e.ready ?? e.gap ?? e.position;
}

// A WebSocket as a page would write it, opened again with the last position after it closes.
async function byHand(make, topic, take) {
  let position, socket, over = false;
  const open = () => new Promise((resolve) => {
    socket = make(socketURL(topic, position));
    socket.onmessage = ({ data }) => {
      position = envelope(data, take) ?? position;
      resolve();
    };
    socket.onerror = () => {};
    socket.onclose = () => over || setTimeout(open, 50);
  });
  await open();
  return () => {
    over = true;
    socket.close();
  };
}

let failed = 0;
for (const [name, open] of Object.entries(clients)) {
  const topic = encodeURIComponent(name);
  const got = [], ids = new Set();
  const close = await open(topic, (id, data) => {
    got.push(data);
    ids.add(id);
  });
  const until = async (n) => {
    for (let i = 0; i < 500 && got.length < n; i++) await sleep(20);
  };
  for (const text of ['one', 'two', 'drei ✓']) await post(`/publish?topic=${topic}`, text);
  await until(3);
  await sleep(700); // several of the server's pings
  await post('/cut');
  for (const text of ['four', 'five']) await post(`/publish?topic=${topic}`, text);
  await until(5);
  await post(`/publish?topic=${topic}`, 'six');
  await until(6);
  close();
  const ok = JSON.stringify(got) === JSON.stringify(['one', 'two', 'drei ✓', 'four', 'five', 'six']) && ids.size === 6;
  failed += !ok;
  console.log(`${ok ? 'ok' : 'not ok'} - ${name}: ${got.join(', ')}`);
}
process.exit(failed ? 1 : 0);
