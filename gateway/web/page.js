// page.js: the chat page. It connects the parts: room.js talks to the server, timeline.js
// shows the messages, words.js holds the texts.

import { connect } from "./room.js";
import { Timeline } from "./timeline.js";
import { hueOf, initialOf, nameOf, refusalText, translate, words } from "./words.js";

const $ = (id) => document.getElementById(id);
const encoder = new TextEncoder();
const home = new URL(".", import.meta.url); // the server's root, which may be below a path
const MOST_ROOMS = 12; // in the list, and joined; a new room removes the oldest

// Storage of the browser. A browser that forbids it remembers nothing.

const area = (name) => { try { return window[name]; } catch { return null; } };
const [local, session] = [area("localStorage"), area("sessionStorage")];
const recall = (key, otherwise) => {
  try { return JSON.parse(local.getItem(`roomcast.${key}`)) ?? otherwise; } catch { return otherwise; }
};
const keep = (key, value) => { try { local.setItem(`roomcast.${key}`, JSON.stringify(value)); } catch {} };

/** The room in the page's URL: /room/NAME/ or /?group=NAME, below home. */
function addressed() {
  const [, inPath] = /^room\/([^/]+)\/?$/.exec(location.pathname.slice(home.pathname.length)) ?? [];
  try { if (inPath) return decodeURIComponent(inPath); } catch {}
  // No room name contains a space, so a space here was a "+" in the URL.
  return new URLSearchParams(location.search).get("group")?.replaceAll(" ", "+") || "123";
}

/** Returns a name that the server accepts: no control characters, something visible, at most 128 bytes. */
function cleanName(name) {
  name = name.replace(/[\p{Z}\s]+/gu, " ").replace(/[\p{Cc}\p{Cs}\p{Bidi_Control}]/gu, "").trim();
  while (encoder.encode(name).length > 128) name = Array.from(name).slice(0, -1).join("");
  return /[^\p{Z}\p{Default_Ignorable_Code_Point}]/u.test(name) ? name : "";
}

/**
 * Whether this tab has the browser's identity. One open tab at a time has it; every other
 * tab gets an identity of its own, so that two tabs can talk.
 */
const keeper = await new Promise((resolve) => {
  if (!navigator.locks) return resolve(true); // on plain http
  navigator.locks.request("roomcast.identity", { ifAvailable: true }, (lock) => {
    resolve(!!lock);
    return lock && new Promise(() => {});
  }).catch(() => resolve(false));
});

/** After a reload a tab keeps its identity, from its own storage. */
const reloaded = (() => {
  try { return !!session.getItem("roomcast.tab"); } catch { return false; } finally {
    try { session.setItem("roomcast.tab", "1"); } catch {}
  }
})();

translate();
let room = addressed();
let rooms = recall("rooms", []).filter((name) => typeof name === "string");
const read = recall("read", {}); // room -> the last seq that was in view
const elsewhere = new Map(); // room -> number of messages while another room was shown
const typers = new Map(); // id -> {name, timer}
const c = connect({
  name: cleanName(recall("name", "")),
  storage: session,
  ...(keeper && !reloaded && { resume: recall("resume", "") }),
});

const timeline = new Timeline($("scroll"), $("log"), $("outbox"), {
  read: (page) => c.history(page, room),
  isMine: (event) => event.from.id === c.you?.id,
  seen: (seq) => { if (read[room] !== seq) { read[room] = seq; keepRead(); } },
  retry: (saying) => { if (!c.rooms.includes(room)) c.join(room); c.retry(saying); },
  changed,
});

let keptRead = 0;
function keepRead() { keptRead ||= setTimeout(() => { keptRead = 0; keep("read", read); }, 500); }
addEventListener("pagehide", () => keep("read", read));

// Rooms

/** Shows a room. Rooms that were shown before stay joined, and their new messages are counted. */
function show(name, { push = false } = {}) {
  room = name;
  if (!rooms.includes(name)) rooms.push(name);
  for (const old of rooms.splice(0, Math.max(0, rooms.length - MOST_ROOMS))) c.leave(old);
  keep("rooms", rooms);
  elsewhere.delete(name);
  if (push) history.pushState(null, "", new URL(`?group=${encodeURIComponent(name)}`, home));
  for (const { timer } of typers.values()) clearTimeout(timer);
  typers.clear();
  $("title").textContent = name;
  if (c.state !== "closed" || !c.you) ended();
  timeline.begin(read[name]);
  for (const saying of c.pending(name)) timeline.outgoing(saying);
  if (c.rooms.includes(name)) timeline.jump().catch(report);
  else c.join(name);
  people(new Map(), 0);
  showTyping();
  showRooms();
  whoIsHere(true);
  changed();
}

function showRooms() {
  $("rooms").replaceChildren(...rooms.map((name) => {
    const item = document.createElement("li"), go = document.createElement("button");
    go.append(Object.assign(document.createElement("bdi"), { textContent: name }));
    go.ariaCurrent = name === room ? "page" : null;
    go.onclick = () => { drawer(false); if (name !== room) show(name, { push: true }); $("text").focus(); };
    item.append(go);
    const count = elsewhere.get(name);
    if (count) go.append(Object.assign(document.createElement("b"), { textContent: count > 99 ? "99+" : count }));
    if (name !== room) {
      const remove = Object.assign(document.createElement("button"), { className: "remove", textContent: "×", ariaLabel: words.remove(name) });
      remove.onclick = () => {
        rooms = rooms.filter((r) => r !== name);
        keep("rooms", rooms);
        c.leave(name);
        elsewhere.delete(name);
        showRooms();
        changed();
      };
      item.append(remove);
    }
    return item;
  }));
}

$("enter").onsubmit = (e) => {
  e.preventDefault();
  const name = $("room").value.trim();
  if (!name) return;
  $("room").value = "";
  drawer(false);
  show(name, { push: true });
  $("text").focus();
};
addEventListener("popstate", () => show(addressed()));

// Members

let here = new Map(); // id -> identity; empty in rooms that are too large for a list
let asking = 0;

/** Asks for the members soon, at a random time: after a join all members of a room ask. */
function whoIsHere(soon) {
  clearTimeout(asking);
  asking = setTimeout(askWho, soon ? 50 : 1000 + Math.random() * Math.min(30_000, here.size * 100));
}
async function askWho() {
  const asked = room;
  try {
    const { count, members } = await c.members(asked);
    if (asked === room) people(new Map((members ?? []).map((who) => [who.id, who])), count);
  } catch {} // the next join, leave or connection asks again
}

function people(members, count) {
  here = members;
  const list = [...members.values()].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
  $("people").replaceChildren(...list.map((who) => {
    const item = document.createElement("li");
    item.append(face(who), Object.assign(document.createElement("bdi"), { textContent: nameOf(who) }));
    if (who.id === c.you?.id) item.append(Object.assign(document.createElement("small"), { textContent: words.you }));
    return item;
  }));
  const n = list.length || count; // a person with several tabs counts once
  $("count").textContent = n || "";
  $("present").textContent = n ? words.present(n) : "";
}

function face(who, el = Object.assign(document.createElement("span"), { className: "face", ariaHidden: "true" })) {
  el.textContent = initialOf(nameOf(who));
  el.style.setProperty("--hue", hueOf(who.id));
  return el;
}

function showMe() {
  const me = { id: c.you?.id ?? "", name: c.name };
  face(me, $("face"));
  $("name").value = c.name;
  $("text").placeholder = me.id ? words.writeAs(nameOf(me)) : words.write;
}

$("me").onsubmit = (e) => { e.preventDefault(); $("name").blur(); drawer(false); $("text").focus(); };
$("name").onchange = () => {
  const name = cleanName($("name").value);
  $("name").value = name;
  if (name === c.name) return;
  c.name = name;
  keep("name", name);
  showMe();
  if (c.state !== "closed") c.reconnect(); // the server learns a name when a session begins
};

function showTyping() {
  const names = [...typers.values()].map(({ name }) => name);
  $("typing").textContent = names.length ? words.typing(names) : "";
}
function stopTyping(id) {
  clearTimeout(typers.get(id)?.timer);
  if (typers.delete(id)) showTyping();
}

// The connection

let shownOpen = false; // the last line about the connection said "connected"
let countdown = 0;

c.addEventListener("state", ({ detail: { state, code, reason, ms } }) => {
  clearInterval(countdown);
  document.body.dataset.state = state;
  const say = (text) => { $("state").lastElementChild.textContent = text; };
  if (state === "waiting") {
    const until = Date.now() + ms;
    const tick = () => say(words.waiting(Math.ceil((until - Date.now()) / 1000)));
    tick();
    countdown = setInterval(tick, 1000);
  } else {
    say(words.states[state]);
  }
  if (state === "open") {
    if (!shownOpen) timeline.note(words.connected);
    shownOpen = true;
    if (keeper) keep("resume", c.resume);
    showMe();
  } else if (shownOpen && state !== "connecting") {
    timeline.note(words.disconnected);
    shownOpen = false;
  }
  const closed = state === "closed";
  $("close").hidden = closed;
  ended(closed && (words.closes[code] ?? words.ended(reason)), words.again, () => c.reconnect());
});

/** Shows above the composer why messages cannot be sent, and a button that helps. */
function ended(why, word, act) {
  $("ended").hidden = !why;
  $("composer").classList.toggle("off", !!why);
  if (!why) return;
  $("ended").firstElementChild.textContent = why;
  $("again").textContent = word;
  $("again").hidden = !word;
  $("again").onclick = () => { ended(); act(); $("text").focus(); };
}

$("close").onclick = () => { c.close(); $("again").focus(); };

c.addEventListener("join", ({ detail }) => {
  if (detail.room !== room) return;
  ended();
  if (!timeline.loaded) timeline.jump().catch(report);
  whoIsHere(true);
});

c.addEventListener("refused", ({ detail }) => {
  if (detail.room === room && !c.rooms.includes(room)) {
    const never = detail.code === "bad_room"; // the name is not valid, so neither retry nor remember it
    if (never) {
      rooms = rooms.filter((name) => name !== room);
      keep("rooms", rooms);
      showRooms();
    }
    ended(refusalText(detail), never ? "" : words.retry, () => { if (!c.rooms.includes(room)) c.join(room); });
  }
});

c.addEventListener("event", ({ detail: event }) => {
  if (event.room !== room) {
    if (!event.kind) elsewhere.set(event.room, (elsewhere.get(event.room) ?? 0) + 1);
    laterRooms();
    return;
  }
  stopTyping(event.from.id);
  timeline.add(event);
  if (!event.kind && event.from.id !== c.you?.id && event.text) announce(`${nameOf(event.from)}: ${event.text.slice(0, 300)}`);
});

let roomsDue = 0;
function laterRooms() { roomsDue ||= setTimeout(() => { roomsDue = 0; showRooms(); changed(); }, 100); }

let announced = 0;
function announce(text) { // at most one a second, so that a screen reader can keep up
  announced ||= setTimeout(() => { announced = 0; $("announce").textContent = text; }, 1000);
}

c.addEventListener("gap", ({ detail }) => {
  if (detail.room !== room) return;
  if (detail.reason === "reset") {
    timeline.begin();
    timeline.note(words.reset);
    timeline.jump().catch(report);
  } else {
    timeline.note((detail.reason === "damaged" ? words.damaged : words.gap)(detail.to - detail.from + 1));
  }
});

c.addEventListener("saying", ({ detail }) => { if (detail.room === room) timeline.outgoing(detail); });
c.addEventListener("joined", ({ detail: { room: where, id, name, count } }) => {
  if (where !== room) return;
  people(id && here.size ? new Map(here).set(id, { id, name }) : here, count);
  whoIsHere();
});
c.addEventListener("left", ({ detail: { room: where, id, count } }) => {
  if (where !== room) return;
  stopTyping(id);
  if (id !== c.you?.id) here.delete(id);
  people(here, count);
  whoIsHere();
});

c.addEventListener("signal", ({ detail }) => {
  const { from, type } = detail;
  if (detail.room !== room || type !== "typing" || from.id === c.you?.id) return;
  clearTimeout(typers.get(from.id)?.timer);
  typers.set(from.id, { name: nameOf(from), timer: setTimeout(stopTyping, 5000, from.id) });
  showTyping();
});

// Writing

function grow() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
}
$("text").oninput = () => { grow(); if ($("text").value) c.typing(room); };
$("text").onkeydown = (e) => {
  // 229: the key belongs to an input method that is composing.
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing && e.keyCode !== 229) { e.preventDefault(); send(); }
};
$("composer").onsubmit = (e) => { e.preventDefault(); send(); };

function send() {
  const text = $("text").value;
  if (!text.trim() || !$("ended").hidden) return;
  $("text").value = "";
  grow();
  timeline.caughtUp();
  c.say({ text, line: true }, room);
  timeline.jump().catch(report);
  $("text").focus();
}

// The rest of the page

function changed() {
  const away = [...elsewhere.values()].reduce((sum, n) => sum + n, 0);
  document.title = `${timeline?.unread ? `(${timeline.unread}) ` : ""}${room} · Roomcast`;
  $("jump").hidden = timeline.stuck;
  $("jump").firstElementChild.textContent = words.newest(timeline.unread);
  $("elsewhere").hidden = !away;
  $("top").textContent = words[timeline.top] ?? "";
}
$("jump").onclick = () => { timeline.jump().catch(report); $("text").focus(); };

function drawer(open) {
  document.body.classList.toggle("drawer", open);
  $("menu").ariaExpanded = open;
  if (open) $("room").focus({ preventScroll: true });
}
$("menu").onclick = () => drawer(!document.body.classList.contains("drawer"));
$("shade").onclick = () => drawer(false);

addEventListener("keydown", (e) => {
  if (e.key === "Escape") {
    if (document.body.classList.contains("drawer")) { drawer(false); $("menu").focus(); return; }
    if (document.activeElement === $("text") && !timeline.stuck) timeline.jump().catch(report);
    $("text").focus();
  } else if (e.key.length === 1 && !e.ctrlKey && !e.metaKey && !e.altKey && e.key !== " " && document.activeElement === document.body) {
    $("text").focus(); // typing anywhere goes into the message
  }
});

document.addEventListener("visibilitychange", () => { if (!document.hidden) whoIsHere(true); });

// On some phones the keyboard covers the page instead of shrinking it.
visualViewport?.addEventListener("resize", () => {
  const { scale, height } = visualViewport;
  document.documentElement.style.setProperty("--height", scale === 1 && height < innerHeight - 1 ? `${height}px` : "100dvh");
});

function report(error) { console.error(error); }

show(room);
showMe();
document.body.dataset.state = c.state;
if (matchMedia("(hover: hover)").matches) $("text").focus(); // not on a phone, where it would open the keyboard
