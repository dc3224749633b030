// A short-lived token for the socket of whoever is signed in: the cookie's own never reaches a script.

import { currentUser, pageToken } from "../../../lib/session";

export async function GET(): Promise<Response> {
  const userId = await currentUser();
  if (!userId) return new Response("not signed in", { status: 401 });
  return new Response(await pageToken(userId), { headers: { "cache-control": "no-store" } });
}
