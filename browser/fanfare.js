// What there is to set, call and hear: fanfare.d.ts.
//
// A link is one connection. Each resumes behind the last position that was told.

const preset = { retry: 500, maxRetry: 30_000, silence: 45_000, patience: 10_000, good: 5_000, upgrade: 10_000 };

const request = async ({ headers, withCredentials }, more) => ({
  // An EventSource's is told 200 where it is refused.
  headers: { Accept: 'text/event-stream, */*;q=0.1', ...(typeof headers === 'function' ? await headers() : headers) },
  credentials: withCredentials ? 'include' : 'same-origin',
  cache: 'no-store',
  ...more,
});

// A way opens a link, and returns what ends it.
const ways = {
  ws(url, options, take, alive, done) {
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = new WebSocket(url, options.protocols ?? []);
    socket.onmessage = ({ data }) => {
      stop.send = (data) => socket.send(data); // not before it is open
      take(data);
    };
    socket.onclose = done;
    const stop = () => {
      socket.onmessage = socket.onclose = null;
      socket.close();
    };
    return stop;
  },

  sse(url, options, take, alive, done) {
    if (options.headers) return ways.fetch(url, options, take, alive, done);
    const source = new EventSource(url, options);
    source.onmessage = ({ data }) => take(data);
    source.onerror = done; // after a 502 it would stay away
    return () => source.close();
  },

  poll(url, ...rest) {
    url.searchParams.set('poll', 1);
    return ways.fetch(url, ...rest);
  },

  fetch(url, options, take, alive, done) {
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
          take(data.slice(0, -1));
          data = '';
        }
      }
    };
    read().catch(() => ({})).then((how) => {
      if (!signal.aborted) done(how);
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
  #ways; // the one in use first
  #link = {};
  #failures = 0;
  #attempt = 0;
  #upgrade = 0;
  #timers = {};
  #recent = [];
  #tell = () => {};
  #leads = true;
  #abort = new AbortController();

  constructor(options) {
    super();
    this.#options = options = { ...preset, transports: ['ws', 'sse', 'poll'], lastEventId: '', ...options, poll: options.sse };
    this.lastEventId = options.lastEventId;
    options.transports = options.transports.filter((way) => options[way]);
    this.#ways = [...options.transports];
    this.#url(this.#ways[0]);
    for (const type of ['open', 'message', 'error', 'gap', 'statechange']) {
      this.addEventListener(type, (event) => this['on' + type]?.(event));
    }
    const { signal } = this.#abort;
    const hurry = () => this.state === 'waiting' && !globalThis.document?.hidden && (this.#leads ? this.#connect() : this.#tell('hurry'));
    globalThis.addEventListener?.('online', hurry, { signal });
    globalThis.document?.addEventListener('visibilitychange', hurry, { signal });
    queueMicrotask(() => signal.aborted || (options.shared && navigator.locks ? this.#share() : this.#connect()));
  }

  get transport() {
    const { way, since } = this.#link;
    return this.#leads ? since && way : 'shared';
  }

  close() {
    this.#abort.abort();
    this.#stop();
    this.#set('closed');
  }

  async send(data) {
    const { post } = this.#options;
    const { since, stop } = this.#link;
    if (since && stop.send) return stop.send(data);
    if (!post) {
      if (this.#leads) throw new Error('fanfare: no WebSocket is open, and post is not set');
      return this.#tell('send', data);
    }
    const response = await fetch(post, await request(this.#options, { method: 'POST', body: data }));
    if (!response.ok) throw new Error((await response.text()) || response.status);
  }

  setTopics(topics) {
    this.#options.topics = topics;
    const { since, stop } = this.#link;
    this.#tell('setTopics', topics);
    if (!this.#leads) return;
    if (since && stop.send) stop.send(JSON.stringify({ topics }));
    else if (stop) this.#connect();
  }

  #url(way) {
    const url = new URL(this.#options[way], globalThis.document?.baseURI);
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
    if (this.#leads) this.#tell('state', state);
    this.dispatchEvent(new Event('statechange'));
    if (state === 'open') this.dispatchEvent(new Event('open'));
  }

  #stop() {
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
    this.#link.stop?.();
    this.#link.probe?.();
    this.#link = {};
  }

  // since: it goes on for a link that stood.
  #connect(since, polls) {
    if (!polls) this.#stop();
    if (!since) this.#set('connecting');
    if (this.readyState > 1) return;
    const [way] = this.#ways;
    const link = (this.#link = { way, since, began: performance.now(), probe: this.#link.probe });
    const mine = (f) => (x) => link === this.#link && f(x);
    const alive = () => (link.quiet = 0);
    alive();
    const down = mine((how) => this.#down(how));
    try {
      link.stop = ways[way](this.#url(way), this.#options, mine((text) => this.#take(text)), alive, down);
    } catch {
      setTimeout(down, 0, {});
    }
    this.#watch();
    if (since && !polls) this.#improve();
  }

  // Timers stand still while a computer sleeps, the clock does not.
  #watch(now = Date.now()) {
    const { silence, patience } = this.#options;
    const link = this.#link;
    const stands = link.since || link.way === 'poll';
    this.#after('watch', stands ? silence / 3 : patience, () => {
      if (!stands || ++link.quiet > 3 || Date.now() - now > 2 * silence) this.#down({});
      else this.#watch();
    });
  }

  #take(text) {
    const link = this.#link;
    const envelope = JSON.parse(text);
    link.quiet = 0;
    if (envelope.topics && envelope.position) this.#options.topics = envelope.topics;
    link.news ||= !envelope.ready || !this.lastEventId;
    if (!link.since) {
      link.since = performance.now();
      this.#watch();
      this.#improve();
      this.#set('open');
    }
    envelope.cursor = envelope.id ?? envelope.gap ?? envelope.ready ?? envelope.position;
    this.#tell('hear', envelope);
    this.#hear(envelope);
  }

  #hear(envelope) {
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
    const { way, since, began, news } = this.#link;
    const { retry, maxRetry, good, transports } = this.#options;
    const lasted = performance.now() - began;
    if (way === 'poll' && end && (news || lasted > good)) {
      this.#failures = this.#attempt = 0;
      return this.#connect(since, true);
    }
    this.#stop();
    // Some networks kill a WebSocket that is open: a short life is a failure.
    if (since && lasted > good) {
      this.#failures = this.#attempt = 0;
      if (way === transports[0]) this.#upgrade = 0;
    } else if (status >= 400 && status < 500 && ![408, 425, 429].includes(status)) {
      this.#options.transports = transports.filter((w) => w !== way);
      this.#ways.shift();
    } else if (++this.#failures > 1) {
      this.#failures = 0;
      this.#ways.push(this.#ways.shift());
    }
    if (!this.#ways.length || [204, 401, 403].includes(status) || /^(10(0[023789]|10)|3003|[34][5-9]..)$/.test(code)) {
      this.close();
    } else {
      this.#set('waiting');
      if (code === 1013) wait += 5000 + Math.random() * 10_000;
      wait += Math.random() * Math.min(maxRetry, retry * 2 ** this.#attempt++);
      this.#after('connect', wait, () => this.#connect());
    }
    this.dispatchEvent(Object.assign(new Event('error'), { code, status }));
  }

  #improve() {
    const { transports } = this.#options;
    const [way] = transports;
    if (way === this.#link.way) return;
    this.#after('improve', this.#options.upgrade * 2 ** Math.min(6, this.#upgrade++), () => {
      this.#link.probe = ways[way](this.#url(way), this.#options, () => {
        this.#ways = [...transports];
        this.#connect(this.#link.since);
        this.dispatchEvent(new Event('statechange'));
      }, () => {}, () => this.#improve());
    });
  }

  // Who has the lock has the link.
  #share() {
    const { shared, ws, sse, topics } = this.#options;
    const name = ['fanfare', shared, topics, ...[ws, sse].map((url) => url && new URL(url, globalThis.document?.baseURI))].join(' ');
    const { signal } = this.#abort;
    const channel = new BroadcastChannel(name);
    this.#leads = false;
    if (this.lastEventId) this.#recent = [{ cursor: this.lastEventId }];
    this.#tell = (...said) => signal.aborted || channel.postMessage(said);
    const here = () => this.#tell('at', this.#recent, this.state);
    const leader = { join: here, hurry: () => this.state === 'waiting' && this.#connect(), send: (data) => this.send(data).catch(() => {}), setTopics: (topics) => this.setTopics(topics) };
    const others = {
      setTopics: (topics) => (this.#options.topics = topics),
      hear: (envelope) => this.#hear(envelope),
      state: (state) => this.#set(state),
      at: (recent, state) => {
        this.#set(state);
        const last = recent.at(-1)?.cursor;
        const i = recent.findLastIndex(({ cursor }) => cursor === this.lastEventId);
        if (i >= 0) recent.slice(i + 1).forEach(others.hear);
        else if (!this.lastEventId) this.lastEventId = last ?? '';
        else if (last && !this.#recent.some(({ cursor }) => cursor === last)) this.#hear({ gap: last, cursor: last });
      },
    };
    channel.onmessage = ({ data: [what, ...args] }) => (this.#leads ? leader : others)[what]?.(...args);
    this.#tell('join');
    navigator.locks.request(name, { signal }, () => {
      this.#leads = true;
      here();
      this.#connect();
      return new Promise((release) => signal.addEventListener('abort', release));
    }).catch(() => {
      this.#leads = true;
      signal.aborted || this.#connect();
    }).then(() => channel.close());
  }
}
