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
  'htmx 4, SSE, an end': async () => {
    const window = open(block('htmx 4', 'html').split('\n\n')[0].replace('/lines', '/brief'), source('htmx4/dist/htmx.js'), source('htmx4/dist/ext/hx-sse.js'));
    let opened = 0;
    window.document.addEventListener('htmx:sse:after:connection', () => opened++);
    const got = () => [...window.document.querySelectorAll('#lines li')].map((e) => e.textContent).join(' ');
    await until(() => 'a connection', () => opened > 0);
    for (const [i, line] of ['one', 'two', 'three'].entries()) {
      await post('/publish?topic=brief', `<li>${line}</li>`);
      const before = opened;
      await until(() => `connection ${i + 2}, of ${opened}`, () => opened > before);
    }
    await until(() => `all lines, got ${got()}`, () => got() === 'one two three');
    window.document.body.replaceChildren();
  },
  'htmx 4, SSE, a gap': async () => {
    const [list, missed] = block('htmx 4', 'html').split('\n\n');
    const window = open(list.replace('/lines', '/few') + missed, source('htmx4/dist/htmx.js'), source('htmx4/dist/ext/hx-sse.js'));
    const got = () => [...window.document.querySelectorAll('#lines li')].map((e) => e.textContent).join(' ');
    await sleep(300);
    await post('/publish?topic=few', '<li>one</li>');
    await until(() => `one, got ${got()}`, () => got() === 'one');
    await post('/cut');
    for (const line of ['two', 'three', 'four', 'five']) await post('/publish?topic=few', `<li>${line}</li>`);
    await until(() => `the list, got ${got()}`, () => got().startsWith('all'));
    window.document.body.replaceChildren();
  },
  'htmx 4, a hidden page': async () => {
    const [list, , prices] = block('htmx 4', 'html').split('\n\n');
    const window = open(list + prices, source('htmx4/dist/htmx.js'), source('htmx4/dist/ext/hx-sse.js'), source('htmx4/dist/ext/hx-ws.js'));
    const { document } = window;
    const hide = (hidden) => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new window.Event('visibilitychange'));
    };
    const got = () => document.body.textContent.trim().replace(/\s+/g, ' ');
    const publish = async (s) => {
      await post('/publish?topic=lines', `<li>${s}</li>`);
      await post('/publish?topic=prices4&key=ACME', s);
    };
    await sleep(300);
    await publish('1');
    await until(() => `what is new, got ${got()}`, () => got() === '1 ACME 1');
    hide(true);
    await sleep(300);
    await publish('2');
    await sleep(1000); // longer than it waits before it connects
    if (got() !== '1 ACME 1') throw new Error(`hidden, it got ${got()}`);
    hide(false);
    await until(() => `what it missed, got ${got()}`, () => got().replace(/\D/g, '') === '122');
    document.body.replaceChildren();
  },
  'htmx 4, close codes': async () => {
    const reconnects = `hx-config='{"ws": {"reconnectCodes": [3000]}}'`;
    for (const [query, code, config] of [['status=401&refusals=close', 3000], ['status=403&refusals=close', 3003], ['', 1000], ['status=401&refusals=close', 3000, reconnects]]) {
      const html = block('htmx 4', 'html').split('\n\n')[2].replace('/prices4"', `/closed?${query}" ${config ?? ''}`);
      const window = open(html, source('htmx4/dist/htmx.js'));
      let opened = 0;
      window.WebSocket = class extends window.WebSocket {
        constructor(...args) {
          super(...args);
          opened++;
        }
      };
      const codes = [];
      window.document.addEventListener('htmx:ws:close', ({ detail }) => codes.push(detail.code));
      window.eval(source('htmx4/dist/ext/hx-ws.js'));
      await until(() => `${code}, got ${codes}`, () => codes.length > 0);
      if (config) {
        await until(() => `a second ${code}, got ${codes}`, () => codes.length > 1);
      } else {
        await sleep(1000); // longer than it waits before it connects
        if (`${codes} ${opened}` !== `${code} 1`) throw new Error(`want ${code}, got ${codes}, and ${opened} sockets`);
      }
      window.close();
    }
  },
  'htmx 4, WebSocket': async () => {
    const publish = (s) => post('/publish?topic=prices4&key=ACME', s);
    await publish('1');
    const window = open(block('htmx 4', 'html').split('\n\n')[2], source('htmx4/dist/htmx.js'), source('htmx4/dist/ext/hx-ws.js'));
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
