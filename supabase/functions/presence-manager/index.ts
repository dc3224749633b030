// Presence without a long-lived connection: status, heartbeat, settings, sign-off and a scheduled sweep.
// It speaks SQL as the caller, so row-level security judges as everywhere, and open sockets hear of what it commits.
// Routes are in `routes.ts`, who may call in `auth.ts`, how the database is spoken to in `database.ts`.

import { Verifier } from "./auth.ts";
import { corsHeaders, Failure, failureOf, respond } from "./answers.ts";
import { Database } from "./database.ts";
import { route } from "./routes.ts";

/** The longest body that is read, in bytes. */
const MOST_BYTES = 64 * 1024;

const env = (...names: string[]) => names.map((name) => Deno.env.get(name)).find((value) => value);

const url = env("SUPABASE_DB_URL", "DATABASE_URL");
if (!url) throw new Error("SUPABASE_DB_URL is not set");
const database = new Database(url);
const supabase = env("SUPABASE_URL");
const verifier = new Verifier({
  secret: env("SUPABASE_JWT_SECRET", "JWT_SECRET"),
  jwks: env("SUPABASE_JWKS_URL", "JWKS_URL") ?? (supabase && `${supabase}/auth/v1/.well-known/jwks.json`),
  issuer: env("JWT_ISSUER"),
  audience: env("JWT_AUDIENCE"),
});
const cors = corsHeaders(env("CORS_ORIGIN") ?? "*");

/** The body as text, refused when it is too long, whatever its header says. */
async function read(request: Request): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of request.body ?? []) {
    size += part.length;
    if (size > MOST_BYTES) throw new Failure("PAYLOAD_TOO_LARGE", "the body is longer than 64 KiB");
    parts.push(part);
  }
  return new TextDecoder().decode(await new Blob(parts as BlobPart[]).arrayBuffer());
}

async function answer(request: Request): Promise<Response> {
  if (request.method === "OPTIONS") return new Response(null, { status: 204 });
  const handler = route(request);
  return await handler({ request, text: await read(request), verifier, database });
}

Deno.serve(
  { port: Number(env("PORT") ?? 8000), hostname: env("HOST") ?? "0.0.0.0" },
  async (request) => {
    const id = crypto.randomUUID();
    let response: Response;
    try {
      response = await answer(request);
    } catch (error) {
      const failure = failureOf(error);
      // The cause is for the log; callers are told without it.
      if (failure.status >= 500) console.error(JSON.stringify({ id, code: failure.code, cause: String(error) }));
      response = respond(failure.status, failure.body(), failure.headers());
    }
    for (const [name, value] of Object.entries(cors)) response.headers.set(name, value);
    response.headers.set("x-request-id", id);
    return response;
  },
);
