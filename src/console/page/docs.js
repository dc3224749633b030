// API reference: routes with request forms from /openapi.json, socket messages from /asyncapi.json.

import { demo } from "./api.js";
import { el, labelled } from "./dom.js";
import { marked } from "./marked.js";

// Descriptions contain no HTML; what looks like a tag, such as <id>, is text.
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
marked.use({ renderer: { html: ({ text }) => escaped(text) } });

const main = document.getElementById("main");
const token = el("input", { "aria-label": "Token", placeholder: "Token: eyJ…", autocomplete: "off", spellcheck: false, value: sessionStorage.getItem("rollcall.docs") ?? "" });
token.oninput = () => sessionStorage.setItem("rollcall.docs", token.value);

// Rendered Markdown; headings are below those of the page.
function prose(text, properties = { class: "prose" }) {
  const block = el("div", properties);
  block.innerHTML = marked.parse(text ?? "").replace(/<(\/?)h[1-6]\b[^>]*>/g, "<$1h4>");
  for (const one of block.querySelectorAll("table")) one.replaceWith(el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Table" }, one.cloneNode(true)));
  for (const link of block.querySelectorAll("a[href]")) link.setAttribute("href", new URL(link.getAttribute("href"), `${location.origin}/`).pathname);
  return block;
}

// Text in one line, with code.
function line(text) {
  const block = el("span");
  block.innerHTML = marked.parseInline(text ?? "");
  return block;
}

const resolve = (document, part) => (part?.$ref ? part.$ref.slice(2).split("/").reduce((at, key) => at[key], document) : part);
const nameOf = (schema) => schema?.$ref?.split("/").at(-1);

function kind(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map(kind).join(" | ");
  if (schema.type === "array") return `list of ${kind(schema.items ?? {})}`;
  const type = [schema.type ?? "any"].flat().join(" | ");
  return schema.format ? `${type} (${schema.format})` : type;
}

// The parts of a schema that have fields or values of their own.
function opened(document, schema) {
  const parts = schema.anyOf ?? schema.oneOf ?? [schema.type === "array" ? schema.items : schema];
  return parts.filter((part) => part && (part.$ref || part.properties || part.items?.$ref)).map((part) => (part.items?.$ref ? part.items : part))
    .filter((part) => { const target = resolve(document, part); return target?.properties || target?.enum || target?.anyOf || target?.oneOf; });
}

const table = (titles, rows) => el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": titles.join(", ") }, el("table", {}, el("thead", {}, el("tr", {}, titles.map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, rows)));

// A `details` whose content is built when it is opened first: there are many, and types contain each other.
function lazy(summary, build, properties = {}) {
  const details = el("details", properties, el("summary", {}, summary));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(...[build()].flat().filter(Boolean));
  });
  return details;
}

// The fields of a schema; a field of a named type opens to the fields of that type.
function fields(document, schema) {
  const target = resolve(document, schema) ?? {};
  if (target.type === "array") return fields(document, target.items);
  if (target.enum) return [prose(target.description), el("p", {}, "One of ", target.enum.flatMap((word, at) => [at ? ", " : "", el("code", {}, String(word))]), ".")];
  if (!target.properties) return (target.anyOf ?? target.oneOf ?? []).filter((part) => part.$ref).map((part) => lazy(nameOf(part), () => fields(document, part), { class: "type" }));
  return table(["Field", "Type", "Description"], Object.entries(target.properties).map(([name, field]) => el("tr", {},
    el("td", {}, el("code", {}, name), target.required?.includes(name) ? "" : " (optional)"),
    el("td", {}, kind(field)),
    el("td", {}, line(field.description ?? (field.oneOf ?? field.anyOf ?? []).map((part) => part.description).find(Boolean)),
      opened(document, field).map((part) => lazy(nameOf(part) ?? "Fields", () => fields(document, part), { class: "type" }))))));
}

// A value of a schema, to show its form.
function sample(document, schema, depth = 0) {
  const target = resolve(document, schema) ?? {};
  if ("example" in target) return target.example;
  if ("const" in target) return target.const;
  if (target.enum) return target.enum[0];
  const options = target.anyOf ?? target.oneOf;
  if (options) return sample(document, options[0], depth);
  const type = [target.type].flat()[0];
  if (type === "array") return depth > 4 ? [] : [sample(document, target.items ?? {}, depth + 1)];
  if (type === "integer" || type === "number") return target.minimum ?? 0;
  if (type === "boolean") return true;
  if (type === "object") return Object.fromEntries(Object.entries(target.properties ?? {}).map(([name, field]) => [name, depth > 4 ? null : sample(document, field, depth + 1)]));
  if (target.format === "uuid") return "a0000000-0000-4000-8000-000000000002";
  return target.format === "date-time" ? "2026-11-21T12:00:00.000Z" : "text";
}

// A text with a button that copies it.
function copyable(label, text) {
  const button = el("button", { class: "small", type: "button" }, "Copy");
  button.onclick = async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  return el("div", { class: "sample" }, el("div", { class: "bar" }, el("strong", {}, label), button), el("pre", { tabIndex: 0, role: "region", "aria-label": label }, text));
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// The request with the examples of the description, for a shell and for JavaScript.
function samples(method, path, operation) {
  const query = new URLSearchParams();
  let filled = path;
  for (const { name, in: place, example, required } of operation.parameters ?? []) {
    if (place === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(example ?? name));
    if (place === "query" && (required || example !== undefined)) query.set(name, example ?? "");
  }
  const url = `${location.origin}${filled}${query.size ? `?${query}` : ""}`;
  const body = operation.requestBody?.content?.["application/json"]?.example;
  const isOpen = operation.security?.length === 0;
  const curl = [`curl -s ${method === "GET" ? "" : `-X ${method} `}${quoted(url)}`, !isOpen && `-H "Authorization: Bearer $TOKEN"`,
    body !== undefined && "-H 'Content-Type: application/json'", body !== undefined && `-d ${quoted(JSON.stringify(body))}`];
  const headers = [!isOpen && "    Authorization: `Bearer ${token}`,", body !== undefined && `    "Content-Type": "application/json",`].filter(Boolean);
  const options = [method !== "GET" && `  method: "${method}",`, headers.length > 0 && `  headers: {\n${headers.join("\n")}\n  },`,
    body !== undefined && `  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),`].filter(Boolean);
  const script = `const response = await fetch(${JSON.stringify(url)}${options.length ? `, {\n${options.join("\n")}\n}` : ""});\nconsole.log(response.status, await response.text());`;
  return [copyable("curl", curl.filter(Boolean).join(" \\\n  ")), copyable("JavaScript", script)];
}

function requestForm(method, path, operation) {
  const inputs = (operation.parameters ?? []).map((parameter) => ({ parameter, input: el("input", { value: parameter.example ?? "", required: parameter.required, spellcheck: false }) }));
  const content = operation.requestBody?.content?.["application/json"];
  const body = content && el("textarea", { value: JSON.stringify(content.example, null, 2), spellcheck: false });
  const output = el("pre", { tabIndex: 0, hidden: true, role: "region", "aria-label": "Response" });
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
  const build = () => {
    const content = described.requestBody?.content?.["application/json"];
    const responses = Object.entries(described.responses).map(([status, reference]) => el("tr", {},
      el("td", {}, el("code", {}, status)), el("td", {}, line(resolve(document, reference).description))));
    const success = Object.entries(described.responses).find(([status]) => status.startsWith("2"))?.[1];
    const json = resolve(document, success)?.content?.["application/json"];
    const isSocket = "101" in described.responses;
    return [
      prose(described.description),
      described.parameters?.length > 0 && table(["Parameter", "Type", "Description"], described.parameters.map((parameter) => el("tr", {},
        el("td", {}, el("code", {}, parameter.name), ` in ${parameter.in}`), el("td", {}, kind(parameter.schema)), el("td", {}, line(parameter.description))))),
      content && el("h3", {}, "Body"), content && fields(document, content.schema),
      el("h3", {}, "Responses"), table(["Status", "Description"], responses),
      json && fields(document, json.schema),
      json?.example !== undefined && copyable("Example of a response", JSON.stringify(json.example, null, 2)),
      el("h3", {}, "Request"), samples(method, path, described),
      !isSocket && el("h3", {}, "Try it"), !isSocket && requestForm(method, path, described),
    ].flat();
  };
  return lazy([el("span", { class: "verb" }, method), el("code", {}, path), ` ${described.summary}`], build,
    { id: described.operationId, class: "entry", "data-text": `${method} ${path} ${described.summary} ${described.operationId} ${described.description}`.toLowerCase() });
}

// A message of a socket: its fields, and a frame of its form.
function message(document, direction, described) {
  const build = () => {
    const frame = described.examples?.[0]?.payload ?? sample(document, described.payload);
    return [prose(described.description), fields(document, described.payload), copyable(direction === "client" ? "Frame of a client" : "Form of the frame", JSON.stringify(frame, null, 2))].flat();
  };
  const word = direction === "client" ? "SEND" : "RECEIVE";
  return lazy([el("span", { class: "verb" }, word), el("code", {}, described.name), ` ${described.summary}`], build,
    { class: "entry message", "data-text": `${word} ${described.name} ${described.summary}`.toLowerCase() });
}

function sockets(document) {
  return Object.entries(document.channels).map(([name, channel]) => {
    const query = name === "realtime" ? "apikey=${apikey}&vsn=1.0.0" : "token=${token}";
    const open = `const socket = new WebSocket(\`${location.origin.replace(/^http/, "ws")}${channel.address}?${query}\`);\nsocket.onmessage = ({ data }) => console.log(JSON.parse(data));\nsocket.onclose = ({ code, reason }) => console.log(code, reason);`;
    const messages = ["client", "server"].flatMap((direction) => Object.keys(channel.messages)
      .filter((key) => key.startsWith(`${direction}.`))
      .map((key) => message(document, direction, resolve(document, channel.messages[key]))));
    return el("section", { "aria-label": channel.title, id: `socket-${name}` }, el("h2", {}, channel.title), el("p", {}, el("code", {}, channel.address)), prose(channel.description), copyable("JavaScript", open), messages);
  });
}

const closeCodes = (document) => el("section", { "aria-label": "Close codes", id: "close-codes" }, el("h2", {}, "Close codes"),
  table(["Code", "Reason", "Reconnect", "Meaning"], document["x-close-codes"].map((one) => el("tr", {},
    el("td", {}, el("code", {}, String(one.code))), el("td", {}, one.reason), el("td", {}, one.reconnect ? "yes, after a pause" : "no"), el("td", {}, line(one.description))))));

const load = (path) => fetch(path).then((response) => response.json());
const [api, described, { people, service_token }] = await Promise.all([load("/openapi.json"), load("/asyncapi.json"), demo()]);
const who = people.length > 0 && el("select", { "aria-label": "Demo user", onchange: () => { token.value = who.value; token.oninput(); } },
  el("option", { value: "" }, "Demo user…"), people.map((person) => el("option", { value: person.token }, person.name)), el("option", { value: service_token }, "service_role"));
document.getElementById("identity").append(...[who, token].filter(Boolean));

const idOf = (name) => `tag-${name.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
const sections = [
  ...api.tags.map(({ name, description }) => el("section", { "aria-label": name, id: idOf(name) }, el("h2", {}, name), el("p", { class: "quiet" }, description),
    Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).filter(([, one]) => one.tags.includes(name))
      .map(([method, one]) => operation(api, method.toUpperCase(), path, one))))),
  ...sockets(described),
  closeCodes(described),
];

// Search: entries that contain every word stay, with their sections.
const found = el("p", { class: "quiet", role: "status" });
const search = el("input", { type: "search", spellcheck: false, autocomplete: "off" });
search.oninput = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of sections) {
    let shown = 0;
    for (const entry of section.querySelectorAll(":scope > .entry")) {
      entry.hidden = !words.every((word) => entry.dataset.text.includes(word));
      shown += entry.hidden ? 0 : 1;
    }
    section.hidden = words.length > 0 && shown === 0;
    count += shown;
  }
  found.textContent = words.length ? `${count} of ${main.querySelectorAll(".entry").length} entries` : "";
};

// A link to an operation opens it.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") target.open = true;
  target?.scrollIntoView();
}

const contents = el("nav", { class: "contents", "aria-label": "Contents" }, labelled("Search", search, { class: "" }), found,
  el("ul", {}, sections.map((section) => el("li", {}, el("a", { href: `#${section.id}` }, section.getAttribute("aria-label"))))));
main.replaceChildren(el("div", { class: "columns" }, contents, el("div", { class: "entries" }, prose(api.info.description, { class: "prose lead" }), sections)));
main.removeAttribute("aria-busy");
addEventListener("hashchange", openTarget);
if (location.hash) openTarget();
