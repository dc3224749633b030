// Who calls: tokens are verified here, because a beacon carries no header that a gateway could look at.

import { createRemoteJWKSet, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";
import { z } from "zod";
import { Failure } from "./answers.ts";

const SYMMETRIC = "HS256";
const ASYMMETRIC = ["RS256", "ES256", "EdDSA"];

const Claims = z.looseObject({
  role: z.enum(["anon", "authenticated", "service_role"]).default("authenticated"),
  sub: z.uuid().optional(),
});

/** The database role of a caller, and the claims that policies read. */
export interface Caller {
  role: z.infer<typeof Claims>["role"];
  user?: string;
  claims: string;
}

export class Verifier {
  readonly #secret?: Uint8Array;
  readonly #keys?: ReturnType<typeof createRemoteJWKSet>;
  readonly #expected: { issuer?: string; audience?: string };

  constructor(
    { secret, jwks, issuer, audience }: { secret?: string; jwks?: string; issuer?: string; audience?: string },
  ) {
    if (!secret && !jwks) throw new Error("set SUPABASE_JWT_SECRET or JWKS_URL: nobody could be believed");
    this.#secret = secret ? new TextEncoder().encode(secret) : undefined;
    this.#keys = jwks ? createRemoteJWKSet(new URL(jwks), { timeoutDuration: 5_000 }) : undefined;
    this.#expected = { issuer, audience };
  }

  /** The caller of a request: by its header, or by the token that a beacon has in its body or address. */
  async caller(request: Request, beacon?: string): Promise<Caller> {
    const header = request.headers.get("authorization");
    const token = header?.match(/^Bearer (\S+)$/i)?.[1] ?? beacon;
    if (!token) throw new Failure("UNAUTHORIZED", "a token is needed");
    const payload = await this.#verified(token);
    const claims = Claims.safeParse({ ...payload, sub: payload.sub ?? payload.userId });
    if (!claims.success) throw new Failure("INVALID_TOKEN", "the token's claims cannot be used");
    return { role: claims.data.role, user: claims.data.sub, claims: JSON.stringify(claims.data) };
  }

  /** The caller, who must be a user. */
  async user(request: Request, beacon?: string): Promise<Caller> {
    const caller = await this.caller(request, beacon);
    if (caller.role !== "authenticated" || !caller.user) throw new Failure("FORBIDDEN", "the token is no user's");
    return caller;
  }

  // Which key is decided by the algorithm, and the algorithm by what a key is for: never by the token alone.
  async #verified(token: string): Promise<JWTPayload> {
    const options = { ...this.#expected, requiredClaims: ["exp"] };
    try {
      const { alg } = decodeProtectedHeader(token);
      if (alg === SYMMETRIC && this.#secret) {
        return (await jwtVerify(token, this.#secret, { ...options, algorithms: [SYMMETRIC] })).payload;
      }
      if (alg !== SYMMETRIC && this.#keys) {
        return (await jwtVerify(token, this.#keys, { ...options, algorithms: ASYMMETRIC })).payload;
      }
    } catch (error) {
      if (error instanceof errors.JWKSTimeout) throw new Failure("SERVICE_UNAVAILABLE", "the keys are out of reach");
      // Whatever else is wrong with it is no business of whoever made it up.
    }
    throw new Failure("INVALID_TOKEN", "the token is not valid");
  }
}
