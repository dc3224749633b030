// Who is signed in: a cookie that holds a token which this server has signed with the secret that Rollcall knows, too.
// A real application has a real sign-in, and hands the same kind of token to its pages.

import "server-only";

import { SignJWT, jwtVerify } from "jose";
import { cookies, headers } from "next/headers";

import { people } from "./people";

const COOKIE = "session";
const SESSION_SECONDS = 12 * 3_600;
/** Pages get short ones, and ask for another before they run out. */
const PAGE_SECONDS = 10 * 60;

function secret(): Uint8Array {
  const text = process.env.JWT_SECRET;
  if (!text) throw new Error("JWT_SECRET is not set: source .rollcall/env, which the server has written");
  return new TextEncoder().encode(text);
}

/** A token by which Rollcall knows the user. */
function sign(userId: string, seconds: number): Promise<string> {
  return new SignJWT({ role: "authenticated" })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(userId)
    .setIssuedAt()
    .setExpirationTime(`${seconds}s`)
    .sign(secret());
}

/** A token for the page of whoever is signed in. */
export const pageToken = (userId: string): Promise<string> => sign(userId, PAGE_SECONDS);

/** Signs somebody of the demo in. */
export async function signIn(userId: string): Promise<void> {
  if (!people.some(({ id }) => id === userId)) throw new Error("there is no such person");
  const isSecure = (await headers()).get("x-forwarded-proto") === "https";
  const options = { httpOnly: true, sameSite: "lax", secure: isSecure, path: "/", maxAge: SESSION_SECONDS } as const;
  (await cookies()).set(COOKIE, await sign(userId, SESSION_SECONDS), options);
}

/** Signs whoever it is out. */
export async function signOut(): Promise<void> {
  (await cookies()).delete(COOKIE);
}

/** Who is signed in, if anybody is. */
export async function currentUser(): Promise<string | undefined> {
  const token = (await cookies()).get(COOKIE)?.value;
  if (!token) return undefined;
  try {
    return (await jwtVerify(token, secret(), { algorithms: ["HS256"] })).payload.sub;
  } catch {
    return undefined;
  }
}
