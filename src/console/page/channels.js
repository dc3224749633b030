// The channel playground: a small client of Phoenix channels, serializer 1.0.0, that shows every frame.

import { demo, socket } from "./api.js";
import { attempt, choice, el, labelled, note } from "./dom.js";

const MOST_FRAMES = 200;

export async function channels(place) {
  const { people } = await demo();
  const line = note();
  const who = el("select", {}, people.map((person) => el("option", { value: person.token }, person.name)));
  const pasted = el("input", { autocomplete: "off", spellcheck: false, placeholder: "eyJ…" });
  const room = el("input", { value: "harbour", required: true });
  const isPrivate = el("input", { type: "checkbox" });
  const self = el("input", { type: "checkbox", checked: true });
  const table = el("input", { placeholder: "public.todos; empty for none" });
  const join = el("button", { class: "primary", type: "submit" }, "Join");
  const leave = el("button", { type: "button", disabled: true }, "Leave");
  const event = el("input", { value: "tide" });
  const payload = el("textarea", { value: '{ "metres": 3.2 }' });
  const say = el("button", { type: "button", disabled: true }, "Broadcast");
  const track = el("button", { type: "button", disabled: true }, "Track");
  const untrack = el("button", { type: "button", disabled: true }, "Untrack");
  const frames = el("ol", { class: "frames", tabIndex: 0, "aria-label": "Frames" });
  const present = el("ul", {});

  let connection, beat, ref = 0, joined, here = {};
  const topic = () => `realtime:${room.value}`;
  const log = (way, frame) => {
    frames.append(el("li", { "data-way": way }, JSON.stringify(frame)));
    while (frames.childElementCount > MOST_FRAMES) frames.firstChild.remove();
    frames.scrollTop = frames.scrollHeight;
  };
  const push = (event, payload, to = topic()) => {
    const frame = { topic: to, event, payload, ref: String(++ref), join_ref: to === "phoenix" ? null : joined };
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
  const ready = (is) => [say, track, untrack, leave].forEach((button) => (button.disabled = !is));
  const drawPresent = () => present.replaceChildren(...Object.entries(here).map(([key, { metas }]) =>
    el("li", {}, `${key}: `, el("code", {}, JSON.stringify(metas.map(({ phx_ref, ...rest }) => rest))))));
  const hear = (frame) => {
    log("in", frame);
    const { event, payload } = frame;
    if (event === "phx_reply" && frame.ref === joined) {
      ready(payload.status === "ok");
      line.say(payload.status === "ok" ? `Joined ${room.value}.` : payload.response.reason, payload.status !== "ok");
    } else if (event === "presence_state") here = payload;
    else if (event === "presence_diff") {
      for (const [key, { metas }] of Object.entries(payload.joins)) here[key] = { metas: [...(here[key]?.metas ?? []), ...metas] };
      for (const [key, { metas }] of Object.entries(payload.leaves)) {
        const gone = metas.map((meta) => meta.phx_ref);
        const left = (here[key]?.metas ?? []).filter((meta) => !gone.includes(meta.phx_ref));
        if (left.length > 0) here[key] = { metas: left };
        else delete here[key];
      }
    } else if (event === "system" && payload.status === "error") line.say(payload.message, true);
    else if (event === "phx_close") ready(false);
    drawPresent();
  };
  const end = () => {
    connection?.close();
    clearInterval(beat);
    connection = undefined;
    here = {};
    drawPresent();
    ready(false);
  };
  const begin = attempt(line, async () => {
    const token = pasted.value.trim() || who.value;
    if (!token) throw new Error("Paste a token first.");
    end();
    connection = socket(`/realtime/v1/websocket?vsn=1.0.0&apikey=${encodeURIComponent(token)}`, {
      onstate: (state) => line.say(state),
      onopen: () => {
        joined = String(ref + 1);
        push("phx_join", { config: config(), access_token: token });
      },
      onframe: hear,
    });
    beat = setInterval(() => push("heartbeat", {}, "phoenix"), 25000);
  });
  const read = () => {
    try {
      return JSON.parse(payload.value);
    } catch {
      throw new Error("The payload is not valid JSON.");
    }
  };
  leave.onclick = () => {
    push("phx_leave", {});
    end();
    line.say("Left.");
  };
  say.onclick = attempt(line, () => push("broadcast", { type: "broadcast", event: event.value, payload: read() }));
  track.onclick = attempt(line, () => push("presence", { type: "presence", event: "track", payload: read() }));
  untrack.onclick = attempt(line, () => push("presence", { type: "presence", event: "untrack" }));

  place.replaceChildren(el("div", { class: "panes" },
    el("div", { class: "card" },
      el("form", { onsubmit: begin },
        el("div", { class: "row" }, people.length > 0 && labelled("As", who), labelled("Or with a token", pasted)),
        el("div", { class: "row" }, labelled("Channel", room), labelled("Changes of table", table)),
        el("div", { class: "choices" }, choice("Private", isPrivate), choice("Hear oneself", self)),
        el("div", { class: "row" }, join, leave)),
      el("div", { class: "row" }, labelled("Event", event)),
      labelled("Payload (JSON)", payload),
      el("div", { class: "row" }, say, track, untrack),
      line),
    el("div", { class: "card" }, el("h3", {}, "Present"), present, el("h3", {}, "Frames"), frames)));
}
