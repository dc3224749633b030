// The REST API, typed by the server's own description.

import type { paths } from "./api.js";
import { type TokenSource, tokenOf } from "./token.js";

type Method = "get" | "post" | "put" | "patch" | "delete";
/** The paths that have a method. */
export type PathsWith<M extends Method> = {
  [P in keyof paths]: paths[P] extends Record<M, { responses: unknown }> ? P : never;
}[keyof paths];

type OperationOf<P extends keyof paths, M extends Method> = paths[P] extends Record<M, infer O> ? O : never;
type Content<T> = T extends { content: { "application/json": infer C } } ? C : undefined;
type Good<R> = R extends Record<200, infer A> ? Content<A> : R extends Record<201, infer A> ? Content<A> : undefined;
type Parameter<O, Place extends string> = O extends { parameters: infer P }
  ? P extends Record<Place, infer V> ? V : never
  : never;

/** What a request takes besides its path. */
export type RequestOptions<P extends keyof paths, M extends Method> =
  & ([Parameter<OperationOf<P, M>, "path">] extends [never] ? { path?: never } : { path: Parameter<OperationOf<P, M>, "path"> })
  & { query?: (OperationOf<P, M> extends { parameters: { query?: infer Q } } ? Q : never) | undefined }
  & (OperationOf<P, M> extends { requestBody: { content: { "application/json": infer B } } } ? { body: B } : { body?: never })
  & { signal?: AbortSignal };

/** What a request answers. */
export type AnswerOf<P extends keyof paths, M extends Method> =
  OperationOf<P, M> extends { responses: infer R } ? Good<R> : never;

/** The server refused, in its own words. */
export class Refused extends Error {
  override readonly name = "Refused";

  constructor(
    /** The HTTP status. */
    readonly status: number,
    /** The error's code, as `NOT_FOUND`. */
    readonly code: string,
    message: string,
    /** Seconds after which to come back, where the server says so. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

/** Where the server is, and who calls. */
export interface RestOptions {
  /** The server's URL. */
  url: string;
  /** The caller's token. */
  token?: TokenSource;
  /** Another `fetch`, as one that caches. */
  fetch?: typeof fetch;
}

type OptionsArgument<P extends keyof paths, M extends Method> =
  Record<never, never> extends RequestOptions<P, M> ? [options?: RequestOptions<P, M>] : [options: RequestOptions<P, M>];

/** Calls the REST API: paths, parameters, bodies and answers are checked when this is compiled. */
export class Rest {
  constructor(private readonly options: RestOptions) {}

  get<P extends PathsWith<"get">>(path: P, ...[options]: OptionsArgument<P, "get">): Promise<AnswerOf<P, "get">> {
    return this.#call("get", path, options as Call | undefined);
  }

  post<P extends PathsWith<"post">>(path: P, ...[options]: OptionsArgument<P, "post">): Promise<AnswerOf<P, "post">> {
    return this.#call("post", path, options as Call | undefined);
  }

  put<P extends PathsWith<"put">>(path: P, ...[options]: OptionsArgument<P, "put">): Promise<AnswerOf<P, "put">> {
    return this.#call("put", path, options as Call | undefined);
  }

  patch<P extends PathsWith<"patch">>(path: P, ...[options]: OptionsArgument<P, "patch">): Promise<AnswerOf<P, "patch">> {
    return this.#call("patch", path, options as Call | undefined);
  }

  delete<P extends PathsWith<"delete">>(path: P, ...[options]: OptionsArgument<P, "delete">): Promise<AnswerOf<P, "delete">> {
    return this.#call("delete", path, options as Call | undefined);
  }

  async #call<T>(method: Method, path: string, options: Call = {}): Promise<T> {
    const parts = options.path ?? {};
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(parts[name])));
    const url = new URL(filled, this.options.url);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined && value !== null) url.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = {};
    if (this.options.token) headers["Authorization"] = `Bearer ${await tokenOf(this.options.token)}`;
    if (options.body !== undefined) headers["Content-Type"] = "application/json";
    const call = this.options.fetch ?? globalThis.fetch;
    const response = await call(url, {
      method: method.toUpperCase(),
      headers,
      ...(options.body !== undefined && { body: JSON.stringify(options.body) }),
      ...(options.signal && { signal: options.signal }),
    });
    const isJson = response.headers.get("content-type")?.includes("json") ?? false;
    const answer: unknown = isJson ? await response.json() : await response.text();
    if (response.ok) return answer as T;
    const { error, message } = (isJson ? answer : {}) as { error?: string; message?: string };
    const retryAfter = Number(response.headers.get("retry-after")) || undefined;
    throw new Refused(response.status, error ?? "UNKNOWN", message ?? response.statusText, retryAfter);
  }
}

interface Call {
  path?: Record<string, unknown>;
  query?: object | undefined;
  body?: unknown;
  signal?: AbortSignal;
}
