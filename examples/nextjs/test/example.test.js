// The example as two people use it, each in a browser profile of their own.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { accessible, launch } from "../../../tests/console/browser.js";

const BOB = "a0000000-0000-4000-8000-000000000002";
let browser, next, url;

before(async () => {
  const home = fileURLToPath(new URL("..", import.meta.url));
  next = spawn(process.execPath, ["node_modules/next/dist/bin/next", "start", "--port", "0", "--hostname", "127.0.0.1"],
    { cwd: home, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: next.stdout });
  url = await new Promise((resolve, reject) => {
    next.once("exit", (code) => reject(new Error(`next start ended with ${code}`)));
    lines.on("line", (line) => {
      const found = /(http:\/\/127\.0\.0\.1:\d+)/.exec(line);
      if (found) resolve(found[1]);
    });
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  if (next && next.exitCode === null) {
    next.kill("SIGTERM");
    await once(next, "exit");
  }
});

async function signIn(name, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  await page.goto(`${url}/`);
  await page.getByRole("button", { name }).click();
  await page.getByText(`Signed in as ${name}`).waitFor();
  return page;
}

const connected = (page) => page.locator("[data-connection=open]").waitFor();
const shows = (page, id, status) => page.locator(`li[data-user="${id}"][data-status=${status}]`).waitFor();
const set = (page, status) => page.getByRole("button", { name: status, exact: true }).click();

test("the first paint has the roster in it, without a script", async () => {
  const page = await signIn("Alice", { javaScriptEnabled: false });
  await shows(page, BOB, "offline");
  assert.ok((await page.locator("li[data-user]").count()) >= 4);
  await page.context().close();
});

test("two people see each other come, change, type and hide", async () => {
  const [alice, bob] = [await signIn("Alice"), await signIn("Bob")];
  await Promise.all([alice, bob].map(connected));

  await set(bob, "online");
  await shows(alice, BOB, "online");
  await set(bob, "busy");
  await shows(alice, BOB, "busy");
  await bob.locator("button[aria-pressed=true]", { hasText: "busy" }).waitFor();

  await bob.getByLabel("Harbour").pressSequentially("Ahoy");
  await alice.getByText("Bob is typing…").waitFor();
  await alice.screenshot({ path: `${process.env.SCREENSHOTS}/alice.png` });
  await bob.screenshot({ path: `${process.env.SCREENSHOTS}/bob.png` });
  await alice.getByText("Bob is typing…").waitFor({ state: "detached" });

  // Whoever is invisible is offline to others, and types unseen.
  await set(bob, "invisible");
  await shows(alice, BOB, "offline");
  await bob.getByLabel("Harbour").pressSequentially(" there");
  await set(bob, "online");
  await shows(alice, BOB, "online");
  assert.equal(await alice.getByText("Bob is typing…").count(), 0);

  // Whoever closes the page is gone at once.
  await bob.close();
  await shows(alice, BOB, "offline");
  await accessible(alice, "the example");
  assert.deepEqual(alice.complaints, []);
  await Promise.all([alice, bob].map((page) => page.context().close()));
});

test("whoever may see nobody is shown nobody, and signing out ends it", async () => {
  const erin = await signIn("Erin");
  await connected(erin);
  const seen = await erin.locator("li[data-user]").evaluateAll((rows) => rows.map((row) => row.dataset.user));
  assert.ok(!seen.includes(BOB), "Bob has not accepted her");
  await erin.getByRole("button", { name: "Sign out" }).click();
  await erin.getByRole("heading", { name: "Who are you?" }).waitFor();
  assert.equal((await erin.request.get(`${url}/api/token`)).status(), 401);
  await erin.context().close();
});
