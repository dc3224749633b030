// For the service role: live charts from /metrics, nodes and their leases, why somebody sees somebody, and what the
// context engine would tell a model.

import { claims, demo, nameOf, request } from "./api.js";
import { ago, attempt, el, labelled, note } from "./dom.js";

const EVERY = 2000;
const MOST_POINTS = 90;

// Prometheus text to [{name, labels, value}].
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

// The 95th percentile of what a histogram has seen between two readings, in milliseconds.
export function percentile(before, now, name, share = 0.95) {
  const buckets = new Map();
  const add = (samples, sign) => samples.filter((sample) => sample.name === `${name}_bucket`).forEach(({ labels, value }) => {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    buckets.set(bound, (buckets.get(bound) ?? 0) + sign * value);
  });
  add(now, 1);
  add(before, -1);
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
  ["Open sockets", "", (before, now) => sum(now, "rollcall_hub_connections")],
  ["Deliveries", "/s", (before, now, seconds) => rate(before, now, seconds, "rollcall_hub_deliveries_total")],
  ["Requests", "/s", (before, now, seconds) => rate(before, now, seconds, "rollcall_http_requests_total")],
  ["Bytes sent", "/s", (before, now, seconds) => rate(before, now, seconds, "rollcall_hub_sent_bytes_total")],
  ["Write to commit, p95", "ms", (before, now) => percentile(before, now, "rollcall_writer_latency_seconds")],
  ["Commit to notification, p95", "ms", (before, now) => percentile(before, now, "rollcall_notify_lag_seconds")],
  ["Row-level security, p95", "ms", (before, now) => percentile(before, now, "rollcall_rls_query_seconds")],
  ["Requests, p95", "ms", (before, now) => percentile(before, now, "rollcall_http_request_seconds")],
];

const rate = (before, now, seconds, name) => Math.max(0, sum(now, name) - sum(before, name)) / seconds;

function chart(title, unit) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${MOST_POINTS} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  const value = el("strong", {}, "–");
  const most = el("span", {}, "most: –");
  const points = [];
  const said = (point) => `${Number.isInteger(point) || point >= 10 ? Math.round(point).toLocaleString("en") : point.toFixed(1)} ${unit}`;
  const add = (point) => {
    points.push(point ?? 0);
    if (points.length > MOST_POINTS) points.shift();
    const top = Math.max(...points, 1e-9);
    // A line across while there is but one reading.
    const shown = points.length === 1 ? [points[0], points[0]] : points;
    const start = MOST_POINTS - shown.length;
    const line = shown.map((y, x) => `L${start + x} ${38 - (y / top) * 34}`).join("");
    path.setAttribute("d", `M${start} 39${line}L${MOST_POINTS - 1} 39Z`);
    value.textContent = point === null ? "–" : said(point);
    most.textContent = `most: ${said(Math.max(...points))}`;
  };
  const scale = el("div", { class: "scale" }, most, `${(MOST_POINTS * EVERY) / 60000} minutes`);
  return { figure: el("figure", {}, el("figcaption", {}, title, value), svg, scale), add };
}

export async function operator(place) {
  const { service_token } = await demo();
  const kept = sessionStorage.getItem("rollcall.service") ?? service_token;
  if (kept && claims(kept).role === "service_role") desk(place, kept);
  else signIn(place);
}

function signIn(place) {
  const line = note();
  const pasted = el("input", { autocomplete: "off", spellcheck: false, placeholder: "eyJ…" });
  const enter = attempt(line, async () => {
    const token = pasted.value.trim();
    await request(token, "GET", "/api/v1/system/nodes");
    sessionStorage.setItem("rollcall.service", token);
    desk(place, token);
  });
  place.replaceChildren(el("form", { class: "card", onsubmit: enter },
    el("div", { class: "row" }, labelled("Token of the service role", pasted), el("button", { class: "primary" }, "Sign in")), line));
}

async function desk(place, token) {
  const charts = CHARTS.map(([title, unit, value]) => ({ ...chart(title, unit), value }));
  const nodes = el("tbody", {});
  const line = note();
  const { people } = await demo();
  const names = el("datalist", { id: "users" }, people.map((person) => el("option", { value: person.user_id }, person.name)));
  place.replaceChildren(
    el("div", { class: "charts" }, charts.map(({ figure }) => figure)),
    el("div", { class: "card" }, el("h3", {}, "Nodes"), el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Nodes" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Node", "Started", "Lease", "Renewed", "Devices"].map((title) => el("th", { scope: "col" }, title)))), nodes))),
    names, why(token, people), await inspector(token, people), line);

  let before, at;
  const tick = async () => {
    try {
      const now = parse(await request(null, "GET", "/metrics"));
      const time = performance.now();
      if (before) charts.forEach(({ add, value }) => add(value(before, now, (time - at) / 1000)));
      [before, at] = [now, time];
      const rows = await request(token, "GET", "/api/v1/system/nodes");
      nodes.replaceChildren(...rows.map((node) => el("tr", {},
        el("td", {}, el("code", {}, node.id)), el("td", {}, ago(node.started_at)),
        el("td", {}, lease(node)), el("td", {}, ago(node.renewed_at)), el("td", {}, String(node.devices)))));
      line.say("");
    } catch (error) {
      line.say(error.message, true);
    }
    if (place.isConnected) setTimeout(tick, EVERY);
  };
  tick();
}

// A node that does not renew its lease is dead, and its devices go offline.
const lease = ({ alive, lease_expires_at }) =>
  alive ? `runs, for ${Math.max(0, Math.round((Date.parse(lease_expires_at) - Date.now()) / 1000))} s more` : `lapsed ${ago(lease_expires_at)}`;

const id = (people, place) => el("input", { required: true, value: people[place]?.user_id ?? "", placeholder: "user id", spellcheck: false });
const listed = (input) => {
  input.setAttribute("list", "users");
  return input;
};

function why(token, people) {
  const line = note();
  const viewer = listed(id(people, 0)), subject = listed(id(people, 5));
  const found = el("div", { "aria-live": "polite" });
  const ask = attempt(line, async () => {
    const query = new URLSearchParams({ viewer: viewer.value.trim(), subject: subject.value.trim() });
    const rows = await request(token, "GET", `/api/v1/system/explain?${query}`);
    const [one, other] = [await nameOf(viewer.value.trim()), await nameOf(subject.value.trim())];
    found.replaceChildren(...rows.map((row) => el("div", {},
      el("p", {}, el("strong", {}, row.visible ? `${one} sees the ${row.face} face of ${other}` : `${one} sees nothing of ${other}`), `: ${row.reason}`),
      el("p", { class: "quiet" }, `Decided by: ${row.decided_by}${row.policy ? `; policy: ${row.policy}` : ""}`),
      row.evidence && el("pre", {}, JSON.stringify(row.evidence, null, 2)))));
  });
  return el("form", { class: "card", onsubmit: ask }, el("h3", {}, "Why does somebody see somebody?"),
    el("div", { class: "row" }, labelled("Viewer", viewer), labelled("Subject", subject), el("button", { class: "primary" }, "Ask")), line, found);
}

const INSPECTED = "/api/v1/ai/context/{conversation_id}";
const READY = { fresh: "ready", missing: "there was none", dirty: "was dirty", expired: "had expired", forced: "was made anew" };

// Only where the server has the route.
async function inspector(token, people) {
  const { paths } = await request(null, "GET", "/openapi.json");
  if (!(INSPECTED in paths)) return null;
  const line = note();
  const conversation = el("input", { required: true, value: people.length ? "c0000000-0000-4000-8000-000000000001" : "", spellcheck: false });
  const user = listed(id(people, 0));
  const message = el("input", { placeholder: "What the user would type" });
  const tokens = el("input", { type: "number", min: 500, step: 1, placeholder: "as configured" });
  const found = el("div", {});
  const look = attempt(line, async () => {
    const query = new URLSearchParams({ userId: user.value.trim() });
    if (message.value.trim()) query.set("message", message.value.trim());
    if (tokens.value) query.set("maxContextTokens", tokens.value);
    const answer = await request(token, "GET", `${INSPECTED.replace(/\{\w+\}/, encodeURIComponent(conversation.value.trim()))}?${query}`);
    found.replaceChildren(...prompt(answer), el("details", {}, el("summary", {}, "The prompt itself"), el("pre", { tabIndex: 0, "aria-label": "Prompt" }, answer.data.systemPrompt || "Nothing is known.")),
      el("details", {}, el("summary", {}, "Everything, as JSON"), el("pre", { tabIndex: 0, "aria-label": "Answer" }, JSON.stringify(answer, null, 2))));
  });
  return el("form", { class: "card", onsubmit: look }, el("h3", {}, "What a model would be told"),
    el("div", { class: "row" }, labelled("Conversation", conversation), labelled("User", user)),
    el("div", { class: "row" }, labelled("Message", message), labelled("Tokens in all", tokens), el("button", { class: "primary" }, "Look")), line, found);
}

// The layers of a prompt: what each was given of the budget and took, what was not ready, and what was cut.
function prompt({ data, metadata }) {
  const { budget, layers } = data;
  const spent = `${budget.used} of ${budget.tokens} tokens, assembled in ${metadata.assemblyTimeMs} ms; ${metadata.bundlesReady} of ${metadata.bundlesWanted} bundles were ready.`;
  const rows = layers.flatMap((layer) => [
    el("tr", { class: "layer" }, el("th", { scope: "row" }, `${layer.layer} ${layer.name}`), el("td", {}, String(layer.used)), el("td", {}, String(layer.given)),
      el("td", {}, el("progress", { max: Math.max(1, layer.given), value: layer.used, "aria-label": `${layer.name}: used of what was given` })),
      el("td", {}, `${layer.minimum} to ${layer.maximum} tokens; elasticity ${layer.elasticity}`)),
    ...layer.sections.map((section) => el("tr", {}, el("td", { class: "section" }, section.title), el("td", {}, String(section.tokens)), el("td", {}),
      el("td", {}, ...marks(section)), el("td", {}, section.reason))),
  ]);
  const table = el("table", {}, el("thead", {}, el("tr", {}, ["Layer", "Used", "Given", "", "Why"].map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, rows));
  return [el("p", { class: "quiet" }, spent), el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Layers" }, table)];
}

const marks = ({ readiness, cut, content, reason }) => [
  readiness && el("span", { class: "mark", "data-kind": readiness }, READY[readiness] ?? readiness),
  cut && el("span", { class: "mark", "data-kind": "cut" }, "was cut"),
  !content && (/left out/.test(reason) ? el("span", { class: "mark", "data-kind": "cut" }, "left out") : el("span", { class: "mark" }, "empty")),
].filter(Boolean);
