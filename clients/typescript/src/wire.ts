// Frames of the socket at /api/presence/subscribe, as /asyncapi.json describes them.

import type { components } from "./api.js";
import type { FieldError } from "./errors.js";

/** A status that a user can set. */
export type Status = components["schemas"]["Status"];
/** One user's presence, as far as the caller may see it. */
export type Presence = components["schemas"]["Presence"];

/** A change of the own presence. A text field that is left out keeps its value; `null` clears it. */
export interface StatusUpdate {
  status: Status;
  custom_status?: string | null;
  custom_status_expires_at?: string | null;
  activity?: string | null;
  current_page?: string | null;
  /**
   * Whether the app goes to the background: its device stays `away` after its socket closed, then it is offline. With
   * `away`, a chosen `busy`, `dnd` or `invisible` stays.
   */
  background?: boolean;
  /** Seconds in the background, 1 to 86,400. Default: the server's `BACKGROUND_GRACE`. */
  background_seconds?: number;
}

/** ID of a conversation, as the application's table has it: a UUID, other text, or an integer. */
export type ConversationId = string | number;

/** A user started or stopped typing. */
export interface TypingState {
  user_id: string;
  /** In the form in which the typing user gave it. */
  conversation_id: ConversationId;
  is_typing: boolean;
}

/** An event that the operator's back end sent. */
export interface CustomEvent {
  category: "presence" | "typing" | "custom";
  event: string;
  payload: unknown;
}

/** An error frame: the server refused a message; the socket stays open. */
export interface SocketError {
  code: string;
  message: string;
  /** Delay after which a retry can succeed, in milliseconds. */
  retry_after_ms?: number;
  /** Every invalid field, on validation errors. */
  details?: FieldError[];
}

/** A frame from the server. */
export type ServerFrame =
  | { type: "initial_state"; data: { presences: Presence[]; resumed?: boolean; position?: string } }
  | { type: "position"; data: { position: string } }
  | { type: "presence_update"; data: Presence }
  | { type: "typing_update"; data: TypingState }
  | { type: "broadcast"; data: CustomEvent }
  | ({ type: "error" } & SocketError);

/** A frame to the server. */
export type ClientFrame =
  | { type: "status"; data: StatusUpdate }
  | { type: "heartbeat"; data: { active: boolean } }
  | { type: "typing"; data: { conversation_id: ConversationId; is_typing: boolean } }
  | { type: "subscribe"; data: { user_ids: string[] } }
  | { type: "auth"; token: string };

/** Parses a frame from the server; `undefined` if it is not a JSON object with a `type`. */
export function parseFrame(text: unknown): ServerFrame | undefined {
  if (typeof text !== "string") return undefined;
  try {
    const frame: unknown = JSON.parse(text);
    return typeof frame === "object" && frame !== null && "type" in frame ? (frame as ServerFrame) : undefined;
  } catch {
    return undefined;
  }
}
