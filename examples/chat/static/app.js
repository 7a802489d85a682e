// One room, shown twice: over a WebSocket and over an EventSource. Both get the
// same messages with the same IDs, so either can be cut and come back, and the
// other one is the witness of what it missed.
//
// The two Link classes are the part worth copying: each keeps its position, the
// last ID that the server told, and resumes from it. The rest is what one sees.

const base = location.pathname.replace(/\/+$/, ''); // /rooms/{room}
const room = decodeURIComponent(base.slice(base.lastIndexOf('/') + 1));
const MAX_BUBBLES = 500, MAX_RAW = 200;

function streamURL(path, position) {
  const url = new URL(base + path, location.href);
  if (position) url.searchParams.set('lastEventId', position);
  return url;
}

// Full jitter: any time up to the bound, so that the clients of a server that
// went away do not all return in the same moment.
const backoff = (attempt) => Math.random() * Math.min(10_000, 500 * 2 ** attempt);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// ---------------------------------------------------------------- transports
//
// A link calls its listener's connecting(url), up(), down(), message({id, data}),
// gap(id) and raw(id, text). A message without an ID is history, which a client
// that does not resume is shown first; it moves no position.

class WebSocketLink {
  position = '';
  firstPosition = ''; // see Panel.comeBack
  #socket = null;
  #timer = 0;
  #attempt = 0;

  constructor(listener) { this.listener = listener; }

  start() {
    const url = streamURL('/ws', this.position);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.listener.connecting(url);
    socket.onopen = () => this.listener.up();
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => {
      // A WebSocket never reconnects by itself. 1012: the server restarts, so
      // it is worth coming back soon.
      const delay = event.code === 1012 ? backoff(0) : backoff(this.#attempt++);
      this.#timer = setTimeout(() => this.start(), delay);
      this.listener.down();
    };
  }

  stop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    if (!socket) return; // not started yet
    // Frames still arrive while a socket closes. They must not move the
    // position, or be shown, once the panel says that it is cut.
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  async send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) throw new Error('not connected');
    this.#socket.send(JSON.stringify(message));
  }

  #receive(text) {
    this.#attempt = 0; // not in onopen: a server may accept and close at once
    const frame = JSON.parse(text);
    const id = frame.id ?? frame.ready ?? frame.gap ?? frame.position ?? '';
    this.listener.raw(id, text);
    // Control frames never have a topic, so no message can look like one.
    if ('topic' in frame) {
      if (frame.type === 'chat') this.listener.message({ id, data: frame.data });
    } else if (frame.gap) {
      this.listener.gap(id);
    }
    // Moved last: by now what the ID stands for has been dealt with.
    if (id) this.position = id;
    if (frame.ready) this.firstPosition ||= id;
  }
}

class EventSourceLink {
  position = '';
  #gap = '';
  #source = null;
  #timer = 0;
  #attempt = 0;

  constructor(listener) { this.listener = listener; }

  start() {
    // The browser sends Last-Event-ID when it reconnects by itself, but a new
    // EventSource begins without one: hence the query.
    const url = streamURL('/events', this.position);
    const source = new EventSource(url);
    this.#source = source;
    this.listener.connecting(url);
    source.onopen = () => {
      this.#attempt = 0;
      this.listener.up();
    };
    source.onerror = () => {
      // After a network error the browser tries again. After an answer that is
      // no stream, such as a proxy's 502, it gives up for good; we do not.
      if (source.readyState === EventSource.CLOSED) {
        this.#timer = setTimeout(() => this.start(), backoff(this.#attempt++));
      }
      this.listener.down();
    };
    source.addEventListener('chat', (event) => {
      this.#raw(event);
      // lastEventId is sticky: an event without an ID of its own shows the one
      // before it, which here is none at all or a gap's.
      const id = event.lastEventId === this.#gap ? '' : event.lastEventId;
      this.listener.message({ id, data: event.data });
      this.position = event.lastEventId;
    });
    source.addEventListener('gap', (event) => {
      this.#raw(event);
      this.listener.gap(event.lastEventId);
      this.position = this.#gap = event.lastEventId;
    });
  }

  stop() {
    clearTimeout(this.#timer);
    this.#source?.close(); // nothing is dispatched after it
  }

  async send(message) {
    if (this.#source?.readyState !== EventSource.OPEN) throw new Error('not connected');
    const response = await fetch(`${base}/messages`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(message),
    });
    if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  }

  #raw({ lastEventId, type, data }) {
    this.listener.raw(lastEventId, `id: ${lastEventId}\nevent: ${type}\ndata: ${data}`);
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

  constructor(root, Link) {
    this.root = root;
    this.link = new Link(this);
    this.title = root.querySelector('h2').textContent;
    this.messages = this.role('messages');
    this.hint = this.role('notice').textContent;
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

  comeBack() {
    // A page never sees the IDs that reach an EventSource without an event, so
    // one cut before its first message cannot know where it stood. But an ID
    // means the same on both transports, and the socket, which connects after
    // it (see the end of this file), was told one.
    if (this.#liveSince) this.link.position ||= this.other.link.firstPosition ?? '';
    this.link.start();
  }

  async say(text) {
    const sending = this.link.send({ name: myName(), text });
    const error = await sending.then(() => '', ({ message }) => `Not sent: ${message}`);
    this.#notice(error);
    if (!error) scrollToEnd(this.messages);
    return !error;
  }

  // What the link tells

  connecting(url) {
    this.role('url').textContent = url.pathname + url.search;
    this.role('url').title = url.href;
    if (this.state !== 'reconnecting') this.state = 'connecting';
  }

  up() {
    const now = performance.now();
    const absence = this.#absence;
    if (absence) {
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
    this.onSettled?.();
  }

  down() {
    this.#leave('reconnecting');
    this.onSettled?.();
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
    part('via').textContent = via === 'websocket' ? 'WebSocket' : 'EventSource';
    part('via').dataset.via = via;
    part('avatar').textContent = [...name][0]?.toUpperCase() ?? '?';
    part('avatar').style.setProperty('--hue', hue(name));
    part('replayed').hidden = !replayed;
    bubble.title = id ? `ID ${id}` : 'From before this page was opened';
    bubble.dataset.id = id;
    bubble.toggleAttribute('data-history', !id);
    bubble.toggleAttribute('data-replayed', replayed);
    bubble.classList.toggle('mine', name === myName() && via === this.root.dataset.transport);
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

const section = (transport) => document.querySelector(`section[data-transport="${transport}"]`);
const socketPanel = new Panel(section('websocket'), WebSocketLink);
const eventsPanel = new Panel(section('eventsource'), EventSourceLink);
socketPanel.other = eventsPanel;
eventsPanel.other = socketPanel;

const conversations = [
  ['Knock, knock.', 'Who is there?', 'Five messages.', 'Five messages who?', 'Five messages, each once, in order.'],
  ['One for sorrow,', 'two for joy,', 'three for a girl,', 'four for a boy,', 'five for silver.'],
];
let turn = 0;
document.getElementById('say-five').addEventListener('click', async () => {
  const lines = conversations[turn++ % conversations.length];
  for (const [i, line] of lines.entries()) {
    const live = [socketPanel, eventsPanel].filter((panel) => panel.live);
    const speaker = live[i % live.length] ?? socketPanel; // none: let that one say so
    if (!(await speaker.say(line))) break;
    await sleep(120);
  }
});

// The EventSource first, and the socket once that stands: see Panel.comeBack.
eventsPanel.link.start();
await Promise.race([new Promise((resolve) => (eventsPanel.onSettled = resolve)), sleep(1000)]);
if (socketPanel.state !== 'cut') socketPanel.link.start();
