// fanfare.d.ts documents the options, methods and events.
//
// A link is one connection. It resumes after the last position received.

const defaults = { retry: 500, maxRetry: 30_000, silence: 45_000, patience: 10_000, good: 5_000, upgrade: 10_000 };

const request = async ({ headers, withCredentials }, more) => ({
  // An EventSource is refused with 200.
  headers: { Accept: 'text/event-stream, */*;q=0.1', ...(typeof headers === 'function' ? await headers() : headers) },
  credentials: withCredentials ? 'include' : 'same-origin',
  cache: 'no-store',
  ...more,
});

// Each opens a link and returns a function that closes it.
const dial = {
  ws(url, options, receive, alive, done) {
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = new WebSocket(url, options.protocols ?? []);
    socket.onmessage = ({ data }) => {
      stop.send = (data) => socket.send(data); // once it is open
      receive(data);
    };
    socket.onclose = done;
    const stop = () => {
      socket.onmessage = socket.onclose = null;
      socket.close();
    };
    return stop;
  },

  sse(url, options, receive, alive, done) {
    if (options.headers) return dial.fetch(url, options, receive, alive, done);
    const source = new EventSource(url, options);
    source.onmessage = ({ data }) => receive(data);
    source.onerror = done; // it gives up after a 502
    return () => source.close();
  },

  poll(url, ...rest) {
    url.searchParams.set('poll', 1);
    return dial.fetch(url, ...rest);
  },

  fetch(url, options, receive, alive, done) {
    const abort = new AbortController();
    const { signal } = abort;
    const read = async () => {
      const { status, headers, body } = await fetch(url, await request(options, { signal }));
      if (status !== 200 || !/^text\/event-stream/.test(headers.get('Content-Type'))) {
        return { status, wait: headers.get('Retry-After') * 1000 || 0 };
      }
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = '', data = '', wait = 0; ; ) {
        const { value, done: end } = await reader.read();
        if (end) return { wait, end };
        alive();
        const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
        rest = lines.pop();
        for (const line of lines) {
          const [, field, text] = /^([^:]*):? ?(.*)/s.exec(line);
          if (field === 'data') data += text + '\n';
          if (field === 'retry') wait = +text || 0;
          if (line || !data || signal.aborted) continue;
          receive(data.slice(0, -1));
          data = '';
        }
      }
    };
    read().catch(() => ({})).then((result) => {
      if (!signal.aborted) done(result);
      abort.abort();
    });
    return () => abort.abort();
  },
};

export class Fanfare extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;

  readyState = 0;
  state = 'connecting';
  #options;
  #order; // the one in use first
  #link = {};
  #failures = 0;
  #attempt = 0;
  #upgrades = 0;
  #timers = {};
  #recent = [];
  #post = () => {};
  #leads = true;
  #abort = new AbortController();

  constructor(options) {
    super();
    this.#options = options = { ...defaults, transports: ['ws', 'sse', 'poll'], lastEventId: '', ...options, poll: options.sse };
    this.lastEventId = options.lastEventId;
    options.transports = options.transports.filter((transport) => options[transport]);
    this.#order = [...options.transports];
    this.#url(this.#order[0]);
    for (const type of ['open', 'message', 'error', 'gap', 'statechange']) {
      this.addEventListener(type, (event) => this['on' + type]?.(event));
    }
    const { signal } = this.#abort;
    const wake = () => this.state === 'waiting' && !globalThis.document?.hidden && (this.#leads ? this.#connect() : this.#post('wake'));
    globalThis.addEventListener?.('online', wake, { signal });
    globalThis.document?.addEventListener('visibilitychange', wake, { signal });
    queueMicrotask(() => signal.aborted || (options.shared && navigator.locks ? this.#share() : this.#connect()));
  }

  get transport() {
    const { transport, opened } = this.#link;
    return this.#leads ? opened && transport : 'shared';
  }

  close() {
    this.#abort.abort();
    this.#stop();
    this.#set('closed');
  }

  async send(data) {
    const { post } = this.#options;
    const { opened, stop } = this.#link;
    if (opened && stop.send) return stop.send(data);
    if (!post) {
      if (this.#leads) throw new Error('fanfare: no WebSocket is open, and post is not set');
      return this.#post('send', data);
    }
    const response = await fetch(post, await request(this.#options, { method: 'POST', body: data }));
    if (!response.ok) throw new Error((await response.text()) || response.status);
  }

  setTopics(topics) {
    this.#options.topics = topics;
    const { opened, stop } = this.#link;
    this.#post('setTopics', topics);
    if (!this.#leads) return;
    if (opened && stop.send) stop.send(JSON.stringify({ topics }));
    else if (stop) this.#connect();
  }

  #url(transport) {
    const url = new URL(this.#options[transport], globalThis.document?.baseURI);
    const query = url.searchParams;
    query.set('heartbeat', 1);
    query.set('envelope', 1);
    if (this.lastEventId) query.set('lastEventId', this.lastEventId);
    for (const topic of this.#options.topics ?? []) query.append('topic', topic);
    return url;
  }

  #after(name, ms, f) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(f, Math.min(ms, 2 ** 31 - 1));
  }

  #set(state) {
    if ([state, 'closed'].includes(this.state)) return;
    this.state = state;
    this.readyState = ['open', 'closed'].indexOf(state) + 1;
    if (this.#leads) this.#post('state', state);
    this.dispatchEvent(new Event('statechange'));
    if (state === 'open') this.dispatchEvent(new Event('open'));
  }

  #stop() {
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
    this.#link.stop?.();
    this.#link.probe?.();
    this.#link = {};
  }

  // opened: since when, if it replaces an open link.
  #connect(opened, polls) {
    if (!polls) this.#stop();
    if (!opened) this.#set('connecting');
    if (this.readyState > 1) return;
    const [transport] = this.#order;
    const link = (this.#link = { transport, opened, topics: this.#options.topics, started: performance.now(), probe: this.#link.probe });
    const current = (f) => (x) => link === this.#link && f(x);
    const alive = () => (link.quiet = 0);
    alive();
    const down = current((result) => this.#down(result));
    try {
      link.stop = dial[transport](this.#url(transport), this.#options, current((text) => this.#receive(text)), alive, down);
    } catch {
      setTimeout(down, 0, {});
    }
    this.#watch();
    if (opened && !polls) this.#tryUpgrade();
  }

  // Timers stop while a computer sleeps, clocks do not.
  #watch(now = Date.now()) {
    const { silence, patience } = this.#options;
    const link = this.#link;
    const isOpen = link.opened || link.transport === 'poll';
    this.#after('watch', isOpen ? silence / 3 : patience, () => {
      if (!isOpen || ++link.quiet > 3 || Date.now() - now > 2 * silence) this.#down({});
      else this.#watch();
    });
  }

  #receive(text) {
    const link = this.#link;
    const envelope = JSON.parse(text);
    link.quiet = 0;
    if (envelope.status) this.#options.topics = link.topics;
    else if (envelope.topics && envelope.position) this.#options.topics = link.topics = envelope.topics;
    link.progress ||= !envelope.ready || !this.lastEventId;
    if (!link.opened) {
      link.opened = performance.now();
      this.#watch();
      this.#tryUpgrade();
      this.#set('open');
    }
    envelope.cursor = envelope.id ?? envelope.gap ?? envelope.ready ?? envelope.position;
    this.#post('receive', envelope);
    this.#dispatch(envelope);
  }

  #dispatch(envelope) {
    const { id, topic, type = 'message', encoding, gap, topics = null, cursor } = envelope;
    if (cursor && this.#options.shared) {
      if (id && this.#recent.some((e) => e.id === id)) return;
      this.#recent = [...this.#recent.slice(-255), envelope];
    }
    let { data } = envelope;
    if (encoding) data = Uint8Array.from(atob(data), (c) => c.charCodeAt());
    const fire = (type, more) => this.dispatchEvent(Object.assign(new MessageEvent(type, { data, lastEventId: id ?? gap ?? '' }), more));
    this.lastEventId = cursor || this.lastEventId;
    if (topic != null) fire(type, { topic });
    else if (gap) fire('gap', { topics });
  }

  #down({ code, status, wait = 0, end }) {
    const { transport, opened, started, progress } = this.#link;
    const { retry, maxRetry, good, transports } = this.#options;
    const lasted = performance.now() - started;
    if (transport === 'poll' && end && (progress || lasted > good)) {
      this.#failures = this.#attempt = 0;
      return this.#connect(opened, true);
    }
    this.#stop();
    // Some networks cut WebSockets: a short link is a failure.
    if (opened && lasted > good) {
      this.#failures = this.#attempt = 0;
      if (transport === transports[0]) this.#upgrades = 0;
    } else if (status >= 400 && status < 500 && ![408, 425, 429].includes(status)) {
      this.#options.transports = transports.filter((other) => other !== transport);
      this.#order.shift();
    } else if (++this.#failures > 1) {
      this.#failures = 0;
      this.#order.push(this.#order.shift());
    }
    if (!this.#order.length || [204, 401, 403].includes(status) || /^(10(0[023789]|10)|3003|[34][5-9]..)$/.test(code)) {
      this.close();
    } else {
      this.#set('waiting');
      if (code === 1013) wait += 5000 + Math.random() * 10_000;
      wait += Math.random() * Math.min(maxRetry, retry * 2 ** this.#attempt++);
      this.#after('connect', wait, () => this.#connect());
    }
    this.dispatchEvent(Object.assign(new Event('error'), { code, status }));
  }

  #tryUpgrade() {
    const { transports } = this.#options;
    const [transport] = transports;
    if (transport === this.#link.transport) return;
    this.#after('upgrade', this.#options.upgrade * 2 ** Math.min(6, this.#upgrades++), () => {
      this.#link.probe = dial[transport](this.#url(transport), this.#options, () => {
        this.#order = [...transports];
        this.#connect(this.#link.opened);
        this.dispatchEvent(new Event('statechange'));
      }, () => {}, () => this.#tryUpgrade());
    });
  }

  // The tab with the lock has the link.
  #share() {
    const { shared, ws, sse, topics } = this.#options;
    const name = ['fanfare', shared, topics, ...[ws, sse].map((url) => url && new URL(url, globalThis.document?.baseURI))].join(' ');
    const { signal } = this.#abort;
    const channel = new BroadcastChannel(name);
    this.#leads = false;
    if (this.lastEventId) this.#recent = [{ cursor: this.lastEventId }];
    this.#post = (...message) => signal.aborted || channel.postMessage(message);
    const sync = () => this.#post('sync', this.#recent, this.state);
    const leader = { join: sync, wake: () => this.state === 'waiting' && this.#connect(), send: (data) => this.send(data).catch(() => {}), setTopics: (topics) => this.setTopics(topics) };
    const follower = {
      setTopics: (topics) => (this.#options.topics = topics),
      receive: (envelope) => this.#dispatch(envelope),
      state: (state) => this.#set(state),
      sync: (recent, state) => {
        this.#set(state);
        const last = recent.at(-1)?.cursor;
        const i = recent.findLastIndex(({ cursor }) => cursor === this.lastEventId);
        if (i >= 0) recent.slice(i + 1).forEach(follower.receive);
        else if (!this.lastEventId) this.lastEventId = last ?? '';
        else if (last && !this.#recent.some(({ cursor }) => cursor === last)) this.#dispatch({ gap: last, cursor: last });
      },
    };
    channel.onmessage = ({ data: [what, ...args] }) => (this.#leads ? leader : follower)[what]?.(...args);
    this.#post('join');
    navigator.locks.request(name, { signal }, () => {
      this.#leads = true;
      sync();
      this.#connect();
      return new Promise((release) => signal.addEventListener('abort', release));
    }).catch(() => {
      this.#leads = true;
      signal.aborted || this.#connect();
    }).then(() => channel.close());
  }
}
