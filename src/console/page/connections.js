// Connections, channels and audit log of all nodes, for service_role: search, disconnect with a reason, live events.

import { nameOf, request } from "./api.js";
import { chart } from "./chart.js";
import { ago, attempt, el, labelled, note } from "./dom.js";
import { frameLog } from "./log.js";

const DIALECTS = ["presence", "presence_events", "devices", "context", "phoenix_v1", "phoenix_v2", "channel_events"];
const HISTORY_INTERVAL = 10;
const HISTORY = [
  ["Open connections, last hour", "", "connections"],
  ["Deliveries, last hour", "/s", "deliveries_per_second"],
  ["Bytes sent, last hour", "/s", "bytes_per_second"],
  ["Slow connections closed, last hour", "/s", "slow_closed_per_second"],
];

// Query string of the fields that are filled in.
const query = (fields) => new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined && value !== null));

const table = (title, columns, body) => el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": title },
  el("table", {}, el("thead", {}, el("tr", {}, columns.map((column) => el("th", { scope: "col" }, column)))), body));

// Shows which nodes are missing in an answer.
const showMissing = (line, { unanswered }) => line.show(unanswered.length > 0 ? `Without the nodes that did not answer: ${unanswered.join(", ")}` : "");

// Charts of the last hour, from the samples that the nodes keep.
export function history(token) {
  const charts = HISTORY.map(([title, unit, field]) => ({ ...chart(title, unit, 360, HISTORY_INTERVAL), field }));
  const element = el("div", { class: "charts" }, charts.map(({ figure }) => figure));
  const load = async () => {
    try {
      const { nodes } = await request(token, "GET", "/api/v1/system/history");
      for (const { set, field } of charts) {
        const sums = new Map();
        for (const { samples } of nodes) for (const sample of samples) sums.set(sample.at, (sums.get(sample.at) ?? 0) + sample[field]);
        set([...sums].sort(([one], [other]) => one.localeCompare(other)).map(([, value]) => value));
      }
    } catch {
      // The line of the dashboard shows that the server does not answer.
    }
    if (element.isConnected) setTimeout(load, HISTORY_INTERVAL * 1000);
  };
  setTimeout(load);
  return element;
}

// A table whose pages are loaded one after the other.
function paged(line, token, path, fields, row) {
  const body = el("tbody", {});
  const more = el("button", { type: "button", hidden: true }, "More");
  let cursor = null;
  const load = async (isFirst) => {
    const page = await request(token, "GET", `${path}?${query({ ...fields(), limit: 50, cursor: isFirst ? null : cursor })}`);
    const rows = await Promise.all(page.data.map(row));
    if (isFirst) body.replaceChildren(...rows);
    else body.append(...rows);
    cursor = page.next_cursor;
    more.hidden = cursor === null;
    if (page.unanswered) showMissing(line, page);
    return page;
  };
  more.onclick = attempt(line, () => load(false));
  return { body, more, load: () => load(true) };
}

export function connections(token, onAction) {
  const line = note();
  const user = el("input", { placeholder: "user id", spellcheck: false });
  user.setAttribute("list", "users");
  const device = el("input", { spellcheck: false });
  const dialect = el("select", {}, el("option", { value: "" }, "all"), DIALECTS.map((name) => el("option", {}, name)));
  const address = el("input", { placeholder: "192.0.2.", spellcheck: false });
  const reason = el("input", { maxLength: 123, placeholder: "The client receives it" });
  const count = el("p", { class: "quiet", "aria-live": "polite" });
  const watched = el("div", {});
  const fields = () => ({ user_id: user.value.trim(), device_id: device.value.trim(), dialect: dialect.value, address: address.value.trim() });
  const close = (target, done) => attempt(line, async () => {
    await request(token, "POST", "/api/v1/system/disconnect", { ...target, reason: reason.value || undefined });
    await search();
    onAction();
  }, done);
  const row = async (item) => el("tr", { "data-connection": item.id },
    el("td", {}, ...(await Promise.all(item.user_ids.map(async (id) => el("div", {}, await nameOf(id)))))),
    el("td", {}, item.device_id ?? ""), el("td", {}, item.dialect), el("td", {}, el("code", {}, item.remote_address)),
    el("td", {}, ago(item.connected_at)), el("td", {}, `${item.received_per_second}/s in, ${item.sent_per_second}/s out`),
    el("td", {}, `${item.queued_messages} (${item.queued_bytes} bytes)`),
    el("td", { class: "acts" },
      el("button", { type: "button", class: "small", onclick: () => watch(token, item, watched) }, "Watch"),
      el("button", { type: "button", class: "small", onclick: close({ connection_id: item.id }, "Connection closed.") }, "Disconnect"),
      item.user_ids.length === 1 && el("button", { type: "button", class: "small", onclick: close({ user_id: item.user_ids[0] }, "User disconnected.") }, "Disconnect user")));
  const list = paged(line, token, "/api/v1/system/connections", fields, row);
  const search = async () => {
    const { total } = await list.load();
    count.textContent = `${total} ${total === 1 ? "connection" : "connections"}`;
  };
  const form = el("form", { onsubmit: attempt(line, search) },
    el("div", { class: "row" }, labelled("User of the connection", user), labelled("Device", device), labelled("Dialect", dialect),
      labelled("Address begins with", address), el("button", { class: "primary" }, "Search")));
  attempt(line, search)();
  return el("div", { class: "card" }, el("h3", {}, "Connections"), form, el("div", { class: "row" }, labelled("Reason of a disconnect", reason)), count,
    table("Connections", ["User", "Device", "Dialect", "Address", "Connected", "Messages", "Waiting", "Actions"], list.body), list.more, line, watched);
}

// Shows the messages of a connection while they happen, until it closes or another one is watched.
function watch(token, item, container) {
  const log = frameLog("Live events");
  const line = note();
  const control = new AbortController();
  const stop = el("button", { type: "button", class: "small" }, "Stop");
  container.stop?.();
  container.stop = () => control.abort();
  stop.onclick = () => {
    container.stop();
    container.replaceChildren();
  };
  container.replaceChildren(el("div", { class: "bar" }, el("h3", {}, "Live events of ", el("code", {}, item.id)), stop), log.element, line);
  const show = (name, data) => {
    if (name === "dropped") line.show(`${data.count} messages were dropped, because they were read too slowly.`);
    else if (name === "close") line.show(`The stream has ended: ${data.reason}.`);
    else log.add(data.direction, data);
  };
  readEvents(token, `/api/v1/system/connections/${item.id}/events`, control.signal, show)
    .catch((error) => control.signal.aborted || line.show(error.message, true));
}

// EventSource cannot send a token, so the stream is read by hand.
async function readEvents(token, path, signal, onevent) {
  const response = await fetch(path, { headers: { Authorization: `Bearer ${token}` }, signal });
  if (!response.ok) throw new Error((await response.json()).message);
  let text = "";
  for await (const chunk of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
    const events = (text + chunk).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const field = (name) => event.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (field("data")) onevent(field("event") ?? "message", JSON.parse(field("data")));
    }
  }
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

export function channelList(token) {
  const line = note();
  const search = el("input", { type: "search", spellcheck: false });
  const row = async ({ topic, private: isPrivate, members }) => el("tr", {},
    el("td", {}, el("code", {}, topic)), el("td", {}, isPrivate ? "private" : "public"), el("td", {}, String(members)));
  const list = paged(line, token, "/api/v1/system/channels", () => ({ search: search.value }), row);
  const load = attempt(line, list.load);
  load();
  return el("div", { class: "card" }, el("h3", {}, "Channels"),
    el("form", { onsubmit: load }, el("div", { class: "row" }, labelled("Topic contains", search), el("button", { class: "primary" }, "Find"))),
    table("Channels", ["Topic", "Access", "Members"], list.body), list.more, line);
}

export function auditLog(token) {
  const line = note();
  const row = async (entry) => el("tr", {},
    el("td", {}, ago(entry.at)), el("td", {}, entry.actor), el("td", {}, entry.action), el("td", {}, el("code", {}, JSON.stringify(entry.target))),
    el("td", {}, entry.reason ?? ""), el("td", {}, el("code", {}, entry.request_id ?? "")));
  const list = paged(line, token, "/api/v1/system/audit", () => ({}), row);
  const load = attempt(line, list.load);
  load();
  const element = el("div", { class: "card" }, el("div", { class: "bar" }, el("h3", {}, "Audit log"), el("button", { type: "button", class: "small", onclick: load }, "Refresh")),
    table("Audit log", ["Time", "Actor", "Action", "Target", "Reason", "Request"], list.body), list.more, line);
  return { element, load };
}
