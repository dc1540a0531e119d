// page.js: the chat page. It connects the parts. start.js makes the connection, timeline.js shows
// the messages, rooms.js the rooms, and people.js the people. words.js has the texts. Two files are
// loaded later. welcome.js, which helps a new visitor, is loaded after everything else.
// moderate.js, which has the menus, is loaded when the reader opens the first menu.

import { Announcer, People, face } from "./people.js";
import { Rooms, roomName } from "./rooms.js";
import { c, cleanName, copied, keep, keeper, newest } from "./start.js";
import { Timeline } from "./timeline.js";
import { closeText, failureText, nameOf, refusalText, translate, whenOf, words } from "./words.js";

const $ = (id) => document.getElementById(id);
const home = new URL(".", import.meta.url); // the server's root, which may be below a path
const REJOIN = 10_000; // ms between two attempts to enter a closed room

/** The room in the page's URL: /room/NAME/ or /?group=NAME, below home. */
function addressed() {
  const [, inPath] = /^room\/([^/]+)\/?$/.exec(location.pathname.slice(home.pathname.length)) ?? [];
  try { if (inPath) return decodeURIComponent(inPath); } catch {}
  // No room name contains a space, so a space here was a "+" in the URL.
  return new URLSearchParams(location.search).get("group")?.replaceAll(" ", "+") || "123";
}

translate();
let room; // the room on the page
const rooms = new Rooms($("rooms"), {
  go(name) { drawer(false); if (name !== room.name) show(name, { push: true }); $("text").focus(); },
  left(name) { c.rooms.find((r) => r.name === name)?.leave(); },
  changed,
});
const people = new People($("people"), $("count"), $("present"), $("typing"), (button, who) => menu((m) => m.person(button, who)));
const announcer = new Announcer($("announce"));
let facts, greet; // of welcome.js
const timeline = new Timeline($("scroll"), $("log"), $("outbox"), {
  async read(page) {
    const answer = await room.history(page);
    for (const { from } of answer.events) if (from.name) names.set(from.id, from.name);
    return answer;
  },
  isMine: (event) => event.from.id === c.you?.id,
  seen: (seq) => rooms.seen(room.name, seq),
  retry: (message) => { room.join(); room.retry(message); },
  menu: (button, event) => menu((m) => m.message(button, event)),
  undo: (event) => menu((m) => m.undo(event)),
  named: (id) => names.get(id) || people.named(id),
  changed,
});

// Acts of moderators, and of everybody on their own messages

const names = new Map(); // id -> the newest name of a sender, to describe acts after the person has left
const rights = new Map(); // Room -> our rights there
let moderation;

/** Loads moderate.js if necessary, and shows one of its menus. */
async function menu(show) {
  try { moderation ??= new (await import("./moderate.js")).Moderation({ room: () => room, me: () => c.you, moderator, edit, failed: notDone }); } catch { return; } // no network
  show(moderation);
}
const moderator = () => /\bmoderate\b/.test(rights.get(room));

function notDone(error) {
  const text = words.notDone(refusalText(error));
  timeline.note(text);
  announcer.say(text);
}

/** Shows what our rights in the room allow. */
function showRights() {
  document.body.classList.toggle("moderator", moderator());
  $("moderate").hidden = !moderator();
}
$("moderate").onclick = () => menu((m) => m.room($("moderate")));

const mutes = new Map(); // Room -> {until, why} while we are muted there
let unmute = 0;

/** Stores a mute or unmute of us, and shows it above the field. */
function muted(r, { kind, member, until, why }) {
  if (member !== c.you?.id && !(member === "*guests" && c.you?.id.startsWith("anon-"))) return;
  if (kind === "muted") mutes.set(r, { until: until && new Date(until), why });
  else if (kind === "unmuted") mutes.delete(r);
  showMute();
}

function showMute() {
  clearTimeout(unmute);
  let mute = mutes.get(room);
  if (mute?.until <= new Date()) mute = mutes.delete(room) && undefined;
  if (mute?.until) unmute = setTimeout(showMute, Math.min(mute.until - new Date(), 2 ** 31 - 1));
  $("muted").hidden = !mute;
  $("muted").textContent = mute ? words.mutedNow(mute.until && whenOf(mute.until), mute.why) : "";
  showOff();
}

/** Shows whether messages can be written. */
function showOff() {
  const off = !$("muted").hidden || !$("ended").hidden;
  $("composer").classList.toggle("off", off);
  $("send").disabled = off;
}

let editing = null; // our event that the reader is editing in the field

function edit(event) {
  if (!editing) rooms.setDraft(room.name, $("text").value);
  editing = event;
  write(event.text);
}

/** Puts a text into the field: a draft, or the message to edit. */
function write(text) {
  $("editing").hidden = !editing;
  $("send").textContent = editing ? words.save : words.send;
  $("text").value = text;
  grow();
  if (editing) $("text").focus();
}

function endEdit() {
  if (!editing) return;
  editing = null;
  write(rooms.draft(room.name));
}
$("noEdit").onclick = () => { endEdit(); $("text").focus(); };

// Rooms

/** Joins a room and returns it. Rooms that were shown before stay joined, and the page counts their new messages. */
function joined(name) {
  const known = c.rooms.find((r) => r.name === name);
  if (known) return known;
  const r = c.room(name), here = (f) => (detail) => { if (r === room) f(detail); };
  let counted = false;
  r.on("state", ({ state, seq, rights: ours, muted: mute, until }) => {
    if (state === "joined") {
      rights.set(r, ours);
      if (mute) mutes.set(r, { until: until && new Date(until), why: mutes.get(r)?.why });
      else mutes.delete(r);
    }
    if (state === "joined" && r !== room && !counted && r.seq > rooms.readTo(name)) rooms.count(name, seq - rooms.readTo(name));
    counted ||= state === "joined";
  });
  r.on("state", here(({ state }) => {
    showLink();
    if (state !== "joined") return;
    ended();
    showRights();
    showMute();
    people.show(r.members, c.you);
    if (!timeline.loaded) timeline.jump().catch(report);
  }));
  r.on("refused", here(refused));
  r.on("event", (event) => {
    if (event.from.name) names.set(event.from.id, event.from.name);
    if (event.member && !event.replay) muted(r, event);
    if (r !== room) return event.kind || event.from.id === c.you?.id || rooms.count(name, 1);
    people.stopTyping(event.from.id);
    timeline.add(event);
    facts?.show(room);
    if (!event.kind && event.from.id !== c.you?.id) announcer.said(event);
  });
  r.on("replayed", here((replay) => {
    facts?.replayed(replay);
    if (replay.resumed && (replay.events || !replay.exact)) timeline.note(words.resumed(replay.events, replay.exact));
  }));
  r.on("gap", here(({ reason, from, to }) => {
    if (reason !== "reset") return timeline.note((reason === "damaged" ? words.damaged : words.gap)(to - from + 1));
    timeline.begin();
    timeline.note(words.reset);
    timeline.jump().catch(report);
  }));
  r.on("message", (message) => {
    showBar();
    if (r !== room) return;
    timeline.outgoing(message);
    if (message.error?.code === "muted" && !mutes.has(r)) muted(r, { kind: "muted", member: c.you.id });
    if (message.state === "failed" && message.error.code !== "closed_by_word") announcer.say(failureText(message.error));
    if (message.took) facts?.stored(message.took);
    facts?.show(room);
  });
  r.on("delayed", here((error) => {
    if (!delay) announcer.say(refusalText(error));
    delay = error;
    showBar();
  }));
  r.on("members", here((members) => people.show(members, c.you)));
  r.on("left", here(({ id }) => people.stopTyping(id)));
  r.on("signal", here(({ type, from }) => { if (type === "typing" && from.id !== c.you?.id) people.typing(from); }));
  return r;
}

function show(name, { push = false } = {}) {
  endEdit();
  delay = null;
  if (room) rooms.setDraft(room.name, $("text").value);
  if (push) history.pushState(null, "", new URL(`?group=${encodeURIComponent(name)}`, home));
  const read = rooms.readTo(name);
  for (const gone of rooms.add(name)) c.rooms.find((r) => r.name === gone)?.leave();
  rooms.unread.delete(name);
  $("title").textContent = name;
  if (c.state !== "closed" || !c.you) ended();
  room = joined(name);
  showLink();
  timeline.begin(read);
  for (const message of room.pending) timeline.outgoing(message);
  if (room.state === "refused") room.join();
  else if (room.state === "joined") timeline.jump().catch(report);
  people.begin(room.members, c.you);
  rooms.show(name);
  facts?.show(room);
  write(rooms.draft(name));
  showRights();
  showMute();
  showBar();
  changed();
}

let rejoin = 0;
function refused(error) {
  clearTimeout(rejoin);
  if (room.state !== "refused") return;
  const here = room, again = () => { if (here === room) here.join(); };
  const never = error.code === "bad_room"; // the name is not valid, so neither retry nor remember it
  if (never) {
    rooms.remove(here.name);
    rooms.show();
    badRoom(here.name);
  }
  if (error.code === "room_closed") rejoin = setTimeout(again, REJOIN); // the server does not report when it is open again
  if (error.code === "room_closed" && moderator()) return ended(refusalText(error), words.reopen, () => here.moderate("reopen").then(again, notDone));
  ended(refusalText(error), never ? "" : words.retry, again);
}

/** Shows at the field that a room cannot have this name, and offers a similar name. */
function badRoom(name) {
  const better = roomName(name);
  $("room").value = better === name ? "" : better;
  $("room").ariaInvalid = "true";
  $("badRoom").textContent = words.badRoom($("room").value);
}
const goodRoom = () => { $("room").ariaInvalid = null; $("badRoom").textContent = ""; };
$("room").oninput = goodRoom;
$("enter").onsubmit = (e) => {
  e.preventDefault();
  const name = $("room").value.trim();
  if (!name) return $("room").focus();
  if (name !== roomName(name)) return badRoom(name);
  $("room").value = "";
  goodRoom();
  drawer(false);
  show(name, { push: true });
  $("text").focus();
};
addEventListener("popstate", () => show(addressed()));

// Me

function showMe() {
  const me = { id: c.you?.id ?? "", name: c.state === "open" ? c.you.name : c.name };
  face(me, $("face"));
  $("name").value = me.name ?? "";
  $("name").placeholder = me.id ? nameOf(me) : words.yourName;
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
  if (c.state !== "closed") c.reconnect(); // the server takes a name only at the beginning of a session
};

// The connection

let shownOpen = true; // the last line about the connection does not say "disconnected"
let countdown = 0;

/** Shows whether we are connected, and in the room. A screen reader announces each change. */
function showLink() {
  Object.assign(document.body.dataset, { state: c.state, room: room.state });
  const text = words.states[c.state === "open" && room.state === "refused" ? "refused" : c.state];
  if ($("stateText").textContent !== text) $("stateText").textContent = text;
}

function showState({ state, code, reason, ms }) {
  clearInterval(countdown);
  $("seconds").textContent = "";
  showLink();
  if (state === "waiting") {
    const until = performance.now() + ms;
    const tick = () => { $("seconds").textContent = words.seconds(Math.ceil((until - performance.now()) / 1000)); };
    tick();
    countdown = setInterval(tick, 1000);
  }
  if (state === "open") {
    if (!shownOpen) timeline.note(words.connected);
    shownOpen = true;
    if (keeper) keep("resume", c.resume);
    facts?.opened();
    showMe();
  } else if (shownOpen && state !== "connecting" && c.you) {
    timeline.note(words.disconnected);
    shownOpen = false;
  }
  const closed = state === "closed";
  $("close").hidden = closed;
  showBar();
  if (closed || room?.state !== "refused") ended(closed && closeText(code, reason), words.again, () => c.reconnect());
}
c.on("state", showState);
c.on("unstored", () => { $("bar").dataset.unstored = words.unstored; });

let delay = null; // why the server does not store the messages of the room yet

/** Shows above the composer an outage, and how many messages wait to be sent. */
function showBar() {
  const down = (c.state === "waiting" || c.state === "connecting") && !!c.you;
  const waiting = room?.pending.length ?? 0, others = c.pending.length - waiting;
  if (!waiting || down) delay = null;
  $("bar").hidden = !down && !delay && !(others && c.state === "open");
  const why = down ? (navigator.onLine === false ? words.stillOffline : words.outage) : delay && refusalText(delay);
  const parts = [why, why && waiting && words.queue(waiting), others && words.elsewhereQueued(others)];
  $("barText").textContent = parts.filter(Boolean).join(" ");
  $("now").hidden = c.state !== "waiting";
}
$("now").onclick = () => c.reconnect();

/** Shows above the composer why messages cannot be sent, and a button that helps. */
function ended(why, word, act) {
  $("ended").hidden = !why;
  showOff();
  if (!why) return;
  $("ended").firstElementChild.textContent = why;
  $("again").textContent = word;
  $("again").hidden = !word;
  $("again").onclick = () => { ended(); act(); $("text").focus(); };
}

$("close").onclick = () => { c.close(); $("again").focus(); };

// Writing

function grow() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
}
$("text").oninput = () => {
  grow();
  if (editing) return;
  rooms.setDraft(room.name, $("text").value);
  if ($("text").value) room.typing();
};
const composing = (e) => e.isComposing || e.keyCode === 229; // an input method handles the key
$("text").onkeydown = (e) => {
  if (e.key === "Enter" && !e.shiftKey && !composing(e)) { e.preventDefault(); send(); }
  if (e.key === "Escape" && editing && !composing(e)) { e.stopPropagation(); endEdit(); }
};
$("composer").onsubmit = (e) => { e.preventDefault(); send(); };

function send() {
  const text = $("text").value;
  if (!text.trim() || !$("ended").hidden || !$("muted").hidden) return;
  if (editing) {
    const { seq, text: before } = editing;
    endEdit();
    if (text !== before) room.edit(seq, text).catch(notDone);
    return $("text").focus();
  }
  $("text").value = "";
  rooms.setDraft(room.name, "");
  grow();
  timeline.caughtUp();
  room.send({ text, line: true });
  timeline.jump().catch(report);
  $("text").focus();
}

// The rest of the page

function changed() {
  const away = [...rooms.unread.values()].reduce((sum, n) => sum + n, 0), unread = timeline.unread + away;
  document.title = `${unread ? `(${unread}) ` : ""}${room?.name ?? ""} · Roomcast`;
  const icon = new URL(unread ? "icon-unread.svg" : "icon.svg", home).href;
  if ($("icon").href !== icon) $("icon").href = icon;
  $("jump").hidden = timeline.stuck;
  $("jump").firstElementChild.textContent = words.newest(timeline.unread);
  $("elsewhere").hidden = !away;
  $("top").textContent = words[timeline.top] ?? "";
  const above = timeline.above, day = timeline.stuck && !above ? "" : timeline.day;
  $("toUnread").hidden = !above;
  if (above) $("toUnread").lastElementChild.textContent = words.toUnread(above);
  $("day").hidden = !day;
  if ($("day").textContent !== day) $("day").textContent = day;
  if (room) greet?.();
}
$("jump").onclick = () => { timeline.jump().catch(report); $("text").focus(); };
$("toUnread").onclick = () => { timeline.toUnread().catch(report); $("scroll").focus(); };

const narrow = matchMedia("(max-width: 760px)");
function drawer(open) {
  const was = document.body.classList.contains("drawer");
  document.body.classList.toggle("drawer", open);
  $("menu").ariaExpanded = open;
  document.querySelector("main").inert = open && narrow.matches;
  if (open) ($("rooms").querySelector("[aria-current]") ?? $("room")).focus({ preventScroll: true });
  else if (was && document.activeElement === document.body) $("menu").focus();
}
$("menu").onclick = () => drawer(!document.body.classList.contains("drawer"));
$("shade").onclick = () => drawer(false);

addEventListener("keydown", (e) => {
  if (composing(e)) return;
  if (e.key === "Escape") {
    if (document.body.classList.contains("drawer")) { drawer(false); $("menu").focus(); return; }
    if (document.activeElement === $("text") && !timeline.stuck) timeline.jump().catch(report);
    $("text").focus();
  } else if (e.key.length === 1 && !e.ctrlKey && !e.metaKey && !e.altKey && e.key !== " " && document.activeElement === document.body) {
    $("text").focus(); // typing anywhere goes into the message
  }
});

// On some phones the keyboard covers the page instead of shrinking it.
visualViewport?.addEventListener("resize", () => {
  const { scale, height } = visualViewport;
  document.documentElement.style.setProperty("--height", scale === 1 && height < innerHeight - 1 ? `${height}px` : "100dvh");
});

/** Loads two parts that the first view does not need: the card of an empty room, and the panel with details. */
async function loadHelp() {
  const { Facts, welcome } = await import("./welcome.js").catch(() => ({}));
  if (!Facts) return; // no network
  facts = new Facts($("facts"), $("factsButton"), c);
  if (c.state === "open") facts.opened();
  facts.show(room);
  greet = welcome($("welcome"), {
    home, room: () => room.name, me: () => nameOf({ id: c.you?.id, name: c.name }), wanted: () => timeline.empty && !!c.you,
    name() { if (narrow.matches) drawer(true); $("name").focus(); },
  });
  greet();
}

function report(error) { if (!error.code) console.error(error); }

for (const { room: name } of c.pending) rooms.add(name, { shown: false }); // so that their unsent messages are sent too
show(addressed());
for (const name of rooms.names) joined(name);
showMe();
if (copied) timeline.note(words.newIdentity);
showState(newest);
loadHelp();
if (matchMedia("(hover: hover)").matches) $("text").focus(); // not on a phone, where it would open the keyboard
