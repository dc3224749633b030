// Compiles src/ to dist/ (ES modules) and dist/cjs/ (CommonJS), and writes a folder for each entry point.
//
// The folders are for tools that do not read "exports" of package.json: TypeScript with `moduleResolution: node`, webpack 4,
// Metro before 0.82. They resolve `rollcall-client/react` to `react/package.json`.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const root = new URL(".", import.meta.url);
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const packageJson = (value) => `${JSON.stringify(value, undefined, 2)}\n`;

await rm(new URL("dist", root), { recursive: true, force: true });
const compile = async (project) => {
  const [code] = await once(
    spawn(process.execPath, [tsc, "--project", project], { cwd: fileURLToPath(root), stdio: "inherit" }),
    "exit",
  );
  if (code !== 0) process.exit(code ?? 1);
};
await Promise.all(["tsconfig.json", "tsconfig.cjs.json"].map(compile));
await writeFile(new URL("dist/cjs/package.json", root), packageJson({ type: "commonjs" }));

const { exports } = JSON.parse(await readFile(new URL("package.json", root), "utf8"));
for (const path of Object.keys(exports)) {
  const name = path.slice(2);
  if (name === "" || name.includes(".")) continue;
  await mkdir(new URL(name, root), { recursive: true });
  const stub = {
    private: true,
    sideEffects: false,
    main: `../dist/cjs/${name}.js`,
    module: `../dist/${name}.js`,
    types: `../dist/cjs/${name}.d.ts`,
  };
  await writeFile(new URL(`${name}/package.json`, root), packageJson(stub));
}
