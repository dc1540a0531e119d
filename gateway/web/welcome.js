// welcome.js: help for new visitors, and the panel with details of the connection.

import { make } from "./bubble.js";
import { words } from "./later.js";
import { keep, recall } from "./start.js";

/** Makes the card of an empty room. Returns a function that shows, hides and updates it. */
export function welcome(card, { home, room, me, wanted, name }) {
  let shown = "";
  const address = () => new URL(`room/${encodeURIComponent(room())}/`, home).href;
  const copy = (text, word) => {
    const button = make("button", "quiet", word);
    button.type = "button";
    button.onclick = async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = words.copied; } catch {
        getSelection().selectAllChildren(button.parentElement.querySelector("code, a")); // so that the reader can copy it
      }
    };
    return button;
  };
  const command = (text) => {
    const line = make("p", "command");
    const code = make("code", "", text);
    code.tabIndex = 0; // a reader can scroll it with the keyboard
    line.append(code, copy(text, words.copy));
    return line;
  };
  return () => {
    const next = wanted() ? `${address()} ${me()}` : "";
    if (next === shown) return;
    shown = next;
    card.hidden = !next;
    if (!next) return;
    const who = make("p"), rename = make("button", "link", words.chooseName), actions = make("p", "actions");
    rename.type = "button";
    rename.onclick = name;
    who.append(words.hello(me()), " ", rename);
    const link = make("a", "", address()), second = make("a", "button", words.second);
    link.href = second.href = address();
    second.target = "_blank";
    second.rel = "noopener";
    actions.append(second, copy(address(), words.copyLink));
    card.replaceChildren(make("h2", "", words.welcome), who, make("p", "", words.invite), link, actions, make("p", "soft", words.terminal),
      command(`wscat -c '${address().replace(/^http/, "ws")}?last=10'`), command(`curl -N '${address()}events'`));
  };
}

/** The panel with details, which the reader turns on. */
export class Facts {
  #list; #connection; #values = {}; #links = 0;

  constructor(list, button, connection) {
    [this.#list, this.#connection] = [list, connection];
    const set = (on) => {
      document.body.classList.toggle("facts", on);
      button.ariaPressed = String(on);
      list.hidden = !on;
      keep("facts", on);
      this.#draw();
    };
    button.onclick = () => set(list.hidden);
    set(recall("facts", false));
  }

  opened() {
    this.#set({ gateway: this.#connection.session.replace(/-[^-]*$/, ""), links: ++this.#links });
  }

  /** The replay of a room is complete. */
  replayed({ events, resumed, exact }) { if (resumed) this.#set({ resumed: words.exactly(events, exact) }); }

  /** One of our messages has been stored, after ms. */
  stored(ms) { this.#set({ ack: `${Math.round(ms)} ms` }); }

  show(room) { this.#set({ seq: `#${room.seq}`, pending: room.pending.length }); }

  #set(values) {
    Object.assign(this.#values, values);
    if (!this.#list.hidden) this.#draw();
  }

  #draw() {
    this.#list.replaceChildren(...Object.keys(words.fact).filter((key) => key in this.#values).map((key) => {
      const pair = make("div");
      pair.append(make("dt", "", words.fact[key]), make("dd", "", this.#values[key]));
      return pair;
    }));
  }
}
