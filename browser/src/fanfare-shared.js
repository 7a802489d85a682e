// Tabs that share a link. One tab leads: it posts what its link receives to the tabs that ride.
//
// No tab trusts another. Each opens a link of its own, and gives it up only when a leader has all
// that follows its position, or a whole beginning before it has one. A tab that rides takes a link
// of its own again when the leader says goodbye, does not answer, has heard nothing for too long,
// or when a post is missing. Two leaders are no fault: each tab dispatches an event once, and the
// newest value of a key last.

const maxEntries = 1000;
const maxBytes = 1 << 20;
const soon = 3_000;
const id = () => crypto.getRandomValues(new Uint32Array(3)).join('-');
const isIncomplete = (position) => !position || position === '1-0'; // in a beginning

// isAfter reports whether position a is after b, or undefined if they are of different logs.
const isAfter = (a, b) => {
  const [epoch, sequence, ...more] = String(a).split('-');
  const [other, before, ...rest] = String(b).split('-');
  if (epoch !== other || more.length || rest.length || ![sequence, before].every((text) => /^[0-9a-f]+$/.test(text))) return;
  return sequence.length !== before.length ? sequence.length > before.length : sequence > before;
};

// Log is what a tab has dispatched: the newest message of each key, and events.
//
// The values of a round have no IDs, and may be newer than the events of the round, which follow. A
// key with an ID shows that the round is over: until then its values are for any position.
class Log {
  count = 0; // of messages

  constructor() { this.clear(); }

  // clear forgets all up to a position, or up to a beginning.
  clear(from, begin) {
    this.entries = new Map(); // by key, in order
    this.bytes = 0;
    this.evicted = new Set(); // topics
    this.begin = begin; // what the entries begin with
    this.inRound = false;
    this.from = this.to = from; // the log has what follows one, up to the other
    this.start = this.count; // what follows from has a greater number
  }

  add(envelope) {
    const { topic, key, id, first, gap, begin, topics } = envelope;
    if (gap) return this.clear(gap);
    if (begin) return this.clear(undefined, topics ? undefined : envelope);
    const number = ++this.count;
    if (topic != null && (this.from ?? this.begin)) {
      if (first) for (const [name, entry] of this.entries) if (entry.envelope.topic === topic && !entry.envelope.key) this.remove(name);
      const name = key ? topic + '\n' + key : number;
      const size = 2 * JSON.stringify(envelope, (key, value) => (key === 'bytes' ? undefined : value)).length;
      this.remove(name);
      this.entries.set(name, { envelope, size, number, cursor: id });
      this.bytes += size;
    }
    const cursor = topic == null ? envelope.ready ?? envelope.position : id;
    if (key && !id) this.inRound = true;
    if (!isIncomplete(cursor)) {
      if (this.to == null || (key && this.inRound)) {
        this.inRound = false;
        for (const entry of this.entries.values()) entry.cursor ??= cursor;
      }
      if (this.from == null && !this.inRound) [this.from, this.start] = [cursor, number];
      this.to = cursor;
    }
    while (this.entries.size > maxEntries || this.bytes > maxBytes) this.evict();
  }

  remove(name) {
    this.bytes -= this.entries.get(name)?.size ?? 0;
    this.entries.delete(name);
  }

  evict() {
    const [[name, { envelope, cursor, number }]] = this.entries;
    if (number > this.start) [this.from, this.start] = [cursor, number];
    if (!envelope.removed) this.evicted.add(envelope.topic);
    this.remove(name);
  }

  // after returns the envelopes after a position, or undefined if the log does not reach back.
  after(position) {
    const { from, to } = this;
    if (from == null || !(position === from || position === to || isAfter(position, from))) return;
    const follows = ({ cursor, number }) => number > this.start && (position === from || !cursor || isAfter(cursor, position));
    return [...[...this.entries.values()].filter(follows).map(({ envelope }) => envelope), { position: to }];
  }

  // beginning returns what a tab begins with: events, the values of all keys, and the position.
  // It is undefined if the log has no beginning, or has evicted something and must be whole.
  beginning(mustBeWhole) {
    const { begin, evicted, to } = this;
    if (!begin || (mustBeWhole && evicted.size)) return;
    const partial = [...new Set([...(begin.partial ?? []), ...evicted])];
    const all = [...this.entries.values()].map(({ envelope }) => ({ ...envelope, id: undefined }));
    const values = all.filter(({ key, removed }) => key && !removed);
    return [{ ...begin, partial }, ...all.filter(({ key }) => !key), ...values, ...(to ? [{ position: to }] : [])];
  }
}

export const share = (stream, options, base) => {
  const me = id();
  const log = new Log();
  const timers = {};
  const riders = new Map(); // when each was heard
  const sent = new Map(); // the promises of send
  let channel;
  let name;
  let role = 'alone'; // 'alone', 'leads' or 'rides'
  let leader; // whose link this tab rides, or the one that may take over
  let next = 0; // the number of the next post
  let heard = 0;
  let limit = 0; // how long the leader's link may be silent
  let since; // the IDs received since this tab asked to ride
  let hasJoined; // the leader sends what follows this tab's position
  let succeeds = false; // the leader before has named this tab
  let hasFailed = false; // a link of its own
  let held; // the values of a leader that is behind this tab's position, by key

  const now = () => performance.now();
  const after = (timer, ms, f) => {
    clearTimeout(timers[timer]);
    timers[timer] = setTimeout(f, ms);
  };
  const isOpen = () => stream.state === 'open' && !stream.rides_;
  const set = (state) => stream.rides_ && stream.set_(state);
  const stop = (...names) => names.forEach((timer) => clearTimeout(timers[timer]));
  const isHidden = () => globalThis.document?.hidden;

  const post = (type, ...more) => {
    try {
      channel?.postMessage([me, type, ...more]);
    } catch {
      close(); // WebKit has closed it
      if (role === 'rides') alone();
    }
  };

  const close = () => {
    channel?.close();
    channel = name = undefined;
    if (role === 'leads') role = 'alone';
  };

  // alone takes a link of its own. It may share it later.
  const alone = () => {
    stop('watch', 'look', 'take');
    role = 'alone';
    for (const done of sent.values()) done('fanfare: the tab that had the connection is gone');
    stream.connect_();
  };

  const join = () => {
    since = new Set();
    hasJoined = false;
    post('join', stream.lastEventId, !hasFailed);
  };

  // ask looks for a leader, and leads if there is none. A beginning, and other state that precedes
  // the first position, is received first.
  const ask = () => {
    if (!channel || role !== 'alone' || !isOpen()) return;
    if (isIncomplete(stream.lastEventId)) return after('ask', 100, ask);
    if (succeeds) return lead();
    after('ask', 200 + Math.random() * 200, () => {
      if (role === 'alone' && isOpen()) lead();
    });
    join();
  };

  const lead = () => {
    role = 'leads';
    succeeds = false;
    next = 0;
    riders.clear();
    post('lead');
  };

  // Another tab leads, too: this one asks to ride.
  const yieldTo = (other) => {
    role = 'alone';
    post('bye', other);
    ask();
  };

  // look asks the leader, which answers at once unless it is frozen, busy or gone.
  const look = (isForced) => {
    post('ping', isForced);
    after('look', soon, () => role === 'rides' && alone());
  };

  const watch = () => {
    const quiet = now() - heard;
    if (quiet >= limit) return alone();
    const isQuiet = quiet >= limit / 3;
    if (isQuiet) look(false);
    after('watch', Math.max(10, Math.min(isQuiet ? limit / 3 : limit / 3 - quiet, limit - quiet)), watch);
  };

  const ride = (from, number, state, silence, envelopes) => {
    const known = since;
    stop('ask', 'take', 'look');
    role = 'rides';
    leader = from;
    hasJoined = true;
    next = number;
    limit = silence;
    heard = now();
    stream.stop_();
    stream.rides_ = true;
    if (state === stream.state) stream.dispatchEvent(new Event('statechange')); // the transport is another
    set(state);
    watch();
    held = isAfter(stream.lastEventId, envelopes.at(-1).position) ? new Map() : undefined;
    for (const envelope of envelopes) if (!envelope.id || !known.has(envelope.id)) receive(envelope);
  };

  const receive = (envelope) => {
    if (role !== 'rides') return;
    const { id, topic, key, ready, position, gap, begin } = envelope;
    const cursor = id ?? ready ?? position;
    if (begin) held = undefined;
    // An older value would stay, if the leader left before it came to the newer one.
    if (held && (gap || (cursor && !isAfter(stream.lastEventId, cursor)))) {
      const values = held.values();
      held = undefined;
      for (const value of values) receive({ ...value, id: undefined });
    } else if (held && key) {
      const of = topic + '\n' + key;
      held.delete(of);
      held.set(of, envelope);
      return;
    }
    if (cursor && isAfter(cursor, stream.lastEventId) === false) {
      if (!key) return;
      envelope = { ...envelope, id: undefined }; // the leader may have posted an older value
    }
    log.add(envelope);
    stream.dispatch_(envelope);
  };

  // The leader has no link, or is about to leave: a tab that people see does not wait for long.
  const take = (wait) => after('take', wait + Math.random() * 500, () => role === 'rides' && alone());

  const onLeading = {
    join: (from, position, mustBeWhole) => {
      const envelopes = isIncomplete(position) ? log.beginning(mustBeWhole) : log.after(position);
      if (!envelopes || stream.state !== 'open') return post('refuse', from);
      riders.set(from, now());
      post('welcome', from, next, stream.state, stream.silence_, envelopes);
    },
    lead: (from) => {
      if (!isOpen() || from < me) yieldTo(from);
      else post('lead');
    },
    ping: (from, looks) => {
      riders.set(from, now());
      if (looks) stream.look_();
      if (stream.state === 'open') post('pong', stream.quiet_, stream.silence_);
    },
    bye: (from) => riders.delete(from),
    send: (from, number, data) => {
      stream.send(data).then(() => post('sent', from, number), (error) => post('sent', from, number, String(error?.message ?? error)));
    },
  };
  onLeading.post = onLeading.lead;

  const onRiding = {
    post: (from, number, envelope) => {
      if (from !== leader || !hasJoined || number < next) return;
      if (number > next) return alone(); // a post is missing
      next++;
      heard = now();
      stop('take');
      set('open');
      receive(envelope);
    },
    pong: (from, quiet, silence) => {
      if (from !== leader) return;
      heard = Math.max(heard, now() - quiet);
      limit = silence;
      stop('look');
    },
    state: (from, state, hold) => {
      if (from !== leader) return;
      set(state);
      if (state === 'open') stop('take');
      else take(Math.max(0, hold) + (isHidden() ? limit : 1000));
    },
    bye: (from, successor) => {
      if (from !== leader) return;
      leader = successor;
      succeeds = successor === me;
      set('connecting');
      if (!successor || succeeds) return alone();
      join(); // it may lead already
      take(soon);
    },
    lead: (from) => {
      leader = from;
      join();
      take(soon);
    },
    welcome: (from, to, ...more) => to === me && from === leader && !hasJoined && ride(from, ...more),
    refuse: (from, to) => to === me && from === leader && alone(),
    sent: (from, to, number, error) => to === me && sent.get(number)?.(error),
  };

  const onAlone = {
    welcome: (from, to, ...more) => {
      const [[first]] = more.slice(-1);
      const isUseful = !first?.begin || (!isOpen() && isIncomplete(stream.lastEventId));
      if (to === me && since && isUseful) ride(from, ...more);
    },
    refuse: (from, to) => {
      if (to !== me) return;
      stop('ask');
      after('ask', soon + Math.random() * soon, ask);
    },
    lead: () => ask(),
  };

  return {
    // enter joins the tabs that have the same user, URLs and topics.
    enter_() {
      const url = (value) => (value && typeof value !== 'function' ? new URL(value, base).href : value && String(base).split('#')[0]);
      const parts = [options.shared, url(options.ws), url(options.sse), !!options.withCredentials, [...(stream.granted_ ?? options.topics ?? [])].sort()];
      const wanted = 'fanfare ' + JSON.stringify(parts);
      if (stream.state !== 'connecting' && !isOpen()) return;
      if (wanted !== name) {
        close();
        try {
          channel = new BroadcastChannel(wanted);
        } catch {
          return; // the browser blocks storage
        }
        name = wanted;
        log.clear(isIncomplete(stream.lastEventId) ? undefined : stream.lastEventId);
        channel.onmessage = ({ data: [from, type, ...more] }) => {
          ({ alone: onAlone, leads: onLeading, rides: onRiding })[role][type]?.(from, ...more);
        };
      }
      if (role === 'alone') (isOpen() ? ask : join)();
    },

    // leave says goodbye. The tab that was heard last takes over.
    leave_() {
      const [successor] = [...riders].reduce((a, b) => (b[1] < a[1] ? a : b), []);
      const was = role;
      succeeds = false;
      role = 'alone';
      stop('ask', 'watch', 'look', 'take');
      if (was !== 'alone') post('bye', was === 'leads' ? successor : undefined);
      close();
    },

    changed_(state, hold) {
      if (role === 'leads') post('state', state, hold);
      else if (state === 'open') after('ask', 0, () => this.enter_()); // once its first message has been dispatched
      hasFailed = state !== 'open' && (hasFailed || state === 'waiting');
      if (state === 'waiting' && role === 'alone') join();
    },

    received_(envelope) {
      log.add(envelope);
      if (role === 'leads') post('post', next++, envelope);
      else if (envelope.gap || envelope.begin) since = undefined;
      else since?.add(envelope.id);
    },

    look: () => look(true),

    send: (data) => new Promise((resolve, reject) => {
      const number = id();
      const done = (error) => {
        sent.delete(number);
        clearTimeout(timer);
        if (error === undefined) resolve();
        else reject(new Error(error));
      };
      const timer = setTimeout(done, 10_000, 'fanfare: the tab that has the connection does not answer');
      sent.set(number, done);
      post('send', number, data);
    }),
  };
};
