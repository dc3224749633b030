// The client in Chromium, against the built server, from a page of another origin.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

import { launch } from "../../../tests/console/browser.js";
import { Backoff } from "../dist/index.js";
import { server as started } from "./server.js";

/** The conversation of the demo's Alice, Bob and Dave. */
const HARBOUR = "c0000000-0000-4000-8000-000000000001";
/** So long that nothing in here can happen because it has passed. */
const GRACE = "25s";

let server, browser, pages, origin;

before(async () => {
  const script = await build({
    entryPoints: [fileURLToPath(new URL("page.tsx", import.meta.url))],
    bundle: true, write: false, format: "iife", jsx: "automatic", define: { "process.env.NODE_ENV": '"development"' },
  });
  const page = `<!doctype html><meta charset="utf-8"><title>Test</title><link rel="icon" href="data:,"><body><script>${script.outputFiles[0].text}</script>`;
  pages = createServer((_, response) => response.setHeader("content-type", "text/html").end(page));
  await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${pages.address().port}/`;
  [server, browser] = await Promise.all([started({ DISCONNECT_GRACE: GRACE }), launch()]);
});
after(async () => {
  await browser?.close();
  pages?.close();
  await server?.end();
});

/** A page in a browser profile of its own, whose frames are kept. */
async function visit(browserContext) {
  const context = browserContext ?? (await browser.newContext());
  const page = await context.newPage();
  page.sent = [];
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => page.sent.push(JSON.parse(payload))));
  await page.goto(origin);
  return page;
}

/** A page with a client of somebody of the demo, connected. */
async function client(name, options = {}) {
  const page = await visit();
  await page.evaluate(({ url, token, options }) => {
    globalThis.client = new PresenceClient({ url, token, backoff: { first: 200, most: 1_000 }, ...options });
    client.connect();
  }, { url: server.url, token: server.person(name).token, options });
  await connected(page);
  return page;
}

const connected = (page) => page.waitForFunction(() => client.snapshot.connection === "open");
const sees = (page, name, availability) =>
  page.waitForFunction(
    ([id, availability]) => client.snapshot.presences.get(id)?.availability === availability,
    [server.person(name).user_id, availability],
  );
const types = (page, name, is) =>
  page.waitForFunction(
    ([conversation, id, is]) => (client.snapshot.typing.get(conversation)?.has(id) ?? false) === is,
    [HARBOUR, server.person(name).user_id, is],
  );
const setStatus = (page, status) => page.evaluate((status) => client.setStatus({ status }), status);

/** Hides a page, or shows it, as the browser would. */
async function hide(page, isHidden) {
  await page.evaluate((isHidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (isHidden ? "hidden" : "visible") });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
}

test("pauses grow, stay within bounds, and differ from client to client", () => {
  const pauses = (options) => {
    const backoff = new Backoff(options);
    return Array.from({ length: 8 }, () => backoff.next());
  };
  pauses().forEach((pause, place) => {
    const whole = Math.min(30_000, 1_000 * 2 ** place);
    assert.ok(pause >= whole / 2 && pause <= whole, `${place}: ${pause}`);
  });
  assert.equal(new Set(Array.from({ length: 20 }, () => pauses()[0])).size, 20);
  const backoff = new Backoff({ first: 10 });
  for (let failures = 0; failures < 5; failures++) backoff.next();
  backoff.reset();
  assert.ok(backoff.next() <= 10);
});

test("it connects, and sees others come, change and go", async () => {
  const alice = await client("Alice");
  const bob = await client("Bob");
  await setStatus(bob, "online");
  await sees(alice, "Bob", "online");
  await setStatus(bob, "dnd");
  await sees(alice, "Bob", "dnd");
  await setStatus(bob, "invisible");
  await sees(alice, "Bob", "offline");
  await sees(bob, "Bob", "invisible");
  await setStatus(bob, "online");
  await sees(alice, "Bob", "online");
  await setStatus(bob, "offline");
  await sees(alice, "Bob", "offline");
  await Promise.all([alice, bob].map((page) => page.context().close()));
});

test("after a restart of the server it is back by itself, follows the same users, and tells what it could not", async () => {
  // Erin is nobody's relation to Frank; followed, she is seen as soon as she shows herself to everyone.
  const erin = await client("Erin");
  await erin.evaluate(async ({ url, token }) => {
    const rest = new Rest({ url, token });
    await rest.patch("/api/presence/settings", { body: { visibility: "everyone" } });
  }, { url: server.url, token: server.person("Erin").token });
  await setStatus(erin, "online");
  const frank = await client("Frank");
  await frank.evaluate((id) => client.follow(id), server.person("Erin").user_id);
  await sees(frank, "Erin", "online");

  await server.stop();
  await frank.waitForFunction(() => client.snapshot.connection !== "open");
  await setStatus(erin, "busy");
  await frank.waitForFunction(() => client.snapshot.connection === "waiting");
  await server.start();
  await Promise.all([connected(frank), connected(erin)]);
  await sees(frank, "Erin", "busy");
  await Promise.all([frank, erin].map((page) => page.context().close()));
});

test("a hidden page makes its device away and a shown one brings it back, but not what the user has chosen", async () => {
  const alice = await client("Alice");
  const dave = await client("Dave", { awayWhenHiddenMs: 50 });
  await setStatus(dave, "online");
  await sees(alice, "Dave", "online");
  await hide(dave, true);
  await sees(alice, "Dave", "away");
  await hide(dave, false);
  await sees(alice, "Dave", "online");

  await setStatus(dave, "dnd");
  await sees(dave, "Dave", "dnd");
  const told = dave.sent.length;
  await hide(dave, true);
  // A timer of the page's own that runs out after the one that would make the device away.
  await dave.evaluate(() => new Promise((resolve) => setTimeout(resolve, 100)));
  await hide(dave, false);
  assert.deepEqual(dave.sent.slice(told).filter(({ type }) => type === "status"), []);
  await sees(alice, "Dave", "dnd");
  await Promise.all([alice, dave].map((page) => page.context().close()));
});

test("a page that is closed signs off by beacon, at once and not after the grace; the back button brings it back", async () => {
  const alice = await client("Alice");
  const bob = await client("Bob");
  await setStatus(bob, "online");
  await sees(alice, "Bob", "online");
  const began = Date.now();
  await bob.goto("about:blank");
  await sees(alice, "Bob", "offline");
  assert.ok(Date.now() - began < 15_000, "within the grace");

  // The browser may have kept the page or load it anew; either way Bob is to be seen again.
  await bob.goBack();
  const isKept = await bob.evaluate(() => "client" in globalThis && client !== undefined);
  if (isKept) {
    await connected(bob);
    await sees(alice, "Bob", "online");
  }
  await Promise.all([alice, bob].map((page) => page.context().close()));
});

test("many key strokes are few frames, and silence ends the typing", async () => {
  const alice = await client("Alice");
  const dave = await client("Dave");
  await setStatus(dave, "online");
  await sees(alice, "Dave", "online");
  await dave.evaluate(async (conversation) => {
    for (let strokes = 0; strokes < 20; strokes++) {
      client.typed(conversation);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }, HARBOUR);
  await types(alice, "Dave", true);
  await types(alice, "Dave", false);
  const typing = () => dave.sent.filter(({ type }) => type === "typing").map(({ data }) => data.is_typing);
  assert.deepEqual(typing(), [true, false]);

  await dave.evaluate((conversation) => client.typed(conversation), HARBOUR);
  await types(alice, "Dave", true);
  await dave.evaluate((conversation) => client.stoppedTyping(conversation), HARBOUR);
  await types(alice, "Dave", false);
  assert.deepEqual(typing(), [true, false, true, false]);
  await Promise.all([alice, dave].map((page) => page.context().close()));
});

test("a fresh token is asked for at every attempt, and before the old one runs out", async () => {
  const page = await visit();
  await page.evaluate(({ url, token }) => {
    globalThis.asked = 0;
    // Refused at first, as one that has run out would be.
    const source = async () => (++globalThis.asked < 3 ? "nonsense" : token);
    globalThis.client = new PresenceClient({ url, token: source, backoff: { first: 50, most: 100 } });
    client.connect();
  }, { url: server.url, token: server.person("Carol").token });
  await connected(page);
  assert.equal(await page.evaluate(() => asked), 3);
  assert.equal(await page.evaluate(() => client.snapshot.userId), server.person("Carol").user_id);
  await page.context().close();
});

test("who is signed off by hand stays away, and says why", async () => {
  const frank = await client("Frank", { deviceId: "to be signed off" });
  await frank.evaluate(({ url, token }) =>
    new Rest({ url, token }).delete("/api/presence/devices/{device_id}", { path: { device_id: "to be signed off" } }),
  { url: server.url, token: server.person("Frank").token });
  await frank.waitForFunction(() => client.snapshot.connection === "closed" && client.snapshot.error === "signed off");
  const refused = await frank.evaluate(({ url, token }) =>
    new Rest({ url, token }).get("/api/presence/users/{user_id}", { path: { user_id: "00000000-0000-4000-8000-000000000000" } })
      .catch(({ name, status, code }) => ({ name, status, code })),
  { url: server.url, token: server.person("Frank").token });
  assert.deepEqual(refused, { name: "Refused", status: 404, code: "NOT_FOUND" });
  await frank.context().close();
});

test("the React hooks render presence and typing, in strict mode", async () => {
  const complaints = [];
  const render = async (name) => {
    const page = await visit();
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.evaluate(({ url, token, conversation }) => render({ url, token }, conversation),
      { url: server.url, token: server.person(name).token, conversation: HARBOUR });
    await page.locator("#connection", { hasText: "open" }).waitFor();
    return page;
  };
  const [alice, dave] = [await render("Alice"), await render("Dave")];
  await dave.getByRole("button", { name: "Busy" }).click();
  await dave.locator("#me", { hasText: "busy" }).waitFor();
  await alice.locator(`#user-${server.person("Dave").user_id}`, { hasText: "busy Reading" }).waitFor();
  await dave.getByLabel("Message").pressSequentially("Ahoy");
  await alice.locator("#typing", { hasText: server.person("Dave").user_id }).waitFor();
  await dave.getByLabel("Message").blur();
  await alice.waitForFunction(() => document.querySelector("#typing").textContent === "");
  await alice.screenshot({ path: `${process.env.SCREENSHOTS}/react.png` });
  assert.deepEqual(complaints, []);
  await Promise.all([alice, dave].map((page) => page.context().close()));
});
