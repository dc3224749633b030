// Client of the public API: requests that throw the server's error message, and sockets that reconnect.

export class RequestError extends Error {
  constructor(status, body) {
    super(body?.message ?? body?.error ?? `the server responded with status ${status}`);
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
  if (!response.ok) throw new RequestError(response.status, answer);
  return answer;
}

// Claims of a token, not verified.
export function claims(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (c) => c.charCodeAt(0))));
  } catch {
    return {};
  }
}

let demoRequest;

// Users of the demo data and their tokens; empty when the server is not a demo server.
export function demo() {
  demoRequest ??= request(null, "GET", "/console/demo").catch(() => ({ people: [], service_token: null }));
  return demoRequest;
}

// Name of a demo user; other users are shown by their ID.
export async function nameOf(id) {
  const { people } = await demo();
  return people.find((person) => person.user_id === id)?.name ?? id;
}

// WebSocket that reconnects after 1, 2, 4 … 30 s with ±25 % jitter until `close` is called.
export function socket(path, { onopen, onframe, onstate }) {
  let live, timer, attempts = 0, isClosed = false;
  const open = () => {
    onstate?.("connecting");
    live = new WebSocket(path.replace(/^/, location.origin.replace(/^http/, "ws")));
    live.onopen = () => {
      attempts = 0;
      onstate?.("connected");
      onopen?.();
    };
    live.onmessage = ({ data }) => onframe(JSON.parse(data));
    live.onclose = ({ code, reason }) => {
      if (isClosed) return;
      const delay = Math.min(30000, 1000 * 2 ** attempts++) * (0.75 + Math.random() / 2);
      onstate?.(`closed (${code}${reason ? `: ${reason}` : ""}), reconnecting in ${Math.ceil(delay / 1000)} s`);
      timer = setTimeout(open, delay);
    };
  };
  open();
  return {
    send: (frame) => live.readyState === WebSocket.OPEN && live.send(JSON.stringify(frame)),
    close: () => {
      isClosed = true;
      clearTimeout(timer);
      live.close(1000);
    },
  };
}
