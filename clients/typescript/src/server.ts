/**
 * Helpers for the server of an application: Next.js route handlers and server components, or any server with `Request` and
 * `Response`. They use Web standards only, so they run in Node.js 20 and later and in edge runtimes.
 */

import type { ChatRequest } from "./chat.js";
import { RollcallError, unreachable } from "./errors.js";
import type { InitialPresence } from "./presence.js";
import { Rest, type RestOptions } from "./rest.js";
import { type TokenSource, claimsOf, tokenOf } from "./token.js";
import { urlOf } from "./url.js";

export { RollcallError } from "./errors.js";
export type { InitialPresence } from "./presence.js";
export { Rest } from "./rest.js";

/** A value, or a function that returns it. A function is called per request, not when the module is loaded. */
export type Lazy<T> = T | (() => T);

const valueOf = <T extends string>(lazy: Lazy<T>): T => (typeof lazy === "function" ? lazy() : lazy);

/** Claims and lifetime of a token. */
export interface SignOptions {
  /** ID of the user (UUID). */
  sub: string;
  /** The `JWT_SECRET` of the Rollcall server. */
  secret: string;
  /** Lifetime in seconds. Default 600. */
  expiresIn?: number;
  /** Database role. Default `authenticated`. */
  role?: string;
  /** Further claims, for example `permissions` or `aud`. */
  claims?: Record<string, unknown>;
}

/** Signs a token for a user with HS256. */
export async function signToken({
  sub,
  secret,
  expiresIn = 600,
  role = "authenticated",
  claims,
}: SignOptions): Promise<string> {
  if (secret === "") throw new Error("secret: must not be empty. Set it to the JWT_SECRET of the Rollcall server.");
  const iat = Math.floor(Date.now() / 1_000);
  const signed = [
    { alg: "HS256", typ: "JWT" },
    { ...claims, sub, role, iat, exp: iat + expiresIn },
  ]
    .map((part) => base64Url(utf8(JSON.stringify(part))))
    .join(".");
  const signature = await crypto.subtle.sign("HMAC", await keyOf(secret, "sign"), utf8(signed));
  return `${signed}.${base64Url(new Uint8Array(signature))}`;
}

/** Verifies signature and expiry of an HS256 token. Returns its claims; `undefined` if the token is not valid. */
export async function verifyToken(token: string, secret: string): Promise<VerifiedClaims | undefined> {
  const [header, payload, signature, ...rest] = token.split(".");
  if (!header || !payload || !signature || rest.length > 0) return undefined;
  try {
    if ((JSON.parse(new TextDecoder().decode(fromBase64Url(header))) as { alg?: unknown }).alg !== "HS256")
      return undefined;
    const key = await keyOf(secret, "verify");
    if (!(await crypto.subtle.verify("HMAC", key, fromBase64Url(signature), utf8(`${header}.${payload}`))))
      return undefined;
    const claims = JSON.parse(new TextDecoder().decode(fromBase64Url(payload))) as Partial<VerifiedClaims>;
    const isValid = typeof claims.exp === "number" && claims.exp * 1_000 > Date.now() && typeof claims.sub === "string";
    return isValid ? (claims as VerifiedClaims) : undefined;
  } catch {
    return undefined;
  }
}

/** Claims of a valid token. */
export interface VerifiedClaims {
  sub: string;
  exp: number;
  [claim: string]: unknown;
}

/**
 * Returns a REST client for server components and route handlers. It acts as the token's user, so row-level security
 * decides what it reads. Responses are not cached.
 */
export function serverClient(options: RestOptions): Rest {
  const call = options.fetch ?? globalThis.fetch;
  return new Rest({ ...options, fetch: (input, init) => call(input, { ...init, cache: "no-store" }) });
}

/**
 * Reads the presence that a page needs before its socket is open: pass the result as `initial` of the client or of
 * `<PresenceProvider>`.
 */
export async function initialPresence(rest: Rest): Promise<InitialPresence> {
  const [own, others] = await Promise.all([rest.get("/api/presence/status"), rest.get("/api/presence/users")]);
  const presences: InitialPresence["presences"] = [own, ...others.filter(({ user_id }) => user_id !== own.user_id)];
  return { userId: own.user_id, presences };
}

/** Options of {@link tokenHandler}. */
export interface TokenHandlerOptions extends Omit<SignOptions, "sub" | "secret"> {
  /** The `JWT_SECRET` of the Rollcall server. */
  secret: Lazy<string>;
  /** Returns the ID of the signed-in user; `undefined` if nobody is signed in. */
  user(request: Request): string | null | undefined | Promise<string | null | undefined>;
}

/**
 * Returns a route handler that answers with a short-lived token of the signed-in user, as `{"token": "…"}`, or with 401.
 * `export const GET = tokenHandler({ secret: () => process.env.JWT_SECRET!, user: currentUser })`
 */
export function tokenHandler({
  user,
  secret,
  ...options
}: TokenHandlerOptions): (request: Request) => Promise<Response> {
  return async (request) => {
    const sub = await user(request);
    if (!sub) return refusal(401, "UNAUTHORIZED", "Nobody is signed in.");
    const token = await signToken({ ...options, sub, secret: valueOf(secret) });
    return Response.json({ token }, { headers: { "cache-control": "no-store" } });
  };
}

/** Options of {@link chatHandler}. */
export interface ChatHandlerOptions {
  /** URL of the Rollcall server. */
  url: Lazy<string>;
  /** Returns the token of the signed-in user; `undefined` if nobody is signed in. */
  token(request: Request): ReturnType<Extract<TokenSource, (...parameters: never[]) => unknown>>;
  /** Fields that replace those of the request, for example `provider` or `model`. */
  defaults?: Partial<ChatRequest>;
  /** `fetch` function. Default: the runtime's. */
  fetch?: typeof fetch;
}

/**
 * Returns a route handler that streams an answer of `POST /api/v1/ai/chat` to the page. It acts as the signed-in user: the
 * body's `userId` is that user. Read the response with `readChat`.
 */
export function chatHandler({
  url,
  token: source,
  defaults,
  fetch: call = globalThis.fetch,
}: ChatHandlerOptions): (request: Request) => Promise<Response> {
  return async (request) => {
    const token = await tokenOf(() => source(request));
    if (token === undefined) return refusal(401, "UNAUTHORIZED", "Nobody is signed in.");
    let body: unknown;
    try {
      body = await request.json();
    } catch {
      return refusal(400, "INVALID_REQUEST", "The body must be JSON.");
    }
    if (typeof body !== "object" || body === null)
      return refusal(400, "INVALID_REQUEST", "The body must be a JSON object.");
    const base = valueOf(url);
    try {
      const response = await call(urlOf(base, "/api/v1/ai/chat"), {
        method: "POST",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: JSON.stringify({ stream: true, ...body, ...defaults, userId: claimsOf(token).sub }),
        cache: "no-store",
        // A page that closes the response ends the request to the model.
        signal: request.signal,
      });
      const headers = new Headers({ "cache-control": "no-store, no-transform" });
      for (const name of ["content-type", "retry-after", "x-request-id"]) {
        const value = response.headers.get(name);
        if (value !== null) headers.set(name, value);
      }
      return new Response(response.body, { status: response.status, headers });
    } catch (error) {
      // The page ended the request: nobody reads this response.
      if (request.signal.aborted) return new Response(null, { status: 499 });
      // Do not reveal the internal URL.
      console.error(unreachable(base, error));
      return refusal(503, "SERVICE_UNAVAILABLE", "The Rollcall server does not respond. Try again later.");
    }
  };
}

/** Answers a failed request with the error envelope of the server. Use it in the `catch` of a route handler. */
export function errorResponse(error: unknown): Response {
  if (!(error instanceof RollcallError)) throw error;
  return refusal(error.status || 503, error.code, error.message, error.details);
}

function refusal(status: number, error: string, message: string, details: readonly unknown[] = []): Response {
  return Response.json(
    { success: false, error, message, statusCode: status, ...(details.length > 0 && { details }) },
    { status },
  );
}

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;

const keyOf = (secret: string, use: "sign" | "verify") =>
  crypto.subtle.importKey("raw", utf8(secret), { name: "HMAC", hash: "SHA-256" }, false, [use]);

const base64Url = (bytes: Uint8Array): string =>
  btoa(String.fromCharCode(...bytes))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=+$/, "");

const fromBase64Url = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (char) =>
    char.charCodeAt(0),
  ) as Uint8Array<ArrayBuffer>;
