// Checks the npm package as a newcomer uses it: node check.mjs. It packs the package, installs it
// in an empty folder, and loads it as an ES module and as CommonJS. Then it compiles every example
// in the documents and the programs in testdata with tsc --strict.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const here = new URL(".", import.meta.url).pathname;
const run = (command, args, options) => execFileSync(command, args, { stdio: ["ignore", "pipe", "inherit"], encoding: "utf8", timeout: 300_000, ...options });

const dir = mkdtempSync(join(tmpdir(), "roomcast-npm-"));
try {
  const [{ filename }] = JSON.parse(run("npm", ["pack", "--json", "--silent", "--pack-destination", dir], { cwd: here }).replace(/^[^[]*/, ""));
  writeFileSync(join(dir, "package.json"), '{ "private": true, "type": "module" }');
  run("npm", ["install", "--silent", "--offline", "--no-audit", "--no-fund", "--omit=peer", join(dir, filename)], { cwd: dir });

  const use = 'const { connect, RoomcastError, indexedDBStore, reconnects } = c; const k = connect({ url: "http://127.0.0.1:1/", WebSocket: class { close() {} } });' +
    'k.room("lobby"); k.close(); if (!reconnects(1006) || typeof indexedDBStore !== "function" || !(new RoomcastError({ code: "x" }) instanceof Error)) throw new Error("incomplete"); console.log("ok");';
  // Where no WebSocket opens, the package loads its other module.
  const fall = 'const { connect } = c; Math.random = () => 0; class Refused { constructor() { setTimeout(() => this.onclose?.({ code: 1006 })); } close() {} } setTimeout(() => process.exit(1), 20_000);' +
    'globalThis.fetch = async (url) => { console.log(url); process.exit(); }; connect({ url: "http://h/chat/", WebSocket: Refused }).room("lobby");';
  const events = "http://h/chat/events?room=lobby\n";
  assert.equal(run("node", ["--input-type=module", "-e", `import * as c from "@roomcast/client"; ${fall}`], { cwd: dir }), events);
  assert.equal(run("node", ["--input-type=commonjs", "-e", `const c = require("@roomcast/client"); ${fall}`], { cwd: dir }), events);
  assert.equal(run("node", ["--input-type=module", "-e", `import * as c from "@roomcast/client"; ${use}`], { cwd: dir }), "ok\n");
  assert.equal(run("node", ["--input-type=commonjs", "-e", `const c = require("@roomcast/client"); ${use}`], { cwd: dir }), "ok\n");

  // The examples import the client from a gateway or by its name.
  for (const name of ["react", "react-dom", "@types", "ws", "csstype"]) symlinkSync(join(here, "node_modules", name), join(dir, "node_modules", name));
  const files = [];
  for (const document of ["README.md", "proto/docs/client.md", "proto/docs/login.md", "gateway/client/js/README.md"]) {
    const text = readFileSync(join(here, "../../..", document), "utf8");
    const blocks = [...text.matchAll(/^```(js|ts|jsx|tsx)\n([^]*?)^```$/gm)];
    assert.ok(blocks.length, `${document} has no example`);
    blocks.forEach(([, language, code], i) => {
      const file = `${document.replace(/\W/g, "-")}-${i}.${language.endsWith("x") ? "tsx" : "ts"}`;
      writeFileSync(join(dir, file), code.replaceAll('"http://localhost:8000/room.js"', '"@roomcast/client"') + "\nexport {};\n");
      files.push(file);
    });
  }
  cpSync(join(here, "testdata"), dir, { recursive: true });
  files.push("typed.ts");
  const options = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--jsx", "react-jsx", "--skipLibCheck", "false"];
  for (const [module, resolution] of [["nodenext", "nodenext"], ["esnext", "bundler"]]) {
    run(join(here, "node_modules/.bin/tsc"), [...options, "--module", module, "--moduleResolution", resolution, ...files], { cwd: dir, stdio: "inherit" });
  }
  run(join(here, "node_modules/.bin/tsc"), [...options, "--module", "nodenext", "--moduleResolution", "nodenext", "required.cts"], { cwd: dir, stdio: "inherit" });
  console.log(`the package works in an empty folder; ${files.length} examples compile`);
} finally {
  rmSync(dir, { recursive: true });
}
