// words.js: the texts of the first view in the browser's language, and the format of names and times.

const en = {
  rooms: "Rooms", people: "Here now", enterRoom: "Go to a room…", yourName: "Your name", menu: "Rooms and people", side: "Rooms and people",
  messages: "Messages", write: "Write a message", writeAs: (name) => `Message as ${name}`, send: "Send", close: "Disconnect", again: "Reconnect", retry: "Try again",
  discard: "Discard", remove: (room) => `Remove ${room}`, more: "Show all", less: "Show less", you: "you", guest: "Guest",
  connected: "Connected again", disconnected: "Disconnected", deleted: "This message was deleted", edited: "edited", sent: "sent",
  states: { connecting: "Connecting…", open: "Connected", refused: "Not in the room", waiting: "Reconnecting", closed: "Disconnected" },
  seconds: (s) => (s > 0 ? ` in ${s} s` : "…"), now: "Now",
  outage: "There is no connection.", stillOffline: "Your device is offline.",
  queue: (n) => (n === 1 ? "1 message waits to be sent." : `${n} messages wait to be sent.`),
  elsewhereQueued: (n) => (n === 1 ? "1 message waits in another room." : `${n} messages wait in other rooms.`),
  roomSaid: (who, n) => (n > 1 ? `${who} and ${n - 1} more` : who), notSent: (text) => `Not sent: ${text}`,
  loadingOlder: "Loading older messages…", toUnread: (n) => (n > 1 ? `${n} unread messages` : "1 unread message"),
  badRoom: (name) => (name ? `A room name has no spaces and few symbols. Try ${name}` : "A room name has letters, digits and _ - : @ + ~ ="),
  partial: (shown, n) => `${shown} of ${n}`, facts: "Details",
  stored: (ms) => `stored after ${ms} ms`, resumed: (n, exact) => (exact ? `Resumed: exactly ${n} ${n === 1 ? "message" : "messages"} missed, all here` : `Resumed with a gap: ${n} ${n === 1 ? "message" : "messages"} received`),
  unstored: "This browser cannot store the messages that wait: keep the page open.",
  newIdentity: "This tab is a copy of another one. It has a name of its own now.",
  present: (n) => (n === 1 ? "Just you" : `${n} people here`),
  newest: (n) => (n ? (n === 1 ? "1 new message" : `${n} new messages`) : "Newest"),
  unread: "New", sending: "sending…", queued: "waiting",
  typing: (names) => (names.length > 2 ? `${names.length} people are typing…` : `${names.join(" and ")} ${names.length > 1 ? "are" : "is"} typing…`),
  closedRoom: (why) => `The room was closed${why ? `: ${why}` : ""}`, reopenedRoom: "The room is open again",
  act({ kind, every, why }, name, until) {
    const who = name === "*guests" ? "All guests" : name, are = name === "*guests" ? "are" : "is", were = name === "*guests" ? "were" : "was", end = until ? ` until ${until}` : "";
    const said = {
      kicked: `${who} ${were} removed from the room`, banned: `${who} ${were} banned${end}`, unbanned: `${who} ${are} no longer banned`, muted: `${who} ${were} muted${end}`,
      unmuted: `${who} ${are} no longer muted`, slowed: every === "0s" ? "The room is no longer slow" : `Everybody may write one message in ${durationOf(every)}`,
    };
    return (said[kind] ?? kind) + (why ? ` (${why})` : "");
  },
  gap: (n) => (n === 1 ? "1 message is no longer available" : `${n} messages are no longer available`),
  damaged: (n) => (n === 1 ? "1 message is damaged and cannot be shown" : `${n} messages are damaged and cannot be shown`),
  trimmed: "Older messages are no longer available", reset: "This room has a new history", begin: "This is the beginning of the room",
  binary: (n) => `${n} bytes`, uncertain: "It is unknown whether this message was stored.",
  actions: (name) => `What to do about ${name}`, moderate: "Moderate", undo: "Undo", reopen: "Open the room again", cancel: "Cancel", save: "Save",
  editing: "You are editing a message", notDone: (text) => `Not done: ${text}`,
  mutedNow: (until, why) => `You cannot write here${until ? ` until ${until}` : ""}: a moderator has muted you${why ? ` (${why})` : ""}.`,
  codes: {
    muted: "A moderator has muted you in this room.", banned: "A moderator has banned you from this room.", kicked: "A moderator removed you from this room.", room_closed: "This room has been closed.",
    rate_limited: "You write faster than allowed.", unavailable: "The server cannot store messages now.", forbidden: "You do not have the right to do this.",
    unauthorized: "A valid token is needed.", bad_room: "A room name has letters, digits and _ - : @ + ~ =, single dots between its parts, and at most 64 characters.",
  },
  closes: {
    1000: "The connection was closed.", 1009: "The message was too long.", 4100: "This room has been closed.", 4101: "You were removed from the room.",
    4102: "You were banned from the room.", 4103: "Your token is not accepted.", 4105: "You sent messages too fast for too long.",
    4003: "Your token has expired.", 4106: "You do not have the right to be in this room.",
    4107: "Please log in. Open the link that your application gave you, or add #token=… to the address of this page.",
  },
  closed: "The connection was closed.", because: (text, why) => `${text.replace(/\.$/, "")}: ${why}`,
};

const zh = {
  rooms: "房间", people: "在线", enterRoom: "进入房间…", yourName: "你的名字", menu: "房间与成员", side: "房间与成员",
  messages: "消息", write: "输入消息", writeAs: (name) => `以“${name}”的名义发言`, send: "发送", close: "关闭连接", again: "重新连接", retry: "重试",
  discard: "放弃", remove: (room) => `移除 ${room}`, more: "展开全文", less: "收起", you: "你", guest: "访客",
  connected: "【连接成功】", disconnected: "【断开连接】", deleted: "此消息已删除", edited: "已编辑", sent: "已发送",
  states: { connecting: "连接中…", open: "已连接", refused: "不在房间中", waiting: "重连中", closed: "已断开" },
  seconds: (s) => (s > 0 ? `，${s} 秒后` : "…"), now: "立即",
  outage: "连接已断开。", stillOffline: "设备处于离线状态。",
  queue: (n) => `${n} 条消息等待发送。`, elsewhereQueued: (n) => `其他房间有 ${n} 条消息等待发送。`,
  roomSaid: (who, n) => (n > 1 ? `${who} 等 ${n} 条消息` : who), notSent: (text) => `未发送：${text}`,
  loadingOlder: "正在加载更早的消息…", toUnread: (n) => `${n} 条未读消息`,
  badRoom: (name) => (name ? `房间名不能有空格和多数符号。试试 ${name}` : "这不是房间名：请用文字、数字和 _ - : @ + ~ ="),
  partial: (shown, n) => `${shown} / ${n}`, facts: "详情",
  stored: (ms) => `${ms} 毫秒后已存储`, resumed: (n, exact) => (exact ? `已恢复：错过的 ${n} 条消息全部补齐` : `已恢复，但有缺失：收到 ${n} 条消息`),
  unstored: "浏览器无法保存等待发送的消息：请不要关闭页面。",
  newIdentity: "此标签页是另一个标签页的副本，现在有了自己的身份。",
  present: (n) => (n === 1 ? "只有你" : `${n} 人在线`),
  newest: (n) => (n ? `${n} 条新消息` : "最新消息"),
  unread: "新消息", sending: "发送中…", queued: "等待",
  typing: (names) => (names.length > 2 ? `${names.length} 人正在输入…` : `${names.join("、")} 正在输入…`),
  closedRoom: (why) => `房间已关闭${why ? `：${why}` : ""}`, reopenedRoom: "房间已重新开放",
  act({ kind, every, why }, name, until) {
    const who = name === "*guests" ? "所有访客" : name, end = until ? `至 ${until}` : "";
    const said = {
      kicked: `${who}：已被移出房间`, banned: `${who}：已被封禁${end}`, unbanned: `${who}：已解除封禁`, muted: `${who}：已被禁言${end}`,
      unmuted: `${who}：已解除禁言`, slowed: every === "0s" ? "房间已取消慢速模式" : `每 ${durationOf(every)} 限一条消息`,
    };
    return (said[kind] ?? kind) + (why ? `（${why}）` : "");
  },
  gap: (n) => `有 ${n} 条消息已不再保留`, damaged: (n) => `有 ${n} 条消息已损坏，无法显示`, trimmed: "更早的消息已不再保留", reset: "房间已重新开始", begin: "房间从这里开始",
  binary: (n) => `${n} 字节`, uncertain: "无法确定此消息是否已保存。",
  actions: (name) => `对“${name}”的操作`, moderate: "管理", undo: "撤销", reopen: "重新开放", cancel: "取消", save: "保存",
  editing: "正在编辑消息", notDone: (text) => `未完成：${text}`,
  mutedNow: (until, why) => `你${until ? `在 ${until} 之前` : ""}不能发言：管理员已将你禁言${why ? `（${why}）` : ""}。`,
  codes: {
    muted: "你已被禁言。", banned: "你已被封禁。", kicked: "你已被移出房间。", not_found: "消息或成员不存在。",
    bad_room: "房间名只能由文字、数字和 _ - : @ + ~ = 组成，各部分之间可用单个点，最多 64 个字符。", too_large: "消息太长。", rate_limited: "发送太快，请稍候。", room_closed: "房间已关闭。",
    unauthorized: "需要有效的令牌。", forbidden: "没有权限。", overloaded: "等待发送的消息太多。", unavailable: "服务暂不可用。", internal: "服务器出错了。",
    not_joined: "尚未进入房间。", too_many: "超出了上限。", unsupported: "服务器不支持。",
  },
  closes: {
    1000: "连接已关闭。", 1009: "消息太长。", 4100: "房间已关闭。", 4101: "你已被移出房间。", 4102: "你已被禁止进入。", 4103: "令牌无效。", 4105: "发送过于频繁。",
    4003: "令牌已过期。", 4106: "你没有权限进入。", 4107: "请先登录：打开应用给你的链接，或在本页地址后加上 #token=…",
  },
  closed: "连接已关闭。", because: (text, why) => `${text.replace(/。$/, "")}：${why}`,
};

const asked = new URLSearchParams(location.search).get("lang") ?? navigator.language ?? "en";
const base = /^zh\b/i.test(asked) ? "zh" : "en";
/** The language of times: the requested one, if the page has it and Intl knows the tag. */
export const lang = asked.slice(0, 2).toLowerCase() === base && isTag(asked) ? asked : base;
export const chinese = base === "zh";
export const words = chinese ? zh : en;

/** Reports whether Intl accepts a language tag. Intl throws for others, such as "en--x" or "en-US@posix". @param {string} tag */
function isTag(tag) {
  try { return Intl.getCanonicalLocales(tag).length === 1; } catch { return false; }
}

/** Fills in the texts of the document. */
export function translate() {
  document.documentElement.lang = chinese ? "zh-CN" : "en";
  for (const el of document.querySelectorAll("[data-word]")) el.textContent = words[el.dataset.word];
  for (const el of document.querySelectorAll("[data-placeholder]")) el.placeholder = words[el.dataset.placeholder];
  for (const el of document.querySelectorAll("[data-label]")) el.ariaLabel = words[el.dataset.label];
}

/** A format of times, made at its first use: the browser needs a while to make one. */
function format(options) {
  let made;
  return (date) => (made ??= new Intl.DateTimeFormat(lang, options)).format(date);
}
export const timeOf = format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const fullTime = format({ dateStyle: "full", timeStyle: "medium" });
const short = format({ dateStyle: "short", timeStyle: "short" });
const thisYear = format({ weekday: "long", day: "numeric", month: "long" });
const otherYear = format({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
/** A time on this day, or with its date. */
export const whenOf = (date) => (date.toDateString() === new Date().toDateString() ? timeOf : short)(date);
export const dayOf = (date) => (date.getFullYear() === new Date().getFullYear() ? thisYear : otherYear)(date);

/** A duration of the server, such as "1m30s". */
function durationOf(text = "") {
  const units = { h: "hour", m: "minute", s: "second" }, parts = [...text.matchAll(/([1-9]\d*)(h|m|s)/g)];
  return parts.map(([, n, unit]) => new Intl.NumberFormat(lang, { style: "unit", unit: units[unit], unitDisplay: "long" }).format(n)).join(" ");
}

/** The displayed name of an identity. @param {import("./room.js").Identity} who */
export function nameOf({ id = "", name }) {
  if (name) return name;
  return id.startsWith("anon-") ? `${words.guest} ${id.slice(-4)}` : id;
}

let graphemes;
/** The letter in the circle of a person: the first letter of the name, or the last letter of a guest's id. @param {string} name */
export function initialOf(name) {
  if (Intl.Segmenter) graphemes ??= new Intl.Segmenter(lang, { granularity: "grapheme" });
  const first = graphemes ? graphemes.segment(name)[Symbol.iterator]().next().value?.segment : Array.from(name)[0];
  return (first ?? "·").toUpperCase();
}

/** The hue of an identity, always the same for an id. @param {string} id */
export function hueOf(id) {
  let h = 2166136261;
  for (let i = 0; i < id.length; i++) h = Math.imul(h ^ id.charCodeAt(i), 16777619);
  return (h >>> 0) % 360;
}

/** Text with the reason that a moderator or the application gave. It stands in the server's message, perhaps behind a sentence. */
function because(text, code, message) {
  const why = code === "forbidden" || code === 4106
    ? /^(?!you do not have the right|the application does not allow)[^]*/.exec(message)?.[0]
    : /^(?:the room has been closed|a moderator \w+ you from the room): ([^]+)/.exec(message)?.[1];
  return why ? words.because(text, why) : text;
}

/** A refusal in the reader's language. @param {{code: string, message: string}} refusal */
export const refusalText = ({ code, message }) => (code in words.codes ? because(words.codes[code], code, message) : message);

/** Why one of our messages has failed. A message with the code uncertain may be stored. */
export const failureText = (error) => (error.code === "uncertain" ? words.uncertain : words.notSent(refusalText(error)));

/** Why the connection was closed, in the reader's language. */
export function closeText(code, reason) {
  const text = words.closes[code] ?? words.closed, detailed = code === 4003 || code === 4103 || !(code in words.closes);
  return detailed && reason && !chinese ? words.because(text, reason) : because(text, code, reason); // the server writes English
}
