// URLs are built as strings because the `URL` class of React Native implements neither setters nor `searchParams.set`.

/** Joins a base URL, a path and query parameters; parameters that are `undefined` or `null` are left out. */
export function urlOf(base: string, path: string, query: Readonly<Record<string, unknown>> = {}): string {
  const parameters = Object.entries(query)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value))}`);
  return base.replace(/\/+$/, "") + path + (parameters.length > 0 ? `?${parameters.join("&")}` : "");
}

/** The same URL with the scheme `ws` or `wss`. */
export const webSocketUrl = (url: string): string => url.replace(/^http/i, "ws");
