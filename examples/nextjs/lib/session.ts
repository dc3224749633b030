// Who is signed in: a cookie with a token that this server signs with the JWT_SECRET of Rollcall. An application uses its own
// sign-in, and signs the same kind of token for its pages.

import "server-only";

import { cookies, headers } from "next/headers";
import { signToken, verifyToken } from "rollcall-client/server";

import { people } from "./people";

const COOKIE = "session";
const SESSION_SECONDS = 12 * 3_600;
/** Lifetime of the token of a page. The client requests another one before it expires. */
export const PAGE_SECONDS = 10 * 60;

export function secret(): string {
  const text = process.env.JWT_SECRET;
  if (!text) throw new Error("JWT_SECRET is not set. Load .rollcall/env, which `rollcall serve` writes.");
  return text;
}

/** Returns a short-lived token of a user. */
export const pageToken = (userId: string): Promise<string> => signToken({ sub: userId, secret: secret(), expiresIn: PAGE_SECONDS });

/** Signs a user of the demo in. */
export async function signIn(userId: string): Promise<void> {
  if (!people.some(({ id }) => id === userId)) throw new Error("userId: must be a user of the demo");
  const isSecure = (await headers()).get("x-forwarded-proto") === "https";
  const options = { httpOnly: true, sameSite: "lax", secure: isSecure, path: "/", maxAge: SESSION_SECONDS } as const;
  (await cookies()).set(COOKIE, await signToken({ sub: userId, secret: secret(), expiresIn: SESSION_SECONDS }), options);
}

/** Signs the user out. */
export async function signOut(): Promise<void> {
  (await cookies()).delete(COOKIE);
}

/** Returns the ID of the signed-in user; `undefined` if nobody is signed in. */
export async function currentUser(): Promise<string | undefined> {
  const token = (await cookies()).get(COOKIE)?.value;
  return token === undefined ? undefined : (await verifyToken(token, secret()))?.sub;
}
