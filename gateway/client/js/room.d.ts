// The types of @roomcast/client.

/** A sender or a member. */
export interface Identity {
  id: string;
  name?: string;
}

/** A message or an act in a room. D is the type of data. */
export interface Event<D = unknown> {
  room: string;
  /** 1, 2, 3, … without holes. */
  seq: number;
  /** RFC 3339 time. Only a deleted event may have none: servers of version 0.1.0 do not send the time of a deleted edit. */
  at?: string;
  /** "closed", "reopened", …; missing on messages. */
  kind?: string;
  from: Identity;
  /** The key that the sender gave. */
  key?: string;
  /** The type of an application event. */
  type?: string;
  text?: string;
  data?: D;
  /** base64 */
  bin?: string;
  /** The reason of an act. */
  why?: string;
  /** The member that an act is about; "*guests" are all guests. */
  member?: string;
  /** The end of a ban or a mute. */
  until?: string;
  /** The time in which a member may say one message, in a slow room. */
  every?: string;
  /** Only on the first event of an epoch. */
  epoch?: string;
  /** The seq of the event that an act changes. */
  of?: number;
  /** The content was removed by an act. */
  deleted?: boolean;
  /** The time of the newest edit. */
  edited?: string;
  /** The event was in the log before we joined. */
  replay?: true;
}

/** The content of a message: text, data or bin. If the app gives a key, it may send the message twice; the server stores it once. */
export type Content<D = unknown> =
  | { text: string; type?: string; key?: string; /** A person typed it, so a close word counts. */ line?: boolean }
  | { data: D; type?: string; key?: string }
  | { bin: Uint8Array | string; type?: string; key?: string };

/** One of our messages; the same object from sending to the final state. */
export interface Message {
  readonly room: string;
  readonly key: string;
  readonly content: { text?: string; data?: unknown; bin?: string; type?: string; line?: boolean };
  readonly state: "pending" | "sent" | "failed";
  /** Once sent. */
  readonly seq?: number;
  /** Once sent. */
  readonly at?: string;
  /** Milliseconds from the first send to the ack. */
  readonly took?: number;
  /** Once failed. Code "uncertain": it was sent and not answered, so it may be stored; retry() sends it again. */
  readonly error?: RoomcastError;
  /** Whether the storage has the message; missing without a storage. */
  readonly stored?: boolean;
  /** Resolves with the seq when the message is stored; rejects when it failed. */
  readonly done: Promise<number>;
}

/** The error with which a promise of this client is rejected. */
export class RoomcastError extends Error {
  constructor(refusal: { code: string; message?: string; retry_ms?: number; close?: number });
  /** A code of the protocol, the name of a close code, or "disconnected", "closed", "uncertain", "not_stored". */
  readonly code: string;
  /** The same command may be sent again after this time. */
  readonly retry_ms?: number;
  /** The close code that ended the connection. */
  readonly close?: number;
}

/** Where a replay begins. With since: after the event with this seq; epoch and at are the epoch and the time of that event. With last: at the newest events, as many as last says. With after: after this time. */
export interface From {
  since?: number;
  epoch?: string;
  at?: string;
  last?: number;
  after?: string;
}

export interface Page<D = unknown> {
  room: string;
  /** Oldest first. */
  events: Event<D>[];
  /** There are more events in the direction of reading. */
  more: boolean;
  /** The seq of the room's newest event. */
  seq: number;
  epoch: string;
  gap?: Gap;
  closed?: boolean;
  why?: string;
}

/** Events that are not available. After the reason "reset" the whole room is replayed. */
export interface Gap {
  from: number;
  to: number;
  reason: "trimmed" | "damaged" | "reset";
  epoch?: string;
  seq?: number;
}

/** The members of a room. In a room of more than 200 people, list has only some of them, and more is true. */
export interface Members {
  readonly count: number;
  /** sessions: how many sessions the person has in the room, when the list was read. */
  readonly list: readonly (Identity & { sessions?: number })[];
  readonly more: boolean;
}

export interface Signal<D = unknown> {
  type: string;
  from: Identity;
  data?: D;
}

export type ConnectionState = "connecting" | "open" | "waiting" | "closed";
export type RoomState = "joining" | "joined" | "refused" | "left";

export interface ConnectionEvents {
  /** In the state "waiting", the client reconnects after ms. code and reason say why the last connection ended. */
  state: { state: ConnectionState; code?: number; reason?: string; ms?: number };
  /** The client has stopped trying: the server's answer would be the same. reconnect() tries again. */
  fatal: RoomcastError;
  /** The server gave us another id, because it did not accept the resume string. */
  identity: { you: Identity; before: Identity };
  /** A message, or the identity, could not be stored. */
  unstored: { message?: Message; error: RoomcastError };
}

export interface RoomEvents<D = unknown> {
  /** A message or an act, in order, each once. */
  event: Event<D>;
  /** One of our messages was made, stored or refused. */
  message: Message;
  /**
   * Once joined: seq and epoch are those of the room's newest event, and rights are ours, such as "read say".
   * If a moderator has muted us, muted is true, and until is the end of the mute if it has one.
   */
  state: { state: RoomState; error?: RoomcastError; seq?: number; epoch?: string; rights?: string; muted?: boolean; until?: string };
  /** The server does not store a message yet, because we are too fast or it has too much to do. The client sends it again. */
  delayed: RoomcastError;
  /** The join or a signal was refused, or we lost the room. */
  refused: RoomcastError;
  gap: Gap;
  /** The replay is complete. resumed: the replay has continued at our last event; exact: no event was missing. */
  replayed: { events: number; resumed: boolean; exact: boolean };
  members: Members;
  joined: Partial<Identity> & { count: number };
  left: Partial<Identity> & { count: number; reason?: "client" | "server" | "lost" };
  signal: Signal;
}

/** A place for records, such as a database. load returns the records whose keys begin with the prefix. */
export interface Store {
  load(prefix: string): Iterable<readonly [string, string]> | Promise<Iterable<readonly [string, string]>>;
  put(key: string, text: string): unknown;
  delete(key: string): unknown;
}

/** A storage such as sessionStorage. */
export interface WebStorage {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, text: string): void;
  removeItem(key: string): void;
}

/** A WebSocket of a browser, of Node or of the ws package. */
export type WebSocketClass = new (url: string, protocols?: string | string[]) => {
  readonly readyState: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
};

export interface Options {
  /** The URL of the server, which may have a path, or of a room. Default: the server of this file, otherwise that of the page. */
  url?: string | URL;
  /** The name that others see. */
  name?: string;
  /** A token, or a function that returns one. The client calls it before every connection, and before the token expires. It stops trying if the function returns no token, or throws an error with final: true. */
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /** A ticket for the first connection, or a function that returns one. The client calls it when it needs a ticket, and before the session expires. */
  ticket?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /** The resume string of an earlier session, to be the same sender. */
  resume?: string;
  /** Keeps the identity and waiting messages over a reload: sessionStorage, indexedDBStore(), or your own. */
  storage?: WebStorage | Store | null;
  /** Milliseconds to wait for an answer before the connection counts as lost; default 15000. */
  timeout?: number;
  /** The class to use where there is no global WebSocket. */
  WebSocket?: WebSocketClass;
}

/** A connection that reconnects by itself, in any number of rooms. */
export class Connection {
  constructor(options?: Options | string | URL);
  readonly state: ConnectionState;
  /** Our identity, after the first hello. Its id is "" as long as the server has refused every room over plain HTTP. */
  readonly you: Identity | null;
  /** Our name; a change counts from the next connection on. */
  name: string;
  /** Signed proof of our identity, for another connection. */
  readonly resume: string;
  /** The server's name of the present session, for its logs; it begins with the name of the gateway. */
  readonly session: string;
  readonly rooms: Room[];
  /** Our messages without an answer, in all rooms. After a reload it includes rooms that are not joined yet. */
  readonly pending: Message[];
  /** Calls listener for each event. Returns a function that stops this. */
  on<T extends keyof ConnectionEvents>(type: T, listener: (detail: ConnectionEvents[T]) => void): () => void;
  /** Joins a room and returns it; by default the one in the URL. from counts only at the first join. */
  room<D = unknown>(name?: string, from?: From): Room<D>;
  /** Resolves when the connection is open; rejects when it is closed. */
  ready(): Promise<void>;
  /** Sends a command of the protocol when there is a connection, and resolves with its ok. */
  ask<T = unknown>(verb: string, body: object): Promise<T>;
  /** Connects now. Call it after close() or fatal, to end a wait, or to connect with another name. */
  reconnect(): Promise<void>;
  /** Closes the connection. Waiting messages are sent after reconnect(); with discard they fail: as "uncertain" if they were sent and not answered, else as "closed". */
  close(options?: { discard?: boolean }): void;
}

/** A room that we are in. A loop over it gets its events. */
export class Room<D = unknown> implements AsyncIterable<Event<D>> {
  private constructor();
  readonly name: string;
  readonly state: RoomState;
  /** Why we are not in the room, in the state "refused". */
  readonly error: RoomcastError | null;
  /** The seq of the newest reported event. */
  readonly seq: number;
  /** The members. The first use asks the server; the event "members" reports changes. */
  readonly members: Members;
  /** Our messages in this room that are not answered yet. */
  readonly pending: Message[];
  on<T extends keyof RoomEvents<D>>(type: T, listener: (detail: RoomEvents<D>[T]) => void): () => void;
  /** Sends a message now or as soon as possible. Resolves with its seq when it is stored. */
  say(content: string | Content<D>): Promise<number>;
  /** Like say, but returns the message, which has a state. */
  send(content: string | Content<D>): Message;
  /** Sends a failed message again, under its old key. */
  retry(message: Message): Message;
  /** Reads a page of the log, oldest event first. Without before and since, it is the newest page. */
  history(page?: { before?: number; since?: number; epoch?: string; at?: string; limit?: number }): Promise<Page<D>>;
  /** Sends the members a signal if there is a connection. A signal is not stored. */
  signal(type: string, data?: unknown): void;
  /** Tells the members that we are typing. Call it on every key; it sends few signals. */
  typing(): void;
  /** Does an act of moderation, such as "close", with the fields that the act needs. */
  moderate(act: string, fields?: Record<string, unknown>): Promise<{ seq: number; at: string; duplicate?: boolean }>;
  /** Replaces the text of one of our messages. */
  edit(seq: number, text: string): Promise<{ seq: number; at: string; duplicate?: boolean }>;
  /** Joins again after a refusal, and continues at the last event. */
  join(): void;
  /** Leaves the room. Its waiting messages fail: as "uncertain" if they were sent and not answered. */
  leave(): void;
  /** Resolves when we are in the room; rejects when the join is refused. */
  ready(): Promise<this>;
  [Symbol.asyncIterator](): AsyncGenerator<Event<D>, void, void>;
}

/** Opens a connection that reconnects by itself. */
export function connect(options?: Options | string | URL): Connection;

/** A store of records in IndexedDB, which the tabs of a browser share. */
export function indexedDBStore(name?: string): Store;

/** Reports whether a client should reconnect by itself after this close code. */
export function reconnects(code: number): boolean;
