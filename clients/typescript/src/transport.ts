/** The part of a WebSocket that the client uses. The browser's `WebSocket` and the package `ws` have it. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((this: any, event: any) => any) | null;
  onmessage: ((this: any, event: any) => any) | null;
  onclose: ((this: any, event: any) => any) | null;
  onerror: ((this: any, event: any) => any) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

/** A WebSocket class. */
export type WebSocketConstructor = new (url: string, protocols?: string | string[]) => WebSocketLike;

/** `readyState` of an open socket. React Native and `ws` have the same numbers as browsers. */
export const OPEN = 1;

/** Returns the runtime's WebSocket class, if it has one. */
export const defaultTransport = (): WebSocketConstructor | undefined =>
  (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;

export const NO_TRANSPORT =
  "This runtime has no WebSocket. Pass a WebSocket class as `transport`, for example the one of the package ws " +
  "(npm install ws), or use Node.js 22 or later.";
