// Tests of tabs that share a link, with fakes.

import { test, describe, beforeEach, afterEach } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';
import { FakeChannel, begin, channels, last, message, open, pass, position, settled, sockets } from './harness.js';

describe('shared tabs', () => {
  const options = { ws: 'http://x/ws', sse: 'http://x/events', shared: 'user-17' };
  const Real = globalThis.BroadcastChannel;
  beforeEach(async () => {
    await import('./fanfare-shared.js'); // which takes real time
    globalThis.BroadcastChannel = FakeChannel;
  });
  afterEach(() => {
    for (const stream of open) stream.close();
    globalThis.BroadcastChannel = Real;
  });

  const texts = (log) => log.filter((h) => h.startsWith('message') || h.startsWith('gap'));
  const links = () => sockets.filter(({ closed }) => !closed);
  // tabs begins some, the first of which leads.
  const tabs = async (n, more) => {
    const all = [];
    for (let i = 0; i < n; i++) {
      all.push(await begin({ ...options, ...more }));
      last(sockets).deliver({ ready: '1-1' });
      await pass(600);
    }
    assert.equal(links().length, 1);
    assert.deepEqual(all.map(({ stream }) => stream.transport), ['ws', ...Array(n - 1).fill('shared')]);
    return all;
  };

  test('one leads, and all receive', async () => {
    const all = await tabs(3);
    links()[0].deliver(message('1-2', 'one'), { gap: '1-4' }, message('1-5', 'AP8=', { encoding: 'base64' }));
    for (const { stream, log } of all) {
      assert.deepEqual(texts(log), ['message 1-2 one', 'gap 1-4', 'message 1-5 0,255']);
      assert.equal(stream.lastEventId, '1-5');
      assert.equal(stream.readyState, Fanfare.OPEN);
    }
    await all[2].stream.send('from a tab');
    assert.deepEqual(links()[0].sent, ['from a tab']);
  });

  test('the leader that leaves names the next', async () => {
    const all = await tabs(3);
    links()[0].deliver(message('1-2', 'one'));
    all[0].stream.close();
    await settled();
    assert.equal(links().length, 1);
    assert.equal(position(links()[0]), '1-2');
    links()[0].deliver({ ready: '1-2' }, message('1-3', 'two'));
    await pass(600);
    links()[0].deliver(message('1-4', 'three'));
    for (const { log } of all.slice(1)) assert.deepEqual(texts(log), ['message 1-2 one', 'message 1-3 two', 'message 1-4 three']);
    assert.equal(links().length, 1);
  });

  test('a leader that does not answer is left, and nothing is lost or doubled', async () => {
    const all = await tabs(2);
    const [old] = links();
    await pass(14_000);
    old.deliver({ position: '1-1' });
    channels[0].frozen = true;
    await pass(18_500);
    assert.equal(all[1].stream.transport, undefined);
    old.deliver(message('1-2', 'one')); // it is posted once the tab thaws
    last(sockets).deliver({ ready: '1-1' }, message('1-2', 'one'));
    await pass(600);
    channels[0].frozen = false;
    old.deliver(message('1-3', 'two'));
    last(sockets).deliver(message('1-3', 'two'));
    await pass(1000);
    for (const link of links()) link.deliver(message('1-4', 'three'));
    await settled();
    for (const { log } of all) assert.deepEqual(texts(log), ['message 1-2 one', 'message 1-3 two', 'message 1-4 three']);
    assert.equal(links().length, 1);
  });

  test('a post that is missing is noticed', async () => {
    const all = await tabs(2);
    channels[1].frozen = true;
    links()[0].deliver(message('1-2', 'one'));
    channels[1].frozen = false;
    links()[0].deliver(message('1-3', 'two'));
    await settled();
    assert.equal(position(last(sockets)), '1-1');
    last(sockets).deliver({ ready: '1-1' }, message('1-2', 'one'), message('1-3', 'two'));
    await pass(600);
    assert.deepEqual(texts(all[1].log), ['message 1-2 one', 'message 1-3 two']);
    assert.equal(links().length, 1);
  });

  test('a tab that joins gets its own beginning, and no gap', async () => {
    const [first] = await tabs(1);
    links()[0].deliver(message('1-2', 'one'), message('1-3', 'two'), message('1-4', 'three'));
    const second = await begin(options);
    last(sockets).deliver(message(undefined, 'state'), { ready: '1-4' });
    const third = await begin({ ...options, lastEventId: '1-2' });
    last(sockets).deliver({ ready: '1-2' });
    await pass(600);
    links()[0].deliver(message('1-5', 'four'));
    assert.deepEqual(texts(second.log), ['message state', 'message 1-5 four']);
    assert.deepEqual(texts(third.log), ['message 1-3 two', 'message 1-4 three', 'message 1-5 four']);
    assert.equal(links().length, 1);
    assert.equal(first.stream.transport, 'ws');
  });

  test('the leader keeps at most 1,000 events and 1 MiB', async () => {
    for (const [count, size] of [[1500, 10], [20, 100_000]]) {
      await tabs(1, { shared: `user-${count}` });
      for (let i = 2; i < count; i++) links()[0].deliver(message(`1-${i.toString(16)}`, 'x'.repeat(size)));
      const behind = await begin({ ...options, shared: `user-${count}`, lastEventId: '1-3' });
      last(sockets).deliver({ ready: '1-3' });
      await pass(1000);
      assert.equal(links().length, 2, 'its position is no longer kept');
      for (let i = 4; i < count; i++) last(sockets).deliver(message(`1-${i.toString(16)}`, 'x'.repeat(size)));
      await pass(7000);
      assert.equal(links().length, 1);
      assert.equal(texts(behind.log).length, count - 4);
      for (const stream of open.splice(0)) stream.close();
    }
  });

  test('other users, URLs and topics are not shared', async () => {
    for (const more of [{}, { shared: 'user-18' }, { topics: ['a'] }, { ws: 'http://x/ws2' }, { withCredentials: true }]) {
      await begin({ ...options, ...more });
      last(sockets).deliver({ ready: '1-1' });
      await pass(600);
    }
    assert.equal(links().length, 5);
  });

  test('setTopics concerns one tab', async () => {
    const all = await tabs(3, { topics: ['a'] });
    all[1].stream.setTopics(['b']);
    await settled();
    assert.deepEqual(links().map(({ url }) => url.searchParams.getAll('topic')), [['a'], ['b']]);
    links()[1].deliver({ ready: '1-1' }, { id: '1-2', topic: 'b', data: 'b' });
    links()[0].deliver(message('1-3', 'a'));
    await pass(600);
    assert.deepEqual(all.map(({ log }) => texts(log)), [['message 1-3 a'], ['message 1-2 b'], ['message 1-3 a']]);
    all[0].stream.setTopics(['b']);
    assert.deepEqual(links()[0].sent, ['{"topics":["b"]}']);
    await settled();
    assert.deepEqual(last(sockets).url.searchParams.getAll('topic'), ['a'], 'another tab leads those that stay');
  });

  test('a tab that is shown asks the leader to look at its link, also a hidden one', async () => {
    const page = (globalThis.document = Object.assign(new EventTarget(), { baseURI: 'http://x/', hidden: false }));
    try {
      const all = await tabs(2);
      const old = links()[0];
      page.hidden = true; // of the leader
      channels[0].onmessage({ data: ['somebody', 'ping', true] });
      await pass(3500);
      assert.ok(old.closed);
      assert.equal(all[0].stream.transport, undefined);
      assert.equal(position(last(sockets)), '1-1');
    } finally {
      for (const stream of open) stream.close();
      delete globalThis.document;
    }
  });

  test('a link that is down is not waited for, except as long as the server has asked', async () => {
    const all = await tabs(2);
    sockets[0].end(1013);
    await pass(9500);
    assert.equal(links().length, 0);
    await pass(4000);
    assert.ok(links().length > 0);
    for (const { stream } of all) assert.notEqual(stream.state, 'open');
  });

  for (const [what, refuse] of [
    ['BroadcastChannel is missing', () => { globalThis.BroadcastChannel = undefined; }],
    ['BroadcastChannel is refused', () => { globalThis.BroadcastChannel = class { constructor() { throw new DOMException('x', 'SecurityError'); } }; }],
    ['its messages are refused', () => { globalThis.BroadcastChannel = class extends FakeChannel { postMessage() { throw new DOMException('x', 'InvalidStateError'); } }; }],
    ['nothing arrives', () => { globalThis.BroadcastChannel = class extends FakeChannel { postMessage() {} }; }],
  ]) {
    test(`each tab has its own link where ${what}`, async () => {
      refuse();
      const all = [await begin(options), await begin(options)];
      for (const socket of sockets) socket.deliver({ ready: '1-1' }, message('1-2', 'one'));
      await pass(20_000);
      for (const socket of sockets) socket.deliver(message('1-3', 'two'));
      for (const { log } of all) assert.deepEqual(texts(log), ['message 1-2 one', 'message 1-3 two']);
    });
  }

  test('a channel that WebKit has closed is left', async () => {
    const all = await tabs(2);
    channels[1].postMessage = () => { throw new DOMException('closed', 'InvalidStateError'); };
    channels[0].frozen = true;
    await pass(16_000);
    await settled();
    last(sockets).deliver({ ready: '1-1' }, message('1-2', 'one'));
    assert.deepEqual(texts(all[1].log), ['message 1-2 one']);
  });
});
