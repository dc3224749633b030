import { errorOf } from "./errors.js";

/** Why a token is requested. */
export interface TokenRequest {
  /**
   * `connect`: before a connection attempt or a REST request. `expiring`: the current token expires soon.
   * `refused`: the server refused the current token; return another one. `changed`: `refreshToken` was called.
   */
  readonly reason: "connect" | "expiring" | "refused" | "changed";
  /** The token that the server refused. */
  readonly refused?: string;
}

/** A token, `null` if nobody is signed in. */
export type TokenResult = string | null | undefined;

/** A token, or a function that returns one. Only a function lets the client replace a token that expires. */
export type TokenSource = string | ((request: TokenRequest) => TokenResult | Promise<TokenResult>);

/** Returns the token of a source; `undefined` if nobody is signed in. */
export async function tokenOf(
  source: TokenSource,
  request: TokenRequest = { reason: "connect" },
): Promise<string | undefined> {
  return (typeof source === "string" ? source : await source(request)) || undefined;
}

/**
 * Returns a token source that requests a route of the application, for example one made by `tokenHandler` of
 * `rollcall-client/server`. The route answers with the token as text or as `{"token": "…"}`; 401 and 403 mean that nobody
 * is signed in.
 */
export function tokenFrom(
  url: string,
  options: { fetch?: typeof fetch; headers?: Record<string, string> } = {},
): (request: TokenRequest) => Promise<TokenResult> {
  return async () => {
    const call = options.fetch ?? globalThis.fetch;
    const response = await call(url, { cache: "no-store", ...(options.headers && { headers: options.headers }) });
    if (response.status === 401 || response.status === 403) return undefined;
    if (!response.ok) throw await errorOf(response);
    const text = (await response.text()).trim();
    return text.startsWith("{") ? (JSON.parse(text) as { token?: string }).token : text;
  };
}

/** The claims of a token that the client reads. The client does not verify the signature. */
export interface Claims {
  sub?: string;
  exp?: number;
  iat?: number;
}

/** Reads a JWT's claims; an empty object if the text is not a JWT. */
export function claimsOf(token: string): Claims {
  try {
    const claims: unknown = JSON.parse(decodeBase64Url(token.split(".")[1] ?? ""));
    return typeof claims === "object" && claims !== null ? claims : {};
  } catch {
    return {};
  }
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/** Decodes base64url to UTF-8 text. Older React Native versions have neither `atob` nor `TextDecoder`. */
function decodeBase64Url(text: string): string {
  let percentEncoded = "";
  let bits = 0;
  let count = 0;
  for (const char of text.replace(/=+$/, "").replace(/\+/g, "-").replace(/\//g, "_")) {
    const value = ALPHABET.indexOf(char);
    if (value < 0) throw new Error("not base64url");
    bits = ((bits << 6) | value) & 0xffff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      percentEncoded += `%${((bits >> count) & 0xff).toString(16).padStart(2, "0")}`;
    }
  }
  return decodeURIComponent(percentEncoded);
}
