// The console's frame: which view is shown, and how the server is.

import { request } from "./api.js";
import { channels } from "./channels.js";
import { operator } from "./operator.js";
import { pane } from "./people.js";

const views = ["people", "channels", "operator"];
const started = {};
const start = {
  people: () => document.querySelectorAll("[data-pane]").forEach((place) => pane(place, place.dataset.pane)),
  channels: () => channels(document.getElementById("playground")),
  operator: () => operator(document.getElementById("desk")),
};

function show() {
  const wanted = location.hash.slice(1);
  const view = views.includes(wanted) ? wanted : "people";
  for (const name of views) {
    document.getElementById(name).hidden = name !== view;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  started[view] ??= start[view]() ?? true;
}

async function look() {
  const line = document.getElementById("health");
  try {
    const health = await request(null, "GET", "/api/v1/system/health");
    line.textContent = `Server ${health.version}: all is well`;
  } catch (error) {
    line.textContent = error.status ? "The server is not well" : "The server is out of reach";
  }
}

addEventListener("hashchange", show);
show();
look();
setInterval(look, 10000);
