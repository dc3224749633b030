/** Vue composables over a `PresenceClient`. */

import {
  type ComputedRef,
  type InjectionKey,
  type MaybeRefOrGetter,
  type ShallowRef,
  computed,
  getCurrentInstance,
  inject,
  onMounted,
  onScopeDispose,
  provide,
  shallowRef,
  toValue,
  watch,
} from "vue";

import {
  type ChannelClient,
  type ChannelPresenceOptions,
  type ChannelPresenceSnapshot,
  channelPresence,
} from "./channel.js";
import { PresenceClient, type PresenceOptions, type PresenceSnapshot } from "./presence.js";
import type { ConversationId, Presence, StatusUpdate } from "./wire.js";

const KEY: InjectionKey<PresenceClient> = Symbol("rollcall");

/**
 * Makes a client, or takes one, connects while the component is mounted, and provides it to the component and its
 * descendants.
 */
export function providePresence(options: PresenceOptions | PresenceClient): PresenceClient {
  const client = options instanceof PresenceClient ? options : new PresenceClient(options);
  provide(KEY, client);
  // Not during server-side rendering.
  if (getCurrentInstance()) onMounted(() => client.connect());
  else client.connect();
  onScopeDispose(() => client.close());
  return client;
}

function clientOf(client: PresenceClient | undefined): PresenceClient {
  const found = client ?? inject(KEY, undefined);
  if (!found) throw new Error("Call providePresence() in a component above, or pass a client.");
  return found;
}

function useSnapshot(client: PresenceClient): ShallowRef<PresenceSnapshot> {
  const snapshot = shallowRef(client.snapshot);
  onScopeDispose(client.on("change", (next) => (snapshot.value = next)));
  return snapshot;
}

/** Result of {@link usePresence}. */
export interface UsePresence {
  /** The whole state. */
  readonly snapshot: ShallowRef<PresenceSnapshot>;
  /** State of the connection. */
  readonly connection: ComputedRef<PresenceSnapshot["connection"]>;
  /** Why the connection is not open. */
  readonly error: ComputedRef<PresenceSnapshot["error"]>;
  /** Presence of each visible user by user ID. */
  readonly presences: ComputedRef<PresenceSnapshot["presences"]>;
  /** The own presence, once it is known. */
  readonly me: ComputedRef<Presence | undefined>;
  /** Sets the own status. */
  readonly setStatus: (update: StatusUpdate) => void;
}

/** Returns the presence of all visible users. With `userIds`, these users are followed as well. */
export function usePresence(userIds?: MaybeRefOrGetter<readonly string[]>, client?: PresenceClient): UsePresence {
  const found = clientOf(client);
  const snapshot = useSnapshot(found);
  watch(
    () => toValue(userIds) ?? [],
    (ids) => found.follow(...ids),
    { immediate: true },
  );
  return {
    snapshot,
    connection: computed(() => snapshot.value.connection),
    error: computed(() => snapshot.value.error),
    presences: computed(() => snapshot.value.presences),
    me: computed(() => snapshot.value.presences.get(snapshot.value.userId ?? "")),
    setStatus: (update) => found.setStatus(update),
  };
}

/** Result of {@link useTyping}. */
export interface UseTyping {
  /** IDs of the other users who are typing in the conversation. */
  readonly userIds: ComputedRef<readonly string[]>;
  /** Call it on every change of the text. */
  readonly typed: () => void;
  /** Call it when the text is sent or discarded. */
  readonly stopped: () => void;
}

/** Returns who is typing in a conversation, and functions that report the own typing. */
export function useTyping(conversationId: MaybeRefOrGetter<ConversationId>, client?: PresenceClient): UseTyping {
  const found = clientOf(client);
  const snapshot = useSnapshot(found);
  watch(
    () => toValue(conversationId),
    (_, before) => found.stoppedTyping(before),
  );
  const stopped = () => found.stoppedTyping(toValue(conversationId));
  onScopeDispose(stopped);
  return {
    userIds: computed(() => {
      const { typing, userId } = snapshot.value;
      return [...(typing.get(String(toValue(conversationId))) ?? [])].filter((id) => id !== userId);
    }),
    typed: () => found.typed(toValue(conversationId)),
    stopped,
  };
}

/** Result of {@link useChannelPresence}. */
export interface UseChannelPresence<T extends object> {
  /** Members and state of the join. */
  readonly snapshot: ShallowRef<ChannelPresenceSnapshot<T>>;
  /** Shares a state with the members. */
  readonly track: (state: T) => Promise<void>;
  /** Stops sharing a state. */
  readonly untrack: () => Promise<void>;
}

/** Joins a channel while the component is mounted, and returns its members. */
export function useChannelPresence<T extends object = Record<string, unknown>>(
  client: ChannelClient,
  topic: string,
  options?: ChannelPresenceOptions,
): UseChannelPresence<T> {
  const presence = channelPresence<T>(client, topic, options);
  const snapshot = shallowRef(presence.snapshot);
  let stop: (() => void) | undefined;
  const start = () => (stop = presence.subscribe(() => (snapshot.value = presence.snapshot)));
  if (getCurrentInstance()) onMounted(start);
  else start();
  onScopeDispose(() => stop?.());
  return { snapshot, track: (state) => presence.track(state), untrack: () => presence.untrack() };
}
