// Pane of one user: sign-in, own status, privacy settings, devices, and a live list of visible users.

import { claims, demo, nameOf, request, socket } from "./api.js";
import { ago, attempt, choice, el, labelled, note } from "./dom.js";

const STATUSES = ["online", "away", "busy", "dnd", "invisible", "offline"];
const SWITCHES = { show_last_seen: "Last seen", show_activity: "Activity", show_custom_status: "Custom status", show_typing: "Typing" };

export async function pane(container, name) {
  const { people } = await demo();
  const stored = sessionStorage.getItem(`rollcall.${name}`);
  const first = people[name === "second" ? 1 : 0]?.token;
  const token = stored ?? first;
  if (token && claims(token).exp * 1000 > Date.now()) showUser(container, name, token);
  else showSignIn(container, name);
}

async function showSignIn(container, name) {
  const { people } = await demo();
  const line = note();
  const who = el("select", {}, people.map((person) => el("option", { value: person.token }, person.name)));
  const tokenInput = el("input", { autocomplete: "off", spellcheck: false, placeholder: "eyJ…" });
  const enter = attempt(line, async () => {
    const token = tokenInput.value.trim() || who.value;
    if (!token) throw new Error("Enter a token. `rollcall token --sub <user id>` prints one.");
    await request(token, "GET", "/api/presence/status");
    sessionStorage.setItem(`rollcall.${name}`, token);
    showUser(container, name, token);
  });
  container.replaceChildren(el("form", { onsubmit: enter },
    el("h3", {}, "Sign in"),
    people.length > 0 && el("div", { class: "row" }, labelled("Demo user", who)),
    el("div", { class: "row" }, labelled(people.length > 0 ? "Or with a token" : "With a token", tokenInput)),
    el("button", { class: "primary", type: "submit" }, "Sign in"),
    line));
}

async function showUser(container, name, token) {
  const me = claims(token).sub;
  const line = note();
  const act = (method, path, body) => request(token, method, path, body);
  const displayName = await nameOf(me);
  const link = el("span", { class: "quiet" }, "connecting");
  const changeUser = el("button", { class: "small" }, "Change user");
  const status = statusForm(act, line, name);
  const settings = settingsForm(act, line, name);
  const devices = el("ul", {});
  const showDevices = async () => {
    const rows = (await act("GET", "/api/presence/devices")).map((device) => el("li", {},
      `${device.device_name ?? device.device_id}: ${device.status}${device.connected ? ", connected" : ""} `,
      device.status !== "offline" && el("button", { class: "small", onclick: attempt(line, async () => {
        await act("DELETE", `/api/presence/devices/${encodeURIComponent(device.device_id)}`);
        await showDevices();
      }, "Device signed off.") }, "Sign off")));
    devices.replaceChildren(...rows);
  };
  const visibleUsers = userList(me, act, line);
  const connection = socket(`/api/presence/subscribe?token=${encodeURIComponent(token)}&device_id=console-${name}&user_ids=${me}`, {
    onstate: (state) => (link.textContent = state),
    onframe: ({ type, data, message }) => {
      if (type === "initial_state") {
        visibleUsers.reset(data.presences);
        data.presences.filter((presence) => presence.user_id === me).forEach(status.select);
      } else if (type === "presence_update") {
        visibleUsers.put(data);
        if (data.user_id === me) status.select(data);
      }
      else if (type === "typing_update") visibleUsers.typing(data);
      else if (type === "error") line.show(message, true);
    },
  });
  const typingForm = typing(act, connection);
  changeUser.onclick = () => {
    connection.close();
    visibleUsers.stop();
    sessionStorage.removeItem(`rollcall.${name}`);
    showSignIn(container, name);
  };
  container.replaceChildren(
    el("div", { class: "bar" }, el("h3", {}, displayName), link, changeUser),
    status.form,
    el("h3", {}, `Users visible to ${displayName}`),
    visibleUsers.list,
    typingForm.form,
    settings.form,
    el("details", { ontoggle: attempt(line, showDevices) }, el("summary", {}, "Devices"), devices),
    line);
  await Promise.allSettled([status.load(), settings.load(), typingForm.load(), visibleUsers.load()]);
}

function statusForm(act, line, name) {
  const radios = STATUSES.map((status) => el("input", { type: "radio", name: `status-${name}`, value: status }));
  const text = el("input", { maxLength: 140, placeholder: "For example: at lunch" });
  const activity = el("input", { maxLength: 140, placeholder: "For example: writing a report" });
  // Counts what the socket sent: an answer to a request that is older than a frame does not replace its status.
  let frames = 0;
  const check = (own) => radios.forEach((radio) => (radio.checked = radio.value === own.availability));
  const select = (own) => {
    frames++;
    check(own);
  };
  const show = (own) => {
    text.value = own.custom_status ?? "";
    activity.value = own.activity ?? "";
  };
  const save = attempt(line, async () => {
    const status = radios.find((radio) => radio.checked)?.value ?? "online";
    const body = { status, custom_status: text.value || null, activity: activity.value || null, device_id: `console-${name}` };
    await act("POST", "/api/presence/status", body);
  }, "Status updated.");
  const form = el("form", { onsubmit: save }, el("fieldset", {}, el("legend", {}, "Status"),
    el("div", { class: "choices" }, radios.map((radio) => choice(radio.value, radio))),
    el("div", { class: "row" }, labelled("Custom status", text), labelled("Activity", activity), el("button", { class: "primary" }, "Set"))));
  radios.forEach((radio) => radio.addEventListener("change", () => form.requestSubmit()));
  const load = async () => {
    const before = frames;
    const own = await act("GET", "/api/presence/status");
    if (frames === before) check(own);
    show(own);
  };
  return { form, select, load };
}

function settingsForm(act, line, name) {
  const visibility = el("select", {}, ["everyone", "contacts", "team", "nobody"].map((word) => el("option", {}, word)));
  const boxes = Object.keys(SWITCHES).map((key) => el("input", { type: "checkbox", name: `${name}-${key}`, value: key }));
  const save = attempt(line, async () => {
    const body = { visibility: visibility.value };
    boxes.forEach((box) => (body[box.value] = box.checked));
    await act("PUT", "/api/presence/settings", body);
  }, "Privacy settings saved.");
  visibility.onchange = save;
  boxes.forEach((box) => box.addEventListener("change", save));
  const form = el("fieldset", {}, el("legend", {}, "Privacy"),
    el("div", { class: "row" }, labelled("Visible to", visibility)),
    el("div", { class: "choices" }, boxes.map((box) => choice(SWITCHES[box.value], box))));
  const load = async () => {
    const settings = await act("GET", "/api/presence/settings");
    visibility.value = settings.visibility;
    boxes.forEach((box) => (box.checked = settings[box.value]));
  };
  return { form, load };
}

function typing(act, connection) {
  const where = el("select", {});
  const text = el("input", { placeholder: "Type to send a typing indicator to the conversation", autocomplete: "off" });
  let last = 0, timer;
  const sendTyping = (is_typing) => where.value && connection.send({ type: "typing", data: { conversation_id: where.value, is_typing } });
  text.oninput = () => {
    if (Date.now() - last > 2000) {
      last = Date.now();
      sendTyping(true);
    }
    clearTimeout(timer);
    timer = setTimeout(() => {
      last = 0;
      sendTyping(false);
    }, 3000);
  };
  const form = el("div", { class: "row" }, labelled("Conversation", where), labelled("Message", text));
  const load = async () => {
    const rows = await act("GET", "/api/conversations");
    where.replaceChildren(...rows.map((row) => el("option", { value: row.id }, row.title ?? row.id)));
  };
  return { form, load };
}

function userList(me, act, line) {
  const list = el("ul", { class: "roster", "aria-live": "polite" });
  const known = new Map();
  let blocked = [], trusted = [];
  const load = async () => {
    blocked = (await act("GET", "/api/blocks")).map((block) => block.user_id);
    trusted = (await act("GET", "/api/presence/visibility")).user_ids;
    await draw();
  };
  const change = (method, path, body) => attempt(line, async () => {
    await act(method, path, body);
    await load();
  }, "Saved.");
  const actions = (id) => {
    if (id === me) return el("span", {});
    const isTrusted = trusted.includes(id);
    return el("span", { class: "acts" },
      el("button", { class: "small", "aria-pressed": String(isTrusted), title: "Trusted users see you while you are invisible",
        onclick: change(isTrusted ? "DELETE" : "POST", `/api/presence/visibility/${id}`) }, isTrusted ? "Trusted" : "Trust"),
      blocked.includes(id)
        ? el("button", { class: "small", onclick: change("DELETE", `/api/blocks/${id}`) }, "Unblock")
        : el("button", { class: "small", onclick: change("POST", "/api/blocks", { user_id: id }) }, "Block"));
  };
  let drawing = Promise.resolve();
  const draw = () => (drawing = drawing.then(async () => {
    const ids = [...new Set([...known.keys(), ...blocked])];
    const rows = await Promise.all(ids.map(async (id) => ({ id, name: await nameOf(id), presence: known.get(id) })));
    rows.sort((one, other) => (one.id === me ? -1 : other.id === me ? 1 : one.name.localeCompare(other.name)));
    list.replaceChildren(...rows.map(({ id, name, presence }) => el("li", { "data-user": id, "data-status": presence?.availability ?? "unknown" },
      el("span", { class: "dot", "data-status": presence?.availability ?? "offline" }),
      el("span", { class: "who" }, el("strong", {}, name), id === me ? " (you)" : "", ` · ${presence?.availability ?? "not visible"} `,
        devices.get(id) > 1 && el("span", { class: "quiet" }, `on ${devices.get(id)} devices `),
        presence?.is_typing && el("em", { class: "typing" }, "typing…"),
        el("div", { class: "more" }, presenceDetails(presence))),
      actions(id))));
    if (rows.length === 0) list.replaceChildren(el("li", {}, el("span", {}), "No visible users. Contacts, team members and participants of shared conversations appear here."));
  }));
  const timers = new Map();
  const clock = setInterval(draw, 30000);
  // Only the user card holds the number of online devices. It is requested when a presence changes and the user is not offline.
  const devices = new Map();
  const updateDeviceCount = async ({ user_id, status }) => {
    const card = status === "offline" ? null : await act("GET", `/${user_id}`).catch(() => null);
    if (devices.get(user_id) === card?.devices_online) return;
    devices.set(user_id, card?.devices_online);
    draw();
  };
  return {
    list,
    load,
    stop: () => clearInterval(clock),
    reset: (presences) => {
      known.clear();
      presences.forEach((presence) => known.set(presence.user_id, presence));
      presences.forEach(updateDeviceCount);
      draw();
    },
    put: (presence) => {
      const before = known.get(presence.user_id);
      known.set(presence.user_id, { ...presence, is_typing: before?.is_typing });
      updateDeviceCount(presence);
      draw();
    },
    typing: ({ user_id, is_typing }) => {
      const presence = known.get(user_id);
      if (!presence) return;
      presence.is_typing = is_typing;
      clearTimeout(timers.get(user_id));
      if (is_typing) timers.set(user_id, setTimeout(() => { presence.is_typing = false; draw(); }, 6000));
      draw();
    },
  };
}

function presenceDetails(presence) {
  if (!presence) return "";
  const parts = [presence.custom_status && `“${presence.custom_status}”`, presence.activity,
    presence.idle_since && `idle since ${ago(presence.idle_since)}`,
    presence.status === "offline" && (presence.last_seen ? `last seen ${ago(presence.last_seen)}` : "last seen not shared")];
  return parts.filter(Boolean).join(" · ");
}
