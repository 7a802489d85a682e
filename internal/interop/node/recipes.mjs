// Runs the recipes of docs/clients.md with the real packages, in pages of jsdom. Each gets a
// message, is cut, misses two and gets them. Prints a line for each recipe.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { JSDOM } from 'jsdom';
import { EventSource as PackageEventSource } from 'eventsource';
import { WebSocket as WSWebSocket } from 'ws';
import PartySocket from 'partysocket/ws';
import ReconnectingWebSocket from 'reconnecting-websocket';

const [, , base, page] = process.argv;
const require = createRequire(import.meta.url);
const source = (path) => readFileSync(require.resolve(path), 'utf8');
const text = readFileSync(page, 'utf8');
const post = (path, body) => fetch(base + path, { method: 'POST', body });

// The code of a language below a heading.
const block = (heading, language) => {
  const section = text.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0];
  return section.split('```' + language + '\n')[1].split('```')[0];
};

const until = async (what, holds) => {
  for (const end = Date.now() + 20_000; !holds(); await sleep(10)) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what()}`);
  }
};

// A page of the server's origin, with a browser's EventSource and a script.
const open = (html, ...scripts) => {
  const { window } = new JSDOM(`<!doctype html><body>${html}</body>`, { url: base + '/', runScripts: 'outside-only', pretendToBeVisual: true });
  window.EventSource = class extends PackageEventSource {
    constructor(url, options) { super(new URL(url, base).href, options); }
  };
  // jsdom wants an argument that has a default in a browser.
  const { evaluate } = window.XPathExpression.prototype;
  window.XPathExpression.prototype.evaluate = function (node, type = 0, result = null) {
    return evaluate.call(this, node, type, result);
  };
  window.CSS = { escape: (name) => name.replace(/[^\w-]/g, '\\$&') }; // jsdom has none
  window.TextDecoder = TextDecoder; // nor this
  window.fetch = (url, options) => fetch(new URL(url, base), options);
  for (const script of scripts) window.eval(script);
  return window;
};

const lines = async (window, selector, publish, close = () => window.close()) => {
  const got = () => [...window.document.querySelectorAll(selector)].map((e) => e.textContent).join(' ');
  const wait = (want) => until(() => `${want}, got ${got()}`, () => got() === want);
  await sleep(300); // the client connects
  await publish('one');
  await wait('one');
  await post('/cut');
  await publish('two');
  await publish('three');
  await wait('one two three');
  await publish('four');
  await wait('one two three four');
  close();
};

const socketRecipe = (Socket) => async (topic) => {
  const shown = [];
  let socket;
  const Closable = class extends Socket {
    constructor(url) { super(url, [], { WebSocket: WSWebSocket, minReconnectionDelay: 50, maxReconnectionDelay: 200 }); socket = this; }
  };
  new Function('WebSocket', 'base', 'show', block('partysocket and reconnecting-websocket', 'js').replace('topic=a', 'topic=' + topic))(Closable, base.replace('http', 'ws'), (s) => shown.push(s));
  const wait = (want) => until(() => `${want}, got ${shown}`, () => shown.join(' ') === want);
  await sleep(300);
  await post(`/publish?topic=${topic}`, 'one');
  await wait('one');
  await post('/cut');
  await post(`/publish?topic=${topic}`, 'two');
  await wait('one two');
  socket.close();
};

const recipes = {
  'htmx over SSE': async () => {
    const window = open(block('htmx over SSE', 'html'), source('htmx.org/dist/htmx.js'), source('htmx-ext-sse/dist/sse.js'));
    await lines(window, '#lines li', (s) => post('/publish?topic=board&type=line', `<li>${s}</li>`));
  },
  'htmx over a WebSocket': async () => {
    const publish = (s) => post('/publish?topic=prices&key=ACME', s);
    await publish('1');
    const window = open(block('htmx over a WebSocket', 'html'), source('htmx.org/dist/htmx.js'), source('htmx-ext-ws/dist/ws.js'));
    const got = () => window.document.body.textContent.trim().replace(/\s+/g, ' ');
    const wait = (want) => until(() => `${want}, got ${got()}`, () => got() === want);
    await wait('ACME 1');
    await post('/cut');
    await publish('2');
    await wait('ACME 2');
    window.close();
  },
  'htmx 4, SSE': async () => {
    const window = open(block('htmx 4', 'html').split('\n\n')[0], source('htmx4/dist/htmx.js'), source('htmx4/dist/ext/hx-sse.js'));
    // Its events go to the document, which a window that was closed has no more.
    await lines(window, '#lines li', (s) => post('/publish?topic=lines', `<li>${s}</li>`), () => window.document.body.replaceChildren());
  },
  'htmx 4, WebSocket': async () => {
    const publish = (s) => post('/publish?topic=prices4&key=ACME', s);
    await publish('1');
    const window = open(block('htmx 4', 'html').split('\n\n')[1], source('htmx4/dist/htmx.js'), source('htmx4/dist/ext/hx-ws.js'));
    const got = () => window.document.body.textContent.trim().replace(/\s+/g, ' ');
    const wait = (want) => until(() => `${want}, got ${got()}`, () => got() === want);
    await wait('ACME 1');
    await post('/cut');
    await publish('2');
    await wait('ACME 2');
    window.close();
  },
  'Turbo Streams': async () => {
    const window = open(block('Turbo Streams', 'html'));
    window.eval(source('@hotwired/turbo/dist/turbo.es2017-umd.js'));
    await lines(window, '#comments li', (s) => post('/publish?topic=comments', `<li>${s}</li>`));
  },
  'partysocket': () => socketRecipe(PartySocket)('party'),
  'reconnecting-websocket': () => socketRecipe(ReconnectingWebSocket)('reconnecting'),
};

let failed = 0;
for (const [name, run] of Object.entries(recipes)) {
  try {
    await run();
    console.log(`ok - ${name}`);
  } catch (error) {
    failed++;
    console.log(`not ok - ${name}: ${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
