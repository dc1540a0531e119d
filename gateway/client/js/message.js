// message.js: our messages and their storage. It also has errors and listeners, which the other
// files of the client use.

export const now = () => performance.now(); // ms; nobody sets this clock

// The names of close codes. They are also codes of errors. After these codes the client does not
// reconnect, except after 4003.
export const CLOSES = {
  1000: "normal", 1002: "protocol", 1003: "unsupported", 1007: "invalid_data", 1008: "policy", 1009: "too_big", 4003: "token_expired",
  4100: "room_closed", 4101: "kicked", 4102: "banned", 4103: "bad_token", 4105: "flood", 4106: "forbidden", 4107: "no_token",
};

/** The error with which a promise of this client rejects. Its code is an error code of the protocol or of this client. */
export class RoomcastError extends Error {
  constructor({ code, message, ...more }) {
    super(message || code);
    Object.assign(this, more, { name: "RoomcastError", code });
  }
}
export const failure = (code, message, more) => new RoomcastError({ code, message, ...more });

export class Emitter {
  #listeners = new Map();

  /** Calls listener for each event of a type. Returns a function that stops this. */
  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => { this.#listeners.get(type).delete(listener); };
  }

  _has(type) { return this.#listeners.get(type)?.size > 0; }

  _emit(type, detail) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try { listener(detail); } catch (err) { queueMicrotask(() => { throw err; }); } // an error in a listener must not stop the client
    }
  }
}

/** One of our messages: the same object from sending to the final state. */
export class Message {
  state = "failed";
  #waiting = [];

  constructor(room, key, content) {
    Object.assign(this, { room, key, content });
    Object.defineProperty(this, /* @__KEY__ */ "_sent", { writable: true }); // set when it was first written to a socket: {as: our id, time, and our position: seq, epoch, at}
    Object.defineProperty(this, /* @__KEY__ */ "_began", { writable: true, value: now() });
  }

  /** Resolves with the seq when the message is stored; rejects when it is refused. */
  get done() {
    if (this.state === "sent") return Promise.resolve(this.seq);
    if (this.state === "failed") return Promise.reject(this.error);
    return new Promise((...both) => this.#waiting.push(both));
  }

  _settle() {
    for (const [resolve, reject] of this.state === "pending" ? [] : this.#waiting.splice(0)) this.state === "sent" ? resolve(this.seq) : reject(this.error);
  }
}

/** A copy of the content of a message, as JSON can represent it. */
export function contentOf(content) {
  if (typeof content === "string") content = { text: content };
  if (content?.text?.toWellFormed) content = { ...content, text: content.text.toWellFormed() };
  if (content?.bin instanceof Uint8Array) content = { ...content, bin: btoa(Array.from(content.bin, (b) => String.fromCharCode(b)).join("")) };
  content = JSON.parse(JSON.stringify(content ?? null)); // a copy, so that the app may change its object; throws for a BigInt or a cycle
  if (!["text", "data", "bin"].some((kind) => content?.[kind] !== undefined)) throw new TypeError("a message is a string, or an object with text, data or bin");
  return content;
}

/** Makes a store from a storage such as sessionStorage. Returns a store unchanged. */
export function storeOf(storage) {
  if (!storage.getItem) return storage;
  return {
    load: (prefix) => Array.from({ length: storage.length }, (_, i) => storage.key(i)).filter((key) => key?.startsWith(prefix)).map((key) => [key, storage.getItem(key)]),
    put: (key, text) => storage.setItem(key, text),
    delete: (key) => storage.removeItem(key),
  };
}

/** A store of records in IndexedDB. */
export function indexedDBStore(name = "roomcast") {
  const result = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  let opened;
  const records = async (mode) => {
    if (!opened) {
      const request = indexedDB.open(name);
      request.onupgradeneeded = () => request.result.createObjectStore("records");
      opened = result(request);
    }
    return (await opened).transaction("records", mode).objectStore("records");
  };
  return {
    load: async (prefix) => {
      const store = await records("readonly"), range = IDBKeyRange.bound(prefix, prefix + "\uffff");
      const [keys, values] = await Promise.all([result(store.getAllKeys(range)), result(store.getAll(range))]);
      return keys.map((key, i) => [key, values[i]]);
    },
    put: async (key, text) => result((await records("readwrite")).put(text, key)),
    delete: async (key) => result((await records("readwrite")).delete(key)),
  };
}
