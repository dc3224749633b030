// The packed and installed package in Node.js: module formats, WebSocket classes, React Native modules, server helpers.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";

import WebSocket from "ws";

import { startServer } from "./server.js";

const CONVERSATION = "c0000000-0000-4000-8000-000000000001";
const consumer = process.env.CONSUMER;
const require = createRequire(join(consumer, "package.json"));
// What `import` resolves to; `require` gives the CommonJS build.
const entry = (name) => import(pathToFileURL(join(consumer, "node_modules/rollcall-client/dist", `${name}.js`)));
const { Backoff, EventStreamTransport, PresenceClient, Rest, RollcallError, readChat, tokenFrom } = await entry("index");
const { reactNativeEnvironment } = await entry("react-native");
const server = await entry("server");

let rollcall;
before(async () => (rollcall = await startServer()));
after(() => rollcall?.end());

/** Runs a script in the consumer project, in a runtime without a WebSocket. */
async function run(script, ...parameters) {
  // Node.js 22 and later have one, unless this option removes it.
  const options = process.allowedNodeEnvironmentFlags.has("--experimental-websocket")
    ? ["--no-experimental-websocket"]
    : [];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...options, "--input-type=module", "--eval", script, ...parameters],
    { cwd: consumer },
  );
  return JSON.parse(stdout);
}

async function until(condition) {
  // A test may replace the time of day.
  for (const end = performance.now() + 15_000; performance.now() < end; await sleep(20)) if (await condition()) return;
  assert.fail(`timeout waiting for ${condition}`);
}

test("delays grow, stay within bounds, and differ between clients", () => {
  const delays = (options) => {
    const backoff = new Backoff(options);
    return Array.from({ length: 8 }, () => backoff.next());
  };
  delays().forEach((delay, index) => {
    const bound = Math.min(30_000, 1_000 * 2 ** index);
    assert.ok(delay >= bound / 2 && delay <= bound, `${index}: ${delay}`);
  });
  assert.equal(new Set(Array.from({ length: 20 }, () => delays()[0])).size, 20);
  const backoff = new Backoff({ initialMs: 10 });
  for (let failures = 0; failures < 5; failures++) backoff.next();
  backoff.reset();
  assert.ok(backoff.next() <= 10);
});

test("every entry point loads by import and by require", async () => {
  for (const name of ["", "/react", "/react-native", "/server", "/svelte", "/vue"]) {
    const exported = Object.keys(require(`rollcall-client${name}`))
      .filter((key) => key !== "__esModule")
      .sort();
    const imported = await run(
      `console.log(JSON.stringify(Object.keys(await import("rollcall-client${name}")).sort()))`,
    );
    assert.ok(exported.length > 0);
    assert.deepEqual(imported, exported, name);
  }
});

test("in a runtime without WebSocket, the client reports it and the process goes on", async () => {
  const result = await run(`
    import { PresenceClient } from "rollcall-client";
    const client = new PresenceClient({ url: "http://127.0.0.1:9", token: "token" });
    const errors = [];
    client.on("error", (error) => errors.push(error));
    client.connect();
    await new Promise((resolve) => setTimeout(resolve, 200));
    console.log(JSON.stringify({ type: typeof WebSocket, connection: client.snapshot.connection, errors }));
  `);
  assert.deepEqual([result.type, result.connection, result.errors.length], ["undefined", "closed", 1]);
  assert.equal(result.errors[0].code, "NO_TRANSPORT");
  assert.match(result.errors[0].message, /transport/);
});

test("with a transport it connects, and neither a refused token nor an unreachable server ends the process", async () => {
  const result = await run(
    `
    import { PresenceClient } from "rollcall-client";
    import WebSocket from "ws";
    const [url, token] = process.argv.slice(1);
    const reach = (options, connection, code) => new Promise((resolve) => {
      const client = new PresenceClient({ transport: WebSocket, backoff: { initialMs: 50, maxMs: 100 }, ...options });
      client.on("change", (snapshot) => {
        if (snapshot.connection !== connection || snapshot.error?.code !== code) return;
        client.close();
        resolve([snapshot.connection, snapshot.error?.code ?? null, snapshot.error?.status ?? null]);
      });
      client.connect();
    });
    console.log(JSON.stringify([
      await reach({ url, token }, "open"),
      await reach({ url, token: "nonsense" }, "closed", "INVALID_TOKEN"),
      await reach({ url: "http://127.0.0.1:9", token }, "waiting", "UNREACHABLE"),
      await reach({ url: "not a URL", token }, "closed", "WEBSOCKET_FAILED"),
      await reach({ url, token: () => { throw new Error("no session") } }, "waiting", "TOKEN_UNAVAILABLE"),
    ]));
  `,
    rollcall.url,
    rollcall.person("Alice").token,
  );
  assert.deepEqual(result, [
    ["open", null, null],
    ["closed", "INVALID_TOKEN", 401],
    ["waiting", "UNREACHABLE", null],
    ["closed", "WEBSOCKET_FAILED", null],
    ["waiting", "TOKEN_UNAVAILABLE", null],
  ]);
});

test("over server-sent events it behaves as over a WebSocket", async () => {
  const [alice, bob] = ["Alice", "Bob"].map((name) => rollcall.person(name));
  const erin = rollcall.person("Erin");
  await rollcall.psql(
    `insert into rollcall.presence_settings (user_id, visibility) values ('${erin.user_id}', 'everyone')
     on conflict (user_id) do update set visibility = 'everyone'`,
  );
  const client = new PresenceClient({
    url: rollcall.url,
    token: ({ reason }) => (reason === "changed" ? rollcall.person("Alice").token : alice.token),
    deviceId: "events",
    transport: EventStreamTransport,
    backoff: { initialMs: 50, maxMs: 100 },
  });
  const other = new PresenceClient({ url: rollcall.url, token: bob.token, deviceId: "socket", transport: WebSocket });
  const errors = [];
  client.on("error", (error) => errors.push(error));
  for (const one of [client, other]) one.connect();
  const seen = (one, person) => one.snapshot.presences.get(person.user_id)?.availability;
  await until(() => client.snapshot.connection === "open" && other.snapshot.connection === "open");
  await until(() => seen(other, alice) === "online");
  client.setStatus({ status: "busy", custom_status: "Reading" });
  await until(() => seen(other, alice) === "busy" && seen(client, alice) === "busy");
  other.setStatus({ status: "dnd" });
  await until(() => seen(client, bob) === "dnd");
  client.typed("c0000000-0000-4000-8000-000000000001");
  await until(() => other.snapshot.typing.get("c0000000-0000-4000-8000-000000000001")?.has(alice.user_id));

  // A further user, another token, and an error with its details, without a new connection.
  const rest = new Rest({ url: rollcall.url, token: erin.token });
  await rest.post("/api/presence/status", { body: { status: "away", device_id: "rest" } });
  let connections = 0;
  client.on("change", ({ connection }) => (connections += connection !== "open" ? 1 : 0));
  client.follow(erin.user_id);
  await until(() => seen(client, erin) === "away");
  await client.refreshToken();
  client.setStatus({ status: "sleeping" });
  await until(() => errors.length > 0);
  assert.deepEqual([errors[0].code, errors[0].details[0].field], ["UNPROCESSABLE", "status"]);
  other.setStatus({ status: "online" });
  await until(() => seen(client, bob) === "online");
  assert.equal(connections, 0);

  await rollcall.psql(`select rollcall.disconnect('${alice.user_id}', 'Account suspended')`);
  await until(() => client.snapshot.connection === "closed");
  assert.deepEqual(client.snapshot.error, {
    code: "DISCONNECTED",
    message: "Account suspended",
    closeCode: 4403,
    isFinal: true,
  });
  const refused = new PresenceClient({ url: rollcall.url, token: "nonsense", transport: EventStreamTransport });
  refused.connect();
  await until(() => refused.snapshot.connection === "closed");
  assert.deepEqual([refused.snapshot.error.code, refused.snapshot.error.status], ["INVALID_TOKEN", 401]);
  // Not only after the grace of the server: another test uses the same person.
  other.setStatus({ status: "offline" });
  await until(() => seen(other, bob) === "offline");
  other.close();
});

/** A transport that records the frames of its server. */
function recorded(Transport, frames) {
  return function open(url) {
    const record = (listener) => (event) => {
      frames.push(JSON.parse(event.data));
      listener(event);
    };
    return new Proxy(new Transport(url), {
      get: (socket, name) => (typeof socket[name] === "function" ? socket[name].bind(socket) : socket[name]),
      set: (socket, name, value) => {
        socket[name] = name === "onmessage" ? record(value) : value;
        return true;
      },
    });
  };
}

test("a client that reconnects gets only what changed, over a socket and over server-sent events", async () => {
  const [alice, bob] = ["Alice", "Bob"].map((name) => rollcall.person(name));
  const other = new PresenceClient({ url: rollcall.url, token: bob.token, deviceId: "resumes", transport: WebSocket });
  other.connect();
  const seen = (one, person) => one.snapshot.presences.get(person.user_id)?.availability;
  for (const Transport of [WebSocket, EventStreamTransport]) {
    const frames = [];
    let network;
    const client = new PresenceClient({
      url: rollcall.url,
      token: alice.token,
      deviceId: `resumed-${Transport.name}`,
      transport: recorded(Transport, frames),
      environment: { isHidden: () => false, takeUse: () => false, listen: ({ online }) => ((network = online), () => {}) },
    });
    client.connect();
    await until(() => client.snapshot.connection === "open");
    other.setStatus({ status: "busy" });
    await until(() => seen(client, bob) === "busy" && frames.at(-1).type === "position");
    const before = [...client.snapshot.presences.keys()].sort();
    network(false);
    other.setStatus({ status: "dnd" });
    await until(() => seen(other, bob) === "dnd");
    network(true);
    await until(() => client.snapshot.connection === "open" && seen(client, bob) === "dnd");
    const states = frames.filter(({ type }) => type === "initial_state").map(({ data }) => data);
    assert.deepEqual(
      states.map(({ resumed }) => resumed),
      [false, true],
    );
    assert.ok(states[1].presences.length < states[0].presences.length, JSON.stringify(states[1]));
    // Who did not change is still shown.
    assert.deepEqual([...client.snapshot.presences.keys()].sort(), before);
    client.close();
  }
  other.setStatus({ status: "online" });
  await until(() => seen(other, bob) === "online");
  other.close();
});

test("a listener that throws affects neither the connection nor other listeners", async (context) => {
  context.mock.method(console, "error", () => {});
  const client = new PresenceClient({ url: rollcall.url, token: rollcall.person("Alice").token, transport: WebSocket });
  let changes = 0;
  client.on("change", () => {
    throw new Error("of the application");
  });
  client.on("change", () => (changes += 1));
  client.connect();
  await until(() => client.snapshot.connection === "open");
  assert.ok(changes > 0 && console.error.mock.callCount() > 0);
  client.close();
});

test("a React Native app is away in the background, and reconnects in the foreground and on another network", async (context) => {
  // The time in the background decides whether the client reconnects, so the test sets it.
  let now = Date.now();
  context.mock.method(Date, "now", () => now);
  const listeners = { app: undefined, net: undefined };
  const AppState = {
    currentState: "active",
    addEventListener: (type, listener) => {
      assert.equal(type, "change");
      listeners.app = listener;
      return { remove: () => (listeners.app = undefined) };
    },
  };
  const NetInfo = {
    addEventListener: (listener) => {
      listeners.net = listener;
      listener({ isConnected: true, type: "wifi" });
      return () => (listeners.net = undefined);
    },
  };
  const appState = (state) => {
    AppState.currentState = state;
    listeners.app(state);
  };
  const sockets = [];
  class CountedWebSocket extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      sockets.push(this);
    }
  }
  const client = new PresenceClient({
    url: rollcall.url,
    token: rollcall.person("Bob").token,
    deviceId: "phone",
    transport: CountedWebSocket,
    backgroundMs: 120_000,
    environment: reactNativeEnvironment({ AppState, NetInfo }),
  });
  const own = () => client.snapshot.presences.get(rollcall.person("Bob").user_id)?.availability;
  client.connect();
  await until(() => client.snapshot.connection === "open");
  client.setStatus({ status: "online" });
  await until(() => own() === "online");
  appState("inactive");
  appState("background");
  await until(() => own() === "away");
  appState("inactive");
  appState("active");
  await until(() => own() === "online");
  assert.equal(sockets.length, 1);

  // The system may have ended the socket of an app that was in the background for 5 s.
  appState("background");
  await until(() => own() === "away");
  now += 5_000;
  appState("active");
  await until(() => sockets.length === 2 && client.snapshot.connection === "open" && own() === "online");

  // The first report of NetInfo is not a change; another network is.
  listeners.net({ isConnected: true, type: "cellular" });
  await until(() => sockets.length === 3 && client.snapshot.connection === "open");
  listeners.net({ isConnected: false, type: "none" });
  assert.equal(client.snapshot.error.code, "OFFLINE");
  listeners.net({ isConnected: true, type: "wifi" });
  await until(() => client.snapshot.connection === "open");

  // The system ends the socket while the app is suspended: away for the time that the client announced.
  const announced = () =>
    rollcall
      .psql(
        `select concat_ws(' ', status, cardinality(nodes), background_seconds) from rollcall.presence_devices
         where user_id = '${rollcall.person("Bob").user_id}' and device_id = 'phone'`,
      )
      .then(({ stdout }) => stdout.trim());
  appState("background");
  await until(() => own() === "away");
  assert.equal(await announced(), "away 1 120");
  const before = sockets.length;
  sockets.at(-1).terminate();
  await until(() => client.snapshot.connection !== "open");
  appState("active");
  await until(() => sockets.length > before && client.snapshot.connection === "open" && own() === "online");
  assert.equal(await announced(), "online 1");

  // What the user chose stays, on the way to the background and back.
  for (const chosen of ["busy", "invisible", "away"]) {
    client.setStatus({ status: chosen });
    await until(() => own() === chosen);
    appState("background");
    while (!(await announced()).startsWith("away 1 120")) await sleep(20);
    assert.equal(own(), chosen);
    appState("active");
    const shown = chosen === "away" ? "away 1" : "online 1";
    while ((await announced()) !== shown) await sleep(20);
    assert.equal(own(), chosen);
  }

  client.close();
  assert.deepEqual(listeners, { app: undefined, net: undefined });
});

test("a REST request with a refused token requests another token once, and keeps the details of errors", async () => {
  const requests = [];
  const rest = new Rest({
    url: `${rollcall.url}/`,
    token: ({ reason }) => {
      requests.push(reason);
      return reason === "refused" ? rollcall.person("Alice").token : "nonsense";
    },
  });
  const { user_id } = await rest.get("/api/presence/status");
  assert.equal(user_id, rollcall.person("Alice").user_id);
  assert.deepEqual(requests, ["connect", "refused"]);
  const wrong = new Rest({ url: rollcall.url, token: "nonsense" });
  await assert.rejects(
    wrong.get("/api/presence/status"),
    ({ code, status }) => code === "INVALID_TOKEN" && status === 401,
  );
  await assert.rejects(
    new Rest({ url: "http://127.0.0.1:9" }).get("/api/presence/status"),
    ({ name, code }) => name === "RollcallError" && code === "UNREACHABLE",
  );
  await assert.rejects(
    rest.get("/api/presence/users", { query: { user_ids: "a,b" } }),
    ({ details }) => details.length === 2,
  );
});

test("server: tokens that it signs are accepted, and only valid ones are verified", async () => {
  const sub = rollcall.person("Alice").user_id;
  const secret = rollcall.env.JWT_SECRET;
  const token = await server.signToken({ sub, secret, claims: { name: "Ålice" } });
  const { user_id } = await server.serverClient({ url: rollcall.url, token }).get("/api/presence/status");
  assert.equal(user_id, sub);
  assert.deepEqual(((claims) => [claims.sub, claims.role, claims.name])(await server.verifyToken(token, secret)), [
    sub,
    "authenticated",
    "Ålice",
  ]);
  const [header, payload, signature] = token.split(".");
  const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${payload}.`;
  const expired = await server.signToken({ sub, secret, expiresIn: -1 });
  for (const wrong of [
    "",
    "a.b.c",
    none,
    expired,
    `${header}.${payload}.${signature.slice(0, -4)}AAAA`,
    `${token}.x`,
  ]) {
    assert.equal(await server.verifyToken(wrong, secret), undefined, wrong);
  }
  assert.equal(await server.verifyToken(token, "another secret"), undefined);
  await assert.rejects(server.signToken({ sub, secret: "" }), /secret: must not be empty/);
});

test("server: the token route, with the token source of the page", async () => {
  let user = rollcall.person("Alice").user_id;
  const handler = server.tokenHandler({ secret: () => rollcall.env.JWT_SECRET, user: () => user });
  const source = tokenFrom("http://app.test/api/token", { fetch: (input, init) => handler(new Request(input, init)) });
  const token = await source({ reason: "connect" });
  const initial = await server.initialPresence(server.serverClient({ url: rollcall.url, token }));
  assert.equal(initial.userId, user);
  assert.equal(initial.presences.filter(({ user_id }) => user_id === user).length, 1);
  assert.ok(initial.presences.some(({ user_id }) => user_id === rollcall.person("Bob").user_id));
  const client = new PresenceClient({ url: rollcall.url, token, initial });
  assert.equal(client.snapshot.presences.size, initial.presences.length);
  user = undefined;
  assert.equal(await source({ reason: "connect" }), undefined);
  const response = await handler(new Request("http://app.test/api/token"));
  assert.equal(response.status, 401);
  assert.equal((await response.json()).error, "UNAUTHORIZED");
});

test("server: the chat route streams an answer as the signed-in user", async () => {
  const token = (name) => () => name && rollcall.person(name).token;
  const chat = (handler, body) =>
    handler(new Request("http://app.test/api/chat", { method: "POST", body: JSON.stringify(body) }));
  const body = {
    conversationId: CONVERSATION,
    messages: [{ role: "user", content: "Hello" }],
    userId: rollcall.person("Bob").user_id,
  };
  const response = await chat(
    server.chatHandler({ url: rollcall.url, token: token("Alice"), defaults: { provider: "echo" } }),
    body,
  );
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const events = [];
  for await (const event of readChat(response)) events.push(event);
  assert.equal(events[0].type, "context");
  assert.equal(events.at(-1).type, "done");
  assert.ok(
    events
      .filter(({ type }) => type === "delta")
      .map(({ content }) => content)
      .join("")
      .includes("Hello"),
  );

  const refused = async (handler, body) => {
    const error = await readChat(await chat(handler, body))
      .next()
      .catch((error) => error);
    assert.ok(error instanceof RollcallError);
    return error;
  };
  assert.equal(
    (await refused(server.chatHandler({ url: rollcall.url, token: token(undefined) }), body)).code,
    "UNAUTHORIZED",
  );
  const invalid = await refused(server.chatHandler({ url: rollcall.url, token: token("Alice") }), {
    conversationId: CONVERSATION,
  });
  assert.ok(invalid.status === 400 && invalid.details.length > 0);
  // Erin is not in the conversation.
  const notHers = await refused(server.chatHandler({ url: rollcall.url, token: token("Erin") }), body);
  assert.equal(notHers.code, "INVALID_REFERENCE");
});

test("a streamed answer is read in any chunks, and an answer that breaks off is an error", async () => {
  const text =
    'data: {"type":"delta","content":"Grüße"}\r\n\r\n: keep-alive\n\ndata: {"type":"delta","content":" an alle"}\n\ndata: [DONE]\n\n';
  const bytes = new TextEncoder().encode(text);
  const response = (bytes, size) =>
    new Response(
      new ReadableStream({
        start(controller) {
          for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
          controller.close();
        },
      }),
    );
  for (const size of [1, 2, 3, 7, 1_000]) {
    let content = "";
    for await (const event of readChat(response(bytes, size))) content += event.content;
    assert.equal(content, "Grüße an alle", `chunks of ${size}`);
  }
  const read = async (text) => {
    for await (const _ of readChat(response(new TextEncoder().encode(text), 5)));
  };
  await assert.rejects(read('data: {"type":"delta","content":"Hel"}\n\n'), { code: "INCOMPLETE" });
  await assert.rejects(read('data: {"type":"error","error":"SERVICE_UNAVAILABLE","message":"Model failed."}\n\n'), {
    code: "SERVICE_UNAVAILABLE",
    message: "Model failed.",
  });
});
