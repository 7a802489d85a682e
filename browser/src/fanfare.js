// fanfare.d.ts documents the options, methods and events.
//
// A link is one connection. It resumes after the last position received. The second link is one
// that is tried while the first goes on.

const names = ['ws', 'sse', 'poll'];
const defaults = { retry: 500, maxRetry: 30_000, silence: 0, patience: 10_000, good: 5_000, upgrade: 10_000 };
const floor = 100; // of each time in the options, and of each wait
const soon = 3_000; // what is expected soon comes within it
const events = ['open', 'message', 'error', 'gap', 'statechange'];

const doc = () => globalThis.document;
const base = () => doc()?.baseURI ?? globalThis.location?.href;
const now = () => performance.now();
const call = (value) => (typeof value === 'function' ? value() : value);
const isTemporary = (status) => status < 400 || status > 499 || [408, 425, 429].includes(status);
const cursorOf = ({ id, gap, ready, position }) => id ?? gap ?? ready ?? position;

const request = async ({ headers, withCredentials }, more) => ({
  // An EventSource is refused with 200.
  headers: { Accept: 'text/event-stream, */*;q=0.1', ...(await call(headers)) },
  credentials: withCredentials ? 'include' : 'same-origin',
  cache: 'no-store',
  ...more,
});

// The transport that worked last for an origin.
const remembered = (origin, transport) => {
  try {
    if (transport) sessionStorage.setItem('fanfare ' + origin, transport);
    return sessionStorage.getItem('fanfare ' + origin);
  } catch {} // storage is blocked
};

// Each opens a link, until its signal aborts. The link's alive, read and done are called then.
const dial = {
  ws(url, { protocols }, link, { signal }) {
    url.protocol = url.protocol.replace('http', 'ws');
    url.searchParams.set('refusals', 'close');
    const socket = new WebSocket(url, protocols ?? []);
    socket.onmessage = ({ data }) => {
      link.send = (data) => socket.send(data); // once it is open
      link.read(data);
    };
    socket.onclose = link.done;
    signal.addEventListener('abort', () => {
      socket.onmessage = socket.onclose = null;
      socket.close();
    });
  },

  sse(url, options, link, abort) {
    if (options.headers) return dial.fetch(url, options, link, abort);
    const source = new EventSource(url, options);
    let asks; // whether a failure has a status, which an EventSource hides
    source.onopen = () => (asks = true);
    source.onmessage = ({ data }) => {
      asks = false;
      link.read(data);
    };
    source.onerror = () => {
      asks ||= source.readyState === 2;
      source.close(); // it gives up after a 502
      if (asks) dial.fetch(url, options, link, abort);
      else link.done({});
    };
    abort.signal.addEventListener('abort', () => source.close());
  },

  poll(url, ...rest) {
    url.searchParams.set('poll', 1);
    dial.fetch(url, ...rest);
  },

  fetch(url, options, link, { signal }) {
    const read = async () => {
      const { status, headers, body } = await fetch(url, await request(options, { signal }));
      if (status !== 200 || !/^\s*text\/event-stream\s*(;|$)/i.test(headers.get('Content-Type'))) {
        const wait = headers.get('Retry-After');
        return { status, wait: wait * 1000 || Date.parse(wait) - Date.now() || 0 };
      }
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = '', data = '', wait = 0; ; ) {
        const { value, done: end } = await reader.read();
        if (end) return { wait, end };
        link.alive();
        const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
        rest = lines.pop();
        for (const line of lines) {
          const [, field, text] = /^([^:]*):? ?(.*)/s.exec(line);
          if (field === 'data') data += text + '\n';
          if (field === 'retry' && /^\d+$/.test(text)) wait = +text;
          if (line || !data || signal.aborted) continue;
          link.read(data.slice(0, -1));
          data = '';
        }
      }
    };
    read().catch(() => ({})).then((result) => link.done(result));
  },
};

export class Fanfare extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;

  CONNECTING = 0;
  OPEN = 1;
  CLOSED = 2;
  readyState = 0;
  state = 'connecting';
  onopen = null;
  onmessage = null;
  onerror = null;
  ongap = null;
  onstatechange = null;
  #options;
  #order; // the one in use first
  #link = {};
  #second;
  #since = []; // the IDs that have been dispatched since the second link was begun
  #granted; // the topics of the last link that opened
  #beat = 0; // the server's heartbeat
  #failures = 0;
  #attempt = 0;
  #upgrades = 0;
  #until = 0; // the server has asked to wait
  #hid;
  #asleep = false;
  #rides = false; // on the link of another tab
  #mate; // fanfare-shared.js
  #timers = {};
  #abort = new AbortController();

  constructor(options) {
    super();
    const given = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value != null));
    this.#options = options = { transports: names, lastEventId: '', ...given, poll: given.sse };
    for (const name in defaults) options[name] = Math.max(floor, given[name] ?? NaN) || defaults[name];
    const { shared, transports } = options;
    for (const transport of transports) if (!names.includes(transport)) throw new TypeError(`fanfare: there is no transport ${transport}`);
    if (shared && typeof shared !== 'string') throw new TypeError("fanfare: shared must name the user, such as 'user-17'");
    options.transports = transports.filter((transport) => options[transport]);
    this.#order = [...options.transports];
    if (!this.#order.length) throw new TypeError('fanfare: ws or sse must be a URL');
    this.#order.forEach((transport) => this.#url(options[transport]));
    this.lastEventId = options.lastEventId;
    this.withCredentials = !!options.withCredentials;
    this.#prefer(remembered(this.#origin));
    for (const type of events) {
      this.addEventListener(type, (event) => {
        const f = this['on' + type];
        if (typeof f === 'function') f.call(this, event);
      });
    }
    const { signal } = this.#abort;
    const on = (target, type, f) => target?.addEventListener?.(type, f, { signal });
    on(globalThis, 'online', () => this.#look());
    on(doc(), 'visibilitychange', () => {
      if (doc().hidden) this.#hid = now();
      else if (!(now() - this.#hid < soon)) this.#look();
    });
    on(globalThis, 'pagehide', () => this.#sleep());
    on(doc(), 'freeze', () => this.#sleep());
    on(globalThis, 'pageshow', () => this.#wake());
    on(doc(), 'resume', () => this.#wake());
    queueMicrotask(() => {
      if (signal.aborted) return;
      if (shared) this.#share();
      this.#connect();
    });
  }

  get url() { return this.#url(this.#options[this.#order[0] ?? this.#options.transports[0]]).href; }

  get transport() {
    const { transport, opened } = this.#link;
    return this.#rides ? 'shared' : opened && transport;
  }

  close() {
    if (this.readyState > 1) return;
    this.#mate?.leave();
    this.#abort.abort();
    this.#rides = false;
    this.#stop();
    this.#set('closed');
  }

  async send(data) {
    const { post } = this.#options;
    const { send } = this.#link;
    if (send) return send(data);
    if (!post) {
      if (this.#rides) return this.#mate.send(data);
      throw new Error('fanfare: no WebSocket is open, and post is not set');
    }
    const response = await fetch(post, await request(this.#options, { method: 'POST', body: data }));
    if (!response.ok) throw new Error((await response.text()) || response.status);
  }

  setTopics(topics) {
    this.#options.topics = topics;
    this.#mate?.leave();
    const { opened, send, transport } = this.#link;
    if (this.#rides || (transport && !opened)) {
      this.#rides = false;
      this.#connect();
    } else if (send) send(JSON.stringify({ topics }));
    else if (opened) this.#change(transport);
  }

  get #origin() { return this.#url(this.#options[this.#order[0]]).origin; }

  #url(url) {
    return new URL(typeof url === 'function' ? '' : url, typeof url === 'function' ? base() ?? 'http://localhost' : base());
  }

  #after(name, ms, f) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(f, Math.min(ms, 2 ** 31 - 1));
  }

  #fire(type, more) { this.dispatchEvent(Object.assign(new Event(type), more)); }

  #set(state) {
    if ([state, 'closed'].includes(this.state)) return;
    this.state = state;
    this.readyState = ['open', 'closed'].indexOf(state) + 1;
    if (!this.#rides) this.#mate?.changed(state, this.#until - Date.now());
    this.#fire('statechange');
    if (state === 'open') this.#fire('open');
  }

  #stop() {
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
    this.#link.stop?.();
    this.#second?.stop();
    this.#link = {};
    this.#second = null;
  }

  #prefer(transport) {
    while (this.#order.includes(transport) && this.#order[0] !== transport) this.#order.push(this.#order.shift());
  }

  #open(transport, receive, done) {
    const { topics, ...options } = this.#options;
    const abort = new AbortController();
    const { signal } = abort;
    const link = { transport, topics, started: now(), stop: () => abort.abort() };
    const current = (f) => (x) => signal.aborted || f(x);
    link.alive = () => (link.heard = now());
    link.done = current((result) => {
      link.stop();
      done(result);
    });
    link.read = current((text) => {
      link.alive();
      let envelope;
      try {
        const value = JSON.parse(text);
        if (value.encoding) value.bytes = Uint8Array.from(atob(value.data), (c) => c.charCodeAt());
        if ('topic' in value || cursorOf(value)) envelope = value;
      } catch {}
      if (envelope) receive(envelope);
      else this.#fire('error', { data: text });
    });
    link.alive();
    const begin = current(([url, protocols]) => {
      url = new URL(url, base());
      const query = url.searchParams;
      query.set('heartbeat', 1);
      query.set('envelope', 1);
      if (this.lastEventId) query.set('lastEventId', this.lastEventId);
      for (const topic of topics ?? []) query.append('topic', topic);
      dial[transport](url, { ...options, protocols }, link, abort);
    });
    const fail = () => setTimeout(link.done, 0, {});
    try {
      const values = [call(options[transport]), transport === 'ws' && call(options.protocols)];
      if (values.some((value) => value?.then)) Promise.all(values).then(begin).catch(fail);
      else begin(values);
    } catch {
      fail();
    }
    return link;
  }

  // opened: since when polls have been answered, one after the other.
  #connect(opened) {
    if (!opened) this.#stop();
    this.#link.stop?.();
    if (!opened) this.#set('connecting');
    if (this.readyState > 1 || this.#asleep || this.#rides) return;
    const link = this.#open(this.#order[0], (envelope) => this.#receive(envelope, link), (result) => this.#down(result));
    link.opened = opened;
    link.skip = this.#link.skip;
    this.#link = link;
    this.#watch();
  }

  get #silence() {
    const { silence } = this.#options;
    const beat = this.#beat;
    const ms = silence ? Math.max(silence, 1.5 * beat) : beat ? Math.max(10_000, 3 * beat) : 45_000;
    return this.#link.transport === 'poll' ? Math.max(ms, 45_000) : ms; // a poll may be quiet
  }

  // Timers stop while a computer sleeps, clocks do not.
  #watch(began = Date.now()) {
    const { opened, transport, started, heard } = this.#link;
    const silence = this.#silence;
    const isOpen = opened || transport === 'poll';
    const left = isOpen ? heard + silence - now() : started + this.#options.patience - now();
    if (left <= 0 || Date.now() - began > 2 * silence) this.#down({});
    else this.#after('watch', Math.min(left, silence / 3), () => this.#watch(began + Math.max(0, Math.min(left, silence / 3))));
  }

  // The page is visible again, or the network has changed.
  #look() {
    if (doc()?.hidden || this.#asleep) return;
    if (this.#rides) return this.#mate.look();
    const link = this.#link;
    if (this.state === 'waiting' && Date.now() >= this.#until) this.#connect();
    const since = now();
    if (link.opened) {
      this.#after('look', soon, () => {
        if (this.#link.heard < since) this.#connect(link.transport === 'poll' && link.opened);
      });
    }
  }

  // A page in the back/forward cache, or frozen, has no link.
  #sleep() {
    if (this.readyState > 1) return;
    this.#mate?.leave();
    this.#asleep = true;
    this.#rides = false;
    this.#stop();
    this.#set('waiting');
  }

  #wake() {
    if (!this.#asleep) return;
    this.#asleep = false;
    const wait = this.#until - Date.now();
    if (wait > 0) this.#after('connect', wait, () => this.#connect());
    else this.#connect();
  }

  #receive(envelope, link) {
    const { id, topics, position, status, heartbeat } = envelope;
    if (heartbeat > 0) this.#beat = heartbeat * 1000;
    const cursor = cursorOf(envelope);
    link.progress ||= cursor !== this.lastEventId;
    if (!link.opened) {
      link.opened = now();
      this.#opened();
      this.#set('open');
      if (link !== this.#link) return;
    }
    if (link.skip?.delete(id)) return;
    if (id) link.skip = null;
    else if (link.skip?.size && cursor && !envelope.gap) return;
    if (topics && position) this.#options.topics = link.topics = this.#granted = topics;
    this.#mate?.received(envelope);
    this.#dispatch(envelope);
    if (link !== this.#link) return;
    if (status) this.#change(this.#options.transports.find((transport) => transport !== 'ws'), status);
    else if (topics && position) this.#mate?.enter();
  }

  #opened() {
    const link = this.#link;
    const [first] = this.#options.transports;
    this.#granted = link.topics;
    this.#watch();
    this.#tryUpgrade();
    this.#after('good', link.transport === first ? this.#options.good : 0, () => remembered(this.#origin, link.transport));
  }

  #dispatch(envelope) {
    const { id, topic, gap, topics = null, bytes } = envelope;
    const data = bytes ?? envelope.data;
    const type = events.includes(envelope.type) ? 'message' : envelope.type ?? 'message';
    const fire = (type, more) =>
      this.dispatchEvent(Object.assign(new MessageEvent(type, { data, lastEventId: id ?? gap ?? '', origin: this.#origin }), more));
    this.lastEventId = cursorOf(envelope) || this.lastEventId;
    if (id && this.#second) {
      this.#since.push(id);
      this.#second.compare?.(id);
    }
    if (topic != null) fire(type, { topic });
    else if (gap) fire('gap', { topics });
  }

  #down({ code, reason, status, wait = 0, end }) {
    const { transport, opened, started, progress, topics } = this.#link;
    const { retry, maxRetry, good, transports, headers } = this.#options;
    const lasted = now() - started;
    if (code === 3000 && reason === 'unauthorized') status = 401;
    if (code === 3003) status = 403;
    if (transport === 'poll' && end && (progress || lasted > good)) {
      this.#failures = this.#attempt = 0;
      return this.#connect(opened);
    }
    this.#stop();
    let isFinal = [204, 401, 403].includes(status) || /^(10(0[023789]|10)|[34][5-9]..)$/.test(code);
    // Some networks cut WebSockets: a short link is a failure.
    if (opened && lasted > good && !isFinal) {
      this.#failures = this.#attempt = 0;
      if (transport === transports[0]) this.#upgrades = 0;
    } else if (this.#granted && topics !== this.#granted && (isFinal || !isTemporary(status))) {
      this.#options.topics = this.#granted; // the others are refused
      isFinal = false;
    } else if (status && !isTemporary(status) && (!isFinal || (transport === 'ws' && headers && transports[1]))) {
      this.#options.transports = transports.filter((other) => other !== transport);
      this.#order.shift();
      isFinal = !this.#order.length; // a WebSocket cannot send headers
    } else if (++this.#failures > 1) {
      this.#failures = 0;
      this.#order.push(this.#order.shift());
    }
    if (isFinal) {
      this.close();
    } else {
      if (code === 1013) wait += 5000 + Math.random() * 10_000;
      this.#until = wait > 0 ? Date.now() + wait : 0;
      wait = Math.max(0, wait) + Math.max(floor, Math.random() * Math.min(maxRetry, retry * 2 ** this.#attempt++));
      this.#set('waiting');
      if (this.state === 'waiting' && !this.#link.stop && !this.#rides) this.#after('connect', wait, () => this.#connect());
    }
    this.#fire('error', { code, reason, status });
  }

  #tryUpgrade() {
    const { transports, upgrade } = this.#options;
    const { transport } = this.#link;
    const better = transports.slice(0, Math.max(0, transports.indexOf(transport)));
    if (!better.length) return;
    this.#after('upgrade', upgrade * 2 ** Math.min(6, this.#upgrades), () => {
      const next = better[this.#upgrades++ % better.length];
      this.#try(next, () => this.#tryUpgrade(), true, next === 'sse' && transport === 'poll');
    });
  }

  // Asks for the topics with a new link. Where they are refused, the old one goes on.
  #change(transport, status) {
    const refused = (result) => {
      this.#options.topics = this.#link.topics;
      this.#fire('error', { status: result.status ?? status });
      this.#mate?.enter();
    };
    if (this.#options.topics === this.#link.topics || !transport) refused({});
    else this.#try(transport, refused);
  }

  // Opens a second link, which takes the place of the first.
  #try(transport, failed, isUpgrade, mustBePrompt) {
    this.#second?.stop();
    this.#since = [];
    const held = [];
    const fail = (result = {}) => {
      if (second !== this.#second) return;
      second.stop();
      this.#second = null;
      failed(result);
    };
    const replace = () => {
      if (second !== this.#second) return;
      this.#link.stop();
      this.#second = null;
      second.opened = now();
      second.skip = new Set(this.#since);
      this.#link = second;
      this.#prefer(transport);
      clearTimeout(this.#timers.second);
      this.#opened();
      for (const envelope of held) if (second === this.#link) this.#receive(envelope, second);
      if (second !== this.#link) return;
      this.#fire('statechange');
      this.#mate?.enter();
    };
    const second = (this.#second = this.#open(transport, (envelope) => {
      if (second === this.#link) return this.#receive(envelope, second);
      if (envelope.gap && isUpgrade) return fail();
      held.push(envelope);
      if (envelope.heartbeat > 0) this.#beat = envelope.heartbeat * 1000;
      if (mustBePrompt) second.compare();
      else replace();
    }, (result) => (second === this.#link ? this.#down(result) : fail(result))));
    this.#after('second', mustBePrompt ? soon : this.#options.patience, fail);
    // Some proxies hold each piece of a response back until the next, or until its end.
    let prompt = 0;
    const has = (id) => held.some((envelope) => envelope.id === id);
    if (mustBePrompt) second.compare = (id) => {
      if (held.length === 1 && !id) this.#after('second', 1.5 * (this.#beat || 15_000), fail);
      if (id) {
        setTimeout(() => (prompt = has(id) ? prompt + 1 : 0), 50);
        setTimeout(() => has(id) || fail(), soon);
      }
      if (held.length < 2) return;
      if (prompt > 2) replace();
      else this.#after('prompt', 1000, () => this.#since.every(has) && replace());
    };
  }

  // Tabs share a link. Each of them begins with its own.
  async #share() {
    const isCurrent = () => this.readyState < 2 && !this.#asleep;
    try {
      const { share } = await import('./fanfare-shared.js');
      if (this.readyState > 1) return;
      this.#mate = share({
        stream: this,
        options: this.#options,
        base: base(),
        granted: () => this.#granted ?? this.#options.topics,
        isOpen: () => this.state === 'open' && !this.#rides && isCurrent(),
        silence: () => this.#silence,
        quiet: () => now() - this.#link.heard,
        look: () => this.#look(),
        connect: () => {
          this.#rides = false;
          this.#connect();
        },
        ride: () => {
          this.#rides = true;
          this.#stop();
          this.#fire('statechange'); // the transport is another
        },
        set: (state) => this.#rides && this.#set(state),
        dispatch: (envelope) => this.#dispatch(envelope),
      });
      if (isCurrent() && this.state === 'open') this.#mate.enter();
    } catch (error) {
      this.#fire('error', { reason: `fanfare: this tab has a connection of its own: ${error}` });
    }
  }
}
