// Writes src/api.ts, the types of a server's REST API, from its /openapi.json. With --check, compares the file with what
// would be written, and fails if they differ.
//
//   ROLLCALL_URL=http://127.0.0.1:4000 node generate.js [--check]

import { readFile, writeFile } from "node:fs/promises";

import openapiTS, { astToString } from "openapi-typescript";

const base = process.env.ROLLCALL_URL ?? "http://127.0.0.1:4000";
const file = new URL("src/api.ts", import.meta.url);

const response = await fetch(`${base}/openapi.json`);
if (!response.ok) throw new Error(`${base}/openapi.json answered ${response.status}`);
const description = await response.json();
const types = astToString(await openapiTS(description, { alphabetize: true, emptyObjectsUnknown: true }));
const text = `// Made from the server's /openapi.json by \`npm run generate\`. Do not edit.\n\n${types}`;

if (process.argv.includes("--check")) {
  const current = await readFile(file, "utf8").catch(() => "");
  if (current !== text) {
    const [actual, expected] = [current.split("\n"), text.split("\n")];
    const line = actual.findIndex((line, index) => line !== expected[index]);
    console.error("clients/typescript/src/api.ts does not match the server's /openapi.json.");
    console.error(`  line ${line + 1}: ${actual[line]}\n  expected:      ${expected[line]}`);
    console.error("To update it, run: clients/typescript/test/run generate");
    process.exit(1);
  }
} else {
  await writeFile(file, text);
}
