// Selects the view from the URL fragment and shows the server's health.

import { request } from "./api.js";
import { channels } from "./channels.js";
import { operator } from "./operator.js";
import { pane } from "./people.js";

const views = ["people", "channels", "operator"];
const started = {};
const start = {
  people: () => document.querySelectorAll("[data-pane]").forEach((container) => pane(container, container.dataset.pane)),
  channels: () => channels(document.getElementById("playground")),
  operator: () => operator(document.getElementById("dashboard")),
};

function show() {
  const fragment = location.hash.slice(1);
  const view = views.includes(fragment) ? fragment : "people";
  for (const name of views) {
    document.getElementById(name).hidden = name !== view;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  started[view] ??= start[view]() ?? true;
}

async function checkHealth() {
  const line = document.getElementById("health");
  try {
    const health = await request(null, "GET", "/api/v1/system/health");
    line.textContent = `Server ${health.version}: healthy`;
  } catch (error) {
    line.textContent = error.status ? "The server is unhealthy" : "The server is unreachable";
  }
}

addEventListener("hashchange", show);
show();
checkHealth();
setInterval(checkHealth, 10000);
