// API reference with request forms, generated from /openapi.json.

import { demo } from "./api.js";
import { el, labelled } from "./dom.js";

const main = document.getElementById("main");
const token = el("input", { "aria-label": "Token", placeholder: "Token: eyJ…", autocomplete: "off", spellcheck: false, value: sessionStorage.getItem("rollcall.docs") ?? "" });
token.oninput = () => sessionStorage.setItem("rollcall.docs", token.value);

const resolve = (document, part) => (part?.$ref ? part.$ref.slice(2).split("/").reduce((at, key) => at[key], document) : part);

function kind(document, schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map((one) => kind(document, one)).join(" | ");
  if (schema.type === "array") return `list of ${kind(document, schema.items)}`;
  const type = [schema.type].flat().join(" | ");
  return schema.format ? `${type} (${schema.format})` : type;
}

function fields(document, schema) {
  const resolved = resolve(document, schema);
  if (resolved?.type === "array") return fields(document, resolved.items);
  if (!resolved?.properties) return resolved?.enum ? el("p", {}, `One of ${resolved.enum.join(", ")}.`) : null;
  const rows = Object.entries(resolved.properties).map(([name, field]) => el("tr", {},
    el("td", {}, el("code", {}, name), resolved.required?.includes(name) ? "" : " (optional)"),
    el("td", {}, kind(document, field)), el("td", {}, field.description ?? "")));
  return table(["Field", "Type", "Description"], rows);
}

const table = (titles, rows) => el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, titles.map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, rows)));

function requestForm(document, method, path, operation) {
  const inputs = (operation.parameters ?? []).map((parameter) => ({ parameter, input: el("input", { value: parameter.example ?? "", required: parameter.required, spellcheck: false }) }));
  const content = operation.requestBody?.content?.["application/json"];
  const body = content && el("textarea", { value: JSON.stringify(content.example, null, 2), spellcheck: false });
  const output = el("pre", { tabIndex: 0, hidden: true, "aria-label": "Response" });
  const send = async (event) => {
    event.preventDefault();
    const headers = token.value ? { Authorization: `Bearer ${token.value.trim()}` } : {};
    let url = path;
    const query = new URLSearchParams();
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value && parameter.in === "query") query.set(parameter.name, input.value);
      else if (input.value) headers[parameter.name] = input.value;
    }
    if (body) headers["Content-Type"] = "application/json";
    output.hidden = false;
    output.textContent = "…";
    const started = performance.now();
    try {
      const response = await fetch(query.size ? `${url}?${query}` : url, { method, headers, body: body?.value });
      const text = await response.text();
      const elapsed = Math.round(performance.now() - started);
      let shown = text;
      try {
        shown = JSON.stringify(JSON.parse(text), null, 2);
      } catch { /* Not every response is JSON. */ }
      output.textContent = `${response.status} ${response.statusText} in ${elapsed} ms\n${shown.slice(0, 20000)}`;
    } catch (error) {
      output.textContent = error.message;
    }
  };
  return el("form", { onsubmit: send },
    inputs.length > 0 && el("div", { class: "row" }, inputs.map(({ parameter, input }) => labelled(`${parameter.name} (${parameter.in})`, input))),
    body && labelled("Body", body),
    el("div", { class: "row" }, el("button", { class: "primary" }, "Try it")), output);
}

function operation(document, method, path, described) {
  const content = described.requestBody?.content?.["application/json"];
  const responses = Object.entries(described.responses).map(([status, reference]) => {
    const response = resolve(document, reference);
    return el("tr", {}, el("td", {}, el("code", {}, status)), el("td", {}, response.description));
  });
  const success = Object.entries(described.responses).find(([status]) => status.startsWith("2"))?.[1];
  const json = resolve(document, success)?.content?.["application/json"];
  const isSocket = "101" in described.responses;
  const details = el("details", { id: described.operationId },
    el("summary", {}, el("span", { class: "verb" }, method.toUpperCase()), el("code", {}, path), ` ${described.summary}`));
  // Built when opened, because there are many operations.
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    details.append(...[
      el("p", { class: "about" }, described.description),
      described.parameters && table(["Parameter", "Type", "Description"], described.parameters.map((parameter) => el("tr", {},
        el("td", {}, el("code", {}, parameter.name), ` in ${parameter.in}`), el("td", {}, kind(document, parameter.schema)), el("td", {}, parameter.description)))),
      content && el("h3", {}, "Body"), content && fields(document, content.schema),
      el("h3", {}, "Responses"), table(["Status", "Description"], responses),
      json && fields(document, json.schema),
      json?.example && el("pre", { tabIndex: 0, "aria-label": "Example" }, JSON.stringify(json.example, null, 2)),
      !isSocket && el("h3", {}, "Try it"), !isSocket && requestForm(document, method.toUpperCase(), path, described),
    ].filter(Boolean));
  });
  return details;
}

const [described, { people, service_token }] = await Promise.all([fetch("/openapi.json").then((response) => response.json()), demo()]);
const who = people.length > 0 && el("select", { "aria-label": "Demo user", onchange: () => { token.value = who.value; token.oninput(); } },
  el("option", { value: "" }, "Demo user…"), people.map((person) => el("option", { value: person.token }, person.name)), el("option", { value: service_token }, "service_role"));
document.getElementById("identity").append(...[who, token].filter(Boolean));
main.replaceChildren(el("p", { class: "about lead" }, described.info.description), ...described.tags.map(({ name, description }) => el("section", { "aria-label": name },
  el("h2", {}, name), el("p", { class: "quiet" }, description),
  Object.entries(described.paths).flatMap(([path, methods]) => Object.entries(methods)
    .filter(([, one]) => one.tags.includes(name)).map(([method, one]) => operation(described, method, path, one))))));
main.removeAttribute("aria-busy");
