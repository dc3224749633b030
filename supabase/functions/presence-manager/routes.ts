// The routes: what each reads and writes. Under the gateway their addresses begin with the function's name.

import { Failure, respond } from "./answers.ts";
import type { Caller, Verifier } from "./auth.ts";
import type { Database, Transaction } from "./database.ts";
import {
  HeartbeatInput,
  parse,
  secondsInBackground,
  SettingsInput,
  SettingsPatch,
  SignOffInput,
  StatusInput,
} from "./input.ts";

/** When the next heartbeat is due, in milliseconds: a device that misses two is swept. */
const NEXT_HEARTBEAT_MS = 10_000;

/** A request with what answering it takes. */
export interface Call {
  request: Request;
  text: string;
  verifier: Verifier;
  database: Database;
}

type Handler = (call: Call) => Promise<Response>;

interface Face {
  user_id: string;
  status: string;
  reach: string;
  last_seen: Date | null;
  custom_status: string | null;
  activity: string | null;
}

/** A face as REST shows it: three words for every client, and the full value beside them. */
const shown = (face: Face) => ({
  user_id: face.user_id,
  status: face.reach,
  availability: face.status,
  last_seen: face.last_seen?.toISOString() ?? null,
  ...(face.custom_status !== null && { custom_status: face.custom_status }),
  ...(face.activity !== null && { activity: face.activity }),
});

const neverSeen = (caller: Caller): Face => ({
  user_id: caller.user!,
  status: "offline",
  reach: "offline",
  last_seen: null,
  custom_status: null,
  activity: null,
});

/** Runs work as the user who calls, and answers with what it returns. */
const asUser =
  (work: (sql: Transaction, caller: Caller, text: string) => Promise<unknown>): Handler => async (call) => {
    const caller = await call.verifier.user(call.request);
    return respond(200, await call.database.as(caller, (sql) => work(sql, caller, call.text)));
  };

const getStatus = asUser(async (sql, caller) => {
  const [face] = await sql<Face[]>`select user_id, status::text, reach::text, last_seen, custom_status, activity
    from rollcall.user_presence where user_id = auth.uid() and face = 'trusted'`;
  return shown(face ?? neverSeen(caller));
});

const setStatus = asUser(async (sql, caller, text) => {
  const input = parse(StatusInput, text);
  // Left out, it stays; null or empty, it is cleared.
  const setsCustom = input.custom_status !== undefined;
  const [face] = await sql<Face[]>`select user_id, status::text, reach::text, last_seen, custom_status, activity
    from rollcall.set_my_status(${input.status}, ${input.device_id}, ${setsCustom}, ${input.custom_status || null},
      ${input.custom_status_expires_at ?? null}, ${input.activity === null ? "" : input.activity ?? null},
      ${input.current_page === null ? "" : input.current_page ?? null}, ${secondsInBackground(input)})`;
  return shown(face ?? neverSeen(caller));
});

const heartbeat = asUser(async (sql, _, text) => {
  const input = parse(HeartbeatInput, text);
  await sql`select rollcall.heartbeat_mine(${input.device_id}, ${input.active})`;
  return { success: true, server_time: new Date().toISOString(), next_heartbeat_ms: NEXT_HEARTBEAT_MS };
});

const getSettings = asUser(async (sql) => {
  const [settings] = await sql`
    select coalesce(s.visibility, 'contacts')::text as visibility, coalesce(s.show_last_seen, true) as show_last_seen,
      coalesce(s.show_activity, true) as show_activity, coalesce(s.show_custom_status, true) as show_custom_status,
      coalesce(s.show_typing, true) as show_typing
    from (select auth.uid() as id) me left join rollcall.presence_settings s on s.user_id = me.id`;
  return settings;
});

const saveSettings = (schema: typeof SettingsInput | typeof SettingsPatch) =>
  asUser(async (sql, caller, text) => {
    const changes = parse<Record<string, string | boolean | undefined>>(schema, text);
    const named = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
    const row = { user_id: caller.user!, ...named };
    const update = Object.keys(named).length > 0 ? sql`do update set ${sql(named)}` : sql`do nothing`;
    await sql`insert into rollcall.presence_settings ${sql(row)} on conflict (user_id) ${update}`;
    const [settings] = await sql`
      select visibility::text, show_last_seen, show_activity, show_custom_status, show_typing
      from rollcall.presence_settings where user_id = auth.uid()`;
    return settings;
  });

/** For navigator.sendBeacon: POST without headers of its own, the token in the body or the address; no body comes back. */
const signOff: Handler = async ({ request, text, verifier, database }) => {
  const input = parse(SignOffInput, text);
  const beacon = input.token ?? new URL(request.url).searchParams.get("token") ?? undefined;
  const caller = await verifier.user(request, beacon);
  await database.as(caller, (sql) => sql`select rollcall.sign_off_mine(${input.device_id})`);
  return respond(204);
};

/** For a schedule: ends what nobody keeps alive when no server does. */
const sweep: Handler = async ({ request, verifier, database }) => {
  const caller = await verifier.caller(request);
  if (caller.role !== "service_role") throw new Failure("FORBIDDEN", "only service_role sweeps");
  const [swept] = await database.as(
    caller,
    (sql) => sql`select nodes::int, devices::int, idle::int, custom_statuses::int, typing::int from rollcall.sweep()`,
  );
  return respond(200, { success: true, ...swept });
};

// Maps, not objects: an object also has a property for names such as `constructor`, which a caller may send.
const ROUTES = new Map<string, Map<string, Handler>>([
  ["/status", new Map([["GET", getStatus], ["POST", setStatus]])],
  ["/heartbeat", new Map([["POST", heartbeat]])],
  [
    "/settings",
    new Map([["GET", getSettings], ["PUT", saveSettings(SettingsInput)], ["PATCH", saveSettings(SettingsPatch)]]),
  ],
  ["/sign-off", new Map([["POST", signOff]])],
  ["/sweep", new Map([["POST", sweep]])],
]);

/** Who answers a request. */
export function route(request: Request): Handler {
  const path = new URL(request.url).pathname.replace(/^(\/functions\/v1)?\/presence-manager(?=\/|$)/, "").replace(
    /\/$/,
    "",
  );
  const methods = ROUTES.get(path);
  if (!methods) throw new Failure("NOT_FOUND", "there is no such route");
  const handler = methods.get(request.method);
  if (!handler) throw new Failure("METHOD_NOT_ALLOWED", `allowed: ${[...methods.keys()].join(", ")}`);
  return handler;
}
