// The page shows one room in two panels, each over a transport of your choice. Both get the
// same messages with the same IDs. Either can be disconnected or switched to another transport
// in the middle of a conversation; the other panel then shows what it should have received.
//
// The class Link shows how to use fanfare.js. Copy that; the rest is this page's own.

import { Fanfare } from '/fanfare.js';

const base = location.pathname.replace(/\/+$/, ''); // /rooms/{room}
const room = decodeURIComponent(base.slice(base.lastIndexOf('/') + 1));
const MAX_BUBBLES = 500, MAX_RAW = 200;

const storage = (() => { try { return localStorage; } catch { return {}; } })(); // localStorage may be blocked
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ------------------------------------------------------------------ transport
//
// A link calls connecting(), up(), down(), message({id, data}), gap(id) and raw(id, text) of its
// listener. A message without an ID is from the room's history, with which a client begins that
// does not resume. It does not change the position.

class Link {
  #stream = null;
  #position = '';

  constructor(listener) { this.listener = listener; }

  get transport() { return this.#stream?.transport; }

  start(transports) {
    const stream = new Fanfare({
      ws: `${base}/ws`,
      sse: `${base}/events`,
      post: `${base}/messages`,
      transports,
      lastEventId: this.#position, // that of the stream before
    });
    this.#stream = stream;
    this.listener.connecting();
    stream.onstatechange = () => {
      if (stream.state === 'open') this.listener.up();
      else if (stream.state === 'connecting') this.listener.connecting();
      else this.listener.down();
    };
    stream.addEventListener('chat', (event) => {
      this.#raw(event);
      this.listener.message({ id: event.lastEventId, data: event.data });
    });
    stream.ongap = (event) => {
      this.#raw(event);
      this.listener.gap(event.lastEventId);
    };
  }

  stop() {
    if (!this.#stream) return; // not started yet
    this.#position = this.#stream.lastEventId;
    this.#stream.onstatechange = null;
    this.#stream.close(); // no event is dispatched after this
  }

  async send(message) {
    if (this.#stream?.readyState !== Fanfare.OPEN) throw new Error('not connected');
    await this.#stream.send(JSON.stringify(message));
  }

  #raw({ lastEventId, type, data }) {
    this.listener.raw(lastEventId, [lastEventId, type, data].filter(Boolean).join(' '));
  }
}

// --------------------------------------------------------------------- panel

class Panel {
  other = null; // the panel beside this one
  order = []; // the IDs of the received messages, in the order of their arrival
  index = new Map(); // from an ID to its index in order
  live = false;
  started = false; // it has been live
  twice = 0;
  #liveSince = 0;
  #absence = null; // the latest disconnection and the reconnection after it
  #freshHistory = false;
  #switching = false;

  constructor(root) {
    this.root = root;
    this.link = new Link(this);
    this.side = root.querySelector('h2').textContent;
    this.#nameIt();
    this.messages = this.role('messages');
    this.hint = this.role('notice').textContent;
    this.transport = this.role('transport');
    this.transport.addEventListener('change', () => this.switchTransport());
    const form = this.role('composer');
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const text = form.text.value;
      if (text.trim() && (await this.send(text)) && form.text.value === text) form.text.value = '';
    });
    this.role('disconnect').addEventListener('click', () => (this.state === 'disconnected' ? this.connect() : this.disconnect()));
    this.role('to-end').addEventListener('click', () => scrollToEnd(this.messages));
    stayAtEnd(this.role('raw'));
    stayAtEnd(this.messages, (atEnd) => (this.role('to-end').hidden = atEnd));
  }

  role(name) { return this.root.querySelector(`[data-role="${name}"]`); }

  // The person's name, which the user may change.
  get title() { return this.role('who').value.trim() || this.side; }

  #nameIt() {
    const field = this.role('who'), key = `chatName${this.side}`;
    field.value = storage[key] ||= { Left: 'Ann', Right: 'Bob' }[this.side];
    const colour = () => this.root.style.setProperty('--hue', hue(this.title));
    field.addEventListener('change', () => {
      field.value = storage[key] = field.value.trim() || storage[key];
      colour();
    });
    colour();
  }

  get state() { return this.root.dataset.state; }

  set state(state) {
    this.root.dataset.state = this.role('state').textContent = state;
    this.role('disconnect').textContent = state === 'disconnected' ? 'Reconnect' : 'Disconnect';
  }

  disconnect() {
    this.link.stop();
    this.#leave('disconnected');
  }

  connect() { this.link.start(this.transport.value.split(' ')); }

  // Resumes over another transport. The panel stays live meanwhile.
  switchTransport() {
    if (this.state === 'disconnected') return;
    this.link.stop();
    this.#switching = this.live;
    this.connect();
  }

  async send(text) {
    const sending = this.link.send({ name: this.title, text });
    const error = await sending.then(() => '', ({ message }) => `Not sent: ${message}`);
    this.#notice(error);
    if (!error) scrollToEnd(this.messages);
    return !error;
  }

  // Called by the link

  connecting() {
    if (this.#switching) this.#showTransport('…');
    else if (this.state !== 'reconnecting') this.state = 'connecting';
  }

  up() {
    const now = performance.now();
    const absence = this.#absence;
    this.#showTransport(`over ${transportNames[this.link.transport]}`);
    if (this.#switching) {
      this.#switching = false;
      append(this.role('raw'), element('li', 'row switched', `Continues over ${transportNames[this.link.transport]}`), MAX_RAW);
      this.state = 'live';
      return;
    }
    if (absence && !absence.returned) {
      absence.until = this.other.order.length; // how many messages the other panel has by now
      absence.witnessed = this.other.live && this.other.#liveSince < absence.since;
      absence.returned = now;
      absence.over = this.link.transport;
      absence.quietAt = now + 300;
      setTimeout(() => this.#judge(), 2100);
    }
    this.live = this.started = this.#freshHistory = true;
    this.#liveSince = now;
    this.state = 'live';
    this.#notice('');
    this.#judge();
  }

  down() {
    this.#switching = false;
    this.#leave('reconnecting');
  }

  #showTransport(name) {
    this.root.dataset.carrier = this.link.transport ?? '';
    this.role('carrier').textContent = name;
  }

  message({ id, data }) {
    const message = JSON.parse(data);
    const { index } = this.other;
    if (!id) {
      // A client that does not resume gets the history again. It replaces the old one.
      if (this.#freshHistory) this.root.querySelectorAll('[data-history]').forEach((old) => old.remove());
      this.#freshHistory = false;
      return this.#showBubble(message, '', false);
    }
    if (this.index.has(id)) {
      this.twice++;
      if (this.#absence) this.#absence.duplicates++;
      this.#divider('fault', `⚠ ${id} was received twice`);
    } else {
      // Messages must have the same order in both panels.
      const disorder = index.get(id) < index.get(this.order.at(-1));
      const replayed = this.#isReplay(id);
      if (replayed) this.#absence.replayed.push(id);
      else if (disorder) this.#divider('fault', `⚠ ${id} is out of order`);
      this.index.set(id, this.order.length);
      this.order.push(id);
      this.#showBubble(message, id, replayed);
      if (!index.has(id)) announce(`${message.name}: ${message.text}`);
    }
    this.#judge();
    this.other.#judge();
  }

  gap(id) {
    if (this.#absence) this.#absence.gap = true;
    this.#divider('gap', '⚠ Some messages were lost', `The server no longer keeps them. The stream continues after ${id}.`);
  }

  raw(id, text) {
    const [before, ...after] = id ? text.split(id) : [text];
    const row = element('li', 'row', before);
    if (id) row.append(element('b', 'id', id), after.join(id));
    append(this.role('raw'), row, MAX_RAW);
  }

  // Disconnections

  #leave(state) {
    const wasLive = this.live;
    this.live = false;
    this.state = state;
    if (!wasLive) return;
    // If no message has arrived since the last reconnect, the old absence continues.
    const before = this.#absence;
    const continues = before && before.divider === this.messages.lastElementChild;
    if (continues) before.divider.remove();
    else if (before) this.#judge(true);
    const left = `${state === 'disconnected' ? 'Disconnected' : 'Connection lost'} at ${clock(new Date(), '2-digit')}`;
    this.#absence = {
      left,
      since: performance.now(),
      last: this.order.at(-1),
      mark: continues ? before.mark : this.other.order.length,
      divider: this.#divider('return', left),
      was: this.root.dataset.carrier, // the transport
      returned: 0, replayed: [], duplicates: 0, gap: false,
    };
    append(this.role('raw'), element('li', 'row lost', left), MAX_RAW);
    this.#judge();
  }

  // A message is a replay if the other panel had it before this one reconnected. If the
  // other one was disconnected too, the first burst after the reconnect is the replay.
  #isReplay(id) {
    const absence = this.#absence;
    if (!absence) return false;
    if (this.other.index.get(id) < absence.until) return true;
    const now = performance.now();
    if (absence.witnessed || now > absence.quietAt || now > absence.returned + 3000) return false;
    absence.quietAt = now + 300;
    return true;
  }

  // Compares the replayed messages with those that the other panel received meanwhile, after
  // each message of either panel. If both were disconnected, there is nothing to compare with
  // until both are back. final: the panel disconnects again, so nothing more will arrive.
  #judge(final = false) {
    const absence = this.#absence;
    if (!absence) return;
    const { index, order, title, live } = this.other;
    const { left, last, mark, until, returned, was, over, witnessed, replayed, duplicates, gap, divider } = absence;
    const from = index.has(last) ? index.get(last) + 1 : mark;
    if (!returned) {
      const missed = order.length - from;
      setDivider(divider, left, missed || live ? `${count(missed)} missed so far` : '', 'away');
    } else {
      const places = replayed.map((id) => index.get(id)).filter((place) => place !== undefined);
      const expected = order.slice(from, Math.max(final ? 0 : until, ...places.map((place) => place + 1)));
      const missing = expected.filter((id) => !this.index.has(id)).length;
      const disorder = places.filter((place, i) => place < places[i - 1]).length;
      const waiting = missing && !final && performance.now() < returned + 2000;
      const faults = [];
      if (duplicates) faults.push(`${duplicates} received twice`);
      if (disorder) faults.push(`${disorder} out of order`);
      if (missing && !gap && !waiting) faults.push(`${missing} missing`);

      let verdict = ['ok', replayed.length ? `✓ the same as ${title} has, once and in order` : '✓ nothing missed'];
      if (faults.length) verdict = ['bad', `✗ ${faults.join(', ')}`];
      else if (waiting) verdict = ['pending', `${missing} not received yet`];
      else if (missing) verdict = ['gap', `${missing} messages that ${title} has were lost`];
      else if (places.length < replayed.length || !(replayed.length || witnessed)) {
        verdict = ['pending', `no duplicates; ${title} was disconnected too`];
      }
      const how = over === was ? '' : ` over ${transportNames[over]} (was ${transportNames[was]})`;
      setDivider(divider, `Reconnected${how}: ${count(replayed.length)} replayed`, verdict[1], verdict[0]);
    }
  }

  // Shows the latest return, with what was replayed, where that needs more than the panel's height.
  showReturn() {
    const divider = this.#absence?.divider;
    if (!divider) return;
    const above = this.messages.getBoundingClientRect().top - divider.getBoundingClientRect().top;
    if (above > 0) this.messages.scrollTop -= above + 8;
  }

  // Rendering

  #showBubble({ name, text, via, at }, id, replayed) {
    const bubble = clone('bubble-template');
    const part = (className) => bubble.querySelector(`.${className}`);
    const time = clock(new Date(at));
    // User input is inserted as text, never as HTML.
    part('name').textContent = name;
    part('text').textContent = text;
    part('time').textContent = time;
    part('time').dateTime = at;
    part('via').textContent = via === 'websocket' ? 'WebSocket' : 'POST';
    part('via').dataset.via = via;
    part('avatar').textContent = [...name][0]?.toUpperCase() ?? '?';
    bubble.style.setProperty('--hue', hue(name));
    part('replayed').hidden = !replayed;
    bubble.title = id ? `ID ${id}` : 'Sent before this page was opened';
    bubble.dataset.id = id;
    bubble.toggleAttribute('data-history', !id);
    bubble.toggleAttribute('data-replayed', replayed);
    bubble.classList.toggle('mine', name === this.title);
    // Consecutive messages of one person share a heading.
    const above = this.messages.lastElementChild;
    bubble.dataset.heading = [name, via, time].join(' ');
    bubble.classList.toggle('follows', above?.dataset.heading === bubble.dataset.heading);
    append(this.messages, bubble, MAX_BUBBLES);
  }

  #divider(role, what, detail = '') {
    const divider = element('li', 'divider');
    divider.dataset.role = role;
    divider.append(element('span', 'what', what), element('span', 'verdict', detail));
    if (role !== 'return') announce(`${this.title}: ${what}. ${detail}`);
    append(this.messages, divider, MAX_BUBBLES);
    return divider;
  }

  #notice(error) {
    this.role('notice').textContent = error || this.hint;
    this.role('notice').classList.toggle('error', Boolean(error));
  }
}

const transportNames = { ws: 'WebSocket', sse: 'EventSource', poll: 'long polling' };
const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
const element = (tag, className, textContent = '') =>
  Object.assign(document.createElement(tag), { className, textContent });
const count = (n) => (n === 1 ? '1 message' : `${n} messages`);
const clock = (date, second) => date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second });

// The hue of a person's colour. Teal and indigo are left out: they stand for the transports.
function hue(name) {
  const hues = [105, 350, 310, 75, 235, 145, 25];
  return hues[[...name].reduce((sum, char) => (sum * 53 + char.codePointAt(0)) % 9973, 0) % hues.length];
}

function append(list, row, max) {
  list.append(row);
  if (list.children.length > max) list.firstElementChild.remove();
}

function scrollToEnd(box) { box.scrollTop = box.scrollHeight; }

// Keeps a box scrolled to its end unless the user has scrolled up.
function stayAtEnd(box, onscroll = () => {}) {
  let atEnd = true;
  const follow = () => atEnd && scrollToEnd(box);
  new MutationObserver(follow).observe(box, { childList: true, subtree: true });
  new ResizeObserver(follow).observe(box);
  box.addEventListener('scroll', () => {
    atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    onscroll(atEnd);
  });
}

function setDivider(divider, what, detail, verdict) {
  for (const [name, text] of Object.entries({ what, verdict: detail })) {
    const part = divider.querySelector(`.${name}`);
    if (part.textContent !== text) part.textContent = text; // what has not changed scrolls nothing
  }
  // The text changes with each message. A screen reader reads it once for each verdict.
  if (detail && divider.dataset.verdict !== verdict) announce(`${what}. ${detail}`);
  divider.dataset.verdict = verdict;
}

function announce(text) {
  append(document.getElementById('announcer'), element('p', '', text), 30);
}

// -------------------------------------------------------------- the whole page

const roomField = document.getElementById('room');
roomField.value = room;
document.title = `${room} · fanfare chat`;
document.getElementById('another-tab').href = base;
document.getElementById('room-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = roomField.value.trim().replace(/^\.+/, ''); // ".." would change the path
  if (name) location.href = `${base.slice(0, base.lastIndexOf('/'))}/${encodeURIComponent(name)}`;
});

const [left, right] = [...document.querySelectorAll('section')].map((section) => new Panel(section));
left.other = right;
right.other = left;

const conversations = [
  ['Knock, knock.', 'Who is there?', 'Five messages.', 'Five messages who?', 'Five messages, each once, in order.'],
  ['One for sorrow,', 'two for joy,', 'three for a girl,', 'four for a boy,', 'five for silver.'],
];
let turn = 0;
async function talk() {
  const lines = conversations[turn++ % conversations.length];
  for (const [i, line] of lines.entries()) {
    const live = [left, right].filter((panel) => panel.live);
    const speaker = live[i % live.length] ?? left; // if none is live, left shows the error
    if (!(await speaker.send(line))) break;
    await sleep(250);
  }
}
document.getElementById('send-five').addEventListener('click', talk);

document.getElementById('play').addEventListener('click', async ({ target }) => {
  target.disabled = true;
  for (const panel of [left, right]) {
    scrollToEnd(panel.messages);
    if (panel.state === 'disconnected') panel.connect();
  }
  await sleep(600);
  right.disconnect();
  await sleep(900);
  await talk();
  await sleep(1200);
  // Back over another transport than before.
  right.transport.value = right.transport.value === 'sse' ? 'ws' : 'sse';
  right.connect();
  await sleep(1500);
  right.showReturn();
  target.disabled = false;
});

// Whether both have the same messages, at any time.
function compare() {
  const away = [left, right].filter((panel) => !panel.live);
  const verdict = document.getElementById('verdict');
  let [state, text] = ['wait', `${left.title} and ${right.title} connect`];
  if (away.length === 1 && left.started && right.started) {
    const [gone] = away, missed = gone.other.order.filter((id) => !gone.index.has(id)).length;
    text = `${gone.title} is away and has missed ${count(missed)}`;
  } else if (away.length === 2 && left.started) {
    text = `${left.title} and ${right.title} are away`;
  } else if (!away.length) {
    // Of what one has had before the other had anything, nothing can be said.
    const common = left.order.filter((id) => right.index.has(id));
    const same = common.length === left.order.length && common.length === right.order.length;
    const ordered = common.every((id, i) => i === 0 || right.index.get(id) > right.index.get(common[i - 1]));
    if (!ordered || left.twice || right.twice) [state, text] = ['bad', '✗ A message came twice or out of order'];
    else if (same) [state, text] = ['good', `✓ ${left.title} and ${right.title} have the same ${common.length ? count(common.length) : 'messages'}, each once and in order`];
    else text = 'One of them has more than the other …';
  }
  if (verdict.textContent !== text) verdict.textContent = text;
  verdict.dataset.state = state;
}
setInterval(compare, 200);

left.connect();
right.connect();
