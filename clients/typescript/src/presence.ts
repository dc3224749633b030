import { Backoff, type BackoffOptions } from "./backoff.js";
import { tabDevice } from "./device.js";
import { type Environment, browserEnvironment } from "./environment.js";
import { type FieldError, RollcallError, errorOf, unreachable } from "./errors.js";
import { randomId } from "./id.js";
import { type TokenRequest, type TokenSource, claimsOf, tokenOf } from "./token.js";
import { NO_TRANSPORT, OPEN, type WebSocketConstructor, type WebSocketLike, defaultTransport } from "./transport.js";
import { TypingDebounce } from "./typing.js";
import { urlOf, webSocketUrl } from "./url.js";
import {
  type ClientFrame,
  type ConversationId,
  type CustomEvent,
  type Presence,
  type SocketError,
  type StatusUpdate,
  type TypingState,
  parseFrame,
} from "./wire.js";

/** Options of a {@link PresenceClient}. */
export interface PresenceOptions {
  /** URL of the server, for example `https://rollcall.example.com`. */
  url: string;
  /** Token of the user, or a function that returns one. Only a function lets the client replace an expired token. */
  token: TokenSource;
  /**
   * ID of the user's device, 1 to 255 characters. Default in a browser: one ID per tab, which survives a reload. Default
   * elsewhere: a random ID per client; an app should store one and pass it.
   */
  deviceId?: string;
  /** Users to follow in addition to contacts, team members and participants of shared conversations. */
  userIds?: readonly string[];
  /** WebSocket class. Default: the runtime's. Node.js before 22 has none; pass the one of the package `ws`. */
  transport?: WebSocketConstructor;
  /** `fetch` function. Default: the runtime's. */
  fetch?: typeof fetch;
  /** Source of visibility, use and network events. Default: the web page. See `rollcall-client/react-native`. */
  environment?: Environment;
  /** State to show until the connection is open, for example from server-side rendering. */
  initial?: InitialPresence;
  /** Interval of heartbeats, in milliseconds. A heartbeat says whether the user uses the page. Default 20,000. */
  heartbeatMs?: number;
  /** Time after which a hidden page sets its device to `away`, in milliseconds. Default 1,000; `false` disables it. */
  awayWhenHiddenMs?: number | false;
  /**
   * Time for which an app that the system suspended stays `away`, in milliseconds, at least 1,000; then it is offline.
   * Default: the server's `BACKGROUND_GRACE`.
   */
  backgroundMs?: number;
  /**
   * Whether a closed page signs its device off by `navigator.sendBeacon`, so that it is offline at once. Default true.
   * `false`: the device is offline after the server's `DISCONNECT_GRACE`, and a reload is not visible to others. A string:
   * URL of the Edge Function `…/presence-manager/sign-off`.
   */
  signOff?: boolean | string;
  /** Time within which an attempt must receive the first state, in milliseconds. Default 15,000. */
  connectTimeoutMs?: number;
  /** Delays between connection attempts. */
  backoff?: BackoffOptions;
}

/** Presence that is known before the connection is open. */
export interface InitialPresence {
  /** ID of the signed-in user. */
  readonly userId?: string | undefined;
  /** Known presences; the user's own can be among them. */
  readonly presences: readonly Presence[];
}

/**
 * State of the connection. `closed`: not connected, and the client does not reconnect. `connecting`: an attempt is in
 * progress. `open`: connected and up to date. `waiting`: disconnected; the client reconnects.
 */
export type Connection = "closed" | "connecting" | "open" | "waiting";

/** Why the connection is not open. */
export interface ConnectionError {
  /**
   * `INVALID_TOKEN`, `TOKEN_EXPIRED`: the server refused the token. `TOKEN_UNAVAILABLE`: the token function failed.
   * `SIGNED_OUT`: the token function returned no token. `DISCONNECTED`: an administrator ended the connection.
   * `SIGNED_OFF`: the device was signed off. `UNREACHABLE`: no response. `OFFLINE`: no network. `TIMEOUT`: the server
   * accepted the connection but sent nothing within `connectTimeoutMs`.
   * `WEBSOCKET_FAILED`: the server answers over HTTP, but the WebSocket handshake failed. `NO_TRANSPORT`: the runtime has
   * no WebSocket. `CONNECTION_LOST`: the connection ended without a reason. Other values are error codes of the server.
   */
  readonly code: string;
  /** What is wrong, for people. For `DISCONNECTED`: the administrator's reason. */
  readonly message: string;
  /** Whether the client stopped connecting because of this error. */
  readonly isFinal: boolean;
  /** Close code of the WebSocket. */
  readonly closeCode?: number;
  /** HTTP status with which the server refused the connection. */
  readonly status?: number;
  /** Every invalid field, if the server refused parameters. */
  readonly details?: readonly FieldError[];
}

/** Everything that is known at one moment. Each change makes a new object. */
export interface PresenceSnapshot {
  /** State of the connection. Unless it is `open`, the other fields may be out of date. */
  readonly connection: Connection;
  /** ID of the user, from the token. */
  readonly userId: string | undefined;
  /** Presence of each visible user by user ID, including the own. */
  readonly presences: ReadonlyMap<string, Presence>;
  /** IDs of the users who are typing, by conversation ID as a string. */
  readonly typing: ReadonlyMap<string, ReadonlySet<string>>;
  /** Why the connection is not open. */
  readonly error: ConnectionError | undefined;
}

/** Events of a {@link PresenceClient}. */
export interface PresenceEvents {
  /** The snapshot changed. */
  change: PresenceSnapshot;
  /** The operator's back end sent an event. */
  broadcast: CustomEvent;
  /** The server refused a message, or the connection failed. */
  error: SocketError | ConnectionError;
  /** The page or app was hidden or shown. */
  visibility: { readonly isHidden: boolean };
  /** The network connection was lost or restored. */
  online: { readonly isOnline: boolean };
}

/** Close codes after which a new attempt with the same parameters fails again, or is not wanted. */
const FINAL_CLOSE_CODES: ReadonlyMap<number, string> = new Map([
  [1000, "SIGNED_OFF"],
  [1002, "PROTOCOL_ERROR"],
  [1003, "PROTOCOL_ERROR"],
  [1007, "PROTOCOL_ERROR"],
  [1008, "POLICY_VIOLATION"],
  [1009, "PAYLOAD_TOO_LARGE"],
  [4403, "DISCONNECTED"],
]);
const TOKEN_CLOSE_CODES: ReadonlyMap<number, string> = new Map([
  [4001, "INVALID_TOKEN"],
  [4401, "TOKEN_EXPIRED"],
]);
const RATE_LIMITED_CLOSE_CODE = 4429;
/** Errors that a new token can solve. */
const TOKEN_ERRORS = new Set(["INVALID_TOKEN", "TOKEN_EXPIRED", "UNAUTHORIZED", "SIGNED_OUT"]);
/** HTTP statuses that mean that the same request fails again. */
const FINAL_STATUSES = new Set([400, 403, 422]);
/** Number of consecutive refused tokens of a token function after which the client stops. */
const MAX_REFUSED_TOKENS = 3;
/** Time before its expiry at which a token is replaced, in milliseconds. */
const REFRESH_BEFORE_MS = 30_000;
/** A connection that lasted this long resets the backoff. */
const STABLE_AFTER_MS = 5_000;
/** Limit for the request that finds out why a handshake failed. */
const DIAGNOSE_TIMEOUT_MS = 10_000;
/** An app that was hidden for this long opens a new connection, if the system suspends hidden apps. */
const SUSPENDED_AFTER_MS = 5_000;
const MAX_IDS_IN_URL = 50;
const MAX_IDS_IN_FRAME = 1_000;
/** Longest delay of a browser's timer. */
const MAX_TIMER_MS = 2_147_483_647;

/**
 * Presence of one user on one device, over one WebSocket that reconnects. {@link snapshot} holds the current state and
 * {@link on} reports changes. After a reconnect to the same node, the server sends what changed, otherwise the full state.
 */
export class PresenceClient {
  readonly #options: PresenceOptions;
  readonly #environment: Environment;
  readonly #backoff: Backoff;
  readonly #typing: TypingDebounce;
  readonly #followed: Set<string>;
  readonly #listeners: { [E in keyof PresenceEvents]: Set<(event: PresenceEvents[E]) => void> } = {
    change: new Set(),
    broadcast: new Set(),
    error: new Set(),
    visibility: new Set(),
    online: new Set(),
  };
  readonly #initialSnapshot: PresenceSnapshot;
  #snapshot: PresenceSnapshot;
  #source: TokenSource;
  #deviceId: string | undefined;
  #stopListening: (() => void) | undefined;
  #socket: WebSocketLike | undefined;
  #token = "";
  /** Position up to which everything was received; empty at first. */
  #position = "";
  /** Number of the current attempt; results of earlier attempts are ignored. */
  #attempt = 0;
  #openedAt: number | undefined;
  #refusedTokens = 0;
  #timers: { connect?: Timer; reconnect?: Timer; heartbeat?: Timer; refresh?: Timer; away?: Timer; status?: Timer } =
    {};
  /** Status that the server does not have yet. */
  #unsent: StatusUpdate | undefined;
  #last: StatusUpdate | undefined;
  /** Whether the device is away only because the page is hidden. */
  #isAwayByPage = false;
  /** Whether the user was `away` before the app went to the background. */
  #wasAway = false;
  #hiddenAt: number | undefined;
  /** Whether the page left (back/forward cache) and waits to be resumed. */
  #hasLeft = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
    this.#source = options.token;
    this.#deviceId = options.deviceId;
    this.#environment = options.environment ?? browserEnvironment();
    this.#backoff = new Backoff(options.backoff);
    this.#followed = new Set(options.userIds);
    this.#typing = new TypingDebounce((conversation_id, is_typing) =>
      this.#send({ type: "typing", data: { conversation_id, is_typing } }),
    );
    this.#initialSnapshot = {
      connection: "closed",
      userId: options.initial?.userId,
      presences: new Map(options.initial?.presences.map((presence) => [presence.user_id, presence])),
      typing: new Map(),
      error: undefined,
    };
    this.#snapshot = this.#initialSnapshot;
  }

  /** ID of the user's device. */
  get deviceId(): string {
    return (this.#deviceId ??= this.#options.environment
      ? `app-${randomId()}`
      : (tabDevice()?.id ?? `app-${randomId()}`));
  }

  /** The current state. */
  get snapshot(): PresenceSnapshot {
    return this.#snapshot;
  }

  /** The state before the first connection: what `initial` holds. For hydration. */
  get initialSnapshot(): PresenceSnapshot {
    return this.#initialSnapshot;
  }

  /** Calls `listener` on every event, until the returned function is called. */
  on<E extends keyof PresenceEvents>(event: E, listener: (event: PresenceEvents[E]) => void): () => void {
    this.#listeners[event].add(listener);
    return () => void this.#listeners[event].delete(listener);
  }

  /** Connects, and reconnects until {@link close}. Has no effect while the connection is not `closed`. */
  connect(): void {
    if (this.#isWanted) return;
    this.#listen();
    this.#backoff.reset();
    this.#refusedTokens = 0;
    void this.#open({ reason: "connect" });
  }

  /** Closes the connection until {@link connect}. The device is offline after the server's `DISCONNECT_GRACE`. */
  close(): void {
    this.#stop(undefined);
  }

  /** Sets the own status now, or when the connection is open. Only the latest update is sent. */
  setStatus(update: StatusUpdate): void {
    this.#isAwayByPage = false;
    this.#sendStatus(update);
  }

  /** Follows further users, as far as they are visible. Reconnects keep them. */
  follow(...userIds: string[]): void {
    const further = userIds.filter((id) => !this.#followed.has(id));
    for (const id of further) this.#followed.add(id);
    this.#subscribe(further);
  }

  /**
   * Replaces the token source and applies its token at once. If the token belongs to another user, the client drops
   * everything it knows, signs the device of the previous user off and connects as the new user.
   */
  async setToken(source: TokenSource): Promise<void> {
    this.#source = source;
    await this.refreshToken();
  }

  /**
   * Requests a new token and applies it, for example after another user signed in. Also connects again after the client
   * stopped because of a token.
   */
  async refreshToken(): Promise<void> {
    const { connection, error } = this.#snapshot;
    if (connection === "closed" && !(error && TOKEN_ERRORS.has(error.code))) return;
    this.#backoff.reset();
    this.#refusedTokens = 0;
    if (connection !== "open") {
      this.#listen();
      return this.#open({ reason: "changed" });
    }
    const attempt = this.#attempt;
    await this.#replaceToken({ reason: "changed" }, () => attempt === this.#attempt);
  }

  /** Records that the user typed something. Call it on every change of the text; few of the calls send a frame. */
  typed(conversationId: ConversationId): void {
    this.#typing.typed(conversationId);
  }

  /** Records that the user sent or discarded the text. */
  stoppedTyping(conversationId: ConversationId): void {
    this.#typing.stopped(conversationId);
  }

  get #isWanted(): boolean {
    return this.#snapshot.connection !== "closed";
  }

  #listen(): void {
    if (this.#stopListening) return;
    const stopEnvironment = this.#environment.listen({
      visibility: (isHidden) => this.#onVisibility(isHidden),
      online: (isOnline) => this.#onOnline(isOnline),
      leaving: () => this.#onLeaving(),
      resumed: () => this.#isWanted && void this.#open({ reason: "connect" }),
    });
    const usesTab = this.#options.deviceId === undefined && this.#options.environment === undefined;
    const stopDevice = usesTab ? tabDevice()?.onChange(() => this.#onDeviceChange()) : undefined;
    this.#stopListening = () => {
      stopEnvironment();
      stopDevice?.();
    };
  }

  async #open(request: TokenRequest): Promise<void> {
    this.#disconnect();
    this.#hasLeft = false;
    const attempt = ++this.#attempt;
    const isCurrent = () => attempt === this.#attempt;
    this.#change({ connection: "connecting" });
    let token: string | undefined;
    try {
      token = await tokenOf(this.#source, request);
    } catch (error) {
      if (!isCurrent()) return;
      const why = error instanceof Error ? error.message : String(error);
      return this.#reconnectLater({
        code: "TOKEN_UNAVAILABLE",
        message: `The token function failed: ${why}`,
        isFinal: false,
      });
    }
    if (!isCurrent()) return;
    if (token === undefined) {
      this.#becomeUser(undefined);
      return this.#stop({ code: "SIGNED_OUT", message: "The token function returned no token.", isFinal: true });
    }
    this.#becomeUser(claimsOf(token).sub);
    this.#token = token;
    const transport = this.#options.transport ?? defaultTransport();
    if (!transport) return this.#stop({ code: "NO_TRANSPORT", message: NO_TRANSPORT, isFinal: true });
    let socket: WebSocketLike;
    try {
      socket = new transport(webSocketUrl(this.#url()));
    } catch (error) {
      // A malformed URL, or ws: from a page that was loaded over HTTPS.
      const why = error instanceof Error ? error.message : String(error);
      return this.#stop({
        code: "WEBSOCKET_FAILED",
        message: `Cannot open a WebSocket to ${this.#options.url}: ${why}`,
        isFinal: true,
      });
    }
    this.#socket = socket;
    const { connectTimeoutMs = 15_000 } = this.#options;
    this.#timers.connect = setTimeout(() => {
      const message = `The server did not send the first state within ${connectTimeoutMs} ms.`;
      this.#reconnectLater({ code: "TIMEOUT", message, isFinal: false });
    }, connectTimeoutMs);
    socket.onopen = () => isCurrent() && this.#onOpen();
    socket.onmessage = ({ data }: { data: unknown }) => isCurrent() && this.#onFrame(data);
    socket.onclose = ({ code, reason }: { code?: number; reason?: string }) =>
      isCurrent() && this.#onClose(code ?? 1006, String(reason ?? ""));
    // `onclose` follows. Without a listener, an error of the package `ws` would end the process.
    socket.onerror = () => {};
  }

  /** The URL of the socket, with the scheme http or https. */
  #url(): string {
    const { userId } = this.#snapshot;
    // The own ID comes first: presence set on another device also applies here.
    const ids = [...(userId ? [userId] : []), ...this.#followed].slice(0, MAX_IDS_IN_URL);
    return urlOf(this.#options.url, "/api/presence/subscribe", {
      token: this.#token,
      device_id: this.deviceId,
      user_ids: ids.length > 0 ? ids.join(",") : undefined,
      resume: this.#position,
    });
  }

  /** Drops the state of a previous user, and signs that user's device off. */
  #becomeUser(userId: string | undefined): void {
    const previous = this.#snapshot.userId;
    if (previous !== undefined && previous !== userId) {
      if (this.#token) this.#signOff();
      this.#unsent = undefined;
      this.#last = undefined;
      this.#isAwayByPage = false;
      this.#typing.clear();
      this.#token = "";
      this.#position = "";
      this.#change({ userId, presences: new Map(), typing: new Map() });
    } else if (previous !== userId) {
      this.#change({ userId });
    }
  }

  #onOpen(): void {
    this.#openedAt = Date.now();
    const heartbeat = () => this.#send({ type: "heartbeat", data: { active: this.#environment.takeUse() } });
    this.#timers.heartbeat = setInterval(heartbeat, this.#options.heartbeatMs ?? 20_000);
    this.#subscribe([...this.#followed].slice(MAX_IDS_IN_URL - 1));
    this.#refreshLater();
  }

  /** Replaces the token before it expires, if the source is a function. */
  #refreshLater(): void {
    const { exp, iat } = claimsOf(this.#token);
    if (exp === undefined || typeof this.#source === "string") return;
    let left = exp * 1_000 - Date.now();
    // The server accepted the token, so the clock of this device is wrong.
    if (left <= 0 && iat !== undefined) left = (exp - iat) * 1_000;
    if (left <= 0) return;
    const delay = Math.max(1_000, left - Math.min(REFRESH_BEFORE_MS, left / 2));
    if (delay >= MAX_TIMER_MS) return;
    const attempt = this.#attempt;
    clearTimeout(this.#timers.refresh);
    this.#timers.refresh = setTimeout(
      () => void this.#replaceToken({ reason: "expiring" }, () => attempt === this.#attempt),
      delay,
    );
  }

  /** Replaces the token on the open socket, or reconnects if the new token belongs to another user. */
  async #replaceToken(request: TokenRequest, isCurrent: () => boolean): Promise<void> {
    let token: string | undefined;
    try {
      token = await tokenOf(this.#source, request);
    } catch {
      // Try again; once the token expired, the server closes the socket and the next attempt requests a token.
      if (isCurrent()) this.#refreshLater();
      return;
    }
    if (!isCurrent()) return;
    if (token === undefined) {
      this.#disconnect(1000);
      this.#becomeUser(undefined);
      return this.#stop({ code: "SIGNED_OUT", message: "The token function returned no token.", isFinal: true });
    }
    const userId = claimsOf(token).sub;
    if (userId !== this.#snapshot.userId) {
      this.#disconnect(1000);
      this.#becomeUser(userId);
      return this.#open(request);
    }
    this.#token = token;
    this.#send({ type: "auth", token });
    this.#refreshLater();
  }

  #subscribe(ids: readonly string[]): void {
    for (let from = 0; from < ids.length; from += MAX_IDS_IN_FRAME) {
      this.#send({ type: "subscribe", data: { user_ids: ids.slice(from, from + MAX_IDS_IN_FRAME) } });
    }
  }

  #onFrame(text: unknown): void {
    const frame = parseFrame(text);
    switch (frame?.type) {
      case "initial_state": {
        this.#refusedTokens = 0;
        clearTimeout(this.#timers.connect);
        const { resumed = false, position = "" } = frame.data;
        const presences = new Map(resumed ? this.#snapshot.presences : []);
        for (const presence of frame.data.presences) presences.set(presence.user_id, presence);
        this.#position = position;
        this.#change({ connection: "open", presences, typing: new Map(), error: undefined });
        this.#sendPending();
        break;
      }
      case "presence_update":
        this.#change({ presences: new Map(this.#snapshot.presences).set(frame.data.user_id, frame.data) });
        break;
      case "position":
        this.#position = frame.data.position;
        break;
      case "typing_update":
        this.#change({ typing: withTyping(this.#snapshot.typing, frame.data) });
        break;
      case "broadcast":
        this.#emit("broadcast", frame.data);
        break;
      case "error": {
        if (frame.code === "RATE_LIMITED" && this.#last)
          this.#sendStatusLater(this.#last, frame.retry_after_ms ?? 1_000);
        const { type: _, ...error } = frame;
        this.#emit("error", error);
        break;
      }
      // Newer servers may send further types.
      default:
    }
  }

  #sendPending(): void {
    const unsent = this.#unsent;
    this.#unsent = undefined;
    if (unsent) this.#sendStatus(unsent);
    else if (this.#environment.isHidden()) this.#onVisibility(true);
  }

  #onClose(closeCode: number, reason: string): void {
    const openedAt = this.#openedAt;
    if (openedAt !== undefined && Date.now() - openedAt >= STABLE_AFTER_MS) this.#backoff.reset();
    this.#disconnect();
    // Browsers report every failed handshake as 1006 without a reason.
    if (openedAt === undefined && closeCode === 1006) return void this.#diagnose();
    const tokenError = TOKEN_CLOSE_CODES.get(closeCode);
    if (tokenError)
      return this.#onTokenRefused({
        code: tokenError,
        message: reason || "The server refused the token.",
        closeCode,
        isFinal: false,
      });
    const finalCode = FINAL_CLOSE_CODES.get(closeCode);
    if (finalCode)
      return this.#stop({
        code: finalCode,
        message: reason || `The server closed the connection with code ${closeCode}.`,
        closeCode,
        isFinal: true,
      });
    const code = closeCode === RATE_LIMITED_CLOSE_CODE ? "RATE_LIMITED" : "CONNECTION_LOST";
    // A server that stops spreads the reconnects of its clients.
    const hint = /reconnect in (\d+) ms/.exec(reason)?.[1];
    this.#reconnectLater(
      { code, message: reason || "The connection was lost.", closeCode, isFinal: false },
      hint === undefined ? undefined : Number(hint),
    );
  }

  /** Finds out by one HTTP request to the same URL why the handshake failed: the server checks it in the same way. */
  async #diagnose(): Promise<void> {
    const attempt = this.#attempt;
    this.#change({ connection: "waiting" });
    const error = await this.#handshakeError();
    if (attempt !== this.#attempt) return;
    const { status, code, message, details, retryAfter } = error;
    if (status === 401) return this.#onTokenRefused({ code, message, status, isFinal: false });
    const failure = {
      code,
      message,
      isFinal: FINAL_STATUSES.has(status),
      ...(status > 0 && { status }),
      ...(details.length > 0 && { details }),
    };
    if (failure.isFinal) return this.#stop(failure);
    this.#reconnectLater(failure, retryAfter === undefined ? undefined : retryAfter * 1_000);
  }

  async #handshakeError(): Promise<RollcallError> {
    const call = this.#options.fetch ?? globalThis.fetch;
    const abort = new AbortController();
    const timer = setTimeout(
      () => abort.abort(new Error(`timeout after ${DIAGNOSE_TIMEOUT_MS} ms`)),
      DIAGNOSE_TIMEOUT_MS,
    );
    try {
      const response = await call(this.#url(), { cache: "no-store", signal: abort.signal });
      const error = await errorOf(response);
      if (!response.ok && response.status !== 426) return error;
      return new RollcallError(
        "The server answers over HTTP, but the WebSocket handshake failed. A proxy may block WebSockets.",
        {
          status: 0,
          code: "WEBSOCKET_FAILED",
        },
      );
    } catch (cause) {
      return unreachable(this.#options.url, cause);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Requests another token, if the source is a function; otherwise stops. */
  #onTokenRefused(error: ConnectionError): void {
    this.#refusedTokens += 1;
    if (typeof this.#source === "string" || this.#refusedTokens >= MAX_REFUSED_TOKENS) {
      return this.#stop({ ...error, isFinal: true });
    }
    this.#reconnectLater(error, undefined, { reason: "refused", refused: this.#token });
  }

  #reconnectLater(
    error: ConnectionError,
    delay = this.#backoff.next(),
    request: TokenRequest = { reason: "connect" },
  ): void {
    this.#disconnect();
    this.#timers.reconnect = setTimeout(() => void this.#open(request), delay);
    this.#change({ connection: "waiting", error });
    this.#emit("error", error);
  }

  /** Closes the connection and does not reconnect. */
  #stop(error: ConnectionError | undefined): void {
    this.#stopListening?.();
    this.#stopListening = undefined;
    this.#disconnect(1000);
    this.#typing.clear();
    this.#hasLeft = false;
    this.#change({ connection: "closed", error });
    if (error) this.#emit("error", error);
  }

  #disconnect(code?: number): void {
    const { connect, reconnect, heartbeat, refresh, away, status } = this.#timers;
    [connect, reconnect, refresh, away, status].forEach((timer) => clearTimeout(timer));
    clearInterval(heartbeat);
    this.#timers = {};
    this.#attempt += 1;
    this.#openedAt = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket && socket.readyState <= OPEN) socket.close(code);
  }

  #onVisibility(isHidden: boolean): void {
    const hiddenAt = this.#hiddenAt;
    this.#hiddenAt = isHidden ? (hiddenAt ?? Date.now()) : undefined;
    if ((hiddenAt !== undefined) !== isHidden) this.#emit("visibility", { isHidden });
    const { suspendsWhenHidden = false } = this.#environment;
    const { awayWhenHiddenMs = 1_000 } = this.#options;
    clearTimeout(this.#timers.away);
    if (isHidden) {
      if (awayWhenHiddenMs === false) return;
      // The system may suspend the app before a timer fires.
      if (suspendsWhenHidden) this.#setAwayByPage();
      else this.#timers.away = setTimeout(() => this.#setAwayByPage(), awayWhenHiddenMs);
      return;
    }
    const wasSuspended = suspendsWhenHidden && hiddenAt !== undefined && Date.now() - hiddenAt >= SUSPENDED_AFTER_MS;
    if (this.#isAwayByPage) {
      this.#isAwayByPage = false;
      if (suspendsWhenHidden) this.#leaveBackground(wasSuspended);
      else this.#sendStatus({ status: "online" });
    }
    // The system may have ended the socket without an event; a timer of a suspended app may be late.
    if (this.#isWanted && (wasSuspended || (suspendsWhenHidden && this.#snapshot.connection === "waiting"))) {
      void this.#open({ reason: "connect" });
    }
  }

  #setAwayByPage(): void {
    if (this.#snapshot.connection !== "open") return;
    const own = this.#snapshot.presences.get(this.#snapshot.userId ?? "")?.availability;
    if (this.#environment.suspendsWhenHidden) {
      const { backgroundMs } = this.#options;
      if (!this.#isAwayByPage) this.#wasAway = own === "away";
      this.#isAwayByPage = true;
      // The server keeps a chosen status, and the device while the system suspends the app.
      this.#sendStatus({
        status: "away",
        background: true,
        ...(backgroundMs !== undefined && { background_seconds: Math.max(1, Math.round(backgroundMs / 1_000)) }),
      });
      return;
    }
    // A status that the user chose does not depend on visibility.
    if (own === "busy" || own === "dnd" || own === "invisible" || own === "away") return;
    this.#isAwayByPage = true;
    this.#sendStatus({ status: "away" });
  }

  /** The app is in use again. A new connection or a heartbeat in use ends the background. */
  #leaveBackground(reconnects: boolean): void {
    clearTimeout(this.#timers.status);
    this.#last = undefined;
    if (this.#wasAway) {
      if (reconnects) this.#unsent = { status: "away" };
      else this.#sendStatus({ status: "away" });
    } else if (!reconnects) {
      this.#send({ type: "heartbeat", data: { active: true } });
    }
  }

  #onOnline(isOnline: boolean): void {
    this.#emit("online", { isOnline });
    if (!this.#isWanted || this.#hasLeft) return;
    // On another network the old connection does not work any more. Connect at once, not after the backoff.
    if (isOnline) {
      this.#backoff.reset();
      void this.#open({ reason: "connect" });
    } else {
      // Browsers notice a dead socket after minutes. The attempts go on, because some systems report `offline` wrongly.
      this.#reconnectLater({ code: "OFFLINE", message: "The device is offline.", isFinal: false });
    }
  }

  /** Another tab has the device ID; this one has a new ID now. */
  #onDeviceChange(): void {
    this.#deviceId = undefined;
    if (this.#isWanted && !this.#hasLeft) void this.#open({ reason: "connect" });
  }

  /** The page is being closed: only what happens at once still happens. */
  #onLeaving(): void {
    if (!this.#isWanted) return;
    if (this.#token) this.#signOff();
    this.#disconnect(1000);
    this.#typing.clear();
    this.#hasLeft = true;
    this.#change({ connection: "waiting" });
  }

  /** Signs the device off with the current token. */
  #signOff(): void {
    const { signOff = true, url, fetch: call = globalThis.fetch } = this.#options;
    if (signOff === false) return;
    const to = typeof signOff === "string" ? signOff : urlOf(url, "/api/presence/sign-off");
    // Text needs no CORS preflight. The token is in the body because a beacon has no headers.
    const body = JSON.stringify({ device_id: this.deviceId, token: this.#token });
    const isSent =
      typeof navigator !== "undefined" && typeof navigator.sendBeacon === "function" && navigator.sendBeacon(to, body);
    if (!isSent && typeof call === "function") void call(to, { method: "POST", body, keepalive: true }).catch(() => {});
  }

  #sendStatus(update: StatusUpdate): void {
    clearTimeout(this.#timers.status);
    this.#last = update;
    if (this.#snapshot.connection !== "open" || !this.#send({ type: "status", data: update })) this.#unsent = update;
  }

  #sendStatusLater(update: StatusUpdate, delay: number): void {
    clearTimeout(this.#timers.status);
    this.#timers.status = setTimeout(() => this.#sendStatus(update), delay);
  }

  #send(frame: ClientFrame): boolean {
    if (this.#socket?.readyState !== OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #change(change: Partial<PresenceSnapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...change };
    this.#emit("change", this.#snapshot);
  }

  #emit<E extends keyof PresenceEvents>(event: E, value: PresenceEvents[E]): void {
    for (const listener of [...this.#listeners[event]]) {
      try {
        listener(value);
      } catch (error) {
        // An exception of one listener affects neither the others nor the connection.
        console.error(error);
      }
    }
  }
}

type Timer = ReturnType<typeof setTimeout>;

function withTyping(before: PresenceSnapshot["typing"], { user_id, conversation_id, is_typing }: TypingState) {
  const conversation = String(conversation_id);
  const users = new Set(before.get(conversation));
  if (is_typing) users.add(user_id);
  else users.delete(user_id);
  const typing = new Map(before);
  if (users.size > 0) typing.set(conversation, users);
  else typing.delete(conversation);
  return typing;
}
