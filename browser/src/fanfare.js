// fanfare.d.ts documents the options, methods and events.
//
// A link is one connection. It resumes after the last position received. The second link is one
// that is tried while the first goes on.

const names = ['ws', 'sse', 'poll'];
const defaults = { retry: 500, maxRetry: 30_000, silence: 0, patience: 10_000, good: 5_000, upgrade: 10_000 };
const floor = 100; // of each time in the options, and of each wait
const soon = 3_000; // what is expected soon comes within it
const events = ['open', 'message', 'error', 'gap', 'begin', 'ended', 'statechange'];

const doc = () => globalThis.document;
const base = () => doc()?.baseURI ?? globalThis.location?.href;
const resolve = (url) => (url.call ? {} : new URL(url, base())); // its own later
const now = () => performance.now();
const call = (value) => (value?.call ? value() : value);
const isRefusal = (status) => status >= 400 && status < 500 && ![408, 425, 429].includes(status); // for good
const cursorOf = ({ topic, id, gap, begin, ready, position, end }) => (topic != null ? id : gap ?? begin ?? ready ?? position ?? end);

const request = async (url, { headers, withCredentials }, more) => {
  url = resolve(url);
  url.username = url.password = ''; // fetch refuses a URL with them, as the page's own may be
  return fetch(url, {
    // An EventSource is refused with 200.
    headers: { Accept: 'text/event-stream, */*;q=0.1', ...(await call(headers)) },
    credentials: withCredentials ? 'include' : undefined, // same-origin
    cache: 'no-store',
    ...more,
  });
};

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
      if (asks) link.dial_('fetch'); // with a URL of its own: a ticket in this one is spent
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
      const { status, headers, body } = await request(url, options, { signal });
      if (status !== 200 || !/^text\/event-stream\s*(;|$)/i.test(headers.get('Content-Type'))) {
        const wait = headers.get('Retry-After'); // seconds, or a date
        return { status, wait: wait * 1000 || Date.parse(wait) - Date.now() || 0 };
      }
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = '', data = '', wait = 0; ; ) {
        const { value, done: end } = await reader.read();
        if (end) return { wait, end };
        link.alive_();
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
    read().catch(() => ({})).then(link.done);
  },
};

// What ends with _ is internal; fanfare-shared.js uses some of it.
export class Fanfare extends EventTarget {
  readyState = 0;
  state = 'connecting';
  #options;
  #order; // the one in use first
  #url;
  #link = {};
  #second;
  #since = []; // the IDs of the events that have been dispatched since the second link was begun
  granted_; // the topics whose position is lastEventId
  #begins; // whether streams without a position have a beginning, once that is known
  #beat = 0; // the server's heartbeat
  #failures = 0;
  #attempt = 0;
  #upgrades = 0;
  #until = 0; // the server has asked to wait
  #asleep;
  rides_; // on the link of another tab
  #mate; // fanfare-shared.js
  #timers = {};
  #abort = new AbortController();

  constructor(options) {
    super();
    const given = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value != null));
    this.#options = options = { transports: names, lastEventId: '', ...given, poll: given.sse };
    for (const name in defaults) options[name] = Math.max(floor, given[name]) || defaults[name];
    const { shared, transports } = options;
    for (const transport of transports) if (!names.includes(transport)) throw new TypeError('fanfare: transport ' + transport);
    if (shared && typeof shared !== 'string') throw new TypeError('fanfare: shared names no user');
    options.transports = transports.filter((transport) => options[transport]);
    this.#order = [...options.transports];
    if (!this.#order.length) throw new TypeError('fanfare: no ws or sse');
    [this.#url] = this.#order.map((transport) => resolve(options[transport]));
    this.lastEventId = options.lastEventId;
    this.granted_ = options.topics;
    this.withCredentials = !!options.withCredentials;
    this.#prefer(remembered(this.#url.origin));
    for (const type of events) {
      this['on' + type] = null;
      this.addEventListener(type, (event) => this['on' + type]?.call?.(this, event));
    }
    const { signal } = this.#abort;
    const on = (target, listeners) => {
      for (const type in listeners) target?.addEventListener?.(type, listeners[type], { signal });
    };
    const sleep = () => this.#sleep();
    const wake = () => this.#wake();
    const look = () => this.look_();
    on(globalThis, { online: look, pagehide: sleep, pageshow: wake });
    on(doc(), { visibilitychange: () => doc().hidden || look(), freeze: sleep, resume: wake });
    queueMicrotask(() => {
      if (shared) this.#share();
      else this.connect_();
    });
  }

  get url() { return this.#url.href ?? ''; }

  get transport() {
    const { transport, opened_: opened } = this.#link;
    return this.rides_ ? 'shared' : opened ? transport : undefined;
  }

  close() {
    if (this.readyState > 1) return;
    this.#mate?.leave_();
    this.#abort.abort();
    this.stop_();
    this.set_('closed');
  }

  async send(data) {
    const { post } = this.#options;
    const { send } = this.#link;
    if (send) return send(data);
    if (!post) {
      if (this.rides_) return this.#mate.send(data);
      throw new Error('fanfare: no WebSocket is open');
    }
    const response = await request(post, this.#options, { method: 'POST', body: data });
    if (!response.ok) throw new Error((await response.text()) || response.status);
  }

  setTopics(topics) {
    this.#options.topics = [...topics];
    this.#mate?.leave_();
    const { opened_: opened, send, transport } = this.#link;
    if (this.rides_ || (transport && !opened)) {
      this.connect_();
    } else if (send) this.#ask();
    else if (opened) this.#change(transport);
  }

  // Asks for the topics on a WebSocket. At most one request has no answer yet.
  #ask() {
    const { topics } = this.#options;
    const link = this.#link;
    if (link.asked_) return;
    link.asked_ = topics;
    link.send(JSON.stringify({ topics }));
  }

  #after(name, ms, f) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(f, Math.min(ms, 2 ** 31 - 1));
  }

  #fire(type, more) { this.dispatchEvent(Object.assign(new Event(type), more)); }

  set_(state) {
    if ([state, 'closed'].includes(this.state)) return;
    this.state = state;
    this.readyState = ['open', 'closed'].indexOf(state) + 1;
    if (!this.rides_) this.#mate?.changed_(state, this.#until - Date.now());
    this.#fire('statechange');
    if (state === 'open') this.#fire('open');
  }

  stop_() {
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
    this.#link.stop?.();
    this.#second?.stop();
    this.#link = {};
    this.#second = null;
    this.rides_ = false;
  }

  #prefer(transport) {
    this.#order.sort((a, b) => (b === transport) - (a === transport));
  }

  #open(transport, { topics }, receive, done) {
    const options = this.#options;
    const abort = new AbortController();
    const { signal } = abort;
    // With the position of other topics, the state of the new ones would be missing. Only a stream
    // without beginnings resumes with it.
    const position = this.lastEventId && topics !== this.granted_ && this.#begins !== false ? undefined : this.lastEventId;
    const link = { transport, topics, after_: position, started_: now(), stop: () => abort.abort() };
    const current = (f) => (x) => signal.aborted || f(x);
    link.alive_ = () => (link.heard_ = now());
    link.done = current((result) => {
      link.stop();
      done(result);
    });
    link.read = current((text) => {
      link.alive_();
      let envelope;
      try {
        const value = JSON.parse(text);
        if (value.encoding) value.bytes = Uint8Array.from(atob(value.data), (c) => c.charCodeAt());
        if (value.heartbeat > 0) this.#beat = value.heartbeat * 1000;
        if (value.begin) this.#begins = true;
        if (value.expires > 0) link.expires_ = now() + value.expires * 1000;
        if ('topic' in value || cursorOf(value) || value.renewed) envelope = value;
      } catch {}
      if (envelope) receive(envelope);
      else this.#fire('error', { data: text });
    });
    link.alive_();
    const begin = current(([how, address, protocols]) => {
      const url = resolve(address);
      const query = url.searchParams;
      query.set('heartbeat', 1);
      query.set('envelope', 1);
      if (position) query.set('lastEventId', position);
      for (const topic of topics ?? []) query.append('topic', topic);
      dial[how](url, { ...options, protocols }, link, abort);
    });
    link.dial_ = (how) => {
      try {
        const values = [how, call(options[transport]), transport === 'ws' && call(options.protocols)];
        if (values.some((value) => value?.then)) Promise.all(values).then(begin).catch(() => link.done({}));
        else begin(values);
      } catch {
        setTimeout(link.done, 0, {});
      }
    };
    link.dial_(transport);
    return link;
  }

  // opened: since when polls have been answered, one after the other.
  connect_(opened) {
    this.#link.stop?.(); // a poll
    if (!opened) {
      this.stop_();
      this.set_('connecting');
    }
    if (this.readyState > 1 || this.#asleep) return;
    const from = opened ? this.#link : this.#options;
    const link = this.#open(this.#order[0], from, (envelope) => this.#receive(envelope, link), (result) => this.#down(result));
    link.opened_ = opened;
    link.skip_ = this.#link.skip_;
    this.#link = link;
    this.#watch();
  }

  get quiet_() { return now() - this.#link.heard_; }

  get silence_() {
    const beat = this.#beat;
    const isPoll = this.#link.transport === 'poll'; // which may be quiet
    return Math.max(this.#options.silence || Math.min(3 * beat || 45_000, 45_000), beat + 5_000, isPoll && 45_000);
  }

  // Timers stop while a computer sleeps, clocks do not.
  #watch(due = Date.now()) {
    const { opened_: opened, transport, started_: started, heard_: heard } = this.#link;
    const silence = this.silence_;
    const left = (opened || transport === 'poll' ? heard + silence : started + this.#options.patience) - now();
    const wait = Math.min(left, silence / 3);
    const next = Date.now() + wait;
    if (left <= 0 || Date.now() - due > 2 * silence) this.#down({});
    else this.#after('watch', wait, () => this.#watch(next));
  }

  // The page is visible again, or the network has changed.
  look_() {
    if (this.#asleep) return;
    if (this.rides_) return this.#mate.look();
    const link = this.#link;
    if (this.state === 'waiting' && Date.now() >= this.#until) this.connect_();
    const since = now();
    if (link.opened_) {
      this.#after('look', soon, () => {
        if (this.#link.heard_ < since) this.connect_(link.transport === 'poll' && link.opened_);
      });
    }
  }

  // A page in the back/forward cache, or frozen, has no link.
  #sleep() {
    if (this.readyState > 1) return;
    this.#mate?.leave_();
    this.#asleep = true;
    this.stop_();
    this.set_('waiting');
  }

  #wake() {
    if (!this.#asleep) return;
    this.#asleep = false;
    this.look_();
    if (this.state === 'waiting') this.#after('connect', this.#until - Date.now(), () => this.connect_());
  }

  // Reports, for the first envelope of a link, whether it has come without its position in vain.
  #missesBeginning({ after_: after }, { begin }) {
    if (begin || after) return false;
    this.#begins = false;
    return after == null;
  }

  #receive(envelope, link) {
    const { id, key, begin, ready, topics, position, status, renewed, expires } = envelope;
    const options = this.#options;
    if (!link.opened_) {
      if (this.#missesBeginning(link, envelope)) return this.connect_();
      link.opened_ = now();
      this.#opened();
      this.set_('open');
      if (link !== this.#link) return;
    }
    if (renewed) return this.#renewed(envelope, link);
    if (expires) this.#renewLater(link);
    // Two links send the same events, but not the same values: one may send a value without its ID,
    // the other with it, or only a newer one.
    let isOld = link.skip_?.delete(id);
    if (begin || (id && !key && !isOld && !link.changes_)) link.skip_ = null;
    isOld ||= link.skip_?.size && (key || ready || position);
    const isLatest = [undefined, options.topics].includes(link.asked_);
    if (position && (topics || status)) link.asked_ = undefined;
    if (topics && position) {
      link.topics = this.granted_ = topics;
      if (isLatest) options.topics = topics;
    }
    if (!isOld || key) {
      if (isOld) envelope = { ...envelope, id: undefined }; // it may follow an older value
      this.#mate?.received_(envelope);
      this.dispatch_(envelope);
    }
    if (link !== this.#link || !position) return;
    if (!isLatest && (topics || status)) this.#ask();
    else if (status) this.#change(options.transports.find((transport) => transport !== 'ws'), status);
    else if (topics) this.#mate?.enter_();
  }

  #opened() {
    const link = this.#link;
    const [first] = this.#options.transports;
    this.granted_ = link.topics;
    this.#watch();
    this.#tryUpgrade();
    this.#after('good', link.transport === first ? this.#options.good : 0, () => remembered(this.#url.origin, link.transport));
  }

  dispatch_(envelope) {
    const { id, topic, gap, begin, end, topics = null, partial = [], bytes, type = 'message', key = '', removed = false, first = false } = envelope;
    const cursor = cursorOf(envelope);
    const fire = (type, more) => {
      const init = { data: bytes ?? envelope.data, lastEventId: cursor, origin: this.#url.origin };
      this.dispatchEvent(Object.assign(new MessageEvent(type, init), more));
    };
    this.lastEventId = cursor || this.lastEventId;
    if (id && this.#second) {
      const wanted = this.#options.topics;
      const isLeft = this.granted_?.includes(topic) && wanted && !wanted.includes(topic);
      if (!key && !isLeft) this.#since.push(id);
      this.#second.compare_?.(id, key);
    }
    if (topic != null) fire(events.includes(type) ? 'message' : type, { topic, key, removed, first });
    else if (gap) fire('gap', { topics });
    else if (begin) fire('begin', { topics, partial });
    else if (end) this.#end();
  }

  #end() {
    if (this.#options.topics !== this.granted_) return this.connect_(); // others have been asked for
    this.close();
    this.#fire('ended');
  }

  #down({ code, reason, status, wait = 0, end }) {
    const { transport, opened_: opened, started_: started, after_: after, topics } = this.#link;
    const { retry, maxRetry, good, transports, headers } = this.#options;
    const lasted = now() - started;
    if (code === 3000 && reason === 'unauthorized') status = 401;
    if (code === 3003) status = 403;
    const isIncomplete = this.lastEventId === '1-0'; // it was cut in its beginning
    if (transport === 'poll' && end && !isIncomplete && (this.lastEventId !== after || lasted > good)) {
      this.#failures = this.#attempt = 0;
      return this.connect_(opened);
    }
    this.stop_();
    let isFinal = [204, 401, 403].includes(status) || /^(10(0[023789]|10)|[34][5-9]..)$/.test(code);
    // Some networks cut WebSockets: a short link is a failure.
    if (opened && lasted > good && !isFinal && !isIncomplete) {
      this.#failures = this.#attempt = 0;
      if (transport === transports[0]) this.#upgrades = 0;
    } else if (topics !== this.granted_ && (status ? isRefusal(status) : isFinal)) {
      this.#options.topics = this.granted_; // the others are refused
      isFinal = false;
    } else if (isRefusal(status) && (!isFinal || (transport === 'ws' && headers && transports[1]))) {
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
      this.#until = Date.now() + wait;
      wait = Math.max(floor, wait + Math.random() * Math.min(maxRetry, retry * 2 ** this.#attempt++));
      this.set_('waiting');
      if (this.state === 'waiting') this.#after('connect', wait, () => this.connect_());
    }
    if (status === 204 && after) this.#fire('ended');
    else this.#fire('error', { code, reason, status });
  }

  #tryUpgrade() {
    const { transports, upgrade } = this.#options;
    const better = transports.slice(0, Math.max(0, transports.indexOf(this.#link.transport)));
    if (!better.length) return;
    this.#after('upgrade', upgrade * 2 ** Math.min(6, this.#upgrades), () => {
      this.#try(better[this.#upgrades++ % better.length], () => this.#tryUpgrade());
    });
  }

  // Asks for the topics with a new link. Where they are refused, the old one goes on. Where the
  // new one fails, they are asked for again.
  #change(transport, refusal) {
    const refused = ({ status = refusal }) => {
      if (!status) return this.#down({});
      this.#options.topics = this.#link.topics;
      this.#fire('error', { status });
      this.#mate?.enter_();
    };
    if (this.#options.topics === this.#link.topics || !transport) refused({});
    else this.#try(transport, refused);
  }

  // A grant is renewed when a quarter of its time is left, and at most a minute. Where that fails, it
  // is tried again when a quarter of the rest is left.
  #renewLater(link, wait = 0) {
    const left = link.expires_ - now();
    if (left > 0 && this.#options.token) {
      this.#after('renew', Math.max(1000, wait, 0.75 * left, left - 60_000), () => link === this.#link && this.#renew(link));
    }
  }

  // An event stream cannot be sent a token: a second one, with another grant, takes its place.
  async #renew(link) {
    this.#renewLater(link); // unless there is an answer
    if (link.transport === 'sse' && !this.#second) {
      this.#try('sse', ({ status, wait }) => {
        this.#renewLater(link, wait);
        if (status) this.#renewed({ status }, link);
      });
    }
    if (!link.send) return;
    try {
      const token = await this.#options.token();
      if (typeof token !== 'string') throw token;
      if (link === this.#link) link.send(JSON.stringify({ token }));
    } catch (error) {
      if (link === this.#link) this.#fire('error', { reason: 'no token: ' + error });
    }
  }

  #renewed({ status, expires }, link) {
    if (expires) this.#renewLater(link);
    else if (!status || isRefusal(status)) clearTimeout(this.#timers.renew);
    if (status) this.#fire('error', { status });
  }

  // Opens a second link, which takes the place of the first.
  #try(transport, failed) {
    const isUpgrade = this.#options.topics === this.#link.topics;
    const mustBePrompt = isUpgrade && transport === 'sse' && this.#link.transport === 'poll';
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
      second.opened_ = now();
      second.skip_ = new Set(this.#since);
      second.changes_ = !isUpgrade; // events of new topics come before and between those of others
      this.#link = second;
      this.#prefer(transport);
      clearTimeout(this.#timers.second);
      this.#opened();
      for (const envelope of held) if (second === this.#link) this.#receive(envelope, second);
      if (second !== this.#link) return;
      this.#fire('statechange');
      if (this.#options.topics === second.topics) this.#mate?.enter_();
      else this.setTopics(this.#options.topics); // which were asked for meanwhile
    };
    const second = (this.#second = this.#open(transport, this.#options, (envelope) => {
      if (second === this.#link) return this.#receive(envelope, second);
      if (isUpgrade && (envelope.gap || envelope.begin)) return fail();
      if (this.#missesBeginning(second, envelope)) return this.#try(transport, failed);
      held.push(envelope);
      if (mustBePrompt) second.compare_();
      else replace();
    }, (result) => (second === this.#link ? this.#down(result) : fail(result))));
    this.#after('second', mustBePrompt ? soon : this.#options.patience, fail);
    // Some proxies hold each piece of a response back until the next, or until its end.
    if (mustBePrompt) second.compare_ = (id, key) => {
      if (id) setTimeout(() => held.some((envelope) => (key ? envelope.key === key : envelope.id === id)) || fail(), 200);
      else if (held.length === 1) this.#after('second', 1.5 * (this.#beat || 15_000), fail);
      else if (held.length === 2) this.#after('second', 1000, replace);
    };
  }

  // Tabs share a link. One that asks for it early begins with what another tab has.
  async #share() {
    const connect = () => this.state === 'connecting' && !this.#link.transport && this.connect_();
    this.#after('connect', 1000, connect);
    try {
      const { share } = await import('./fanfare-shared.js');
      this.#mate = share(this, this.#options, base());
      this.#mate.enter_();
    } catch (error) {
      this.#fire('error', { reason: 'not shared: ' + error });
    }
    connect();
  }
}

const constants = { CONNECTING: 0, OPEN: 1, CLOSED: 2 };
Object.assign(Fanfare, constants);
Object.assign(Fanfare.prototype, constants);
