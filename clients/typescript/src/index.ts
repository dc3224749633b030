/** Presence, typing and REST of a Rollcall server. */

export type { components, paths } from "./api.js";
export { Backoff, type BackoffOptions } from "./backoff.js";
export { type Connection, PresenceClient, type PresenceOptions, type PresenceSnapshot } from "./presence.js";
export { type AnswerOf, Refused, type RequestOptions, Rest, type RestOptions } from "./rest.js";
export { type TokenSource } from "./token.js";
export type { CustomEvent, Presence, Status, StatusUpdate, TypingState } from "./wire.js";
