/** How a stream is transported: over a WebSocket, as an event stream, or by long polling. */
export type Transport = 'ws' | 'sse' | 'poll';

/** A URL, or a function that is called at each attempt to connect, for a ticket or a token in the query. */
export type FanfareURL = string | URL | (() => string | URL | Promise<string | URL>);

/**
 * An option that is undefined has its default. A time is in milliseconds. One that is shorter than
 * 100 means 100, and one that is no number the default.
 */
export interface FanfareOptions {
  /** The URL of a ws.Handler, with any of the schemes ws, wss, http and https. Without it, no WebSocket is used. */
  ws?: FanfareURL | undefined;

  /** The URL of an sse.Handler, for event streams and long polling. Without it, neither is used. */
  sse?: FanfareURL | undefined;

  /** The URL to which send() posts while no WebSocket is open. */
  post?: string | URL | undefined;

  /**
   * The transports to use, in order of preference. By default ws, sse, poll, as far as they have a
   * URL. The one that worked last for the first URL's origin is tried first, as long as the tab lives
   * (sessionStorage).
   */
  transports?: readonly Transport[] | undefined;

  /**
   * Topics to ask for, each as a query parameter `topic`. The server's Grant hook has to read them
   * and decides which of them the client gets.
   */
  topics?: readonly string[] | undefined;

  /**
   * Headers for event streams, polls and posts, all of which then use fetch. A function is called
   * for each request, so that it can return a renewed token. A WebSocket cannot send headers: where
   * it is refused with 401 or 403 and there are headers, the next transport is asked.
   */
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>) | undefined;

  /**
   * Subprotocols to offer with a WebSocket, for example a bearer token for middleware.Token. A
   * function is called at each attempt.
   */
  protocols?: string | string[] | (() => string | string[] | Promise<string | string[]>) | undefined;

  /**
   * Returns a fresh token, with which the stream is renewed before its grant expires, if that has a
   * Renew: when a quarter of its time is left, and at most a minute. A WebSocket sends it as
   * {"token":"..."}. An event stream cannot: a second one takes its place, whose URL and headers are
   * asked for as at each attempt. A refusal is an `error` event with its `status`. Where the function
   * fails, an `error` event has the `reason`. Both end nothing. After a failure or a temporary refusal it is
   * tried again when a quarter of the rest is left, and after a second at least. A stream that
   * expires all the same reconnects. Of tabs that share a connection, the one that has it is asked.
   */
  token?: (() => string | Promise<string>) | undefined;

  /** Whether to send cookies to other origins. */
  withCredentials?: boolean | undefined;

  /** The position to resume after, such as the one at which the page was rendered. By default, the stream begins with new messages. */
  lastEventId?: string | undefined;

  /**
   * Lets tabs of the origin use one connection, since browsers allow only six HTTP/1.1 connections to
   * a host. It is the name of the user, or of whatever else decides what the stream has.
   *
   * **Tabs with the same name, URLs and topics get the same stream: the name must differ between
   * users, or one gets what another may read.** Where a URL is a function, the pages must have the
   * same address, too.
   *
   * It needs fanfare-shared.js beside fanfare.js. Where that or a BroadcastChannel is missing, each
   * tab has its own connection.
   */
  shared?: string | undefined;

  /** The longest wait after a first failure. It doubles with each further failure. By default 500. */
  retry?: number | undefined;

  /** The bound of this wait. By default 30,000. */
  maxRetry?: number | undefined;

  /**
   * How long a connection may be silent, without even a heartbeat, before it is closed. By default
   * three heartbeats of the server, and at most 45,000. It is at least a heartbeat and 5 s, and
   * 45,000 for a poll.
   */
  silence?: number | undefined;

  /** How long a connection may take to open. By default 10,000. */
  patience?: number | undefined;

  /** How long a connection must stay open to count as a success. After two failures, the next transport is tried. By default 5,000. */
  good?: number | undefined;

  /** After how long a preferred transport is tried again. It doubles until one succeeds. By default 10,000. */
  upgrade?: number | undefined;
}

/** A message. Its type is the Message's Type, or 'message' if that is empty or the type of one of the stream's own events. */
export interface FanfareMessage extends MessageEvent<string | Uint8Array> {
  /** Text, or bytes if the message is Binary. */
  readonly data: string | Uint8Array;

  /** The message's ID. Empty for messages of a beginning, of a Grant's Last or Snapshot, and for values that were missed, which do not change the position. */
  readonly lastEventId: string;

  readonly topic: string;

  /** What this message is the newest value of, within topic. Empty: an event. The same value may come twice. */
  readonly key: string;

  /** Whether key has no value any more. */
  readonly removed: boolean;

  /** Whether this event stands for all events of its topic before it. */
  readonly first: boolean;
}

/**
 * Messages may have been lost, so the page's state may be out of date. A stream with a Grant's
 * Beginning or Snapshot begins again instead.
 */
export interface FanfareGap extends MessageEvent<undefined> {
  /** The position after which the stream goes on. */
  readonly lastEventId: string;

  /** The topics that lost messages; null: all. */
  readonly topics: string[] | null;
}

/**
 * What the page has of the topics is void: forget it, and take the messages that follow. They are all
 * that the topics keep, or what the Grant's Snapshot returns.
 */
export interface FanfareBegin extends MessageEvent<undefined> {
  /** The topics that begin; null: all. */
  readonly topics: string[] | null;

  /** The topics whose beginning lacks something, because the server, or the tab that has the connection, has not kept it. */
  readonly partial: string[];
}

/**
 * A connection has failed, the stream has been closed (see readyState), other topics or a token have
 * been refused, or something has come that is not from a handler of fanfare.
 */
export interface FanfareError extends Event {
  /** The status that a WebSocket was closed with. */
  readonly code?: number;

  /** The reason that a WebSocket was closed with, why `token` failed, or why the tab has a connection of its own in spite of `shared`. */
  readonly reason?: string;

  /** The HTTP status of a response that is not a stream, of a refused WebSocket (401, 403), or of a refusal of other topics or of a token. */
  readonly status?: number;

  /** What has come, if it is no envelope. */
  readonly data?: string;
}

export interface FanfareEventMap {
  open: Event;
  message: FanfareMessage;
  error: FanfareError;
  gap: FanfareGap;
  begin: FanfareBegin;
  /** All topics have ended, and everything has been dispatched: the stream has been closed for good. */
  ended: Event;
  statechange: Event;
}

/**
 * A stream that reconnects by itself over any transport that works. It dispatches each event once
 * and in order, or a gap or a beginning, and the newest value of each key. It can be used like an
 * EventSource.
 *
 * It is closed for good by close(), when all its topics have ended (an ended event; also where it
 * returns to such topics, for which the server answers 204), by a response with 204, 401 or 403, by a WebSocket's close code
 * 1000, 1002, 1003, 1007 to 1010, 3000 with the reason "unauthorized", 3003, 3500 to 3999 or 4500 to
 * 4999, and when each transport has had a response with another 4xx that is not temporary (408, 425
 * or 429).
 *
 * A page that is frozen or in the back/forward cache has no connection. It resumes when it is back.
 */
export class Fanfare extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSED: 2;

  /** Throws a TypeError if no transport has a URL, or an option is wrong. */
  constructor(options: FanfareOptions);

  /** The URL of the first transport, as an absolute URL. Empty if it is a function. */
  readonly url: string;

  readonly withCredentials: boolean;

  readonly readyState: 0 | 1 | 2;

  /** The state in more detail than readyState. A statechange event follows when it or the transport changes. */
  readonly state: 'connecting' | 'open' | 'waiting' | 'closed';

  /** The transport in use; 'shared': the connection of another tab; undefined: none is open. */
  readonly transport: Transport | 'shared' | undefined;

  /** The position: everything up to it has been dispatched. In a beginning it is 1-0, after which all of it comes again. */
  readonly lastEventId: string;

  /**
   * Sends data over the WebSocket if one is open, otherwise by POST to `post`. It is sent at most
   * once. If the promise is rejected, the data may not have arrived. A tab that shares the connection
   * of another tab passes data on to that tab unless `post` is set, and waits 10 s for its answer.
   */
  send(data: string | ArrayBuffer | ArrayBufferView | Blob): Promise<void>;

  /**
   * Asks for other topics: the whole new set. The server's Grant may refuse them: then an `error`
   * event has the status, and the stream goes on with the topics that it had. What a WebSocket
   * refuses is asked for over SSE. In a tab that shares a connection, it concerns this tab alone.
   *
   * New topics begin, if the stream has beginnings. If the connection fails before the server has
   * answered, or where there is no WebSocket, all topics begin again. Of several calls the last counts.
   */
  setTopics(topics: readonly string[]): void;

  /** Closes the stream for good. */
  close(): void;

  onopen: ((event: Event) => void) | null;
  onmessage: ((event: FanfareMessage) => void) | null;
  onerror: ((event: FanfareError) => void) | null;
  ongap: ((event: FanfareGap) => void) | null;
  onbegin: ((event: FanfareBegin) => void) | null;
  onended: ((event: Event) => void) | null;
  onstatechange: ((event: Event) => void) | null;

  addEventListener<K extends keyof FanfareEventMap>(type: K, listener: FanfareListener<FanfareEventMap[K]> | null, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: FanfareListener<FanfareMessage> | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof FanfareEventMap>(type: K, listener: FanfareListener<FanfareEventMap[K]> | null, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: FanfareListener<FanfareMessage> | null, options?: boolean | EventListenerOptions): void;
}

/** A function, or an object with handleEvent. */
export type FanfareListener<E extends Event> = ((event: E) => void) | { handleEvent(event: E): void };
