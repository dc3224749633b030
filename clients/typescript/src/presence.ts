import { Backoff, type BackoffOptions } from "./backoff.js";
import { Page } from "./page.js";
import { type TokenSource, claimsOf, tokenOf } from "./token.js";
import { TypingDebounce } from "./typing.js";
import { type ClientFrame, type CustomEvent, type Presence, type StatusUpdate, type TypingState, read } from "./wire.js";

/** How a client is set up. */
export interface PresenceOptions {
  /** The server's URL, as `https://rollcall.example.com`. */
  url: string;
  /** The user's token, or what gets a fresh one. */
  token: TokenSource;
  /** Which of the user's devices this is. By default one per tab, which survives a reload. */
  deviceId?: string;
  /** Users to follow beside those whom the user is related to. */
  userIds?: readonly string[];
  /** Between heartbeats, in milliseconds. They say whether somebody uses the page. Default 20,000. */
  heartbeatMs?: number;
  /** A page that is hidden for so long makes its device away, in milliseconds. Default 1,000; `false` for never. */
  awayWhenHiddenMs?: number | false;
  /**
   * Signs the device off by `navigator.sendBeacon` when the page is closed, so that nobody waits for the server's grace;
   * `false` leaves it to that, and a reload then goes unnoticed. The URL of an Edge Function `…/presence-manager/sign-off`
   * instead of `true` sends it there.
   */
  signOff?: boolean | string;
  /** How long to wait before connecting again. */
  backoff?: BackoffOptions;
}

/** How the connection is. */
export type Connection = "closed" | "connecting" | "open" | "waiting";

/** Everything that is known at one moment; another object whenever anything changes. */
export interface PresenceSnapshot {
  /** How the connection is; in all but `open` the rest is as it was last heard. */
  readonly connection: Connection;
  /** The own id, as the token says. */
  readonly userId: string | undefined;
  /** Everybody whom the user sees, by id; the user is among them. */
  readonly presences: ReadonlyMap<string, Presence>;
  /** Who types, by conversation. */
  readonly typing: ReadonlyMap<string, ReadonlySet<string>>;
  /** Why the client has given up, where it has. */
  readonly error: string | undefined;
}

type Events = { change: PresenceSnapshot; broadcast: CustomEvent; error: { code: string; message: string } };

/** These say that the same attempt would fail again. A token of which there can be a fresh one is another matter. */
const FINAL = new Set([1000, 1002, 1003, 1007, 1008, 1009]);
const TOKEN_REFUSED = new Set([4001, 4401]);
/** A fresh token is asked for so long before the old one runs out. */
const REFRESH_BEFORE = 30_000;
/** More ids than this do not go into an address. */
const MOST_IDS_IN_ADDRESS = 50;
const MOST_IDS_IN_FRAME = 1_000;
/** The longest that a timer of browsers can wait. */
const LONGEST_TIMER = 2_147_483_647;

/**
 * The presence of one user on one device, over one socket that comes back by itself. What it knows is a state to look at
 * ({@link snapshot}) and to be told of ({@link on}); after a lost connection the server says everything again.
 */
export class PresenceClient {
  readonly #options: PresenceOptions;
  readonly #deviceId: string;
  readonly #backoff: Backoff;
  readonly #typing: TypingDebounce;
  readonly #followed: Set<string>;
  readonly #listeners: { [E in keyof Events]: Set<(event: Events[E]) => void> } = {
    change: new Set(),
    broadcast: new Set(),
    error: new Set(),
  };
  #snapshot: PresenceSnapshot = {
    connection: "closed",
    userId: undefined,
    presences: new Map(),
    typing: new Map(),
    error: undefined,
  };
  #page: Page | undefined;
  #socket: WebSocket | undefined;
  #token = "";
  /** Which attempt is the current one: what belongs to an older one is not heard any more. */
  #attempt = 0;
  #timers: { again?: Timer; heartbeat?: Timer; refresh?: Timer; away?: Timer; status?: Timer } = {};
  /** What the server has not been told yet, or refused for now. */
  #untold: StatusUpdate | undefined;
  #last: StatusUpdate | undefined;
  /** Whether the device is away only because the page is hidden. */
  #isAwayByPage = false;
  #hint: number | undefined;

  constructor(options: PresenceOptions) {
    this.#options = options;
    this.#deviceId = options.deviceId ?? tabId();
    this.#backoff = new Backoff(options.backoff);
    this.#followed = new Set(options.userIds);
    this.#typing = new TypingDebounce((conversation_id, is_typing) =>
      this.#send({ type: "typing", data: { conversation_id, is_typing } })
    );
  }

  /** Which of the user's devices this is. */
  get deviceId(): string {
    return this.#deviceId;
  }

  /** Everything that is known now. */
  get snapshot(): PresenceSnapshot {
    return this.#snapshot;
  }

  /** Calls back on every event until the function that is returned is called. */
  on<E extends keyof Events>(event: E, listener: (event: Events[E]) => void): () => void {
    this.#listeners[event].add(listener);
    return () => void this.#listeners[event].delete(listener);
  }

  /** Connects, and stays connected. Does nothing where it is already. */
  connect(): void {
    if (this.#snapshot.connection !== "closed") return;
    this.#page ??= new Page({
      visibility: (isHidden) => this.#visibility(isHidden),
      leaving: () => this.#leave(),
      returned: () => this.#open(),
      online: () => this.#isWanted && this.#open(),
    });
    this.#backoff.reset();
    this.#open();
  }

  /** Disconnects for good, until {@link connect}; the device is offline after the server's grace. */
  close(): void {
    this.#page?.end();
    this.#page = undefined;
    this.#disconnect(1000);
    this.#typing.clear();
    this.#change({ connection: "closed", error: undefined });
  }

  /** Sets the own status, now or as soon as there is a connection. The newest counts. */
  setStatus(update: StatusUpdate): void {
    this.#isAwayByPage = false;
    this.#tell(update);
  }

  /** Follows further users, as far as they are visible; remembered when the connection is lost. */
  follow(...userIds: string[]): void {
    const further = userIds.filter((id) => !this.#followed.has(id));
    for (const id of further) this.#followed.add(id);
    this.#subscribe(further);
  }

  /** To be called whenever the user has typed something; tells of it as rarely as possible. */
  typed(conversationId: string): void {
    this.#typing.typed(conversationId);
  }

  /** The user has sent or discarded what was being typed. */
  stoppedTyping(conversationId: string): void {
    this.#typing.stopped(conversationId);
  }

  get #isWanted(): boolean {
    return this.#snapshot.connection !== "closed";
  }

  async #open(): Promise<void> {
    this.#disconnect();
    const attempt = ++this.#attempt;
    this.#change({ connection: "connecting", error: undefined });
    try {
      this.#token = await tokenOf(this.#options.token);
    } catch (error) {
      if (attempt === this.#attempt) this.#again(`there is no token: ${String(error)}`);
      return;
    }
    if (attempt !== this.#attempt) return;
    const userId = claimsOf(this.#token).sub;
    this.#change({ userId });
    const socket = new WebSocket(this.#address(userId));
    this.#socket = socket;
    const isCurrent = () => socket === this.#socket;
    socket.onmessage = ({ data }) => isCurrent() && this.#hear(data);
    socket.onclose = ({ code, reason }) => isCurrent() && this.#closed(code, reason);
    socket.onopen = () => isCurrent() && this.#opened();
  }

  #address(userId: string | undefined): URL {
    const url = new URL("/api/presence/subscribe", this.#options.url);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("token", this.#token);
    url.searchParams.set("device_id", this.#deviceId);
    // Oneself first: what one has chosen on another device counts here, too.
    const ids = [...(userId ? [userId] : []), ...this.#followed].slice(0, MOST_IDS_IN_ADDRESS);
    if (ids.length > 0) url.searchParams.set("user_ids", ids.join(","));
    return url;
  }

  #opened(): void {
    this.#hint = undefined;
    const heartbeat = () => this.#send({ type: "heartbeat", data: { active: this.#page?.takeUse() ?? true } });
    this.#timers.heartbeat = setInterval(heartbeat, this.#options.heartbeatMs ?? 20_000);
    this.#subscribe([...this.#followed].slice(MOST_IDS_IN_ADDRESS - 1));
    this.#refreshLater();
  }

  /** Replaces the token before it runs out, where there can be another. */
  #refreshLater(): void {
    const { exp } = claimsOf(this.#token);
    if (exp === undefined || typeof this.#options.token === "string") return;
    const left = exp * 1_000 - Date.now();
    const refresh = async () => {
      try {
        this.#token = await tokenOf(this.#options.token);
      } catch {
        // The server closes when the old one runs out, and the next attempt asks again.
        return;
      }
      this.#send({ type: "auth", token: this.#token });
      this.#refreshLater();
    };
    const pause = Math.max(1_000, left - Math.min(REFRESH_BEFORE, left / 2));
    if (pause < LONGEST_TIMER) this.#timers.refresh = setTimeout(refresh, pause);
  }

  #subscribe(ids: readonly string[]): void {
    for (let from = 0; from < ids.length; from += MOST_IDS_IN_FRAME) {
      this.#send({ type: "subscribe", data: { user_ids: ids.slice(from, from + MOST_IDS_IN_FRAME) } });
    }
  }

  #hear(text: unknown): void {
    const frame = read(text);
    switch (frame?.type) {
      case "initial_state": {
        this.#backoff.reset();
        const presences = new Map(frame.data.presences.map((presence) => [presence.user_id, presence]));
        this.#change({ connection: "open", presences, typing: new Map() });
        this.#caughtUp();
        break;
      }
      case "presence_update":
        this.#change({ presences: new Map(this.#snapshot.presences).set(frame.data.user_id, frame.data) });
        break;
      case "typing_update":
        this.#change({ typing: withTyping(this.#snapshot.typing, frame.data) });
        break;
      case "broadcast":
        this.#emit("broadcast", frame.data);
        break;
      case "error":
        // The server's word for "later": the newest status is told again then.
        if (frame.code === "RATE_LIMITED" && this.#last) this.#tellLater(this.#last, frame.retry_after_ms ?? 1_000);
        this.#emit("error", frame);
        break;
      // A server that is newer than this client may say more.
      default:
    }
  }

  /** What has been left untold while there was no connection. */
  #caughtUp(): void {
    this.#isAwayByPage = false;
    const untold = this.#untold;
    this.#untold = undefined;
    if (untold) this.#tell(untold);
    else if (this.#page?.isHidden) this.#visibility(true);
  }

  #closed(code: number, reason: string): void {
    const canRefresh = typeof this.#options.token === "function";
    if (FINAL.has(code) || (TOKEN_REFUSED.has(code) && !canRefresh)) {
      this.#disconnect();
      this.#change({ connection: "closed", error: reason || `closed with ${code}` });
      return;
    }
    const hint = /reconnect in (\d+) ms/.exec(reason)?.[1];
    this.#hint = hint === undefined ? undefined : Number(hint);
    this.#again(undefined);
  }

  #again(error: string | undefined): void {
    this.#disconnect();
    this.#change({ connection: "waiting", error });
    // A server that stops says when to come back, so that not all of its clients do so at once.
    const pause = this.#hint ?? this.#backoff.next();
    this.#hint = undefined;
    this.#timers.again = setTimeout(() => void this.#open(), pause);
  }

  #disconnect(code?: number): void {
    const { again, heartbeat, refresh, away, status } = this.#timers;
    [again, refresh, away, status].forEach(clearTimeout);
    clearInterval(heartbeat);
    this.#timers = {};
    this.#attempt += 1;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket && socket.readyState <= WebSocket.OPEN) socket.close(code);
  }

  #visibility(isHidden: boolean): void {
    const after = this.#options.awayWhenHiddenMs ?? 1_000;
    clearTimeout(this.#timers.away);
    if (after === false) return;
    if (isHidden) {
      this.#timers.away = setTimeout(() => this.#awayByPage(), after);
    } else if (this.#isAwayByPage) {
      this.#isAwayByPage = false;
      this.#tell({ status: "online" });
    }
  }

  #awayByPage(): void {
    const own = this.#snapshot.presences.get(this.#snapshot.userId ?? "")?.availability;
    // What the user has chosen holds, whether or not anybody looks at this page.
    const isChosen = own === "busy" || own === "dnd" || own === "invisible" || own === "away";
    if (isChosen || this.#snapshot.connection !== "open") return;
    this.#isAwayByPage = true;
    this.#tell({ status: "away" });
  }

  #tell(update: StatusUpdate): void {
    clearTimeout(this.#timers.status);
    this.#last = update;
    if (this.#snapshot.connection !== "open" || !this.#send({ type: "status", data: update })) this.#untold = update;
  }

  #tellLater(update: StatusUpdate, pause: number): void {
    clearTimeout(this.#timers.status);
    this.#timers.status = setTimeout(() => this.#tell(update), pause);
  }

  /** The page is being closed: nothing that is awaited would still happen. */
  #leave(): void {
    if (!this.#isWanted) return;
    const { signOff = true, url } = this.#options;
    if (signOff !== false && this.#token) {
      const to = typeof signOff === "string" ? signOff : new URL("/api/presence/sign-off", url).href;
      // Text, which needs no preflight; the token is in it because a beacon has no headers.
      navigator.sendBeacon(to, JSON.stringify({ device_id: this.#deviceId, token: this.#token }));
    }
    this.#disconnect(1000);
    this.#typing.clear();
    this.#change({ connection: "waiting" });
  }

  #send(frame: ClientFrame): boolean {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #change(change: Partial<PresenceSnapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...change };
    this.#emit("change", this.#snapshot);
  }

  #emit<E extends keyof Events>(event: E, value: Events[E]): void {
    for (const listener of [...this.#listeners[event]]) listener(value);
  }
}

type Timer = ReturnType<typeof setTimeout>;

function withTyping(before: PresenceSnapshot["typing"], { user_id, conversation_id, is_typing }: TypingState) {
  const users = new Set(before.get(conversation_id));
  if (is_typing) users.add(user_id);
  else users.delete(user_id);
  const typing = new Map(before);
  if (users.size > 0) typing.set(conversation_id, users);
  else typing.delete(conversation_id);
  return typing;
}

/** One id per tab: kept over reloads, not shared between tabs, each of which has a socket of its own. */
function tabId(): string {
  const KEY = "rollcall.device";
  const made = () => `web-${globalThis.crypto.randomUUID()}`;
  try {
    const kept = sessionStorage.getItem(KEY) ?? made();
    sessionStorage.setItem(KEY, kept);
    return kept;
  } catch {
    // No page, or one that may keep nothing.
    return made();
  }
}
