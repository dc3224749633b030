// What goes over the socket at /api/presence/subscribe, as /asyncapi.json describes it.

import type { components } from "./api.js";

/** What a user may set. */
export type Status = components["schemas"]["Status"];
/** One user as the caller may see them. */
export type Presence = components["schemas"]["Presence"];

/** What is told of one's own presence. A text that is left out stays, `null` clears it. */
export interface StatusUpdate {
  status: Status;
  custom_status?: string | null;
  custom_status_expires_at?: string | null;
  activity?: string | null;
  current_page?: string | null;
}

/** Somebody types, or has stopped. */
export interface TypingState {
  user_id: string;
  conversation_id: string;
  is_typing: boolean;
}

/** An event of the operator's back end. */
export interface CustomEvent {
  category: "presence" | "typing" | "custom";
  event: string;
  payload: unknown;
}

/** What the server says. */
export type ServerFrame =
  | { type: "initial_state"; data: { presences: Presence[] } }
  | { type: "presence_update"; data: Presence }
  | { type: "typing_update"; data: TypingState }
  | { type: "broadcast"; data: CustomEvent }
  | { type: "error"; code: string; message: string; retry_after_ms?: number };

/** What a client says. */
export type ClientFrame =
  | { type: "status"; data: StatusUpdate }
  | { type: "heartbeat"; data: { active: boolean } }
  | { type: "typing"; data: { conversation_id: string; is_typing: boolean } }
  | { type: "subscribe"; data: { user_ids: string[] } }
  | { type: "auth"; token: string };

/** A frame of the server; nothing of what is none that this client knows. */
export function read(text: unknown): ServerFrame | undefined {
  if (typeof text !== "string") return undefined;
  try {
    const frame: unknown = JSON.parse(text);
    return typeof frame === "object" && frame !== null && "type" in frame ? (frame as ServerFrame) : undefined;
  } catch {
    return undefined;
  }
}
