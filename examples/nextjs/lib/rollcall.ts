// Rollcall as this server calls it: as the signed-in user, so that row-level security decides what the user sees.

import "server-only";

import { type Rest, serverClient } from "rollcall-client/server";

import { pageToken } from "./session";

/** URL of Rollcall, for this server and for pages. */
export const rollcallUrl = (): string => process.env.ROLLCALL_URL ?? "http://127.0.0.1:4000";

/** The REST API as a user. */
export const rollcall = (userId: string): Rest => serverClient({ url: rollcallUrl(), token: () => pageToken(userId) });
