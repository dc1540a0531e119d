// bubble.js: the content of a message as nodes. No message becomes HTML: texts become text
// nodes, web addresses become links, and text between backquotes becomes code.

import { words } from "./words.js";

const LONG = { chars: 1200, lines: 24 }; // a longer message is folded

export const make = (tag, className, text) => {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (text !== undefined) el.textContent = text;
  return el;
};

/** The content of a message. @param {{text?: string, data?: any, bin?: string, type?: string, deleted?: boolean, edited?: string}} content */
export function bubble({ text, data, bin, type, deleted, edited }) {
  const el = make("div", "bubble");
  el.dir = "auto";
  if (deleted) {
    el.classList.add("gone");
    el.append(words.deleted);
    return el;
  }
  if (type) el.append(make("span", "type", type));
  if (text !== undefined) el.append(formatted(text));
  else if (bin !== undefined) el.append(make("code", "", words.binary(Math.floor((bin.replace(/=+$/, "").length * 3) / 4))));
  else el.append(make("code", "", JSON.stringify(data, null, 2)));
  const shown = el.textContent;
  if (/^(?:\p{Extended_Pictographic}[\p{Emoji_Modifier}\ufe0f\u200d]*){1,3}$/u.test(text ?? "")) el.classList.add("emoji");
  if (shown.length > LONG.chars || shown.split("\n").length > LONG.lines) el.append(fold(el));
  if (edited) el.append(make("small", "edited", words.edited));
  return el;
}

/** Folds a long message. Returns the button that unfolds and folds it. */
function fold(el) {
  const more = make("button", "", words.more);
  el.classList.add("long");
  more.ariaExpanded = "false";
  more.onclick = () => {
    const folded = el.classList.toggle("long");
    el.classList.toggle("open", !folded);
    more.ariaExpanded = String(!folded);
    more.textContent = folded ? words.more : words.less;
  };
  return more;
}

/** Text with code and links. Fences of three backquotes hold blocks of code. @param {string} text */
function formatted(text) {
  const parts = document.createDocumentFragment();
  text.split(/(?:^|(?<=\n))```[^\n`]*\n([^]*?)\n?```(?:\n|$)/).forEach((part, i) => {
    if (i % 2 === 0) {
      part.split(/(?<!`)`([^`\n]+)`(?!`)/).forEach((piece, j) => parts.append(j % 2 ? make("code", "inline", piece) : linked(piece)));
      return;
    }
    const block = make("pre");
    block.tabIndex = 0; // a reader can scroll it with the keyboard
    block.append(make("code", "", part));
    parts.append(block);
  });
  return parts;
}

/** Text with web addresses as links. @param {string} text */
function linked(text) {
  const parts = document.createDocumentFragment();
  text.split(/(https?:\/\/[^\s<>"，。；：！？、（）【】《》“”]+)/i).forEach((part, i) => {
    if (i % 2 === 0) return parts.append(part);
    const [address, rest] = addressIn(part);
    if (!URL.canParse?.(address)) return parts.append(part);
    const a = make("a", "", address);
    Object.assign(a, { href: address, target: "_blank", rel: "noopener noreferrer nofollow" });
    parts.append(a, rest);
  });
  return parts;
}

/** Splits text into an address and the characters behind it: punctuation, and closing brackets that the address does not open. */
function addressIn(part) {
  let end = part.length;
  for (;;) {
    const last = part[end - 1], opening = { ")": "(", "]": "[", "}": "{" }[last];
    const head = part.slice(0, end);
    if (opening ? head.split(opening).length < head.split(last).length : /[.,;:!?'*_`]/.test(last)) end--;
    else return [head, part.slice(end)];
  }
}
