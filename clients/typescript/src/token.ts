/** A token, or what gets a fresh one; asked again whenever the old one is about to run out. */
export type TokenSource = string | (() => string | Promise<string>);

/** The token of a source. */
export async function tokenOf(source: TokenSource): Promise<string> {
  return typeof source === "string" ? source : await source();
}

/** What a token says of itself. Only the server knows whether it is true. */
export interface Claims {
  sub?: string;
  exp?: number;
}

/** Reads a JWT's claims; none of what is no JWT. */
export function claimsOf(token: string): Claims {
  try {
    const part = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (char) => char.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === "object" && claims !== null ? claims : {};
  } catch {
    return {};
  }
}
