// Line charts of numbers over time.

import { el } from "./dom.js";

// `points` is the number of values that fit, `seconds` the time between two.
export function chart(title, unit, points, seconds) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${points} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  const value = el("strong", {}, "–");
  const maximum = el("span", {}, "max: –");
  let values = [];
  const format = (point) => `${Number.isInteger(point) || point >= 10 ? Math.round(point).toLocaleString("en") : point.toFixed(1)} ${unit}`;
  const draw = (latest) => {
    const top = Math.max(...values, 1e-9);
    // A single sample is drawn as a horizontal line.
    const shown = values.length === 1 ? [values[0], values[0]] : values;
    const start = points - shown.length;
    const line = shown.map((y, x) => `L${start + x} ${38 - (y / top) * 34}`).join("");
    path.setAttribute("d", `M${start} 39${line}L${points - 1} 39Z`);
    value.textContent = latest === null ? "–" : format(latest);
    maximum.textContent = `max: ${format(Math.max(...values, 0))}`;
  };
  const add = (point) => {
    values = [...values, point ?? 0].slice(-points);
    draw(point);
  };
  const set = (all) => {
    values = all.slice(-points);
    draw(values.at(-1) ?? null);
  };
  const scale = el("div", { class: "scale" }, maximum, `${(points * seconds) / 60} minutes`);
  return { figure: el("figure", {}, el("figcaption", {}, title, value), svg, scale), add, set };
}
