// start.js: the connection of the page, and the identity of this tab. The browser runs this file
// early, while most other files are still loading. It waits only for this file and the client.

import { connect } from "./room.js";

// Storage of the browser. If the browser forbids the storage, the page remembers nothing.

const area = (name) => { try { return window[name]; } catch { return null; } };
export const [local, session] = [area("localStorage"), area("sessionStorage")];
export const recall = (key, otherwise, from = local) => {
  try {
    const value = JSON.parse(from.getItem(`roomcast.${key}`));
    return value !== null && typeof value === typeof otherwise && Array.isArray(value) === Array.isArray(otherwise) ? value : otherwise;
  } catch { return otherwise; }
};
export const keep = (key, value, to = local) => { try { to.setItem(`roomcast.${key}`, JSON.stringify(value)); } catch {} };

/** Returns a name that the server accepts: no control characters, something visible, at most 128 bytes. */
export function cleanName(name) {
  name = name.replace(/[\p{Z}\s]+/gu, " ").replace(/[\p{Cc}\p{Cs}\p{Bidi_Control}]/gu, "").trim();
  while (new TextEncoder().encode(name).length > 128) name = Array.from(name).slice(0, -1).join("");
  return /[^\p{Z}\p{Default_Ignorable_Code_Point}]/u.test(name) ? name : "";
}

// The identity of this tab

/** Holds a lock until the page ends. Reports whether it got the lock. On plain http there are no locks, and the result is true. */
const lock = (name, options) => new Promise((resolve) => {
  if (!navigator.locks) return resolve(true);
  navigator.locks.request(name, options, (held) => { resolve(!!held); return held && new Promise(() => {}); }).catch(() => resolve(false));
});

/** After a reload a tab keeps its identity, from its own storage. A copy of a tab also has a copy of the storage, and gets a new identity. A slow browser may need a while to end the old page. */
const before = recall("tab", "", session);
export const copied = before && !(await lock(`roomcast.tab.${before}`, { signal: AbortSignal.timeout(2000) }));
if (copied) for (const key of Object.keys(session)) if (key.startsWith("roomcast")) session.removeItem(key);
const reloaded = before && !copied;
if (!reloaded) {
  const tab = Math.random().toString(36).slice(2);
  keep("tab", tab, session);
  lock(`roomcast.tab.${tab}`);
}
/** Whether this tab has the browser's identity. Only one open tab has it. Every other tab has an identity of its own, so that two tabs can talk. */
export const keeper = await lock("roomcast.identity", { ifAvailable: true });

/** The credentials in the fragment of the URL, which the browser sends to no server. */
const login = new URLSearchParams(location.hash.slice(1));
if (login.has("token")) keep("token", login.get("token"), session);
if (login.has("token") || login.has("ticket")) history.replaceState(null, "", location.pathname + location.search);
addEventListener("hashchange", () => location.reload());

export const c = connect({
  name: cleanName(recall("name", "")),
  storage: session,
  token: recall("token", "", session) || undefined,
  ticket: login.get("ticket") ?? undefined,
  ...(keeper && !reloaded && { resume: recall("resume", "") }),
});

/** The newest state, for page.js, which may be loaded after the event. */
export let newest = { state: c.state };
c.on("state", (detail) => { newest = detail; });
c.on("fatal", () => {}); // the state has the error too
