// Channel playground: a small Phoenix channels client (serializer 1.0.0) that shows every frame, without tokens.

import { demo, socket } from "./api.js";
import { attempt, choice, el, labelled, note } from "./dom.js";
import { frameLog } from "./log.js";

export async function channels(container) {
  const { people } = await demo();
  const line = note();
  const who = el("select", {}, people.map((person) => el("option", { value: person.token }, person.name)));
  const tokenInput = el("input", { autocomplete: "off", spellcheck: false, placeholder: "eyJ…" });
  const channelName = el("input", { value: "harbour", required: true });
  const isPrivate = el("input", { type: "checkbox" });
  const self = el("input", { type: "checkbox", checked: true });
  const table = el("input", { placeholder: "public.todos (empty: none)" });
  const join = el("button", { class: "primary", type: "submit" }, "Join");
  const leave = el("button", { type: "button", disabled: true }, "Leave");
  const event = el("input", { value: "tide" });
  const payload = el("textarea", { value: '{ "metres": 3.2 }' });
  const broadcast = el("button", { type: "button", disabled: true }, "Broadcast");
  const track = el("button", { type: "button", disabled: true }, "Track");
  const untrack = el("button", { type: "button", disabled: true }, "Untrack");
  const frames = frameLog("Frames");
  const present = el("ul", {});

  let connection, heartbeat, ref = 0, joinRef, members = {};
  const topic = () => `realtime:${channelName.value}`;
  const log = frames.add;
  const push = (event, payload, to = topic()) => {
    const frame = { topic: to, event, payload, ref: String(++ref), join_ref: to === "phoenix" ? null : joinRef };
    connection.send(frame);
    log("out", frame);
  };
  const config = () => {
    const [schema, name] = table.value.includes(".") ? table.value.split(".", 2) : ["public", table.value];
    return {
      broadcast: { self: self.checked, ack: true },
      presence: { enabled: true, key: "" },
      private: isPrivate.checked,
      postgres_changes: table.value ? [{ event: "*", schema, table: name }] : [],
    };
  };
  const setJoined = (isJoined) => [broadcast, track, untrack, leave].forEach((button) => (button.disabled = !isJoined));
  const drawMembers = () => present.replaceChildren(...Object.entries(members).map(([key, { metas }]) =>
    el("li", {}, `${key}: `, el("code", {}, JSON.stringify(metas.map(({ phx_ref, ...rest }) => rest))))));
  const onFrame = (frame) => {
    log("in", frame);
    const { event, payload } = frame;
    if (event === "phx_reply" && frame.ref === joinRef) {
      setJoined(payload.status === "ok");
      line.show(payload.status === "ok" ? `Joined ${channelName.value}.` : payload.response.reason, payload.status !== "ok");
    } else if (event === "presence_state") members = payload;
    else if (event === "presence_diff") {
      for (const [key, { metas }] of Object.entries(payload.joins)) members[key] = { metas: [...(members[key]?.metas ?? []), ...metas] };
      for (const [key, { metas }] of Object.entries(payload.leaves)) {
        const removedRefs = metas.map((meta) => meta.phx_ref);
        const remaining = (members[key]?.metas ?? []).filter((meta) => !removedRefs.includes(meta.phx_ref));
        if (remaining.length > 0) members[key] = { metas: remaining };
        else delete members[key];
      }
    } else if (event === "system" && payload.status === "error") line.show(payload.message, true);
    else if (event === "phx_close") setJoined(false);
    drawMembers();
  };
  const disconnect = () => {
    connection?.close();
    clearInterval(heartbeat);
    connection = undefined;
    members = {};
    drawMembers();
    setJoined(false);
  };
  const start = attempt(line, async () => {
    const token = tokenInput.value.trim() || who.value;
    if (!token) throw new Error("Enter a token first.");
    disconnect();
    connection = socket(`/realtime/v1/websocket?vsn=1.0.0&apikey=${encodeURIComponent(token)}`, {
      onstate: (state) => line.show(state),
      onopen: () => {
        joinRef = String(ref + 1);
        push("phx_join", { config: config(), access_token: token });
      },
      onframe: onFrame,
    });
    heartbeat = setInterval(() => push("heartbeat", {}, "phoenix"), 25000);
  });
  const readPayload = () => {
    try {
      return JSON.parse(payload.value);
    } catch {
      throw new Error("Payload: must be valid JSON.");
    }
  };
  leave.onclick = () => {
    push("phx_leave", {});
    disconnect();
    line.show("Left.");
  };
  broadcast.onclick = attempt(line, () => push("broadcast", { type: "broadcast", event: event.value, payload: readPayload() }));
  track.onclick = attempt(line, () => push("presence", { type: "presence", event: "track", payload: readPayload() }));
  untrack.onclick = attempt(line, () => push("presence", { type: "presence", event: "untrack" }));

  container.replaceChildren(el("div", { class: "panes" },
    el("div", { class: "card" },
      el("form", { onsubmit: start },
        el("div", { class: "row" }, people.length > 0 && labelled("Demo user", who), labelled("Or with a token", tokenInput)),
        el("div", { class: "row" }, labelled("Channel", channelName), labelled("Changes of table", table)),
        el("div", { class: "choices" }, choice("Private", isPrivate), choice("Receive own broadcasts", self)),
        el("div", { class: "row" }, join, leave)),
      el("div", { class: "row" }, labelled("Event", event)),
      labelled("Payload (JSON)", payload),
      el("div", { class: "row" }, broadcast, track, untrack),
      line),
    el("div", { class: "card" }, el("h3", {}, "Present"), present, el("h3", {}, "Frames"), frames.element)));
}
