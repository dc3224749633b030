// Records the sockets of the page, so that tests can read the sent frames and the number of attempts.

import { PresenceClient, Rest } from "rollcall-client";

const sockets: WebSocket[] = [];
const sent: unknown[] = [];

class RecordingWebSocket extends WebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols);
    sockets.push(this);
  }

  override send(data: string): void {
    if (typeof data === "string") sent.push(JSON.parse(data));
    super.send(data);
  }
}

Object.assign(globalThis, { WebSocket: RecordingWebSocket, sockets, sent, PresenceClient, Rest });
