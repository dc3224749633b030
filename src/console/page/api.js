// The public API: requests that fail with the server's own words, and sockets that come back.

export class Refused extends Error {
  constructor(status, body) {
    super(body?.message ?? body?.error ?? `the server answered ${status}`);
    this.status = status;
    this.code = body?.error;
  }
}

export async function request(token, method, path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json");
  const answer = isJson && text ? JSON.parse(text) : text;
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

// What a token says of itself. Only the server knows whether it is true.
export function claims(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}

let asked;

// The people of the demo data and their tokens, where the server is a demo; else nobody.
export function demo() {
  asked ??= request(null, "GET", "/console/demo").catch(() => ({ people: [], service_token: null }));
  return asked;
}

// A name for an id: the demo's people have one.
export async function nameOf(id) {
  const { people } = await demo();
  return people.find((person) => person.user_id === id)?.name ?? id;
}

// A socket that reconnects after 1, 2, 4 … 30 s, with some chance in it, until it is closed for good.
export function socket(path, { onopen, onframe, onstate }) {
  let live, timer, tries = 0, ended = false;
  const open = () => {
    onstate?.("connecting");
    live = new WebSocket(path.replace(/^/, location.origin.replace(/^http/, "ws")));
    live.onopen = () => {
      tries = 0;
      onstate?.("connected");
      onopen?.();
    };
    live.onmessage = ({ data }) => onframe(JSON.parse(data));
    live.onclose = ({ code, reason }) => {
      if (ended) return;
      const delay = Math.min(30000, 1000 * 2 ** tries++) * (0.75 + Math.random() / 2);
      onstate?.(`closed (${code}${reason ? `: ${reason}` : ""}), again in ${Math.ceil(delay / 1000)} s`);
      timer = setTimeout(open, delay);
    };
  };
  open();
  return {
    send: (frame) => live.readyState === WebSocket.OPEN && live.send(JSON.stringify(frame)),
    close: () => {
      ended = true;
      clearTimeout(timer);
      live.close(1000);
    },
  };
}
