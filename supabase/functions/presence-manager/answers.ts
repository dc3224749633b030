// What callers are told: JSON, and errors in one envelope. The codes are those of the server's REST routes.

import postgres from "postgres";
import { z } from "zod";

const STATUS = {
  INVALID_REQUEST: 400,
  UNAUTHORIZED: 401,
  INVALID_TOKEN: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  TOO_MANY_DEVICES: 409,
  PAYLOAD_TOO_LARGE: 413,
  UNPROCESSABLE: 422,
  RATE_LIMITED: 429,
  INTERNAL_ERROR: 500,
  SERVICE_UNAVAILABLE: 503,
} as const;

/** The codes of errors. */
export type Code = keyof typeof STATUS;

/** A field of the input and what is wrong with it. */
export interface Detail {
  field: string;
  message: string;
}

/** How full an allowance is, as the database tells it. */
const Limited = z.object({ limit: z.number(), retry_after_ms: z.number(), reset_ms: z.number() });

/** A request that does not succeed, as the caller is told. */
export class Failure extends Error {
  constructor(
    readonly code: Code,
    message: string,
    readonly details?: Detail[],
    readonly limited?: z.infer<typeof Limited>,
  ) {
    super(message);
  }

  /** When to come back, where that helps; rounded up, so that nobody comes too early. */
  headers(): Record<string, string> {
    const seconds = (ms: number) => String(Math.ceil(ms / 1000));
    if (this.limited) {
      return {
        "retry-after": seconds(this.limited.retry_after_ms),
        "ratelimit-limit": String(this.limited.limit),
        "ratelimit-remaining": "0",
        "ratelimit-reset": seconds(this.limited.reset_ms),
      };
    }
    return this.status === 503 ? { "retry-after": "1" } : {};
  }

  get status(): number {
    return STATUS[this.code];
  }

  body() {
    return {
      success: false,
      error: this.code,
      message: this.message,
      statusCode: this.status,
      ...(this.details && { details: this.details }),
    };
  }
}

/** Any error as the caller may know it. SQLSTATE is read here and nowhere else. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof z.ZodError) {
    const details = error.issues.map((issue) => ({ field: issue.path.join("."), message: issue.message }));
    // A value outside of its set is well-formed; anything else is not.
    const code = error.issues.every((issue) => issue.code === "invalid_value") ? "UNPROCESSABLE" : "INVALID_REQUEST";
    return new Failure(code, "the request has invalid fields", details);
  }
  if (error instanceof postgres.PostgresError) {
    // rollcall.consume_status_quota counts, so that all instances of this function and PostgREST share one count.
    if (error.code === "PT429") {
      return new Failure("RATE_LIMITED", error.message, undefined, Limited.parse(JSON.parse(error.detail ?? "{}")));
    }
    if (error.constraint_name === "presence_devices_per_user") {
      return new Failure("TOO_MANY_DEVICES", error.message);
    }
    if (error.code === "42501") return new Failure("FORBIDDEN", "not allowed");
    if (error.code === "23514" || error.code === "22001") {
      return new Failure("UNPROCESSABLE", "a value breaks a rule of its table");
    }
    // A statement that took too long, a shutdown, a lock that somebody keeps, too many connections.
    if (/^(57|53|08|55P03|40)/.test(error.code)) {
      return new Failure("SERVICE_UNAVAILABLE", "the database is out of reach, try again");
    }
    return new Failure("INTERNAL_ERROR", "something went wrong");
  }
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === "string" && /^(CONNECT|CONNECTION_|ECONN|ETIMEDOUT|ENOTFOUND)/.test(code)) {
    return new Failure("SERVICE_UNAVAILABLE", "the database is out of reach, try again");
  }
  return new Failure("INTERNAL_ERROR", "something went wrong");
}

/** A response with JSON, or without a body. */
export function respond(status: number, body?: unknown, headers: Record<string, string> = {}): Response {
  if (body === undefined) return new Response(null, { status });
  return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });
}

/** What browsers of other origins may do. */
export function corsHeaders(origin: string): Record<string, string> {
  return {
    "access-control-allow-origin": origin,
    "access-control-allow-methods": "GET, POST, PUT, PATCH, OPTIONS",
    "access-control-allow-headers": "authorization, content-type, apikey, x-client-info",
    "access-control-expose-headers": "x-request-id, retry-after, ratelimit-limit, ratelimit-remaining, ratelimit-reset",
    ...(origin !== "*" && { vary: "origin" }),
  };
}
