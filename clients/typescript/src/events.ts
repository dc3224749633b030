// Server-sent events instead of a WebSocket: the server's messages arrive in a streamed response, the client's go by REST.

import { type RollcallError, errorOf } from "./errors.js";
import { OPEN, type WebSocketLike } from "./transport.js";
import type { ClientFrame } from "./wire.js";

const CLOSED = 3;
/** Close code of a connection that ended without one, as browsers report it. */
const ABNORMAL = 1006;

/**
 * A `transport` for networks, proxies and runtimes without WebSocket:
 * `new PresenceClient({ url, token, transport: EventStreamTransport })`. It needs a `fetch` that streams responses, which
 * React Native does not have.
 */
export class EventStreamTransport implements WebSocketLike {
  readyState = 0;
  onopen: ((event: unknown) => unknown) | null = null;
  onmessage: ((event: { data: string }) => unknown) | null = null;
  onclose: ((event: { code: number; reason: string }) => unknown) | null = null;
  onerror: ((event: unknown) => unknown) | null = null;
  /** URL of the server. */
  readonly #base: string;
  readonly #query: URLSearchParams;
  #token: string;
  #stream = new AbortController();

  /** Takes the URL that the client would open a WebSocket to. */
  constructor(url: string) {
    const { protocol, host, pathname, searchParams } = new URL(url);
    this.#base = `${protocol.replace(/^ws/, "http")}//${host}${pathname.replace(/\/api\/presence\/subscribe$/, "")}`;
    this.#query = searchParams;
    this.#token = searchParams.get("token") ?? "";
    searchParams.delete("token");
    void this.#read();
  }

  /** Sends a frame of the client by REST. */
  send(text: string): void {
    const frame = JSON.parse(text) as ClientFrame;
    const device_id = this.#query.get("device_id") ?? undefined;
    switch (frame.type) {
      case "status":
        return this.#post("/api/presence/status", { device_id, ...frame.data });
      case "heartbeat":
        // The stream keeps the device online.
        return frame.data.active ? this.#post("/api/presence/heartbeat", { device_id, active: true }) : undefined;
      case "typing": {
        const { conversation_id, is_typing } = frame.data;
        return this.#post(`/api/conversations/${encodeURIComponent(conversation_id)}/typing`, { is_typing });
      }
      case "subscribe": {
        const ids = this.#query.get("user_ids");
        this.#query.set("user_ids", [...(ids ? [ids] : []), ...frame.data.user_ids].join(","));
        return void this.#read();
      }
      case "auth":
        this.#token = frame.token;
        return void this.#read();
    }
  }

  close(code = 1000, reason = ""): void {
    this.#end(code, reason);
  }

  /** Opens the stream, or another one that replaces it and resumes at its position. */
  async #read(): Promise<void> {
    const replaced = this.#stream;
    const stream = new AbortController();
    this.#stream = stream;
    try {
      const response = await fetch(`${this.#base}/api/presence/events?${this.#query}`, {
        cache: "no-store",
        headers: { accept: "text/event-stream", authorization: `Bearer ${this.#token}` },
        signal: stream.signal,
      });
      // The device stays online in between.
      replaced.abort();
      if (!response.ok || !response.body) return this.#endOf(stream);
      for await (const { name, id, data } of eventsOf(response.body)) {
        if (stream !== this.#stream) return;
        if (id !== undefined) this.#query.set("resume", id);
        if (data === "") {
          // An event that carries a position only.
          this.onmessage?.({ data: JSON.stringify({ type: "position", data: { position: id } }) });
        } else if (name === "open" && this.readyState === 0) {
          this.readyState = OPEN;
          this.onopen?.({});
        } else if (name === "message") {
          this.onmessage?.({ data });
        } else if (name === "close") {
          const { code, reason } = JSON.parse(data) as { code: number; reason: string };
          return this.#end(code, reason);
        }
      }
    } catch {
      // The client finds out why by a request of its own.
    }
    this.#endOf(stream);
  }

  #endOf(stream: AbortController): void {
    if (stream === this.#stream) this.#end(ABNORMAL, "");
  }

  #end(code: number, reason: string): void {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this.#stream.abort();
    // As with a socket, not before the caller returned.
    queueMicrotask(() => this.onclose?.({ code, reason }));
  }

  #post(path: string, body: object): void {
    const request = fetch(this.#base + path, {
      method: "POST",
      headers: { authorization: `Bearer ${this.#token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
      keepalive: true,
    });
    request.then(
      async (response) => {
        if (!response.ok) this.#report(await errorOf(response));
      },
      // The stream ends as well when there is no connection.
      () => {},
    );
  }

  /** Reports a refused request as a socket does: by an error frame. */
  #report({ code, message, details, retryAfter }: RollcallError): void {
    if (this.readyState !== OPEN) return;
    const frame = {
      type: "error",
      code,
      message,
      ...(details.length > 0 && { details }),
      ...(retryAfter !== undefined && { retry_after_ms: retryAfter * 1_000 }),
    };
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
}

interface StreamEvent {
  name: string;
  id: string | undefined;
  /** Empty for an event that has an ID only. */
  data: string;
}

/** Reads events as the specification of `EventSource` says. */
async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let name = "message";
  let id: string | undefined;
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("data: ")) data.push(line.slice(6));
        else if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("id: ")) id = line.slice(4);
        else if (line === "") {
          if (data.length > 0 || id !== undefined) yield { name, id, data: data.join("\n") };
          [name, id, data] = ["message", undefined, []];
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
