// The REST API, with types from the server's OpenAPI description.

import type { paths } from "./api.js";
import { errorOf, unreachable } from "./errors.js";
import { type TokenSource, tokenOf } from "./token.js";
import { urlOf } from "./url.js";

type Method = "get" | "post" | "put" | "patch" | "delete";
/** The paths that support a method. */
export type PathsWith<M extends Method> = {
  [P in keyof paths]: paths[P] extends Record<M, { responses: unknown }> ? P : never;
}[keyof paths];

type OperationOf<P extends keyof paths, M extends Method> = paths[P] extends Record<M, infer O> ? O : never;
type Content<T> = T extends { content: { "application/json": infer C } } ? C : undefined;
type Good<R> = R extends Record<200, infer A> ? Content<A> : R extends Record<201, infer A> ? Content<A> : undefined;
type Parameter<O, Place extends string> = O extends { parameters: infer P }
  ? P extends Record<Place, infer V>
    ? V
    : never
  : never;

/** Parameters, body and abort signal of a request. */
export type RequestOptions<P extends keyof paths, M extends Method> = ([Parameter<OperationOf<P, M>, "path">] extends [
  never,
]
  ? { path?: never }
  : { path: Parameter<OperationOf<P, M>, "path"> }) & {
  query?: (OperationOf<P, M> extends { parameters: { query?: infer Q } } ? Q : never) | undefined;
} & (OperationOf<P, M> extends { requestBody: { content: { "application/json": infer B } } }
    ? { body: B }
    : { body?: never }) & { signal?: AbortSignal };

/** The response body of a request. */
export type AnswerOf<P extends keyof paths, M extends Method> =
  OperationOf<P, M> extends { responses: infer R } ? Good<R> : never;

/** Options of a {@link Rest} client. */
export interface RestOptions {
  /** URL of the server. */
  url: string;
  /** Token of the caller, or a function that returns one. */
  token?: TokenSource;
  /** `fetch` function. Default: the runtime's. */
  fetch?: typeof fetch;
}

type OptionsArgument<P extends keyof paths, M extends Method> =
  Record<never, never> extends RequestOptions<P, M>
    ? [options?: RequestOptions<P, M>]
    : [options: RequestOptions<P, M>];

/**
 * Client of the REST API. Paths, parameters, bodies and responses are type-checked. A failed request rejects with a
 * `RollcallError`. If the server refuses a token and the source is a function, the client requests another token and
 * tries once more.
 */
export class Rest {
  readonly #options: RestOptions;

  constructor(options: RestOptions) {
    this.#options = options;
  }

  get<P extends PathsWith<"get">>(path: P, ...[options]: OptionsArgument<P, "get">): Promise<AnswerOf<P, "get">> {
    return this.#call("get", path, options as Call | undefined);
  }

  post<P extends PathsWith<"post">>(path: P, ...[options]: OptionsArgument<P, "post">): Promise<AnswerOf<P, "post">> {
    return this.#call("post", path, options as Call | undefined);
  }

  put<P extends PathsWith<"put">>(path: P, ...[options]: OptionsArgument<P, "put">): Promise<AnswerOf<P, "put">> {
    return this.#call("put", path, options as Call | undefined);
  }

  patch<P extends PathsWith<"patch">>(
    path: P,
    ...[options]: OptionsArgument<P, "patch">
  ): Promise<AnswerOf<P, "patch">> {
    return this.#call("patch", path, options as Call | undefined);
  }

  delete<P extends PathsWith<"delete">>(
    path: P,
    ...[options]: OptionsArgument<P, "delete">
  ): Promise<AnswerOf<P, "delete">> {
    return this.#call("delete", path, options as Call | undefined);
  }

  async #call<T>(method: Method, path: string, options: Call = {}): Promise<T> {
    const parts = options.path ?? {};
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(parts[name])));
    const url = urlOf(this.#options.url, filled, { ...options.query });
    const { token: source } = this.#options;
    const token = source === undefined ? undefined : await tokenOf(source);
    let response = await this.#fetch(method, url, token, options);
    if (response.status === 401 && typeof source === "function" && token !== undefined) {
      const another = await tokenOf(source, { reason: "refused", refused: token });
      if (another !== undefined && another !== token) {
        void response.body?.cancel?.();
        response = await this.#fetch(method, url, another, options);
      }
    }
    if (!response.ok) throw await errorOf(response);
    const isJson = response.headers.get("content-type")?.includes("json") ?? false;
    return (isJson ? await response.json() : await response.text()) as T;
  }

  async #fetch(method: Method, url: string, token: string | undefined, { body, signal }: Call): Promise<Response> {
    const call = this.#options.fetch ?? globalThis.fetch;
    try {
      return await call(url, {
        method: method.toUpperCase(),
        headers: {
          ...(token !== undefined && { Authorization: `Bearer ${token}` }),
          ...(body !== undefined && { "Content-Type": "application/json" }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        ...(signal && { signal }),
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw unreachable(this.#options.url, error);
    }
  }
}

interface Call {
  path?: Record<string, unknown>;
  query?: object | undefined;
  body?: unknown;
  signal?: AbortSignal;
}
