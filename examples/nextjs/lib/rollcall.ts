// Rollcall as this server calls it: as the user, so that row-level security shows what that user may see.

import "server-only";

import { Rest } from "rollcall-client";

import { pageToken } from "./session";

/** Where Rollcall is, for this server and for pages. */
export const rollcallUrl = (): string => process.env.ROLLCALL_URL ?? "http://127.0.0.1:4000";

/** The REST API as a user. */
export function rollcall(userId: string): Rest {
  return new Rest({
    url: rollcallUrl(),
    token: () => pageToken(userId),
    // Presence is never what it was a moment ago.
    fetch: (input, init) => fetch(input, { ...init, cache: "no-store" }),
  });
}
