// A demo server of the tests' own that can be stopped and started again, on the same port and data.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export async function server(settings = {}) {
  const home = await mkdtemp(join(tmpdir(), "rollcall-client."));
  // PostgreSQL runs as another user where this is root.
  await chmod(home, 0o755);
  let child, url;
  const start = async () => {
    const env = {
      ...process.env, PORT: url ? new URL(url).port : "0", ROLLCALL_DATA_DIR: join(home, "data"),
      PRESENCE_UPDATES_PER_MINUTE: "0", MANAGE_REQUESTS_PER_MINUTE: "0", ...settings,
    };
    delete env.ROLLCALL_URL;
    child = spawn(process.env.SERVER_BINARY, ["serve", "--seed"], { cwd: home, env, stdio: ["ignore", "ignore", "pipe"] });
    const lines = createInterface({ input: child.stderr });
    const log = [];
    url = await new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        log.push(line);
        const ready = /is ready at (http:\S+)/.exec(line);
        if (ready) resolve(ready[1]);
      });
      child.once("exit", (code) => reject(new Error(`the server ended with ${code}:\n${log.join("\n")}`)));
    });
  };
  const stop = async () => {
    if (child.exitCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  };
  await start();
  const { people } = await (await fetch(`${url}/console/demo`)).json();
  return {
    url,
    person: (name) => people.find((person) => person.name === name),
    stop,
    start,
    end: async () => {
      await stop();
      await rm(home, { recursive: true, force: true });
    },
  };
}
