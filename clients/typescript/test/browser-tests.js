// The packed and installed client in a browser, against the built server, from pages of another origin.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test as nodeTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { INSECURE_HOST, launch, programOf } from "./browsers.js";
import { startServer } from "./server.js";

/** The conversation of the demo's Alice, Bob and Dave. */
const CONVERSATION = "c0000000-0000-4000-8000-000000000001";
/** A test that does not end fails, and the next one runs. */
const TEST_TIMEOUT_MS = 120_000;
/** A device whose socket closed stays online for this time. No test waits that long, so offline means signed off. */
const GRACE = "25s";

const consumer = process.env.CONSUMER;
const test = (name, run) => nodeTest(name, { timeout: TEST_TIMEOUT_MS }, run);
const { signToken } = await import(
  pathToFileURL(createRequire(join(consumer, "package.json")).resolve("rollcall-client/server"))
);

export function browserTests(name) {
  if (!programOf(name)) {
    nodeTest(`${name} is not installed: see .ci/install`, { skip: true }, () => {});
    return;
  }

  let server, browser, pages, port;
  const origin = (host = "127.0.0.1", path = "/") => `http://${host}:${port}${path}`;

  before(async () => {
    const script = (page) => readFileSync(join(consumer, `bundles/${page}.js`), "utf8");
    pages = createServer(({ url }, response) => {
      const page = url === "/" ? "core" : url.slice(1);
      const body = page === "empty" ? "" : `<script>${script(page).replaceAll("</script", "<\\/script")}</script>`;
      response.setHeader("content-type", "text/html");
      response.end(
        `<!doctype html><meta charset="utf-8"><title>Test</title><link rel="icon" href="data:,"><body>${body}`,
      );
    });
    await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
    port = pages.address().port;
    [server, browser] = await Promise.all([startServer({ DISCONNECT_GRACE: GRACE }), launch(name)]);
  });
  after(async () => {
    await browser?.close();
    pages?.close();
    await server?.end();
  });

  /** Opens a page in a browser profile of its own. */
  async function visit(url = origin()) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.complaints = [];
    page.on("pageerror", (error) => page.complaints.push(String(error.message ?? error)));
    await page.goto(url);
    return page;
  }
  /** Leaves the pages, so that their devices sign off, and closes their profiles. */
  const close = (...pages) =>
    Promise.all(
      pages.map(async (page) => {
        await page.goto("about:blank").catch(() => {});
        await page.browserContext().close();
      }),
    );
  const untilWithin = (page, timeout, condition, ...values) =>
    page.waitForFunction(condition, { polling: 50, timeout }, ...values);
  const until = (page, condition, ...values) => untilWithin(page, 20_000, condition, ...values);

  /** Makes a client in a page. The options are JSON; `tokens` makes a function that returns them in turn. */
  async function start(page, token, options = {}) {
    await page.evaluate(
      (url, token, options) => {
        globalThis.requests = [];
        globalThis.tokens = Array.isArray(token) ? token : undefined;
        const source = (request) => {
          requests.push(request.reason);
          return tokens.length > 1 ? tokens.shift() : tokens[0];
        };
        // Background tabs are hidden, and tests need several pages.
        const defaults = { awayWhenHiddenMs: false, backoff: { initialMs: 200, maxMs: 1_000 } };
        globalThis.client = new PresenceClient({ url, token: tokens ? source : token, ...defaults, ...options });
        globalThis.errors = [];
        globalThis.happened = [];
        client.on("error", (error) => errors.push(error));
        client.on("visibility", ({ isHidden }) => happened.push(isHidden ? "hidden" : "visible"));
        client.on("online", ({ isOnline }) => happened.push(isOnline ? "online" : "offline"));
        client.connect();
      },
      options.url ?? server.url,
      token,
      options,
    );
  }
  async function connect(person, options) {
    const page = await visit();
    await start(page, server.person(person).token, options);
    await connected(page);
    return page;
  }

  const connected = (page) => until(page, () => client.snapshot.connection === "open");
  const stopped = async (page) => {
    await until(page, () => client.snapshot.connection === "closed");
    // A client that reconnects does so after at most 200 ms here.
    const sockets = await page.evaluate(() => globalThis.sockets.length);
    await sleep(700);
    assert.equal(await page.evaluate(() => globalThis.sockets.length), sockets, "it connected again");
    return page.evaluate(() => client.snapshot.error);
  };
  const sees = (page, person, availability, timeout = 20_000) =>
    untilWithin(
      page,
      timeout,
      (id, availability) => client.snapshot.presences.get(id)?.availability === availability,
      server.person(person).user_id,
      availability,
    );
  const typing = (page, person, isTyping) =>
    until(
      page,
      (conversation, id, isTyping) => (client.snapshot.typing.get(conversation)?.has(id) ?? false) === isTyping,
      CONVERSATION,
      server.person(person).user_id,
      isTyping,
    );
  const setStatus = (page, status) => page.evaluate((status) => client.setStatus({ status }), status);
  const deviceId = (page) => page.evaluate(() => client.deviceId);
  const sent = (page) => page.evaluate(() => globalThis.sent);
  const tokenOf = (person, expiresIn) =>
    signToken({ sub: server.person(person).user_id, secret: server.env.JWT_SECRET, expiresIn });

  /** Hides or shows a page, as the browser would. */
  const hide = (page, isHidden) =>
    page.evaluate((isHidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
      Object.defineProperty(document, "visibilityState", {
        configurable: true,
        get: () => (isHidden ? "hidden" : "visible"),
      });
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);

  test("a client receives changes of other users", async () => {
    const [alice, bob] = [await connect("Alice"), await connect("Bob")];
    await setStatus(bob, "online");
    await sees(alice, "Bob", "online");
    await setStatus(bob, "dnd");
    await sees(alice, "Bob", "dnd");
    await setStatus(bob, "invisible");
    await sees(alice, "Bob", "offline");
    await sees(bob, "Bob", "invisible");
    await setStatus(bob, "offline");
    await setStatus(bob, "online");
    await sees(alice, "Bob", "online");
    await close(alice, bob);
  });

  test("after a server restart, the client reconnects, follows the same users and sends the pending status", async () => {
    // Erin and Frank are not related; with visibility `everyone`, a follower sees her.
    const erin = await connect("Erin");
    await erin.evaluate(
      (url, token) =>
        new Rest({ url, token }).patch("/api/presence/settings", { body: { visibility: "everyone" } }).then(() => {}),
      server.url,
      server.person("Erin").token,
    );
    await setStatus(erin, "online");
    const frank = await connect("Frank");
    await frank.evaluate((id) => client.follow(id), server.person("Erin").user_id);
    await sees(frank, "Erin", "online");

    await server.stop();
    await until(frank, () => client.snapshot.connection === "waiting" && client.snapshot.error.code === "UNREACHABLE");
    await setStatus(erin, "busy");
    await server.start();
    await Promise.all([connected(frank), connected(erin)]);
    await sees(frank, "Erin", "busy");
    assert.equal(await frank.evaluate(() => client.snapshot.error ?? null), null);
    await close(frank, erin);
  });

  test("a hidden page is away and a shown page online; a chosen status stays", async () => {
    const alice = await connect("Alice");
    const dave = await visit();
    await hide(dave, false);
    await start(dave, server.person("Dave").token, { awayWhenHiddenMs: 50 });
    await connected(dave);
    await setStatus(dave, "online");
    await sees(alice, "Dave", "online");
    await hide(dave, true);
    await sees(alice, "Dave", "away");
    // Also after a reconnect while the page is hidden.
    await dave.evaluate(() => sockets.at(-1).close(3000));
    await until(dave, () => sockets.length === 2 && client.snapshot.connection === "open");
    await hide(dave, false);
    await sees(alice, "Dave", "online");

    await setStatus(dave, "dnd");
    await sees(dave, "Dave", "dnd");
    const before = (await sent(dave)).length;
    await hide(dave, true);
    await dave.evaluate(() => new Promise((resolve) => setTimeout(resolve, 150)));
    await hide(dave, false);
    assert.deepEqual(
      (await sent(dave)).slice(before).filter(({ type }) => type === "status"),
      [],
    );
    await sees(alice, "Dave", "dnd");
    assert.deepEqual(await dave.evaluate(() => happened), ["hidden", "visible", "hidden", "visible"]);
    await setStatus(dave, "online");
    await close(alice, dave);
  });

  test("a closed page signs its device off at once; a page from the back/forward cache reconnects", async () => {
    const [alice, bob] = [await connect("Alice"), await connect("Bob")];
    // On a busy machine, a browser may end a page without running its code. Then the grace period applies.
    for (let attempt = 1; ; attempt++) {
      await setStatus(bob, "online");
      await sees(alice, "Bob", "online");
      await bob.goto(origin("127.0.0.1", "/empty"));
      const isLast = attempt === 3;
      const left = await sees(alice, "Bob", "offline", isLast ? 20_000 : 8_000).then(
        () => true,
        (error) => (isLast ? Promise.reject(error) : false),
      );
      if (left) break;
      await bob.goto(origin());
      await start(bob, server.person("Bob").token);
      await connected(bob);
    }
    // The browser may have kept the page or load it again.
    await bob.goBack().catch(() => {});
    if (await bob.evaluate(() => globalThis.client !== undefined)) {
      await connected(bob);
      await setStatus(bob, "online");
      await sees(alice, "Bob", "online");
    }
    await close(alice, bob);
  });

  test("many keystrokes send few frames, and typing ends without a keystroke", async () => {
    const [alice, dave] = [await connect("Alice"), await connect("Dave")];
    await setStatus(dave, "online");
    await sees(alice, "Dave", "online");
    await dave.evaluate(async (conversation) => {
      for (let strokes = 0; strokes < 20; strokes++) {
        client.typed(conversation);
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    }, CONVERSATION);
    await typing(alice, "Dave", true);
    await typing(alice, "Dave", false);
    const frames = async () =>
      (await sent(dave)).filter(({ type }) => type === "typing").map(({ data }) => data.is_typing);
    assert.deepEqual(await frames(), [true, false]);
    await dave.evaluate((conversation) => client.typed(conversation), CONVERSATION);
    await typing(alice, "Dave", true);
    await dave.evaluate((conversation) => client.stoppedTyping(conversation), CONVERSATION);
    await typing(alice, "Dave", false);
    assert.deepEqual(await frames(), [true, false, true, false]);
    await close(alice, dave);
  });

  test("two tabs never share a device ID, also when sessionStorage is copied; a reload keeps it", async () => {
    const bob = await connect("Bob");
    const first = await connect("Alice");
    const copyOf = async (page, path) => {
      const [copy] = await Promise.all([
        new Promise((resolve) => page.once("popup", resolve)),
        page.evaluate((path) => void window.open(path), path),
      ]);
      await until(copy, (path) => location.pathname === path && document.readyState === "complete", path);
      return copy;
    };
    const second = await copyOf(first, "/");
    await start(second, server.person("Alice").token);
    await connected(second);
    assert.notEqual(await deviceId(first), await deviceId(second));
    await setStatus(first, "online");
    await sees(bob, "Alice", "online");
    // The second tab ends, with its sign-off; the first stays connected and the user online.
    await second.goto(origin("127.0.0.1", "/empty"));
    const devices = () =>
      bob.evaluate(
        (url, token) =>
          new Rest({ url, token })
            .get("/api/presence/devices")
            .then((devices) => devices.filter(({ connected }) => connected).length),
        server.url,
        server.person("Alice").token,
      );
    while ((await devices()) !== 1) await sleep(50);
    assert.equal(await first.evaluate(() => client.snapshot.connection), "open");
    await sees(bob, "Alice", "online");

    const kept = await deviceId(first);
    await first.reload();
    await start(first, server.person("Alice").token);
    assert.equal(await deviceId(first), kept);

    // A tab that shows another page when it is copied: both copies have the ID in sessionStorage.
    await first.goto(origin("127.0.0.1", "/empty"));
    const third = await copyOf(first, "/empty");
    assert.equal(await third.evaluate(() => sessionStorage.getItem("rollcall.device")), kept);
    for (const page of [first, third]) {
      await page.goto(origin());
      await start(page, server.person("Alice").token);
      await connected(page);
    }
    await until(third, (kept) => client.deviceId !== kept && client.snapshot.connection === "open", kept);
    assert.equal(await deviceId(first), kept);
    assert.equal(await first.evaluate(() => client.snapshot.connection), "open");
    await close(first, bob);
  });

  test("it works on plain HTTP, where crypto.randomUUID does not exist", async () => {
    const page = await visit(origin(INSECURE_HOST));
    assert.deepEqual(await page.evaluate(() => [isSecureContext, typeof crypto.randomUUID]), [false, "undefined"]);
    await start(page, server.person("Carol").token);
    await connected(page);
    assert.match(await deviceId(page), /^web-[0-9a-f]{32}$/);
    assert.deepEqual(page.complaints, []);
    await close(page);
  });

  test("a refused token stops the client with the reason, after one attempt and one request", async () => {
    for (const [token, code] of [
      ["nonsense", "INVALID_TOKEN"],
      [await tokenOf("Carol", -60), "INVALID_TOKEN"],
    ]) {
      const page = await visit();
      await start(page, token);
      const error = await stopped(page);
      assert.equal(error.code, code);
      assert.equal(error.status, 401);
      assert.ok(error.isFinal && error.message.length > 0);
      const counts = await page.evaluate(() => [
        sockets.length,
        performance
          .getEntriesByType("resource")
          .filter(({ name }) => name.includes("/api/presence/subscribe") && name.startsWith("http:")).length,
      ]);
      assert.equal(counts[0], 1);
      assert.ok(counts[1] <= 1);
      // A valid token starts it again.
      await page.evaluate((token) => client.setToken(token), server.person("Carol").token);
      await connected(page);
      assert.equal(await page.evaluate(() => client.snapshot.error === undefined), true);
      await close(page);
    }
  });

  test("a refused token makes the client request another one from the function, and stop after three", async () => {
    const page = await visit();
    await start(page, ["nonsense", await tokenOf("Carol", -60), server.person("Carol").token]);
    await connected(page);
    assert.deepEqual(await page.evaluate(() => requests), ["connect", "refused", "refused"]);
    assert.equal(await page.evaluate(() => client.snapshot.userId), server.person("Carol").user_id);
    await close(page);

    const other = await visit();
    await start(other, ["nonsense"]);
    assert.equal((await stopped(other)).code, "INVALID_TOKEN");
    assert.deepEqual(await other.evaluate(() => requests), ["connect", "refused", "refused"]);
    await close(other);

    const nobody = await visit();
    await start(nobody, [null]);
    assert.equal((await stopped(nobody)).code, "SIGNED_OUT");
    assert.equal(await nobody.evaluate(() => sockets.length), 0);
    await close(nobody);
  });

  test("a token that expires on an open socket is replaced; without a function the client stops with the reason", async () => {
    const text = await visit();
    await start(text, await tokenOf("Carol", 3));
    await connected(text);
    const replaced = await visit();
    await start(replaced, [await tokenOf("Frank", 4), server.person("Frank").token]);
    await connected(replaced);

    const error = await stopped(text);
    assert.deepEqual([error.code, error.closeCode, error.isFinal], ["TOKEN_EXPIRED", 4401, true]);
    await sleep(2_000);
    assert.deepEqual(await replaced.evaluate(() => [client.snapshot.connection, sockets.length, requests]), [
      "open",
      1,
      ["connect", "expiring"],
    ]);
    await close(text, replaced);
  });

  test("rollcall.disconnect ends the client, which has the reason and does not reconnect", async () => {
    const page = await connect("Frank");
    await server.psql(`select rollcall.disconnect('${server.person("Frank").user_id}', 'Account suspended')`);
    const error = await stopped(page);
    assert.deepEqual(error, { code: "DISCONNECTED", message: "Account suspended", closeCode: 4403, isFinal: true });
    assert.deepEqual(await page.evaluate(() => errors), [error]);
    await page.evaluate(() => client.connect());
    await connected(page);
    await close(page);
  });

  test("a device that was signed off does not reconnect, and has the reason", async () => {
    const page = await connect("Frank", { deviceId: "to be signed off" });
    await page.evaluate(
      (url, token) =>
        new Rest({ url, token })
          .delete("/api/presence/devices/{device_id}", { path: { device_id: "to be signed off" } })
          .then(() => {}),
      server.url,
      server.person("Frank").token,
    );
    const error = await stopped(page);
    assert.deepEqual([error.code, error.closeCode], ["SIGNED_OFF", 1000]);
    assert.ok(error.message.length > 0);
    await close(page);
  });

  test("errors have the details of every invalid field: REST, socket and handshake", async () => {
    const page = await connect("Frank");
    const rest = await page.evaluate(
      (url, token) =>
        new Rest({ url, token })
          .post("/api/presence/status", { body: { status: "sleeping", custom_status: 3 } })
          .catch(({ name, status, code, details, requestId }) => ({
            name,
            status,
            code,
            fields: details.map(({ field }) => field).sort(),
            hasId: Boolean(requestId),
          })),
      server.url,
      server.person("Frank").token,
    );
    assert.deepEqual(rest, {
      name: "RollcallError",
      status: 400,
      code: "INVALID_REQUEST",
      fields: ["custom_status", "status"],
      hasId: true,
    });

    await page.evaluate(() => client.setStatus({ status: "sleeping", custom_status: 3 }));
    await until(page, () => errors.length > 0);
    const frame = await page.evaluate(() => errors[0]);
    assert.deepEqual(frame.details.map(({ field }) => field).sort(), ["data.custom_status", "data.status"]);
    assert.equal(await page.evaluate(() => client.snapshot.connection), "open");

    const refused = await visit();
    await start(refused, server.person("Frank").token, { userIds: ["not a UUID"] });
    const error = await stopped(refused);
    assert.deepEqual([error.code, error.status, error.details.length], ["INVALID_REQUEST", 400, 1]);
    await close(page, refused);
  });

  test("when another user signs in, nothing of the previous user remains", async () => {
    const [bob, page] = [await connect("Bob"), await connect("Alice")];
    await setStatus(page, "online");
    await sees(bob, "Alice", "online");
    await page.evaluate(() => client.setStatus({ status: "busy" }));
    await page.evaluate((token) => client.setToken(token), server.person("Erin").token);
    await until(
      page,
      (id) => client.snapshot.connection === "open" && client.snapshot.userId === id,
      server.person("Erin").user_id,
    );
    // At once, not after the grace of 25 s.
    await sees(bob, "Alice", "offline");
    assert.equal(await page.evaluate((id) => client.snapshot.presences.has(id), server.person("Bob").user_id), false);
    assert.ok(await page.evaluate((token) => sockets.at(-1).url.includes(token), server.person("Erin").token));
    await close(page);

    // The same by a function, whose answer the application changes.
    const other = await visit();
    await start(other, [server.person("Alice").token]);
    await connected(other);
    await other.evaluate((token) => {
      tokens[0] = token;
      return client.refreshToken();
    }, server.person("Erin").token);
    await until(
      other,
      (id) => client.snapshot.connection === "open" && client.snapshot.userId === id,
      server.person("Erin").user_id,
    );
    // And signed out.
    await other.evaluate(() => {
      tokens[0] = null;
      return client.refreshToken();
    });
    assert.equal((await stopped(other)).code, "SIGNED_OUT");
    assert.deepEqual(
      await other.evaluate(() => [client.snapshot.userId === undefined, client.snapshot.presences.size]),
      [true, 0],
    );
    await close(other, bob);
  });

  test("without a network the client waits, and connects at once when the network is back", async () => {
    const page = await connect("Carol", { backoff: { initialMs: 60_000, maxMs: 60_000 } });
    await page.evaluate(() => window.dispatchEvent(new Event("offline")));
    await until(page, () => client.snapshot.connection === "waiting" && client.snapshot.error.code === "OFFLINE");
    await page.evaluate(() => window.dispatchEvent(new Event("online")));
    await connected(page);
    assert.deepEqual(await page.evaluate(() => happened), ["offline", "online"]);
    await close(page);
  });

  test("a server that refuses WebSockets but answers over HTTP is reported as such", async () => {
    const blocked = createServer((_, response) =>
      response.setHeader("access-control-allow-origin", "*").writeHead(426).end(),
    );
    blocked.on("upgrade", (_, socket) => socket.destroy());
    await new Promise((resolve) => blocked.listen(0, "127.0.0.1", resolve));
    const page = await visit();
    await start(page, server.person("Carol").token, { url: `http://127.0.0.1:${blocked.address().port}` });
    await until(
      page,
      () => client.snapshot.connection === "waiting" && client.snapshot.error?.code === "WEBSOCKET_FAILED",
    );
    await close(page);
    blocked.closeAllConnections();
    blocked.close();
  });

  test("a server that never answers the handshake is reported as such", async () => {
    const silent = createServer().on("upgrade", () => {});
    await new Promise((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const page = await visit();
    await start(page, server.person("Carol").token, {
      url: `http://127.0.0.1:${silent.address().port}`,
      connectTimeoutMs: 300,
    });
    await until(page, () => client.snapshot.connection === "waiting" && client.snapshot.error?.code === "TIMEOUT");
    await until(page, () => sockets.length >= 2);
    await close(page);
    silent.closeAllConnections();
    silent.close();
  });

  for (const framework of ["react", "vue", "svelte"]) {
    test(`${framework} renders presence, typing and the members of a channel`, async () => {
      const render = async (person, other) => {
        const page = await visit(origin("127.0.0.1", `/${framework}`));
        page.on(
          "console",
          (message) => ["error", "warn"].includes(message.type()) && page.complaints.push(message.text()),
        );
        await page.evaluate((settings) => render(settings), {
          url: server.url,
          token: server.person(person).token,
          anonKey: server.env.ANON_KEY,
          conversation: CONVERSATION,
          other: server.person(other).user_id,
          topic: `room-${framework}`,
          name: person,
        });
        await shows(page, "#connection", "open");
        return page;
      };
      const shows = (page, selector, text) =>
        until(page, (selector, text) => document.querySelector(selector)?.textContent.includes(text), selector, text);
      const [alice, dave] = [await render("Alice", "Dave"), await render("Dave", "Alice")];
      await dave.evaluate(() => document.querySelector("button").click());
      await shows(dave, "#me", "busy");
      await shows(alice, `#user-${server.person("Dave").user_id}`, "busy Reading");
      await Promise.all([alice, dave].map((page) => shows(page, "#members", "Alice,Dave")));

      await dave.bringToFront();
      await dave.type("input", "Hello");
      await shows(alice, "#typing", server.person("Dave").user_id);
      await dave.evaluate(() => document.querySelector("input").blur());
      await until(alice, () => document.querySelector("#typing").textContent === "");
      await alice.screenshot({ path: join(process.env.SCREENSHOTS, `${framework}-${name}.png`) });

      if (framework === "react") {
        await shows(alice, "#other", "busy");
        // A component that leaves the page leaves the channel; one that comes back joins it again.
        await dave.evaluate(() => setShown(false));
        await until(alice, () => document.querySelector("#members").textContent === "Alice");
        await dave.evaluate(() => setShown(true));
        await shows(alice, "#members", "Alice,Dave");
        // Another user signs in: the provider replaces the token.
        await dave.evaluate((user) => setUser(user), {
          id: server.person("Erin").user_id,
          token: server.person("Erin").token,
        });
        await shows(dave, "#me", server.person("Erin").user_id);
      } else {
        await dave.evaluate(() => unmount());
        await until(alice, () => document.querySelector("#members").textContent === "Alice");
      }
      assert.deepEqual(
        [alice, dave].flatMap(({ complaints }) => complaints),
        [],
      );
      await close(alice, dave);
    });
  }
}
