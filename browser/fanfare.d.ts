/** How a stream comes: the best first that gets through. */
export type Transport = 'ws' | 'sse' | 'poll';

export interface FanfareOptions {
  /** The URL of a ws.Handler; one of http is taken as well. Without it there is no WebSocket. */
  ws?: string | URL;

  /** The URL of an sse.Handler, for event streams and long polling. Without it there is neither. */
  sse?: string | URL;

  /** Where send() posts to while no WebSocket is open. */
  post?: string | URL;

  /** The ways to take, in order of preference: by default ws, sse, poll, of those that have a URL. */
  transports?: Transport[];

  /**
   * Topics to ask for, as the query parameter `topic`, once for each. The server's Grant decides
   * what it makes of them.
   */
  topics?: string[];

  /**
   * Headers for event streams, polls and posts, which then go by fetch; a function is asked
   * each time, so that a token may have been renewed. A WebSocket can have none.
   */
  headers?: HeadersInit & Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);

  /** Subprotocols to offer with a WebSocket, for example a bearer token for middleware.Token. */
  protocols?: string | string[];

  /** Whether to send cookies to other origins. */
  withCredentials?: boolean;

  /** Where to begin: the position that a page was made at. By default, from now on. */
  lastEventId?: string;

  /**
   * One connection for all tabs of the origin that have the same URLs, topics and value here:
   * browsers allow six HTTP/1.1 connections to a host. A tab that joins without a position hears
   * what comes from then on. Needs a secure context; elsewhere each tab connects by itself.
   */
  shared?: boolean | string;

  /** The wait after a first failure is up to this long, in milliseconds; it doubles. By default 500. */
  retry?: number;

  /** The most that it doubles to. By default 30,000. */
  maxRetry?: number;

  /** How long nothing may come, heartbeats included, before a connection is given up. By default 45,000. */
  silence?: number;

  /** How long a connection may take to stand. By default 10,000. */
  patience?: number;

  /** How long a connection has to last to be a good one. A shorter one is a failure, and the second lets the next transport try. By default 5,000. */
  good?: number;

  /** After how long a better transport is tried again; it doubles until one holds. By default 10,000. */
  upgrade?: number;
}

/** A message: type is the Message's Type, or 'message' where it has none. */
export interface FanfareMessage extends MessageEvent<string | Uint8Array> {
  /** Text, or bytes where the message is Binary. */
  readonly data: string | Uint8Array;

  /** Empty for state that a stream begins with (a Grant's Last or Snapshot): it moves no position. */
  readonly lastEventId: string;

  readonly topic: string;
}

/** Messages may have been lost: what was shown before may be out of date. */
export interface FanfareGap extends MessageEvent<undefined> {
  /** The stream goes on behind this. */
  readonly lastEventId: string;

  /** The topics that lost something; null: all. */
  readonly topics: string[] | null;
}

/** A connection has failed, or the stream has been closed: see readyState. */
export interface FanfareError extends Event {
  /** The status that a WebSocket was closed with. */
  readonly code?: number;

  /** The HTTP status of an answer that is no stream. */
  readonly status?: number;
}

export interface FanfareEventMap {
  open: Event;
  message: FanfareMessage;
  error: FanfareError;
  gap: FanfareGap;
  statechange: Event;
}

/**
 * A stream that reconnects by itself, over whatever gets through, and brings each message once
 * and in order, or a gap. It behaves as an EventSource does.
 *
 * It is closed for good by close(), by an answer with 204, 401 or 403, by a WebSocket's status
 * 1000, 1002, 1003, 1007 to 1010, 3003, 3500 to 3999 or 4500 to 4999, and when every transport
 * was answered with another 4xx.
 */
export class Fanfare extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;

  /** Throws a TypeError if no transport has a URL. */
  constructor(options: FanfareOptions);

  readonly readyState: 0 | 1 | 2;

  /** What it does at the moment; statechange says that this, or the transport, has changed. */
  readonly state: 'connecting' | 'open' | 'waiting' | 'closed';

  /** What carries the stream now; 'shared': another tab does. */
  readonly transport: Transport | 'shared' | undefined;

  /** The position: everything up to it has been dispatched. */
  readonly lastEventId: string;

  /**
   * Sends data: over the WebSocket, else by POST to `post`. It is sent at most once; a rejection
   * says that it may not have arrived. A tab that has another one's connection hands data over
   * to that one, unless `post` is set, and does not learn what becomes of it.
   */
  send(data: string | ArrayBuffer | ArrayBufferView | Blob): Promise<void>;

  /** Asks for other topics: all that are wanted from here on. Only the server's Grant may refuse. */
  setTopics(topics: string[]): void;

  close(): void;

  onopen?: (event: Event) => void;
  onmessage?: (event: FanfareMessage) => void;
  onerror?: (event: FanfareError) => void;
  ongap?: (event: FanfareGap) => void;
  onstatechange?: (event: Event) => void;

  addEventListener<K extends keyof FanfareEventMap>(type: K, listener: (event: FanfareEventMap[K]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: (event: FanfareMessage) => void, options?: boolean | AddEventListenerOptions): void;
}
