// Builds the npm package into dist: node build.mjs. npm pack runs it too.
import { build } from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const MOST = 7 * 1024; // bytes of the client, minified and gzipped
const at = (name) => new URL(name, import.meta.url).pathname;

rmSync(at("dist"), { recursive: true, force: true });
mkdirSync(at("dist"));
for (const name of ["room", "events", "react"]) {
  for (const [format, ending] of [["esm", "js"], ["cjs", "cjs"]]) {
    await build({
      entryPoints: [at(`${name}.js`)], outfile: at(`dist/${name}.${ending}`), format, bundle: true, platform: format === "cjs" ? "node" : "browser", minify: true, target: "es2022", legalComments: "none",
      external: ["react", "@roomcast/client"], mangleProps: /^_/,
      define: { "import.meta.url": '""' }, // a bundle has no address: the client connects to the page's server
      supported: { "dynamic-import": true },
      plugins: [{ name: "events", setup: ({ onResolve }) => onResolve({ filter: /^\.\/events\.js$/ }, () => ({ path: `./events.${ending}`, external: true })) }],
    });
  }
  if (name === "events") continue; // room.js loads it
  copyFileSync(at(`${name}.d.ts`), at(`dist/${name}.d.ts`));
  writeFileSync(at(`dist/${name}.d.cts`), readFileSync(at(`${name}.d.ts`)));
}
const size = gzipSync(readFileSync(at("dist/room.js")), { level: 9 }).length;
console.log(`@roomcast/client has ${size} bytes, minified and gzipped`);
if (size > MOST) throw new Error(`the client has ${size} bytes, at most ${MOST} are allowed`);
