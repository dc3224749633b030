/** Svelte stores over a `PresenceClient`. They implement the store contract and import nothing from Svelte. */

import {
  type ChannelClient,
  type ChannelPresenceOptions,
  type ChannelPresenceSnapshot,
  channelPresence,
} from "./channel.js";
import { PresenceClient, type PresenceOptions, type PresenceSnapshot } from "./presence.js";
import type { ConversationId, Presence, StatusUpdate } from "./wire.js";

/** A readable store. */
export interface Readable<T> {
  /** Calls `run` with the current value and after every change, until the returned function is called. */
  subscribe(run: (value: T) => void): () => void;
}

/** Value of a {@link PresenceStore}. */
export interface PresenceStoreValue extends PresenceSnapshot {
  /** The own presence, once it is known. */
  readonly me: Presence | undefined;
}

/** A store of the presence of all visible users. */
export interface PresenceStore extends Readable<PresenceStoreValue> {
  /** The client. */
  readonly client: PresenceClient;
  /** Sets the own status. */
  setStatus(update: StatusUpdate): void;
  /** Follows further users. */
  follow(...userIds: string[]): void;
}

/** Returns a store that connects while it has subscribers. */
export function presenceStore(options: PresenceOptions | PresenceClient): PresenceStore {
  const client = options instanceof PresenceClient ? options : new PresenceClient(options);
  let subscribers = 0;
  return {
    client,
    setStatus: (update) => client.setStatus(update),
    follow: (...userIds) => client.follow(...userIds),
    subscribe(run) {
      const send = (snapshot: PresenceSnapshot) =>
        run({ ...snapshot, me: snapshot.presences.get(snapshot.userId ?? "") });
      send(client.snapshot);
      const remove = client.on("change", send);
      // On a server there is nothing to connect for: rendering subscribes and unsubscribes at once.
      if (++subscribers === 1 && typeof document !== "undefined") client.connect();
      return once(() => {
        remove();
        if (--subscribers === 0) client.close();
      });
    },
  };
}

/** A store of the IDs of the other users who are typing in a conversation. */
export interface TypingStore extends Readable<readonly string[]> {
  /** Call it on every change of the text. */
  typed(): void;
  /** Call it when the text is sent or discarded. */
  stopped(): void;
}

/** Returns a store of who is typing. It does not connect; that is up to the {@link presenceStore}. */
export function typingStore({ client }: { client: PresenceClient }, conversationId: ConversationId): TypingStore {
  return {
    typed: () => client.typed(conversationId),
    stopped: () => client.stoppedTyping(conversationId),
    subscribe(run) {
      let last: ReadonlySet<string> | undefined;
      const send = ({ typing, userId }: PresenceSnapshot, isFirst = false) => {
        const users = typing.get(String(conversationId));
        if (users === last && !isFirst) return;
        last = users;
        run([...(users ?? [])].filter((id) => id !== userId));
      };
      send(client.snapshot, true);
      return client.on("change", (snapshot) => send(snapshot));
    },
  };
}

/** A store of a channel's members. */
export interface ChannelPresenceStore<T extends object> extends Readable<ChannelPresenceSnapshot<T>> {
  /** Shares a state with the members. */
  track(state: T): Promise<void>;
  /** Stops sharing a state. */
  untrack(): Promise<void>;
}

/** Returns a store that joins a channel while it has subscribers. */
export function channelPresenceStore<T extends object = Record<string, unknown>>(
  client: ChannelClient,
  topic: string,
  options?: ChannelPresenceOptions,
): ChannelPresenceStore<T> {
  const presence = channelPresence<T>(client, topic, options);
  return {
    track: (state) => presence.track(state),
    untrack: () => presence.untrack(),
    subscribe(run) {
      run(presence.snapshot);
      if (typeof document === "undefined") return () => {};
      return presence.subscribe(() => run(presence.snapshot));
    },
  };
}

function once(run: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    run();
  };
}
