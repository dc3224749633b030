// Creates DOM elements. Text is always added as text nodes, so user input cannot become markup.

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || (value === false && !(name in element))) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && !["list", "form"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

let controlCount = 0;

// Control with a label above it.
export function labelled(text, control, properties = {}) {
  control.id ||= `c${++controlCount}`;
  return el("div", { class: "grow", ...properties }, el("label", { htmlFor: control.id }, text), control);
}

// Check box or radio button with its label.
export function choice(text, control) {
  return el("label", {}, control, text);
}

// Status line with the result of the last action.
export function note() {
  const line = el("p", { class: "note", role: "status" });
  line.show = (text, isError = false) => {
    line.textContent = text;
    line.dataset.error = isError;
  };
  return line;
}

// Event handler that runs `work` with the button disabled and shows `done` or the error in the status line.
export function attempt(line, work, done) {
  return async (event) => {
    event?.preventDefault();
    const button = event?.submitter ?? event?.currentTarget;
    if (button) button.disabled = true;
    try {
      await work(event);
      if (done) line.show(done);
    } catch (error) {
      line.show(error.message, true);
    } finally {
      if (button) button.disabled = false;
    }
  };
}

const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

// Relative time, such as "4 minutes ago".
export function ago(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  for (const [unit, length] of units) {
    if (Math.abs(seconds) >= length) return relative.format(Math.round(seconds / length), unit);
  }
  return "just now";
}
