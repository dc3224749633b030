// Bundles the pages against the installed package. Runs in the consumer project: node bundle.js

import { build } from "esbuild";
import { compile } from "svelte/compiler";
import { readFile } from "node:fs/promises";

const svelte = {
  name: "svelte",
  setup({ onLoad }) {
    onLoad({ filter: /\.svelte$/ }, async ({ path }) => ({
      contents: compile(await readFile(path, "utf8"), { filename: path, generate: "client" }).js.code,
    }));
  },
};

await build({
  entryPoints: { core: "pages/record.ts", react: "pages/react.tsx", vue: "pages/vue.ts", svelte: "pages/svelte.ts" },
  outdir: "bundles",
  bundle: true,
  format: "iife",
  jsx: "automatic",
  logLevel: "error",
  plugins: [svelte],
  conditions: ["browser"],
  define: {
    "process.env.NODE_ENV": '"development"',
    __VUE_OPTIONS_API__: "true",
    __VUE_PROD_DEVTOOLS__: "false",
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
  },
});
