import type { components } from "./api.js";

/** One invalid field of a request: its path and what is wrong with it. */
export type FieldError = components["schemas"]["FieldError"];

/** Details of a {@link RollcallError} besides its message. */
export interface RollcallErrorInit {
  /** HTTP status; 0 if there was no response. */
  status: number;
  /** Error code, for example `NOT_FOUND`. */
  code: string;
  /** Every invalid field, on validation errors. */
  details?: readonly FieldError[] | undefined;
  /** Delay after which a retry can succeed, in seconds. */
  retryAfter?: number | undefined;
  /** The `x-request-id` of the response. */
  requestId?: string | undefined;
  /** URL of the error's documentation. */
  docUrl?: string | undefined;
  cause?: unknown;
}

/** A failed REST request. */
export class RollcallError extends Error {
  override readonly name = "RollcallError";
  /** HTTP status; 0 if there was no response. */
  readonly status: number;
  /** Error code, for example `NOT_FOUND`; `UNREACHABLE` if there was no response. */
  readonly code: string;
  /** Every invalid field, on validation errors; otherwise empty. */
  readonly details: readonly FieldError[];
  /** Delay after which a retry can succeed, in seconds. */
  readonly retryAfter: number | undefined;
  /** The `x-request-id` of the response, for support requests. */
  readonly requestId: string | undefined;
  /** URL of the error's documentation. */
  readonly docUrl: string | undefined;

  constructor(message: string, init: RollcallErrorInit) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause });
    this.status = init.status;
    this.code = init.code;
    this.details = init.details ?? [];
    this.retryAfter = init.retryAfter;
    this.requestId = init.requestId;
    this.docUrl = init.docUrl;
  }
}

/** Reads the error envelope of a response that is not OK. */
export async function errorOf(response: Response): Promise<RollcallError> {
  const text = await response.text().catch(() => "");
  let envelope: { error?: unknown; message?: unknown; details?: unknown; doc_url?: unknown } = {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null) envelope = parsed;
  } catch {
    // A proxy answered with something other than JSON.
  }
  const textOf = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  return new RollcallError(textOf(envelope.message) ?? (response.statusText || `HTTP status ${response.status}`), {
    status: response.status,
    code: textOf(envelope.error) ?? "UNKNOWN",
    details: Array.isArray(envelope.details) ? (envelope.details as FieldError[]) : undefined,
    retryAfter: Number(response.headers.get("retry-after")) || undefined,
    requestId: textOf(response.headers.get("x-request-id")),
    docUrl: textOf(envelope.doc_url),
  });
}

/** An error for a request that got no response. */
export function unreachable(url: string, cause: unknown): RollcallError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new RollcallError(`No response from ${url}: ${why}. Check the URL, the network and CORS_ORIGIN.`, {
    status: 0,
    code: "UNREACHABLE",
    cause,
  });
}
