"use client";

/** React components and hooks over a `PresenceClient`. */

import {
  type ReactNode,
  createContext,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";

import {
  type ChannelClient,
  type ChannelPresence,
  type ChannelPresenceOptions,
  type ChannelPresenceSnapshot,
  channelPresence,
} from "./channel.js";
import { PresenceClient, type PresenceOptions, type PresenceSnapshot } from "./presence.js";
import { type TokenRequest, type TokenSource, tokenFrom } from "./token.js";
import type { ConversationId, Presence, StatusUpdate } from "./wire.js";

const Context = createContext<PresenceClient | undefined>(undefined);

/** Options of a {@link PresenceProvider} that makes its own client. */
export interface PresenceProviderOptions extends Omit<PresenceOptions, "token"> {
  /** Token of the user, or a function that returns one, for example a server action. */
  token?: TokenSource | undefined;
  /** Route of the application that answers with the token, instead of `token`. A server component can pass it. */
  tokenUrl?: string | undefined;
  /** ID of the signed-in user. A change requests a new token and connects as that user. */
  userId?: string | undefined;
}

/** Props of {@link PresenceProvider}: a client, or the options of one. */
export type PresenceProviderProps = { children?: ReactNode } & (PresenceProviderOptions | { client: PresenceClient });

/**
 * Connects while it is mounted, and provides the client to the components below it. A change of `url` or `deviceId` makes a
 * new client; a change of `token` (text) or `userId` replaces the token. Other options apply when the client is made.
 */
export function PresenceProvider(props: PresenceProviderProps): ReactNode {
  const { children } = props;
  if ("client" in props) return <Connected client={props.client}>{children}</Connected>;
  return <OwnClient key={`${props.url} ${props.deviceId ?? ""}`} {...props} />;
}

function OwnClient({
  children,
  tokenUrl,
  token,
  userId,
  ...options
}: PresenceProviderOptions & { children?: ReactNode }): ReactNode {
  const source = token ?? (tokenUrl === undefined ? undefined : tokenFrom(tokenUrl));
  if (source === undefined) throw new Error("<PresenceProvider> needs `token`, `tokenUrl` or `client`.");
  // A function may be another one at every render; the latest is called.
  const latest = useRef(source);
  const [client] = useState(() => {
    const initial = options.initial ?? { userId, presences: [] };
    const read = (request: TokenRequest) =>
      typeof latest.current === "string" ? latest.current : latest.current(request);
    return new PresenceClient({ ...options, token: typeof source === "string" ? source : read, initial });
  });
  const text = typeof source === "string" ? source : "";
  const identity = `${userId ?? ""} ${text}`;
  const applied = useRef(identity);
  useEffect(() => {
    latest.current = source;
    if (applied.current === identity) return;
    applied.current = identity;
    void (text ? client.setToken(text) : client.refreshToken());
  });
  return <Connected client={client}>{children}</Connected>;
}

function Connected({ client, children }: { client: PresenceClient; children?: ReactNode }): ReactNode {
  useEffect(() => {
    client.connect();
    return () => client.close();
  }, [client]);
  return <Context.Provider value={client}>{children}</Context.Provider>;
}

/** Returns the client of the nearest {@link PresenceProvider}. */
export function usePresenceClient(): PresenceClient {
  const client = useContext(Context);
  if (!client) throw new Error("This hook needs a <PresenceProvider> above the component.");
  return client;
}

/** Reads a part of the snapshot. The component renders again only when that part changes. */
function useSelected<T>(client: PresenceClient, select: (snapshot: PresenceSnapshot) => T): T {
  const subscribe = useCallback((changed: () => void) => client.on("change", changed), [client]);
  return useSyncExternalStore(
    subscribe,
    () => select(client.snapshot),
    () => select(client.initialSnapshot),
  );
}

const whole = (snapshot: PresenceSnapshot) => snapshot;

function useFollow(client: PresenceClient, userIds: readonly string[] | undefined): void {
  const wanted = userIds?.join(",") ?? "";
  useEffect(() => {
    if (wanted) client.follow(...wanted.split(","));
  }, [client, wanted]);
}

/** Result of {@link usePresence}. */
export interface UsePresence extends PresenceSnapshot {
  /** The own presence, once it is known. */
  readonly me: Presence | undefined;
  /** Sets the own status. */
  readonly setStatus: (update: StatusUpdate) => void;
}

/** Returns the presence of all visible users. With `userIds`, these users are followed as well. */
export function usePresence(userIds?: readonly string[]): UsePresence {
  const client = usePresenceClient();
  const snapshot = useSelected(client, whole);
  useFollow(client, userIds);
  const setStatus = useCallback((update: StatusUpdate) => client.setStatus(update), [client]);
  return useMemo(
    () => ({ ...snapshot, me: snapshot.presences.get(snapshot.userId ?? ""), setStatus }),
    [snapshot, setStatus],
  );
}

/** Follows one user and returns the user's presence; `undefined` if it is not visible. Renders on changes of this user only. */
export function useUserPresence(userId: string): Presence | undefined {
  const client = usePresenceClient();
  useFollow(client, [userId]);
  return useSelected(client, ({ presences }) => presences.get(userId));
}

/** Result of {@link useTyping}. */
export interface UseTyping {
  /** IDs of the other users who are typing in the conversation. */
  readonly userIds: readonly string[];
  /** Call it on every change of the text. */
  readonly typed: () => void;
  /** Call it when the text is sent or discarded. */
  readonly stopped: () => void;
}

/** Returns who is typing in a conversation, and functions that report the own typing. */
export function useTyping(conversationId: ConversationId): UseTyping {
  const client = usePresenceClient();
  const users = useSelected(client, ({ typing }) => typing.get(String(conversationId)));
  const userId = useSelected(client, (snapshot) => snapshot.userId);
  const typed = useCallback(() => client.typed(conversationId), [client, conversationId]);
  const stopped = useCallback(() => client.stoppedTyping(conversationId), [client, conversationId]);
  // A component that is unmounted, or shows another conversation, ends the own typing.
  useEffect(() => stopped, [stopped]);
  const userIds = useMemo(() => [...(users ?? [])].filter((id) => id !== userId), [users, userId]);
  return { userIds, typed, stopped };
}

/** Options of {@link useChannelPresence}. */
export interface UseChannelPresenceOptions<T extends object> extends ChannelPresenceOptions {
  /** State to share with the members. A change shares the new state. */
  state?: T | undefined;
}

/** Result of {@link useChannelPresence}. */
export interface UseChannelPresence<T extends object> extends ChannelPresenceSnapshot<T> {
  /** Shares a state with the members. */
  readonly track: (state: T) => Promise<void>;
  /** Stops sharing a state. */
  readonly untrack: () => Promise<void>;
  /** The shared object, for example to broadcast by its `channel`. */
  readonly presence: ChannelPresence<T>;
}

/** Joins a channel while the component is mounted, and returns its members. It needs no provider. */
export function useChannelPresence<T extends object = Record<string, unknown>>(
  client: ChannelClient,
  topic: string,
  options: UseChannelPresenceOptions<T> = {},
): UseChannelPresence<T> {
  const { state, key, private: isPrivate } = options;
  const presence = useMemo(
    () =>
      channelPresence<T>(client, topic, {
        ...(key !== undefined && { key }),
        ...(isPrivate !== undefined && { private: isPrivate }),
      }),
    [client, topic, key, isPrivate],
  );
  const subscribe = useCallback((changed: () => void) => presence.subscribe(changed), [presence]);
  const snapshot = useSyncExternalStore(
    subscribe,
    () => presence.snapshot,
    () => presence.initialSnapshot,
  );
  const shared = state === undefined ? undefined : JSON.stringify(state);
  useEffect(() => {
    if (shared !== undefined) void presence.track(JSON.parse(shared) as T);
  }, [presence, shared]);
  const track = useCallback((next: T) => presence.track(next), [presence]);
  const untrack = useCallback(() => presence.untrack(), [presence]);
  return useMemo(() => ({ ...snapshot, track, untrack, presence }), [snapshot, track, untrack, presence]);
}
