// Makes elements; texts are always texts, so that nothing anybody wrote can become markup.

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

let made = 0;

// A label over a control.
export function labelled(text, control, properties = {}) {
  control.id ||= `c${++made}`;
  return el("div", { class: "grow", ...properties }, el("label", { htmlFor: control.id }, text), control);
}

// A check box or radio button with its text.
export function choice(text, control) {
  return el("label", {}, control, text);
}

// One line that says how the last thing went.
export function note() {
  const line = el("p", { class: "note", role: "status" });
  line.say = (text, bad = false) => {
    line.textContent = text;
    line.dataset.bad = bad;
  };
  return line;
}

// Runs what a button does, with the button disabled meanwhile, and says what went wrong.
export function attempt(line, work, done) {
  return async (event) => {
    event?.preventDefault();
    const button = event?.submitter ?? event?.currentTarget;
    if (button) button.disabled = true;
    try {
      await work(event);
      if (done) line.say(done);
    } catch (error) {
      line.say(error.message, true);
    } finally {
      if (button) button.disabled = false;
    }
  };
}

const steps = [["day", 86400], ["hour", 3600], ["minute", 60]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

// "4 minutes ago"
export function ago(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  for (const [unit, length] of steps) {
    if (Math.abs(seconds) >= length) return relative.format(Math.round(seconds / length), unit);
  }
  return "just now";
}
