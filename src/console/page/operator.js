// Operator view, for service_role: charts, nodes and leases, connections, channels, audit log, visibility explanations,
// and assembled prompts.

import { claims, demo, nameOf, request } from "./api.js";
import { chart } from "./chart.js";
import { auditLog, channelList, connections, history } from "./connections.js";
import { ago, attempt, el, labelled, note } from "./dom.js";

const REFRESH_INTERVAL = 2000;
const MAX_POINTS = 90;

// Parses Prometheus text into [{name, labels, value}].
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, key, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value;
    samples.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return samples;
}

const sum = (samples, name) => samples.filter((sample) => sample.name === name).reduce((all, { value }) => all + value, 0);

// Percentile (default 95th) in milliseconds of the values that a histogram recorded between two scrapes.
export function percentile(previous, current, name, share = 0.95) {
  const buckets = new Map();
  const add = (samples, sign) => samples.filter((sample) => sample.name === `${name}_bucket`).forEach(({ labels, value }) => {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    buckets.set(bound, (buckets.get(bound) ?? 0) + sign * value);
  });
  add(current, 1);
  add(previous, -1);
  const bounds = [...buckets].sort(([one], [other]) => one - other);
  const total = bounds.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  let low = 0, counted = 0;
  for (const [bound, count] of bounds) {
    if (count >= total * share) {
      if (bound === Infinity) return low * 1000;
      const inside = count > counted ? (total * share - counted) / (count - counted) : 1;
      return (low + (bound - low) * inside) * 1000;
    }
    [low, counted] = [bound, count];
  }
  return null;
}

const CHARTS = [
  ["Open sockets", "", (previous, current) => sum(current, "rollcall_hub_connections")],
  ["Deliveries", "/s", (previous, current, seconds) => rate(previous, current, seconds, "rollcall_hub_deliveries_total")],
  ["Requests", "/s", (previous, current, seconds) => rate(previous, current, seconds, "rollcall_http_requests_total")],
  ["Bytes sent", "/s", (previous, current, seconds) => rate(previous, current, seconds, "rollcall_hub_sent_bytes_total")],
  ["Write to commit, p95", "ms", (previous, current) => percentile(previous, current, "rollcall_writer_latency_seconds")],
  ["Commit to notification, p95", "ms", (previous, current) => percentile(previous, current, "rollcall_notify_lag_seconds")],
  ["Row-level security, p95", "ms", (previous, current) => percentile(previous, current, "rollcall_rls_query_seconds")],
  ["Requests, p95", "ms", (previous, current) => percentile(previous, current, "rollcall_http_request_seconds")],
];

const rate = (previous, current, seconds, name) => Math.max(0, sum(current, name) - sum(previous, name)) / seconds;

export async function operator(container) {
  const { service_token } = await demo();
  const stored = sessionStorage.getItem("rollcall.service") ?? service_token;
  if (stored && claims(stored).role === "service_role") dashboard(container, stored);
  else showSignIn(container);
}

function showSignIn(container) {
  const line = note();
  const tokenInput = el("input", { autocomplete: "off", spellcheck: false, placeholder: "eyJ…" });
  const enter = attempt(line, async () => {
    const token = tokenInput.value.trim();
    await request(token, "GET", "/api/v1/system/nodes");
    sessionStorage.setItem("rollcall.service", token);
    dashboard(container, token);
  });
  container.replaceChildren(el("form", { class: "card", onsubmit: enter },
    el("div", { class: "row" }, labelled("Token with role service_role", tokenInput), el("button", { class: "primary" }, "Sign in")), line));
}

async function dashboard(container, token) {
  const charts = CHARTS.map(([title, unit, value]) => ({ ...chart(title, unit, MAX_POINTS, REFRESH_INTERVAL / 1000), value }));
  const nodes = el("tbody", {});
  const line = note();
  const { people } = await demo();
  const names = el("datalist", { id: "users" }, people.map((person) => el("option", { value: person.user_id }, person.name)));
  const audit = auditLog(token);
  container.replaceChildren(
    history(token),
    el("div", { class: "charts" }, charts.map(({ figure }) => figure)),
    el("div", { class: "card" }, el("h3", {}, "Nodes"), el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Nodes" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Node", "Version", "Started", "Lease", "Renewed", "Devices", "Connections"].map((title) => el("th", { scope: "col" }, title)))), nodes))),
    names, connections(token, audit.load), channelList(token), audit.element, visibility(token, people), await inspector(token, people), line);

  let previous, at;
  const tick = async () => {
    try {
      const current = parse(await request(token, "GET", "/metrics"));
      const time = performance.now();
      if (previous) charts.forEach(({ add, value }) => add(value(previous, current, (time - at) / 1000)));
      [previous, at] = [current, time];
      const rows = await request(token, "GET", "/api/v1/system/nodes");
      nodes.replaceChildren(...rows.map((node) => el("tr", {},
        el("td", {}, el("code", {}, node.id)), el("td", {}, node.version ?? "no answer"), el("td", {}, ago(node.started_at)),
        el("td", {}, lease(node)), el("td", {}, ago(node.renewed_at)), el("td", {}, String(node.devices)), el("td", {}, String(node.connections ?? "–")))));
      line.show("");
    } catch (error) {
      line.show(error.message, true);
    }
    if (container.isConnected) setTimeout(tick, REFRESH_INTERVAL);
  };
  tick();
}

// When a node does not renew its lease, its devices become offline.
const lease = ({ alive, lease_expires_at }) =>
  alive ? `active, expires in ${Math.max(0, Math.round((Date.parse(lease_expires_at) - Date.now()) / 1000))} s` : `expired ${ago(lease_expires_at)}`;

const userInput = (people, index) => el("input", { required: true, value: people[index]?.user_id ?? "", placeholder: "user id", spellcheck: false });
const withUserList = (input) => {
  input.setAttribute("list", "users");
  return input;
};

function visibility(token, people) {
  const line = note();
  const viewer = withUserList(userInput(people, 0)), subject = withUserList(userInput(people, 5));
  const result = el("div", { "aria-live": "polite" });
  const explain = attempt(line, async () => {
    const query = new URLSearchParams({ viewer: viewer.value.trim(), subject: subject.value.trim() });
    const rows = await request(token, "GET", `/api/v1/system/explain?${query}`);
    const [one, other] = [await nameOf(viewer.value.trim()), await nameOf(subject.value.trim())];
    result.replaceChildren(...rows.map((row) => el("div", {},
      el("p", {}, el("strong", {}, row.visible ? `${one} sees the ${row.face} face of ${other}` : `${one} does not see ${other}`), `: ${row.reason}`),
      el("p", { class: "quiet" }, `Decided by: ${row.decided_by}${row.policy ? `. Policy: ${row.policy}` : ""}`),
      row.evidence && el("pre", {}, JSON.stringify(row.evidence, null, 2)))));
  });
  return el("form", { class: "card", onsubmit: explain }, el("h3", {}, "Explain visibility"),
    el("div", { class: "row" }, labelled("Viewer", viewer), labelled("Subject", subject), el("button", { class: "primary" }, "Explain")), line, result);
}

const INSPECTED = "/api/v1/ai/context/{conversation_id}";
const READY = { fresh: "ready", missing: "missing", dirty: "stale", expired: "expired", forced: "rebuilt" };

// Returns null when the server does not have the route.
async function inspector(token, people) {
  const { paths } = await request(null, "GET", "/openapi.json");
  if (!(INSPECTED in paths)) return null;
  const line = note();
  const conversation = el("input", { required: true, value: people.length ? "c0000000-0000-4000-8000-000000000001" : "", spellcheck: false });
  const user = withUserList(userInput(people, 0));
  const message = el("input", { placeholder: "Next message of the user" });
  const tokens = el("input", { type: "number", min: 500, step: 1, placeholder: "server default" });
  const result = el("div", {});
  const assemble = attempt(line, async () => {
    const query = new URLSearchParams({ userId: user.value.trim() });
    if (message.value.trim()) query.set("message", message.value.trim());
    if (tokens.value) query.set("maxContextTokens", tokens.value);
    const response = await request(token, "GET", `${INSPECTED.replace(/\{\w+\}/, encodeURIComponent(conversation.value.trim()))}?${query}`);
    result.replaceChildren(...prompt(response), el("details", {}, el("summary", {}, "Prompt text"), el("pre", { tabIndex: 0, "aria-label": "Prompt" }, response.data.systemPrompt || "The prompt is empty.")),
      el("details", {}, el("summary", {}, "Response (JSON)"), el("pre", { tabIndex: 0, "aria-label": "Response" }, JSON.stringify(response, null, 2))));
  });
  return el("form", { class: "card", onsubmit: assemble }, el("h3", {}, "Assembled prompt"),
    el("div", { class: "row" }, labelled("Conversation", conversation), labelled("User", user)),
    el("div", { class: "row" }, labelled("Message", message), labelled("Maximum tokens", tokens), el("button", { class: "primary" }, "Assemble")), line, result);
}

// Table of prompt layers: token budget and use of each layer, bundles that were not ready, and truncated sections.
function prompt({ data, metadata }) {
  const { budget, layers } = data;
  const summary = `${budget.used} of ${budget.tokens} tokens, assembled in ${metadata.assemblyTimeMs} ms. ${metadata.bundlesReady} of ${metadata.bundlesWanted} bundles were ready.`;
  const rows = layers.flatMap((layer) => [
    el("tr", { class: "layer" }, el("th", { scope: "row" }, `${layer.layer} ${layer.name}`), el("td", {}, String(layer.used)), el("td", {}, String(layer.given)),
      el("td", {}, el("progress", { max: Math.max(1, layer.given), value: layer.used, "aria-label": `${layer.name}: tokens used of its budget` })),
      el("td", {}, `${layer.minimum} to ${layer.maximum} tokens; elasticity ${layer.elasticity}`)),
    ...layer.sections.map((section) => el("tr", {}, el("td", { class: "section" }, section.title), el("td", {}, String(section.tokens)), el("td", {}),
      el("td", {}, ...marks(section)), el("td", {}, section.reason))),
  ]);
  const table = el("table", {}, el("thead", {}, el("tr", {}, ["Layer", "Used", "Budget", "", "Reason"].map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, rows));
  return [el("p", { class: "quiet" }, summary), el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Layers" }, table)];
}

const marks = ({ readiness, cut, content, reason }) => [
  readiness && el("span", { class: "mark", "data-kind": readiness }, READY[readiness] ?? readiness),
  cut && el("span", { class: "mark", "data-kind": "cut" }, "truncated"),
  !content && (/left out/.test(reason) ? el("span", { class: "mark", "data-kind": "cut" }, "left out") : el("span", { class: "mark" }, "empty")),
].filter(Boolean);
