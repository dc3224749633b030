// The example in Chromium. Each user has a browser profile of their own.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { signToken } from "rollcall-client/server";

import { accessible, launch } from "../../../tests/console/browser.js";

const BOB = "a0000000-0000-4000-8000-000000000002";
let browser, next, url;

/** Starts the built example; resolves to its process and URL. */
async function start(env = {}) {
  const home = fileURLToPath(new URL("..", import.meta.url));
  const child = spawn(process.execPath, ["node_modules/next/dist/bin/next", "start", "--port", "0", "--hostname", "127.0.0.1"],
    { cwd: home, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const url = await new Promise((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`next start exited with status ${code}`)));
    lines.on("line", (line) => {
      const found = /(http:\/\/127\.0\.0\.1:\d+)/.exec(line);
      if (found) resolve(found[1]);
    });
  });
  return { child, url };
}

async function stop(child) {
  if (child.exitCode !== null) return;
  child.kill("SIGTERM");
  await once(child, "exit");
}

before(async () => {
  const started = await start();
  next = started.child;
  url = started.url;
  browser = await launch();
});
after(async () => {
  await browser?.close();
  if (next) await stop(next);
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

test("the HTML contains the roster", async () => {
  const page = await signIn("Alice", { javaScriptEnabled: false });
  await shows(page, BOB, "offline");
  assert.ok((await page.locator("li[data-user]").count()) >= 4);
  await page.context().close();
});

test("two users see each other's status and typing", async () => {
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

  // An invisible user is offline to others, and others do not see the typing.
  await set(bob, "invisible");
  await shows(alice, BOB, "offline");
  await bob.getByLabel("Harbour").pressSequentially(" there");
  await set(bob, "online");
  await shows(alice, BOB, "online");
  assert.equal(await alice.getByText("Bob is typing…").count(), 0);

  // A closed page is offline at once.
  await bob.close();
  await shows(alice, BOB, "offline");
  await accessible(alice, "the example");
  assert.deepEqual(alice.complaints, []);
  await Promise.all([alice, bob].map((page) => page.context().close()));
});

test("a user sees only visible users, and can sign out", async () => {
  const erin = await signIn("Erin");
  await connected(erin);
  const seen = await erin.locator("li[data-user]").evaluateAll((rows) => rows.map((row) => row.dataset.user));
  assert.ok(!seen.includes(BOB), "Bob has not accepted her");
  await erin.getByRole("button", { name: "Sign out" }).click();
  await erin.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal((await erin.request.get(`${url}/api/token`)).status(), 401);
  await erin.context().close();
});

test("the chat streams an answer, and shows errors", async () => {
  const alice = await signIn("Alice");
  // The route handler passes the answer on as it arrives.
  const response = alice.waitForResponse(`${url}/api/chat`);
  await alice.getByLabel("Ask the assistant").fill("Where is the harbour?");
  await alice.getByRole("button", { name: "Ask" }).click();
  assert.equal((await response).headers()["content-type"], "text/event-stream");
  await alice.locator(".answer", { hasText: "Where is the harbour?" }).waitFor();
  await alice.locator("[aria-label=Chat][aria-busy=false]").waitFor();
  await alice.screenshot({ path: `${process.env.SCREENSHOTS}/chat.png` });
  await accessible(alice, "the chat");

  await alice.context().clearCookies();
  await alice.getByRole("button", { name: "Ask" }).click();
  await alice.locator("[aria-label=Chat] [role=alert]", { hasText: "Nobody is signed in." }).waitFor();
  await alice.context().close();
});

test("a page whose user was signed out elsewhere stops with the reason", async () => {
  const bob = await signIn("Bob");
  await connected(bob);
  await bob.context().clearCookies();
  // The socket is lost; the token route answers 401.
  await bob.evaluate(() => window.dispatchEvent(new Event("online")));
  await bob.locator("[data-connection=closed]").waitFor();
  await bob.getByText("You are signed out.").waitFor();
  await bob.context().close();
});

test("the chat route passes each part of an answer on when it arrives", async () => {
  let upstream;
  const model = createServer((request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"type":"delta","content":"first"}\n\n');
    upstream = response;
  });
  await new Promise((resolve) => model.listen(0, "127.0.0.1", resolve));
  const { child, url } = await start({ ROLLCALL_URL: `http://127.0.0.1:${model.address().port}` });
  const token = await signToken({ sub: BOB, secret: process.env.JWT_SECRET });
  const abort = new AbortController();
  const response = await fetch(`${url}/api/chat`, {
    method: "POST", body: "{}", signal: abort.signal,
    headers: { cookie: `session=${token}`, "content-type": "application/json", "accept-encoding": "gzip" },
  });
  const reader = response.body.getReader();
  assert.match(new TextDecoder().decode((await reader.read()).value), /first/);
  // A page that is closed ends the request to the model.
  abort.abort();
  await once(upstream, "close");
  await stop(child);
  model.close();
});
