// What callers may send. Field names are snake_case; camelCase is understood as well.

import { z } from "zod";
import { Failure } from "./answers.ts";

// What a text could do to whoever shows it: control and bidirectional characters go, brackets become look-alikes.
// deno-lint-ignore no-control-regex
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const neutralise = (text: string) => text.replace(UNSAFE, "").replaceAll("<", "‹").replaceAll(">", "›").trim();

// PostgreSQL counts characters as people do not: by code points.
const atMost = (most: number) => (text: string) => [...text].length <= most;
const text = (most: number) =>
  z.string().transform(neutralise).refine(atMost(most), { error: `must have at most ${most} characters` });

// First whether it is a word at all: that is another error than a word that there is not.
const oneOf = <const T extends readonly [string, ...string[]]>(words: T) => z.string().pipe(z.enum(words));

const DeviceId = text(255).refine((id) => id.length > 0, { error: "must not be empty" });

export const StatusInput = z.object({
  status: oneOf(["online", "away", "busy", "dnd", "invisible", "offline"]),
  device_id: DeviceId.default("default"),
  custom_status: text(140).nullish(),
  custom_status_expires_at: z.iso.datetime({ offset: true }).nullish(),
  activity: text(255).nullish(),
  current_page: text(2048).nullish(),
  background: z.boolean().nullish(),
  background_seconds: z.int().min(1).max(86_400).nullish(),
}).refine(({ status, ...input }) => secondsInBackground(input) === null || !["online", "offline"].includes(status), {
  path: ["background"],
  error: "must not be set with status online or offline",
});

/** How long a device that does not say stays away in the background, as the server's setting BACKGROUND_GRACE. */
const BACKGROUND_SECONDS = 300;

/** For how long the device stays away in the background; null when it is in use. */
export function secondsInBackground(
  input: { background?: boolean | null | undefined; background_seconds?: number | null | undefined },
): number | null {
  if (input.background === false) return null;
  return input.background_seconds ?? (input.background ? BACKGROUND_SECONDS : null);
}

export const HeartbeatInput = z.object({ device_id: DeviceId.default("default"), active: z.boolean().default(false) });

export const SignOffInput = z.object({ device_id: DeviceId.default("default"), token: z.string().optional() });

const Switches = {
  show_last_seen: z.boolean(),
  show_activity: z.boolean(),
  show_custom_status: z.boolean(),
  show_typing: z.boolean(),
};
const Visibility = oneOf(["nobody", "team", "contacts", "everyone"]);

/** Some of the settings; the others stay. */
export const SettingsPatch = z.object({ visibility: Visibility, ...Switches }).partial();

/** All settings; what is left out goes back to its default. */
export const SettingsInput = z.object({
  visibility: Visibility.default("contacts"),
  show_last_seen: z.boolean().default(true),
  show_activity: z.boolean().default(true),
  show_custom_status: z.boolean().default(true),
  show_typing: z.boolean().default(true),
});

const snakeCase = (key: string) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Parses a body. An empty one stands for an object without fields. */
export function parse<T>(schema: z.ZodType<T>, body: string): T {
  let value: unknown;
  try {
    value = body.trim() === "" ? {} : JSON.parse(body);
  } catch {
    throw new Failure("INVALID_REQUEST", "the body is not JSON");
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    value = Object.fromEntries(Object.entries(value).map(([key, field]) => [snakeCase(key), field]));
  }
  return schema.parse(value);
}
