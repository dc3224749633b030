// Writes src/api.ts, the types of a server's REST API, from its /openapi.json; with --check, says whether it is what
// would be written.
//
//   ROLLCALL_URL=http://127.0.0.1:4000 node generate.js [--check]

import { readFile, writeFile } from "node:fs/promises";

import openapiTS, { astToString } from "openapi-typescript";

const base = process.env.ROLLCALL_URL ?? "http://127.0.0.1:4000";
const place = new URL("src/api.ts", import.meta.url);

const response = await fetch(`${base}/openapi.json`);
if (!response.ok) throw new Error(`${base}/openapi.json answered ${response.status}`);
const description = await response.json();
const types = astToString(await openapiTS(description, { alphabetize: true, emptyObjectsUnknown: true }));
const text = `// Made from the server's /openapi.json by \`npm run generate\`. Not to be edited.\n\n${types}`;

if (process.argv.includes("--check")) {
  const kept = await readFile(place, "utf8").catch(() => "");
  if (kept !== text) {
    const [one, other] = [kept.split("\n"), text.split("\n")];
    const line = one.findIndex((line, at) => line !== other[at]);
    console.error("clients/typescript/src/api.ts is not what the server describes.");
    console.error(`  line ${line + 1} is:        ${one[line]}\n  and should be: ${other[line]}`);
    console.error("Bring it up to date: clients/typescript/test/run generate");
    process.exit(1);
  }
} else {
  await writeFile(place, text);
}
