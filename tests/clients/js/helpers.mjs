// Helpers for the supabase-js tests: server address and keys, users, SQL, and waiting.

import { execFile } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { promisify } from 'node:util'
import { createClient } from '@supabase/supabase-js'
import WebSocket from 'ws'

export const { ROLLCALL_URL, DATABASE_URL, JWT_SECRET, ANON_KEY, SERVICE_ROLE_KEY } = process.env

/** Time limit in milliseconds for any condition. Far above the expected time, because the machine may be busy. */
const WAIT_TIMEOUT = 10_000
/** Time in milliseconds without messages after which none is expected any more. */
const QUIET_PERIOD = 300

export const VERSIONS = ['2.0.0', '1.0.0']

const open = new Set()

/** Creates a client like an application; Node before 22 has no built-in WebSocket. */
export function client({ key = ANON_KEY, url = ROLLCALL_URL, vsn = '2.0.0', user, ...realtime } = {}) {
  const options = { realtime: { transport: WebSocket, vsn, ...realtime } }
  // The client always returns to this token, whatever `setAuth` is called with.
  if (user) options.accessToken = async () => user.token
  const created = createClient(url, key, options)
  open.add(created)
  return created
}

/** Closes all clients of a test file. */
export async function closeAll() {
  await Promise.all([...open].map(async (opened) => {
    await opened.removeAllChannels()
    await opened.realtime.disconnect()
  }))
  open.clear()
}

/** Replaces the token of a user's client, as before its expiry. */
export async function renew(supabase, user, token) {
  user.token = token
  await supabase.realtime.setAuth()
}

/** Signs claims with the server's secret. */
export function mint(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`
  return `${text}.${createHmac('sha256', JWT_SECRET).update(text).digest('base64url')}`
}

export const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds

/** Creates a user with a token that is valid for one hour. */
export function newUser(claims = {}) {
  const id = randomUUID()
  const tokenFor = (seconds, more = {}) =>
    mint({ sub: id, role: 'authenticated', exp: inSeconds(seconds), ...claims, ...more })
  return { id, token: tokenFor(3600), tokenFor }
}

/** Returns a topic that no other test uses. */
export const uniqueTopic = (kind = 'room') => `${kind}:${randomUUID()}`

/** Runs SQL as the owner of the tables. */
export async function sql(statement) {
  const { stdout } = await promisify(execFile)('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', DATABASE_URL, '-c', statement])
  return stdout.trim()
}

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds))

/** Waits until a condition holds; returns its value. `what` may be a function that is called on failure. */
export async function until(what, condition, timeout = WAIT_TIMEOUT) {
  const deadline = Date.now() + timeout
  for (;;) {
    const held = await condition()
    if (held) return held
    if (Date.now() > deadline) {
      throw new Error(`not within ${timeout} ms: ${typeof what === 'function' ? what() : what}`)
    }
    await sleep(10)
  }
}

/** Waits long enough for unexpected messages to arrive. */
export const quietPeriod = () => sleep(QUIET_PERIOD)

/** Subscribes and waits for a status. All statuses are recorded in `channel.statuses`. */
export async function subscribe(channel, wanted = 'SUBSCRIBED') {
  channel.statuses = []
  // A client requests its user's token when it is created. Joins in the same tick do not have the token yet.
  await new Promise(setImmediate)
  channel.subscribe((status, error) => channel.statuses.push({ status, error }))
  return expectStatus(channel, wanted)
}

/** Waits for a status of a channel. */
export async function expectStatus(channel, wanted, timeout) {
  const found = () => channel.statuses.find(({ status }) => status === wanted)
  const statuses = () => channel.statuses.map(({ status, error }) => (error ? `${status} (${error.message})` : status))
  return until(() => `${wanted} of ${channel.topic}, not ${statuses()}`, found, timeout)
}

/** Records the broadcasts of a channel in a list. */
export function listen(channel, event = '*') {
  const received = []
  channel.on('broadcast', { event }, (message) => received.push(message))
  return received
}

/** Returns the presence of a channel without the fields that the server adds: key → payloads. */
export function presenceOf(channel) {
  return Object.fromEntries(Object.entries(channel.presenceState()).map(([key, metas]) =>
    [key, metas.map(({ presence_ref: _, ...meta }) => meta)]))
}
