/** React hooks over a {@link PresenceClient}. */

import { type ReactNode, createContext, useCallback, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";

import { PresenceClient, type PresenceOptions, type PresenceSnapshot } from "./presence.js";
import type { Presence, StatusUpdate } from "./wire.js";

const Context = createContext<PresenceClient | undefined>(undefined);

/** What {@link PresenceProvider} takes: the client's options, or a client. */
export type PresenceProviderProps = { children: ReactNode } & (PresenceOptions | { client: PresenceClient });

/** Connects while it is mounted, for everything below it. Options count when it is mounted first. */
export function PresenceProvider(props: PresenceProviderProps): ReactNode {
  const [client] = useState(() => ("client" in props ? props.client : new PresenceClient(props)));
  useEffect(() => {
    client.connect();
    return () => client.close();
  }, [client]);
  return <Context.Provider value={client}>{props.children}</Context.Provider>;
}

/** The client of the nearest {@link PresenceProvider}. */
export function usePresenceClient(): PresenceClient {
  const client = useContext(Context);
  if (!client) throw new Error("usePresence and useTyping need a <PresenceProvider> around them");
  return client;
}

const NOTHING: PresenceSnapshot = {
  connection: "closed",
  userId: undefined,
  presences: new Map(),
  typing: new Map(),
  error: undefined,
};

function useSnapshot(client: PresenceClient): PresenceSnapshot {
  const subscribe = useCallback((changed: () => void) => client.on("change", changed), [client]);
  return useSyncExternalStore(subscribe, () => client.snapshot, () => NOTHING);
}

/** What {@link usePresence} returns. */
export interface UsePresence extends PresenceSnapshot {
  /** The own presence, once it is known. */
  readonly me: Presence | undefined;
  /** Sets the own status. */
  readonly setStatus: (update: StatusUpdate) => void;
}

/** Everybody whom the user sees, live; with ids, these users are followed, too. */
export function usePresence(userIds?: readonly string[]): UsePresence {
  const client = usePresenceClient();
  const snapshot = useSnapshot(client);
  const wanted = userIds?.join(",") ?? "";
  useEffect(() => {
    if (wanted) client.follow(...wanted.split(","));
  }, [client, wanted]);
  const setStatus = useCallback((update: StatusUpdate) => client.setStatus(update), [client]);
  return useMemo(
    () => ({ ...snapshot, me: snapshot.presences.get(snapshot.userId ?? ""), setStatus }),
    [snapshot, setStatus],
  );
}

/** What {@link useTyping} returns. */
export interface UseTyping {
  /** Who else types in the conversation. */
  readonly userIds: readonly string[];
  /** To be called on every change of the text. */
  readonly typed: () => void;
  /** To be called when the text is sent or discarded. */
  readonly stopped: () => void;
}

/** Who types in a conversation, and what tells of it. */
export function useTyping(conversationId: string): UseTyping {
  const client = usePresenceClient();
  const { typing, userId } = useSnapshot(client);
  const users = typing.get(conversationId);
  const typed = useCallback(() => client.typed(conversationId), [client, conversationId]);
  const stopped = useCallback(() => client.stoppedTyping(conversationId), [client, conversationId]);
  // Whoever leaves the conversation does not type in it any more.
  useEffect(() => stopped, [stopped]);
  const userIds = useMemo(() => [...(users ?? [])].filter((id) => id !== userId), [users, userId]);
  return { userIds, typed, stopped };
}
