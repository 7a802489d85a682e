// One room, shown twice, each time over a transport of your choice. Both sides get the
// same messages with the same IDs, so either can be cut, or moved to another transport in
// the middle of a conversation, and the other one is the witness of what it missed.
//
// The Link class is the part worth copying: what a page needs of fanfare.js.

import { Fanfare } from '/fanfare.js';

const base = location.pathname.replace(/\/+$/, ''); // /rooms/{room}
const room = decodeURIComponent(base.slice(base.lastIndexOf('/') + 1));
const MAX_BUBBLES = 500, MAX_RAW = 200;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ------------------------------------------------------------------ transport
//
// A link calls its listener's connecting(), up(), down(), message({id, data}), gap(id) and
// raw(id, text). A message without an ID is history, which a client that does not resume is
// shown first; it moves no position.

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
      lastEventId: this.#position, // where the one before it was
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
    this.#stream.close(); // nothing is dispatched after it
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
  order = []; // the IDs received, as they came
  index = new Map(); // from an ID to its place in order
  live = false;
  #liveSince = 0;
  #absence = null; // the latest: from a cut on, and kept after the return
  #freshHistory = false;
  #moving = false;

  constructor(root) {
    this.root = root;
    this.link = new Link(this);
    this.title = root.querySelector('h2').textContent;
    this.messages = this.role('messages');
    this.hint = this.role('notice').textContent;
    this.transport = this.role('transport');
    this.transport.addEventListener('change', () => this.move());
    const form = this.role('composer');
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const text = form.text.value;
      if (text.trim() && (await this.say(text)) && form.text.value === text) form.text.value = '';
    });
    this.role('cut').addEventListener('click', () => (this.state === 'cut' ? this.comeBack() : this.cut()));
    this.role('to-end').addEventListener('click', () => scrollToEnd(this.messages));
    stayAtEnd(this.role('raw'));
    stayAtEnd(this.messages, (atEnd) => (this.role('to-end').hidden = atEnd));
  }

  role(name) { return this.root.querySelector(`[data-role="${name}"]`); }

  get state() { return this.root.dataset.state; }

  set state(state) {
    this.root.dataset.state = this.role('state').textContent = state;
    this.role('cut').textContent = state === 'cut' ? 'Come back' : 'Cut connection';
  }

  cut() {
    this.link.stop();
    this.#leave('cut');
  }

  comeBack() { this.link.start(this.transport.value.split(' ')); }

  // Goes on over another transport, from where it is: that is no cut.
  move() {
    if (this.state === 'cut') return;
    this.link.stop();
    this.#moving = this.live;
    this.comeBack();
  }

  async say(text) {
    const sending = this.link.send({ name: myName(), text });
    const error = await sending.then(() => '', ({ message }) => `Not sent: ${message}`);
    this.#notice(error);
    if (!error) scrollToEnd(this.messages);
    return !error;
  }

  // What the link tells

  connecting() {
    if (this.#moving) this.#carried('…');
    else if (this.state !== 'reconnecting') this.state = 'connecting';
  }

  up() {
    const now = performance.now();
    const absence = this.#absence;
    this.#carried(carriers[this.link.transport]);
    if (this.#moving) {
      this.#moving = false;
      append(this.role('raw'), element('li', 'row moved', `Goes on ${carriers[this.link.transport]}`), MAX_RAW);
      this.state = 'live';
      return;
    }
    if (absence && !absence.returned) {
      absence.until = this.other.order.length; // what the other panel had by now
      absence.witnessed = this.other.live && this.other.#liveSince < absence.since;
      absence.returned = now;
      absence.quietAt = now + 300;
      setTimeout(() => this.#judge(), 2100);
    }
    this.live = this.#freshHistory = true;
    this.#liveSince = now;
    this.state = 'live';
    this.#notice('');
    this.#judge();
  }

  down() {
    this.#moving = false;
    this.#leave('reconnecting');
  }

  #carried(by) {
    this.root.dataset.carrier = this.link.transport ?? '';
    this.role('carrier').textContent = by;
  }

  message({ id, data }) {
    const message = JSON.parse(data);
    const { index } = this.other;
    if (!id) {
      // A client that starts afresh gets the history anew: instead of the old.
      if (this.#freshHistory) this.root.querySelectorAll('[data-history]').forEach((old) => old.remove());
      this.#freshHistory = false;
      return this.#showBubble(message, '', false);
    }
    if (this.index.has(id)) {
      if (this.#absence) this.#absence.duplicates++;
      this.#divider('fault', `⚠ ${id} came twice`);
    } else {
      // What both panels have must stand in the same order in both.
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
    this.#divider('gap', '⚠ Some messages are gone', `The server no longer has them. It goes on after ${id}.`);
  }

  raw(id, text) {
    const [before, ...after] = id ? text.split(id) : [text];
    const row = element('li', 'row', before);
    if (id) row.append(element('b', 'id', id), after.join(id));
    append(this.role('raw'), row, MAX_RAW);
  }

  // Cuts and returns

  #leave(state) {
    const wasLive = this.live;
    this.live = false;
    this.state = state;
    if (!wasLive) return;
    // Nothing since the last return: it is the same absence that goes on.
    const before = this.#absence;
    const goesOn = before && before.divider === this.messages.lastElementChild;
    if (goesOn) before.divider.remove();
    else if (before) this.#judge(true);
    const left = `${state === 'cut' ? 'Cut' : 'Connection lost'} at ${clock(new Date(), '2-digit')}`;
    this.#absence = {
      left,
      since: performance.now(),
      last: this.order.at(-1),
      mark: goesOn ? before.mark : this.other.order.length,
      divider: this.#divider('return', left),
      returned: 0, replayed: [], duplicates: 0, gap: false,
    };
    append(this.role('raw'), element('li', 'row note', left), MAX_RAW);
    this.#judge();
  }

  // A message is replayed if the other panel had it before this one was back.
  // Where that one was away too, what comes in one go after the return is.
  #isReplay(id) {
    const absence = this.#absence;
    if (!absence) return false;
    if (this.other.index.get(id) < absence.until) return true;
    const now = performance.now();
    if (absence.witnessed || now > absence.quietAt || now > absence.returned + 3000) return false;
    absence.quietAt = now + 300;
    return true;
  }

  // Compares what was replayed with what the other panel got meanwhile. Called
  // again for each message that either gets: if both were away, there is
  // nothing to compare with until both are back.
  #judge(isOver = false) {
    const absence = this.#absence;
    if (!absence) return;
    const { index, order, title, live } = this.other;
    const { left, last, mark, until, returned, witnessed, replayed, duplicates, gap, divider } = absence;
    const from = index.has(last) ? index.get(last) + 1 : mark;
    if (!returned) {
      const missed = order.length - from;
      setDivider(divider, left, missed || live ? `${count(missed)} missed so far` : '', 'away');
    } else {
      const places = replayed.map((id) => index.get(id)).filter((place) => place !== undefined);
      const expected = order.slice(from, Math.max(isOver ? 0 : until, ...places.map((place) => place + 1)));
      const missing = expected.filter((id) => !this.index.has(id)).length;
      const disorder = places.filter((place, i) => place < places[i - 1]).length;
      const waiting = missing && !isOver && performance.now() < returned + 2000;
      const faults = [];
      if (duplicates) faults.push(`${duplicates} came twice`);
      if (disorder) faults.push(`${disorder} out of order`);
      if (missing && !gap && !waiting) faults.push(`${missing} missing`);

      let verdict = ['ok', replayed.length ? `✓ each once, in order: what the ${title} panel got` : '✓ nothing missed'];
      if (faults.length) verdict = ['bad', `✗ ${faults.join(', ')}`];
      else if (waiting) verdict = ['pending', `${missing} still to come`];
      else if (missing) verdict = ['gap', `${missing} of those that the ${title} panel got are gone`];
      else if (places.length < replayed.length || !(replayed.length || witnessed)) {
        verdict = ['pending', `none twice; the ${title} panel was away as well`];
      }
      setDivider(divider, `While you were away: ${count(replayed.length)}, replayed`, verdict[1], verdict[0]);
    }
  }

  // What one sees

  #showBubble({ name, text, via, at }, id, replayed) {
    const bubble = clone('bubble-template');
    const part = (className) => bubble.querySelector(`.${className}`);
    const time = clock(new Date(at));
    // What people write goes in as text, never as HTML.
    part('name').textContent = name;
    part('text').textContent = text;
    part('time').textContent = time;
    part('time').dateTime = at;
    part('via').textContent = via === 'websocket' ? 'WebSocket' : 'POST';
    part('via').dataset.via = via;
    part('avatar').textContent = [...name][0]?.toUpperCase() ?? '?';
    part('avatar').style.setProperty('--hue', hue(name));
    part('replayed').hidden = !replayed;
    bubble.title = id ? `ID ${id}` : 'From before this page was opened';
    bubble.dataset.id = id;
    bubble.toggleAttribute('data-history', !id);
    bubble.toggleAttribute('data-replayed', replayed);
    bubble.classList.toggle('mine', name === myName());
    // What one person says in a row stands under one heading.
    const above = this.messages.lastElementChild;
    bubble.dataset.heading = [name, via, time].join(' ');
    bubble.classList.toggle('follows', above?.dataset.heading === bubble.dataset.heading);
    append(this.messages, bubble, MAX_BUBBLES);
  }

  #divider(role, what, words = '') {
    const divider = element('li', 'divider');
    divider.dataset.role = role;
    divider.append(element('span', 'what', what), element('span', 'verdict', words));
    if (role !== 'return') announce(`${this.title}: ${what}. ${words}`);
    append(this.messages, divider, MAX_BUBBLES);
    return divider;
  }

  #notice(error) {
    this.role('notice').textContent = error || this.hint;
    this.role('notice').classList.toggle('error', Boolean(error));
  }
}

const carriers = { ws: 'over WebSocket', sse: 'over EventSource', poll: 'over long polling' };
const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
const element = (tag, className, textContent = '') =>
  Object.assign(document.createElement(tag), { className, textContent });
const count = (n) => (n === 1 ? '1 message' : `${n} messages`);
const clock = (date, second) => date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second });

function hue(name) {
  const hues = [12, 42, 150, 185, 228, 262, 298, 340];
  return hues[[...name].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) % 9973, 0) % hues.length];
}

function append(list, row, max) {
  list.append(row);
  if (list.children.length > max) list.firstElementChild.remove();
}

function scrollToEnd(box) { box.scrollTop = box.scrollHeight; }

// Follows what is added, unless the reader has scrolled up.
function stayAtEnd(box, tell = () => {}) {
  let atEnd = true;
  const follow = () => atEnd && scrollToEnd(box);
  new MutationObserver(follow).observe(box, { childList: true, subtree: true });
  new ResizeObserver(follow).observe(box);
  box.addEventListener('scroll', () => {
    atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    tell(atEnd);
  });
}

function setDivider(divider, what, words, verdict) {
  divider.querySelector('.what').textContent = what;
  divider.querySelector('.verdict').textContent = words;
  // The words change with each message; a screen reader hears each verdict once.
  if (words && divider.dataset.verdict !== verdict) announce(`${what}. ${words}`);
  divider.dataset.verdict = verdict;
}

function announce(text) {
  append(document.getElementById('announcer'), element('p', '', text), 30);
}

// -------------------------------------------------------------- the whole page

const nameField = document.getElementById('name');
const names = ['Merry Otter', 'Quiet Heron', 'Sunny Maple', 'Brave Finch', 'Gentle Comet', 'Lucky Puffin'];
const storage = (() => { try { return localStorage; } catch { return {}; } })(); // it may be blocked
storage.chatName ||= names[Math.floor(Math.random() * names.length)];
nameField.value = storage.chatName;
nameField.addEventListener('change', () => (nameField.value = storage.chatName = myName()));

function myName() { return nameField.value.trim() || storage.chatName; }

const roomField = document.getElementById('room');
roomField.value = room;
document.title = `${room} · fanfare chat`;
document.getElementById('another-tab').href = base;
document.getElementById('room-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = roomField.value.trim().replace(/^\.+/, ''); // ".." is a path, not a room
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
document.getElementById('say-five').addEventListener('click', async () => {
  const lines = conversations[turn++ % conversations.length];
  for (const [i, line] of lines.entries()) {
    const live = [left, right].filter((panel) => panel.live);
    const speaker = live[i % live.length] ?? left; // none: let that one say so
    if (!(await speaker.say(line))) break;
    await sleep(120);
  }
});

left.comeBack();
right.comeBack();
