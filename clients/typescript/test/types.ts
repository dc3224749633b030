// What the compiler is to find and what it is to let pass. Compiled only; never run.

import { Rest } from "../src/index.js";

export async function check(rest: Rest): Promise<string[]> {
  const people = await rest.get("/api/presence/users", { query: { user_ids: "a,b" } });
  const one = await rest.get("/api/presence/users/{user_id}", { path: { user_id: "a" } });
  await rest.post("/api/presence/status", { body: { status: "busy", custom_status: null } });
  await rest.delete("/api/presence/devices/{device_id}", { path: { device_id: "laptop" } });

  // @ts-expect-error: there is no such status.
  await rest.post("/api/presence/status", { body: { status: "sleeping" } });
  // @ts-expect-error: the path has a parameter.
  await rest.get("/api/presence/users/{user_id}");
  // @ts-expect-error: there is no such path.
  await rest.get("/api/presence/nobody");
  // @ts-expect-error: the path has no such method.
  await rest.delete("/api/presence/status");
  // @ts-expect-error: there is no such field.
  void one.mood;

  return people.map(({ user_id, status }) => `${user_id}: ${status satisfies "online" | "away" | "offline"}`);
}
