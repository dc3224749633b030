// Log of frames with filter, pause and clear. Tokens are replaced before a frame is kept.

import { el, labelled } from "./dom.js";

const MAX_FRAMES = 200;
const SECRETS = new Set(["accesstoken", "refreshtoken", "token", "jwt", "apikey", "authorization", "password", "secret"]);
const TOKEN = /[\w-]*eyJ[\w-]*\.eyJ[\w-]*(\.[\w-]*)?/g;
const REDACTED = "[token]";

// A copy of a value in which tokens are replaced: members with such a name, and JWTs in any text.
export function redacted(value, name = "") {
  if (value !== null && SECRETS.has(name.replace(/[_-]/g, "").toLowerCase())) return REDACTED;
  if (typeof value === "string") return value.replace(TOKEN, REDACTED);
  if (Array.isArray(value)) return value.map((item) => redacted(item));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, redacted(item, key)]));
}

// While paused, frames are kept but not shown; `title` names the list for screen readers.
export function frameLog(title) {
  const list = el("ol", { class: "frames", tabIndex: 0, "aria-label": title });
  const filter = el("input", { type: "search", placeholder: "For example: presence", spellcheck: false });
  const pause = el("button", { type: "button", class: "small", "aria-pressed": "false" }, "Pause");
  const clear = el("button", { type: "button", class: "small" }, "Clear");
  let frames = [], isPaused = false;
  const isShown = ({ text }) => text.toLowerCase().includes(filter.value.trim().toLowerCase());
  const item = ({ direction, text }) => el("li", { "data-direction": direction }, text);
  const draw = () => {
    list.replaceChildren(...frames.filter(isShown).map(item));
    list.scrollTop = list.scrollHeight;
  };
  filter.oninput = draw;
  pause.onclick = () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Resume" : "Pause";
    pause.setAttribute("aria-pressed", String(isPaused));
    if (!isPaused) draw();
  };
  clear.onclick = () => {
    frames = [];
    draw();
  };
  const add = (direction, frame) => {
    const entry = { direction, text: JSON.stringify(redacted(frame)) };
    frames.push(entry);
    frames = frames.slice(-MAX_FRAMES);
    if (isPaused) return;
    if (isShown(entry)) list.append(item(entry));
    while (list.childElementCount > MAX_FRAMES) list.firstChild.remove();
    list.scrollTop = list.scrollHeight;
  };
  const element = el("div", {}, el("div", { class: "row" }, labelled("Filter", filter), pause, clear), list);
  return { element, add };
}
