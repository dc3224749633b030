/** Client of a Rollcall server: presence, typing, channel presence, chat and the REST API. */

export type { components, paths } from "./api.js";
export { Backoff, type BackoffOptions } from "./backoff.js";
export {
  type ChannelClient,
  type ChannelLike,
  ChannelPresence,
  type ChannelPresenceOptions,
  type ChannelPresenceSnapshot,
  channelPresence,
} from "./channel.js";
export { type ChatEvent, type ChatRequest, readChat } from "./chat.js";
export { type Environment, type EnvironmentListener, browserEnvironment } from "./environment.js";
export { EventStreamTransport } from "./events.js";
export { type FieldError, RollcallError, type RollcallErrorInit } from "./errors.js";
export {
  type Connection,
  type ConnectionError,
  type InitialPresence,
  PresenceClient,
  type PresenceEvents,
  type PresenceOptions,
  type PresenceSnapshot,
} from "./presence.js";
export { type AnswerOf, type PathsWith, type RequestOptions, Rest, type RestOptions } from "./rest.js";
export { type TokenRequest, type TokenResult, type TokenSource, tokenFrom } from "./token.js";
export type { WebSocketConstructor, WebSocketLike } from "./transport.js";
export type { ConversationId, CustomEvent, Presence, SocketError, Status, StatusUpdate, TypingState } from "./wire.js";
