// @vitest-environment jsdom
// Runs the hooks of docs/browsers.md, which are in hooks/.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createElement, StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { createApp, h, nextTick } from 'vue';
import { useStream as useReact } from './hooks/react.js';
import { useStream as useVue } from './hooks/vue.js';
import { stream as svelte } from './hooks/svelte.js';

let sockets;
class Socket {
  constructor(url) {
    this.url = String(url);
    sockets.push(this);
  }
  send() {}
  close() { this.isClosed = true; }
  deliver(...envelopes) { for (const e of envelopes) this.onmessage?.({ data: JSON.stringify(e) }); }
}
const links = () => sockets.filter(({ isClosed }) => !isClosed);
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

beforeEach(() => {
  sockets = [];
  globalThis.WebSocket = window.WebSocket = Socket;
  document.body.innerHTML = '<div id="app"></div>';
});
afterEach(() => expect(links()).toEqual([]));

const say = async () => {
  await vi.waitFor(() => expect(links()).toHaveLength(1), 10_000);
  links()[0].deliver({ ready: '1-1' }, { id: '1-2', topic: 'a', type: 'tick', data: 'hello' });
  await settled();
};

test('React, in StrictMode', async () => {
  const root = createRoot(document.getElementById('app'));
  const Page = () => useReact('/rooms/lobby', 'tick')?.data ?? 'nothing';
  root.render(createElement(StrictMode, null, createElement(Page)));
  await say();
  await vi.waitFor(() => expect(document.body.textContent).toBe('hello'), 10_000);
  expect(links()[0].url).toContain('/rooms/lobby/ws');
  root.unmount();
  await vi.waitFor(() => expect(links()).toEqual([]), 10_000);
});

test('Vue', async () => {
  const app = createApp({ setup: () => { const event = useVue('/rooms/lobby', 'tick'); return () => h('p', event.value?.data ?? 'nothing'); } });
  app.mount('#app');
  await say();
  await nextTick();
  expect(document.body.textContent).toBe('hello');
  app.unmount();
});

test('Svelte', async () => {
  const seen = [];
  const unsubscribe = svelte('/rooms/lobby', 'tick').subscribe((event) => seen.push(event?.data));
  await say();
  expect(seen).toEqual([undefined, 'hello']);
  unsubscribe();
});
