/** How a stream is transported: over a WebSocket, as an event stream, or by long polling. */
export type Transport = 'ws' | 'sse' | 'poll';

export interface FanfareOptions {
  /** The URL of a ws.Handler, with any of the schemes ws, wss, http and https. Without it, no WebSocket is used. */
  ws?: string | URL;

  /** The URL of an sse.Handler, for event streams and long polling. Without it, neither is used. */
  sse?: string | URL;

  /** The URL to which send() posts while no WebSocket is open. */
  post?: string | URL;

  /** The transports to use, in order of preference. By default ws, sse, poll, as far as they have a URL. */
  transports?: Transport[];

  /**
   * Topics to ask for, each as a query parameter `topic`. The server's Grant hook has to read them
   * and decides which of them the client gets.
   */
  topics?: string[];

  /**
   * Headers for event streams, polls and posts, all of which then use fetch. A function is called
   * for each request, so that it can return a renewed token. A WebSocket cannot send headers.
   */
  headers?: HeadersInit & Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);

  /** Subprotocols to offer with a WebSocket, for example a bearer token for middleware.Token. */
  protocols?: string | string[];

  /** Whether to send cookies to other origins. */
  withCredentials?: boolean;

  /** The position to resume after, such as the one at which the page was rendered. By default, the stream begins with new messages. */
  lastEventId?: string;

  /**
   * Whether to use one connection for all tabs of the origin with the same URLs, topics and value
   * of this option, since browsers allow only six HTTP/1.1 connections to a host. A tab that joins
   * without a position gets new messages only. This needs a secure context; elsewhere each tab has
   * its own connection.
   */
  shared?: boolean | string;

  /** The longest wait after a first failure, in milliseconds. It doubles with each further failure. By default 500. */
  retry?: number;

  /** The bound of this wait, in milliseconds. By default 30,000. */
  maxRetry?: number;

  /** How long a connection may be silent, without even a heartbeat, before it is closed, in milliseconds. By default 45,000. */
  silence?: number;

  /** How long a connection may take to open, in milliseconds. By default 10,000. */
  patience?: number;

  /** How long a connection must stay open to count as a success, in milliseconds. After two failures, the next transport is tried. By default 5,000. */
  good?: number;

  /** After how long a preferred transport is tried again, in milliseconds. It doubles until one succeeds. By default 10,000. */
  upgrade?: number;
}

/** A message. Its type is the Message's Type, or 'message' if that is empty. */
export interface FanfareMessage extends MessageEvent<string | Uint8Array> {
  /** Text, or bytes if the message is Binary. */
  readonly data: string | Uint8Array;

  /** The message's ID. Empty for messages of a Grant's Last or Snapshot, which do not change the position. */
  readonly lastEventId: string;

  readonly topic: string;
}

/** Messages may have been lost, so the page's state may be out of date. */
export interface FanfareGap extends MessageEvent<undefined> {
  /** The position after which the stream goes on. */
  readonly lastEventId: string;

  /** The topics that lost messages; null: all. */
  readonly topics: string[] | null;
}

/** A connection has failed, or the stream has been closed: see readyState. */
export interface FanfareError extends Event {
  /** The status that a WebSocket was closed with. */
  readonly code?: number;

  /** The HTTP status of a response that is not a stream. */
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
 * A stream that reconnects by itself over any transport that works. It dispatches each message
 * once and in order, or a gap. It can be used like an EventSource.
 *
 * It is closed for good by close(), by a response with 204, 401 or 403, by a WebSocket's close code
 * 1000, 1002, 1003, 1007 to 1010, 3003, 3500 to 3999 or 4500 to 4999, and when each transport
 * has had a response with another 4xx that is not temporary (408, 425 or 429).
 */
export class Fanfare extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;

  /** Throws a TypeError if no transport has a URL. */
  constructor(options: FanfareOptions);

  readonly readyState: 0 | 1 | 2;

  /** The state in more detail than readyState. A statechange event follows when it or the transport changes. */
  readonly state: 'connecting' | 'open' | 'waiting' | 'closed';

  /** The transport in use; 'shared': the connection of another tab; undefined: none is open. */
  readonly transport: Transport | 'shared' | undefined;

  /** The position: everything up to it has been dispatched. */
  readonly lastEventId: string;

  /**
   * Sends data over the WebSocket if one is open, otherwise by POST to `post`. It is sent at most
   * once. If the promise is rejected, the data may not have arrived. A tab that shares the connection
   * of another tab passes data on to that tab unless `post` is set, and gets no result.
   */
  send(data: string | ArrayBuffer | ArrayBufferView | Blob): Promise<void>;

  /** Asks for other topics: the whole new set. The server's Grant may refuse them. */
  setTopics(topics: string[]): void;

  /** Closes the stream for good. */
  close(): void;

  onopen?: (event: Event) => void;
  onmessage?: (event: FanfareMessage) => void;
  onerror?: (event: FanfareError) => void;
  ongap?: (event: FanfareGap) => void;
  onstatechange?: (event: Event) => void;

  addEventListener<K extends keyof FanfareEventMap>(type: K, listener: (event: FanfareEventMap[K]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: (event: FanfareMessage) => void, options?: boolean | AddEventListenerOptions): void;
}
