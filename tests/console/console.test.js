// Tests the console in Chromium.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";

import { accessible, launch, screenshot, url, visit } from "./browser.js";

const ALICE = "a0000000-0000-4000-8000-000000000001";
const BOB = "a0000000-0000-4000-8000-000000000002";
let browser;

before(async () => (browser = await launch()));
after(() => browser.close());

const psql = (statements) => execFileSync("psql", ["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", process.env.DATABASE_URL], { input: statements });
const pane = (page, name) => page.locator(`[data-pane=${name}]`);
const row = (page, name, user) => pane(page, name).locator(`li[data-user="${user}"]`);
const sees = (page, name, user, status) => row(page, name, user).and(page.locator(`[data-status=${status}]`)).waitFor();

test("two users see each other live, and privacy settings apply at once", async () => {
  const page = await visit(browser, "/");
  await sees(page, "first", BOB, "busy");
  assert.match(await row(page, "first", BOB).innerText(), /At lunch/);

  const second = pane(page, "second");
  await second.getByLabel("away", { exact: true }).check();
  await sees(page, "first", BOB, "away");
  await second.getByLabel("Custom status").first().fill("Back at <b>two</b>");
  await second.getByRole("button", { name: "Set" }).click();
  await page.waitForFunction((bob) => document.querySelector(`[data-pane=first] li[data-user="${bob}"]`).innerText.includes("Back at ‹b›two‹/b›"), BOB);
  await screenshot(page, "people");

  await second.getByLabel("invisible", { exact: true }).check();
  await sees(page, "first", BOB, "offline");
  await second.getByLabel("online", { exact: true }).check();
  await sees(page, "first", BOB, "online");

  await second.getByLabel("Message").fill("Hello");
  await row(page, "first", BOB).getByText("typing…").waitFor();

  await second.getByLabel("Visible to").selectOption("nobody");
  await sees(page, "first", BOB, "offline");
  await second.getByLabel("Visible to").selectOption("contacts");
  await sees(page, "first", BOB, "online");

  await row(page, "first", BOB).getByRole("button", { name: "Block" }).click();
  await sees(page, "first", BOB, "offline");
  await row(page, "first", BOB).getByRole("button", { name: "Unblock" }).click();
  await sees(page, "first", BOB, "online");
  await accessible(page, "people");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a user signs in with a pasted token, and an invalid token shows an error", async () => {
  const page = await visit(browser, "/");
  await row(page, "first", BOB).waitFor();
  const first = pane(page, "first");
  await first.getByRole("button", { name: "Change user" }).click();
  await first.getByLabel("Or with a token").fill("nonsense");
  await first.getByRole("button", { name: "Sign in" }).click();
  await first.locator(".note[data-error=true]").waitFor();
  page.errors = page.errors.filter((text) => !text.includes("401"));

  const { people } = await page.evaluate(() => fetch("/console/demo").then((response) => response.json()));
  await first.getByLabel("Or with a token").fill(people[3].token);
  await first.getByRole("button", { name: "Sign in" }).click();
  await first.getByRole("heading", { name: "Dave", exact: true }).waitFor();
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("the channel playground joins, tracks and broadcasts, frame by frame", async () => {
  const page = await visit(browser, "/#channels");
  await page.getByRole("button", { name: "Join" }).click();
  await page.getByText("Joined harbour.").waitFor();
  await page.getByRole("button", { name: "Broadcast" }).click();
  await page.locator("ol.frames li[data-direction=in]").filter({ hasText: '"event":"tide"' }).waitFor();
  await page.getByRole("button", { name: "Track", exact: true }).click();
  await page.locator("ol.frames li[data-direction=in]").filter({ hasText: "presence_diff" }).waitFor();
  await page.locator("li").filter({ hasText: '[{"metres":3.2}]' }).first().waitFor();
  await screenshot(page, "channels");
  await accessible(page, "channels");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("frames are filtered, paused and cleared, and show no tokens", async () => {
  const page = await visit(browser, "/#channels");
  await page.getByRole("button", { name: "Join" }).click();
  await page.getByText("Joined harbour.").waitFor();
  const frames = page.locator("ol.frames li");
  await frames.filter({ hasText: "phx_join" }).waitFor();
  assert.match(await frames.filter({ hasText: "phx_join" }).innerText(), /"access_token":"\[token\]"/);
  assert.ok(!(await page.locator("ol.frames").innerText()).includes("eyJ"));

  await page.getByLabel("Filter").fill("phx_join");
  assert.equal(await frames.count(), 1);
  await page.getByLabel("Filter").fill("");
  const before = await frames.count();
  assert.ok(before > 1);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Track", exact: true }).click();
  await page.locator("li").filter({ hasText: '[{"metres":3.2}]' }).first().waitFor();
  assert.equal(await frames.count(), before);
  await page.getByRole("button", { name: "Resume" }).click();
  await frames.filter({ hasText: "presence_diff" }).waitFor();
  await page.getByRole("button", { name: "Clear" }).click();
  assert.equal(await frames.count(), 0);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("an answer that is older than a frame does not change the own status", async () => {
  const page = await visit(browser, "/");
  const { people } = await page.evaluate(() => fetch("/console/demo").then((response) => response.json()));
  const set = (status, custom_status) => fetch(`${url}/api/presence/status`, {
    method: "POST",
    headers: { Authorization: `Bearer ${people[0].token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ status, custom_status, device_id: "console-first" }),
  });
  await set("online", "Old text");
  const held = [];
  await page.route("**/api/presence/status", async (route) => {
    if (route.request().method() !== "GET") return route.continue();
    const response = await route.fetch();
    await new Promise((release) => held.push(release));
    return route.fulfill({ response });
  });
  await page.reload();
  await sees(page, "first", ALICE, "online");
  while (held.length < 2) await page.waitForTimeout(50);
  await set("busy", "New text");
  await sees(page, "first", ALICE, "busy");
  held.forEach((release) => release());
  const first = pane(page, "first");
  await page.waitForFunction(() => document.querySelector("[data-pane=first] input[maxlength='140']").value === "Old text");
  assert.ok(await first.getByLabel("busy", { exact: true }).isChecked(), "the list and the selector show the same status");
  await set("online", null);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("an operator finds, watches and disconnects a connection, and the audit log has it", async () => {
  const watched = await visit(browser, "/");
  await row(watched, "first", BOB).waitFor();
  const page = await visit(browser, "/#operator");
  // No token was pasted: the link of the demo provides it. The charts of the last hour have a sample after a reload.
  await page.getByText("Open connections, last hour").waitFor();
  await page.waitForFunction(() => document.querySelector("figure path").getAttribute("d"));

  await page.getByLabel("User of the connection").fill(ALICE);
  await page.getByLabel("Device", { exact: true }).fill("console-first");
  await page.getByRole("button", { name: "Search" }).click();
  await page.getByText("1 connection", { exact: true }).waitFor();
  const found = page.locator("tr[data-connection]");
  assert.match(await found.innerText(), /Alice[\s\S]*console-first[\s\S]*presence/);

  await found.getByRole("button", { name: "Watch" }).click();
  const events = page.getByLabel("Live events");
  await pane(watched, "first").getByLabel("Message").fill("Hello");
  await events.locator("li[data-direction=in]").filter({ hasText: '"type":"typing"' }).first().waitFor();
  assert.ok(!(await events.innerText()).includes("eyJ"));

  await page.getByLabel("Reason of a disconnect").fill("Lost phone");
  await found.getByRole("button", { name: "Disconnect", exact: true }).click();
  await page.getByText("Connection closed.").waitFor();
  await pane(watched, "first").getByText("closed (4403: Lost phone)").waitFor();
  await page.getByText("The stream has ended: the connection is closed.").waitFor();
  await page.getByRole("region", { name: "Audit log" }).locator("tr").filter({ hasText: "disconnect_connection" }).filter({ hasText: "Lost phone" }).waitFor();
  await page.getByRole("region", { name: "Audit log" }).locator("tr").filter({ hasText: "watch_connection" }).first().waitFor();
  await screenshot(page, "operator-connections");
  await accessible(page, "operator, connections");
  assert.deepEqual(page.errors, []);
  await page.context().close();
  await watched.context().close();
});

test("the playground shows database changes", async () => {
  psql(`create table public.tides (id int primary key, metres numeric); alter table public.tides enable row level security;
    create policy "everyone" on public.tides for select using (true); grant select on public.tides to authenticated;
    alter publication supabase_realtime add table public.tides`);
  const page = await visit(browser, "/#channels");
  await page.getByLabel("Changes of table").fill("public.tides");
  await page.getByRole("button", { name: "Join" }).click();
  await page.locator("ol.frames li[data-direction=in]").filter({ hasText: "Subscribed to PostgreSQL" }).waitFor();
  psql("insert into public.tides values (1, 3.2)");
  await page.locator("ol.frames li[data-direction=in]").filter({ hasText: '"type":"INSERT"' }).waitFor();
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("the operator view shows rates, nodes and why a user sees another", async () => {
  const page = await visit(browser, "/#operator");
  await page.locator("tbody td").filter({ hasText: "expires in" }).first().waitFor();
  await page.waitForFunction(() => [...document.querySelectorAll("figure")].every((figure) => figure.querySelector("path").getAttribute("d")));
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByText("Alice sees the trusted face of Frank").waitFor();

  // The prompt preview: layers with their budget, bundles that were not ready, and what did not fit.
  psql(`insert into rollcall.custom_instructions (user_id, content)
    select 'a0000000-0000-4000-8000-000000000001', repeat('Answer briefly, and in the words of sailors. ', 60)`);
  await page.getByLabel("Message").fill("When is the next tide?");
  await page.getByLabel("Maximum tokens").fill("500");
  await page.getByRole("button", { name: "Assemble" }).click();
  await page.locator("tr.layer").filter({ hasText: "L1 preferences" }).waitFor();
  assert.equal(await page.locator("tr.layer").count(), 8);
  await page.locator(".mark[data-kind=cut]").first().waitFor();
  await page.locator(".mark:is([data-kind=missing], [data-kind=dirty])").first().waitFor();
  await screenshot(page, "operator");
  await accessible(page, "operator");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("every route is documented and can be tried", async () => {
  const page = await visit(browser, "/docs");
  const described = await (await fetch(`${url}/openapi.json`)).json();
  const routes = Object.values(described.paths).flatMap(Object.keys).length;
  await page.locator("details").first().waitFor();
  assert.equal(await page.locator("main .entry:not(.message)").count(), routes);
  await page.getByLabel("Demo user").selectOption({ label: "Alice" });
  const status = page.locator("#setStatus");
  await status.locator("summary").click();
  await status.getByRole("button", { name: "Try it" }).click();
  await status.getByText("200 OK").waitFor();
  await screenshot(page, "docs");
  await accessible(page, "docs");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("the reference shows sockets, opens named types, finds and copies", async () => {
  const page = await visit(browser, "/docs");
  const sockets = await (await fetch(`${url}/asyncapi.json`)).json();
  await page.locator("details").first().waitFor();
  assert.equal(await page.locator("main .message").count(), Object.keys(sockets.components.messages).length);
  const numbers = await page.locator("#close-codes td:first-child").allTextContents();
  assert.deepEqual(numbers, sockets["x-close-codes"].map(({ code }) => String(code)));

  // Markdown is rendered: the descriptions show no marks of it.
  const set = page.locator("#setStatus");
  await set.locator(":scope > summary").click();
  await set.locator(".prose code").filter({ hasText: /^busy$/ }).first().waitFor();
  assert.ok(!(await set.locator(".prose").first().textContent()).includes("`"));

  // A field of a named type opens to what the type contains, also within another type.
  const status = set.locator("details.type").filter({ hasText: "Status" }).first();
  await status.locator(":scope > summary").click();
  await status.locator("code").filter({ hasText: /^invisible$/ }).first().waitFor();

  // Samples are those of the description, and can be copied.
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await set.locator(".sample").filter({ hasText: "curl" }).getByRole("button", { name: "Copy" }).first().click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.ok(copied.startsWith(`curl -s -X POST '${url}/api/presence/status'`), copied);
  assert.ok(copied.includes("Authorization: Bearer $TOKEN"), copied);

  // Frames of a socket.
  const update = page.locator("#socket-presence .message").filter({ hasText: "presence_update" }).first();
  await update.locator(":scope > summary").click();
  await update.locator("pre").filter({ hasText: '"availability"' }).waitFor();

  // Search leaves the entries with every word, and their sections.
  await page.getByLabel("Search").fill("typing conversations post");
  await page.getByText("1 of ").waitFor();
  assert.deepEqual(await page.locator(".entry:visible").evaluateAll((entries) => entries.map(({ id }) => id)), ["setTyping"]);
  await screenshot(page, "docs-search");
  await page.getByLabel("Search").fill("");
  await accessible(page, "docs, opened");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

for (const [name, options] of [
  ["phone", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
  ["phone-dark", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, colorScheme: "dark" }],
  ["dark", { colorScheme: "dark" }],
]) {
  test(`the console is usable on: ${name}`, async () => {
    for (const view of ["people", "channels", "operator", "docs"]) {
      const page = await visit(browser, view === "docs" ? "/docs" : `/#${view}`, options);
      await page.locator("button:visible, summary:visible").first().waitFor();
      if (view === "people") await pane(page, "second").locator("li[data-user]").first().waitFor();
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(overflow <= 0, `${view} is ${overflow} px wider than the screen`);
      const shift = await page.evaluate(() => globalThis.shift);
      assert.ok(shift < 0.1, `${view}: layout shift ${shift}`);
      await screenshot(page, `${view}-${name}`);
      await accessible(page, `${view}, ${name}`);
      await page.context().close();
    }
  });
}

test("the first page load is small, without layout shifts", async () => {
  const page = await visit(browser, "/");
  await row(page, "first", BOB).waitFor();
  await pane(page, "second").locator("li[data-user]").first().waitFor();
  const bytes = await page.evaluate(() =>
    performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
      .filter(({ name }) => name.includes("/console/") || name.endsWith("/"))
      .reduce((all, { transferSize }) => all + transferSize, 0));
  assert.ok(bytes > 10000 && bytes < 150 * 1024, `${bytes} bytes`);
  const shift = await page.evaluate(() => globalThis.shift);
  assert.ok(shift < 0.1, `layout shift ${shift}`);
  await page.context().close();
});
