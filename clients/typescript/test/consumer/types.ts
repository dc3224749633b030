// What must compile, and what must not. Compiled only, never run.

import { createClient } from "@supabase/supabase-js";
import { PresenceClient, Rest, RollcallError, channelPresence, tokenFrom } from "rollcall-client";
import { reactNativeEnvironment } from "rollcall-client/react-native";
import WebSocket from "ws";

export async function rest(rest: Rest): Promise<string[]> {
  const people = await rest.get("/api/presence/users", { query: { user_ids: "a,b" } });
  const one = await rest.get("/api/presence/users/{user_id}", { path: { user_id: "a" } });
  await rest.post("/api/presence/status", { body: { status: "busy", custom_status: null } });
  await rest.delete("/api/presence/devices/{device_id}", { path: { device_id: "laptop" } });

  // @ts-expect-error: no such status.
  await rest.post("/api/presence/status", { body: { status: "sleeping" } });
  // @ts-expect-error: the path has a parameter.
  await rest.get("/api/presence/users/{user_id}");
  // @ts-expect-error: no such path.
  await rest.get("/api/presence/nobody");
  // @ts-expect-error: the path does not support the method.
  await rest.delete("/api/presence/status");
  // @ts-expect-error: no such field.
  void one.mood;

  return people.map(({ user_id, status }) => `${user_id}: ${status satisfies "online" | "away" | "offline"}`);
}

declare const AppState: {
  currentState: "active" | "background" | "inactive" | "unknown" | "extension";
  addEventListener(
    type: "change" | "memoryWarning",
    listener: (state: "active" | "background") => void,
  ): { remove(): void };
};
declare const NetInfo: {
  addEventListener(listener: (state: { isConnected: boolean | null; type: "wifi" | "none" }) => void): () => void;
};

export function options(): void {
  const environment = reactNativeEnvironment({ AppState, NetInfo });
  const client = new PresenceClient({
    url: "http://localhost:4000",
    token: tokenFrom("/api/token"),
    transport: WebSocket,
    environment,
  });
  new PresenceClient({
    url: "http://localhost:4000",
    token: ({ reason }) => (reason === "refused" ? null : "token"),
    transport: globalThis.WebSocket,
  });
  client.on("error", (error) => console.log(error.code, error.details?.[0]?.field));
  const presence = channelPresence<{ name: string }>(createClient("http://localhost:4000", "key"), "room");
  void presence.track({ name: "Alice" });
  // @ts-expect-error: the state has another type.
  void presence.track({ title: "Alice" });
  // @ts-expect-error: no such option.
  new PresenceClient({ url: "http://localhost:4000", token: "token", socket: WebSocket });
  const error: Error = new RollcallError("", { status: 404, code: "NOT_FOUND" });
  void error;
}
