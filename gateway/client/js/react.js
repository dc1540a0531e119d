// react.js: hooks for React. Components that use the same room share it; the last one to unmount
// leaves it. React's strict mode runs each effect twice, but the hooks connect and join only once.

import { useEffect, useState, useSyncExternalStore } from "react";
import { Connection, connect } from "@roomcast/client";

const NOBODY = Object.freeze({ count: 0, list: Object.freeze([]), more: false });
const NOTHING = Object.freeze({ room: null, state: "joining", error: null, events: Object.freeze([]), pending: Object.freeze([]) });
const OFFLINE = Object.freeze({ connection: null, state: "connecting", you: null, error: null });
const KEPT = 500; // events that useRoom shows

/** The present state of a source of events, as components see it: each event replaces the object. */
class View {
  users = 0;
  #listeners = new Set(); #offs = [];

  constructor(now) { this.now = now; }

  get = () => this.now;
  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
  set(change) {
    this.now = Object.freeze({ ...this.now, ...change });
    for (const listener of this.#listeners) listener();
  }
  follow(source, type, f) { this.#offs.push(source.on(type, f)); }
  end() { for (const off of this.#offs.splice(0)) off(); }
}

const views = new WeakMap(); // Room -> its View

function viewOf(connection, name, from, limit) {
  const room = connection.room(name, from);
  let view = views.get(room);
  if (!view) {
    view = new View(Object.freeze({ ...NOTHING, room, state: room.state, error: room.error, pending: room.pending }));
    view.follow(room, "event", (event) => view.set({ events: [...view.now.events, event].slice(-limit) }));
    view.follow(room, "gap", ({ reason }) => { if (reason === "reset") view.set({ events: [] }); });
    view.follow(room, "message", () => view.set({ pending: room.pending }));
    view.follow(room, "state", ({ state }) => view.set({ state, error: room.error, pending: room.pending }));
    views.set(room, view);
  }
  return view;
}

/** Leaves a room soon, if no component uses the room again by then. */
function release(view) {
  view.users--;
  setTimeout(() => {
    if (view.users) return;
    view.end();
    views.delete(view.now.room);
    view.now.room.leave();
  });
}

const useView = (view, otherwise) => useSyncExternalStore(view?.subscribe ?? idle, view?.get ?? (() => otherwise), () => otherwise);
const idle = () => () => {};

/** Opens a connection, and closes it with the component. If the app passes a Connection of its own, returns only its state. */
export function useConnection(options) {
  const [view, setView] = useState(null);
  const given = options instanceof Connection ? options : null;
  const url = String((given ? "" : options?.url ?? options) ?? "");
  useEffect(() => {
    const connection = given ?? connect(options);
    const next = new View(Object.freeze({ ...OFFLINE, connection, state: connection.state, you: connection.you }));
    next.follow(connection, "state", ({ state }) => next.set({ state, you: connection.you, ...(state === "open" && { error: null }) }));
    next.follow(connection, "fatal", (error) => next.set({ error }));
    setView(next);
    return () => {
      next.end();
      if (!given) connection.close();
    };
  }, [given, url]); // changes of other options have no effect
  return useView(view, OFFLINE);
}

/** Joins a room while the component is mounted. Returns its newest events, and our messages without an answer. */
export function useRoom(connection, name, { limit = KEPT, ...from } = {}) {
  const [view, setView] = useState(null);
  useEffect(() => {
    if (!connection) return;
    const next = viewOf(connection, name, from, limit);
    next.users++;
    setView(next);
    return () => {
      setView(null);
      release(next);
    };
  }, [connection, name]); // from and limit have an effect only at the first join
  return useView(view, NOTHING);
}

/** The members of a room, kept up to date. */
export function useMembers(room) {
  return useSyncExternalStore(
    (listener) => room?.on("members", listener) ?? (() => {}),
    () => room?.members ?? NOBODY,
    () => NOBODY,
  );
}
