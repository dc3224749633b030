// Writes the TypeScript of docs/ into a folder, one file for each block, and a tsconfig.json that compiles them:
//
//   node test/snippets.js FOLDER
//
// A block whose first line is a comment with a path, such as `// app/roster.tsx`, becomes that file, so that blocks of
// a page can import each other.

import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const docs = join(dirname(fileURLToPath(import.meta.url)), "../../../docs");
const target = process.argv[2];
let count = 0;
for (const folder of ["guides", "migrate"]) {
  for (const page of readdirSync(join(docs, folder)).filter((name) => name.endsWith(".md"))) {
    const text = readFileSync(join(docs, folder, page), "utf8");
    for (const [, language, code] of text.matchAll(/^```(tsx?)\n(.*?)^```/gms)) {
      const named = /^\/\/ (\S+\.tsx?)\n/.exec(code)?.[1];
      const file = join(target, folder, page.slice(0, -3), named ?? `${++count}.${language}`);
      mkdirSync(dirname(file), { recursive: true });
      // Without imports, a file is a script, and its names are global.
      writeFileSync(file, /^(import|export) /m.test(code) ? code : `${code}\nexport {};\n`);
      count += 1;
    }
  }
}
if (count < 8) throw new Error(`only ${count} blocks of TypeScript in docs/: are they written in another way?`);
writeFileSync(join(target, "tsconfig.json"), JSON.stringify({
  compilerOptions: {
    target: "ES2022", module: "ESNext", moduleResolution: "bundler", lib: ["ES2023", "DOM", "DOM.Iterable"], jsx: "react-jsx",
    strict: true, noEmit: true, skipLibCheck: true, types: ["node"],
  },
  include: ["."],
}));
