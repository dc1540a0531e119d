// Bundles the app for a test in a browser: node bundle.mjs OUTPUT
import { build } from "esbuild";

const here = (name) => new URL(name, import.meta.url).pathname;
await build({
  entryPoints: [here("app.jsx")], outfile: process.argv[2], bundle: true, jsx: "automatic", format: "iife",
  define: { "import.meta.url": '""', "process.env.NODE_ENV": '"development"' }, // strict mode is one of development
  alias: { "@roomcast/client/react": here("../react.js"), "@roomcast/client": here("../room.js") },
});
