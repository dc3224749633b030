// A demo server that a test can stop and start again, on the same port and data.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

export async function startServer(settings = {}) {
  const home = await mkdtemp(join(tmpdir(), "rollcall-client."));
  // PostgreSQL runs as another user if this process runs as root.
  await chmod(home, 0o755);
  let child, url, link;
  const start = async () => {
    const env = {
      ...process.env,
      PORT: url ? new URL(url).port : "0",
      EMBEDDED_DATABASE: "true",
      ROLLCALL_DATA_DIR: join(home, "data"),
      LLM_PROVIDER: "echo",
      PRESENCE_UPDATES_PER_MINUTE: "0",
      MANAGE_REQUESTS_PER_MINUTE: "0",
      ...settings,
    };
    delete env.ROLLCALL_URL;
    child = spawn(process.env.SERVER_BINARY, ["serve", "--seed"], {
      cwd: home,
      env,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const lines = createInterface({ input: child.stderr });
    const log = [];
    url = await new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        log.push(line);
        link = /works once, in one browser\): (http:\S+)/.exec(line)?.[1] ?? link;
        const ready = /is ready at (http:\S+)/.exec(line);
        if (ready) resolve(ready[1]);
      });
      child.once("exit", (code) => reject(new Error(`the server exited with status ${code}:\n${log.join("\n")}`)));
    });
  };
  const stop = async () => {
    if (child.exitCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  };
  await start();
  const opened = await fetch(link, { redirect: "manual" });
  const cookie = opened.headers.get("set-cookie").split(";")[0];
  const { people } = await (await fetch(`${url}/console/demo`, { headers: { cookie } })).json();
  const env = Object.fromEntries(
    (await readFile(join(home, "data/env"), "utf8"))
      .split("\n")
      .filter((line) => line.includes("="))
      .map((line) => {
        const at = line.indexOf("=");
        return [line.slice(0, at).replace("export ", ""), line.slice(at + 1).replace(/^(['"])(.*)\1$/, "$2")];
      }),
  );
  return {
    url,
    env,
    person: (name) => people.find((person) => person.name === name),
    psql: (statement) =>
      promisify(execFile)("psql", ["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", env.DATABASE_URL, "-c", statement]),
    stop,
    start,
    end: async () => {
      await stop();
      await rm(home, { recursive: true, force: true });
    },
  };
}
