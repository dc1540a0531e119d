// The tests of words.js: node --test gateway/web/
import assert from "node:assert/strict";
import { test } from "node:test";

/** A fresh copy of the module, for a page with the given query in a browser with the given language. */
let copies = 0;
function load(search, language = "en-US") {
  globalThis.location = { search };
  Object.defineProperty(globalThis, "navigator", { value: { language }, configurable: true });
  return import(`./words.js?${++copies}`);
}

test("the page uses the requested language, or English", async () => {
  for (const [search, language, lang, send] of [
    ["", "en-GB", "en-GB", "Send"], ["", "zh-TW", "zh-TW", "发送"], ["", "de-DE", "en", "Send"],
    ["?lang=zh", "en-US", "zh", "发送"], ["?lang=EN", "zh-CN", "EN", "Send"],
  ]) {
    const m = await load(search, language);
    assert.deepEqual([m.lang, m.words.send], [lang, send], search + " " + language);
  }
});

test("a language tag that Intl refuses does not break the page", async () => {
  for (const [search, language, lang] of [
    ["?lang=en--x", "en-US", "en"], ["?lang=zh--x", "en-US", "zh"], ["?lang=en-", "en-US", "en"], ["?lang=", "en-US", "en"],
    ["?lang=en-%00", "en-US", "en"], ["?lang=zh_CN", "en-US", "en"], ["", "en-US@posix", "en"], ["", "", "en"], ["?lang=en-x", "en-US", "en"],
  ]) {
    const m = await load(search, language);
    assert.equal(m.lang, lang, search + " " + language);
    assert.match(m.timeOf(new Date(0)), /^\d\d:\d\d$/);
  }
});

test("a message that may be stored is not called unsent", async () => {
  for (const [lang, unsent] of [["en", /^Not sent: /], ["zh", /^未发送：/]]) {
    const { failureText } = await load(`?lang=${lang}`);
    assert.match(failureText({ code: "muted", message: "no" }), unsent);
    assert.doesNotMatch(failureText({ code: "uncertain", message: "it is unknown" }), unsent);
  }
});

test("every gap has a text in every language", async () => {
  for (const lang of ["en", "zh"]) {
    const { words } = await load(`?lang=${lang}`);
    const said = new Set([words.gap(1), words.gap(3), words.damaged(1), words.damaged(3), words.reset, words.trimmed]);
    assert.equal(said.size, 6);
    for (const n of [1, 3]) for (const say of [words.gap, words.damaged]) assert.match(say(n), new RegExp(n));
  }
});

test("every act has a text in every language, with the member and the reason", async () => {
  for (const lang of ["en", "zh"]) {
    const { words } = await load(`?lang=${lang}`);
    for (const kind of ["kicked", "banned", "unbanned", "muted", "unmuted", "slowed"]) {
      const said = words.act({ kind, every: "10s", why: "spam" }, "bob");
      assert.match(said, kind === "slowed" ? /10 seconds.*spam|10秒.*spam/ : /^bob.*spam/, lang);
      assert.doesNotMatch(said, kind === "kicked" || kind === "slowed" ? new RegExp(kind) : /undefined|null/, lang);
    }
    assert.doesNotMatch(words.act({ kind: "banned" }, "*guests"), /\*|undefined/, lang);
    assert.match(words.act({ kind: "muted" }, "bob", "14:30"), /14:30/, lang);
    assert.doesNotMatch(words.act({ kind: "slowed", every: "0s" }), /0s|undefined/, lang);
  }
});
