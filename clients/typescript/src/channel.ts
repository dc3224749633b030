// Presence of a Realtime channel, over a client of the Supabase protocol that the application passes in.
//
// Rollcall speaks the Supabase protocol without changes. `SupabaseClient` and `RealtimeClient` implement joins, heartbeats,
// token updates and both serializers; a second implementation here would open a second socket in applications that have
// such a client. The client is passed in, so this package depends on neither.

/** The part of a Supabase channel that is used. */
export interface ChannelLike {
  on(type: any, filter: any, callback: (payload: any) => void): any;
  subscribe(callback?: (status: any, error?: Error) => void): any;
  presenceState(): any;
  track(state: any): Promise<any>;
  untrack(): Promise<any>;
}

/** A `SupabaseClient` of `@supabase/supabase-js` or a `RealtimeClient` of `@supabase/realtime-js`. */
export interface ChannelClient {
  channel(topic: string, params?: any): ChannelLike;
  removeChannel(channel: any): Promise<any>;
}

/** Options of a {@link ChannelPresence}. The first use of a topic decides. */
export interface ChannelPresenceOptions {
  /** Presence key of this client, for example the user ID. Default: a random key per connection. */
  key?: string;
  /** Whether policies on `realtime.messages` decide who may join. Default false. */
  private?: boolean;
}

/** State of a channel's presence at one moment. Each change makes a new object. */
export interface ChannelPresenceSnapshot<T extends object> {
  /** `closed`: not in use. `joining`: the join is in progress, or is retried. `joined`: up to date. `error`: refused. */
  readonly status: "closed" | "joining" | "joined" | "error";
  /** Why the channel is not joined. */
  readonly error: string | undefined;
  /** States of each member by presence key. A member that joined several times has several states. */
  readonly members: ReadonlyMap<string, ReadonlyArray<T & { presence_ref: string }>>;
}

/** Presence of one channel. It joins while it has subscribers. */
export class ChannelPresence<T extends object = Record<string, unknown>> {
  readonly #client: ChannelClient;
  readonly #topic: string;
  readonly #options: ChannelPresenceOptions;
  readonly #listeners = new Set<() => void>();
  #snapshot: ChannelPresenceSnapshot<T> = CLOSED as ChannelPresenceSnapshot<T>;
  #channel: ChannelLike | undefined;
  #leaveTimer: ReturnType<typeof setTimeout> | undefined;
  #leaving: Promise<unknown> | undefined;
  #tracked: T | undefined;

  constructor(client: ChannelClient, topic: string, options: ChannelPresenceOptions = {}) {
    this.#client = client;
    this.#topic = topic;
    this.#options = options;
  }

  /** The current state. */
  get snapshot(): ChannelPresenceSnapshot<T> {
    return this.#snapshot;
  }

  /** The state before the first join. For hydration. */
  get initialSnapshot(): ChannelPresenceSnapshot<T> {
    return CLOSED as ChannelPresenceSnapshot<T>;
  }

  /** The joined channel, for example to broadcast on it. */
  get channel(): ChannelLike | undefined {
    return this.#channel;
  }

  /** Calls `listener` after every change, until the returned function is called. The first subscriber joins. */
  subscribe(listener: () => void): () => void {
    // Each call is a subscription of its own, also with the same function.
    const own = () => listener();
    this.#listeners.add(own);
    clearTimeout(this.#leaveTimer);
    if (!this.#channel) void this.#join();
    return () => {
      if (!this.#listeners.delete(own) || this.#listeners.size > 0) return;
      // Not at once: React's strict mode, and a change of page, subscribe again.
      clearTimeout(this.#leaveTimer);
      this.#leaveTimer = setTimeout(() => this.#leave(), LEAVE_AFTER_MS);
    };
  }

  /** Shares a state with the members, now or after the join. A rejoin shares it again. */
  async track(state: T): Promise<void> {
    this.#tracked = state;
    if (this.#snapshot.status === "joined") await this.#channel?.track(state);
  }

  /** Stops sharing a state. */
  async untrack(): Promise<void> {
    this.#tracked = undefined;
    if (this.#snapshot.status === "joined") await this.#channel?.untrack();
  }

  async #join(): Promise<void> {
    this.#change({ status: "joining", error: undefined });
    await this.#leaving;
    if (this.#channel || this.#listeners.size === 0) return;
    const { key = "", private: isPrivate = false } = this.#options;
    let channel: ChannelLike;
    try {
      channel = this.#client.channel(this.#topic, { config: { private: isPrivate, presence: { key, enabled: true } } });
      this.#channel = channel;
      channel.on("presence", { event: "sync" }, () => {
        if (channel === this.#channel)
          this.#change({
            members: new Map(Object.entries(channel.presenceState())) as ChannelPresenceSnapshot<T>["members"],
          });
      });
      channel.subscribe((status: string, error?: Error) => {
        if (channel === this.#channel) this.#onStatus(status, error);
      });
    } catch (error) {
      // The application subscribed to a channel of the same topic.
      this.#channel = undefined;
      this.#change({ status: "error", error: error instanceof Error ? error.message : String(error) });
    }
  }

  #onStatus(status: string, error: Error | undefined): void {
    if (status === "SUBSCRIBED") {
      this.#change({ status: "joined", error: undefined });
      if (this.#tracked) void this.#channel?.track(this.#tracked);
    } else if (status === "CLOSED") {
      this.#channel = undefined;
      this.#change({ status: "closed", members: new Map() });
    } else {
      // CHANNEL_ERROR, TIMED_OUT: the Supabase client tries again.
      this.#change({ status: status === "CHANNEL_ERROR" ? "error" : "joining", error: error?.message ?? status });
    }
  }

  #leave(): void {
    const channel = this.#channel;
    this.#channel = undefined;
    this.#snapshot = CLOSED as ChannelPresenceSnapshot<T>;
    if (channel) this.#leaving = Promise.resolve(this.#client.removeChannel(channel)).catch(() => {});
  }

  #change(change: Partial<ChannelPresenceSnapshot<T>>): void {
    this.#snapshot = { ...this.#snapshot, ...change };
    for (const listener of [...this.#listeners]) listener();
  }
}

const LEAVE_AFTER_MS = 50;
const CLOSED: ChannelPresenceSnapshot<object> = { status: "closed", error: undefined, members: new Map() };

/** Key of the shared objects: a Supabase client has one channel per topic, also for several copies of this module. */
const SHARED = Symbol.for("rollcall.channel-presence");
type Shared = WeakMap<ChannelClient, Map<string, ChannelPresence<any>>>;

/** Returns the presence of a channel; the same object for the same client and topic. */
export function channelPresence<T extends object = Record<string, unknown>>(
  client: ChannelClient,
  topic: string,
  options?: ChannelPresenceOptions,
): ChannelPresence<T> {
  const holder = globalThis as { [SHARED]?: Shared };
  const shared = (holder[SHARED] ??= new WeakMap());
  let topics = shared.get(client);
  if (!topics) shared.set(client, (topics = new Map()));
  let presence = topics.get(topic);
  if (!presence) topics.set(topic, (presence = new ChannelPresence<T>(client, topic, options)));
  return presence as ChannelPresence<T>;
}
