// What the tests of supabase-js share: the server's addresses and keys, users, SQL, and waiting.

import { execFile } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { promisify } from 'node:util'
import { createClient } from '@supabase/supabase-js'
import WebSocket from 'ws'

export const { ROLLCALL_URL, DATABASE_URL, JWT_SECRET, ANON_KEY, SERVICE_ROLE_KEY } = process.env

/** How long anything may take. Far above what it should, because the machine may be busy. */
const PATIENCE = 10_000
/** How long silence has to last to be believed. */
const MOMENT = 300

export const VERSIONS = ['2.0.0', '1.0.0']

const open = new Set()

/** A client as applications make one; Node before 22 has no WebSocket of its own. */
export function client({ key = ANON_KEY, url = ROLLCALL_URL, vsn = '2.0.0', user, ...realtime } = {}) {
  const options = { realtime: { transport: WebSocket, vsn, ...realtime } }
  // Whatever `setAuth` is called with, the client comes back to what this says.
  if (user) options.accessToken = async () => user.token
  const made = createClient(url, key, options)
  open.add(made)
  return made
}

/** Ends what a file's tests have opened. */
export async function closeAll() {
  await Promise.all([...open].map(async (made) => {
    await made.removeAllChannels()
    await made.realtime.disconnect()
  }))
  open.clear()
}

/** A user's client takes another token, as when the old one is about to run out. */
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

/** Somebody new, with a token of an hour. */
export function newUser(claims = {}) {
  const id = randomUUID()
  const tokenFor = (seconds, more = {}) =>
    mint({ sub: id, role: 'authenticated', exp: inSeconds(seconds), ...claims, ...more })
  return { id, token: tokenFor(3600), tokenFor }
}

/** A name that no other test uses. */
export const uniqueTopic = (kind = 'room') => `${kind}:${randomUUID()}`

/** Runs SQL as the owner of the tables. */
export async function sql(statement) {
  const { stdout } = await promisify(execFile)('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', DATABASE_URL, '-c', statement])
  return stdout.trim()
}

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds))

/** Waits until a condition holds; returns what it gave. `what` may be a function, for what is only known at the end. */
export async function until(what, condition, patience = PATIENCE) {
  const deadline = Date.now() + patience
  for (;;) {
    const held = await condition()
    if (held) return held
    if (Date.now() > deadline) {
      throw new Error(`not within ${patience} ms: ${typeof what === 'function' ? what() : what}`)
    }
    await sleep(10)
  }
}

/** Waits long enough that what should not come would have. */
export const aMoment = () => sleep(MOMENT)

/** Subscribes, and waits for the status that is wanted; every status is kept in `channel.told`. */
export async function subscribe(channel, wanted = 'SUBSCRIBED') {
  channel.told = []
  // A client asks for its user's token when it is made. What it joins in the same tick, it joins without that.
  await new Promise(setImmediate)
  channel.subscribe((status, error) => channel.told.push({ status, error }))
  return expectStatus(channel, wanted)
}

/** Waits for a further status of a channel. */
export async function expectStatus(channel, wanted, patience) {
  const found = () => channel.told.find(({ status }) => status === wanted)
  const told = () => channel.told.map(({ status, error }) => (error ? `${status} (${error.message})` : status))
  return until(() => `${wanted} of ${channel.topic}, not ${told()}`, found, patience)
}

/** Keeps the broadcasts of a channel, as they come, in a list. */
export function listen(channel, event = '*') {
  const heard = []
  channel.on('broadcast', { event }, (message) => heard.push(message))
  return heard
}

/** The presence of a channel without what the server adds: key → payloads. */
export function presenceOf(channel) {
  return Object.fromEntries(Object.entries(channel.presenceState()).map(([key, metas]) =>
    [key, metas.map(({ presence_ref: _, ...meta }) => meta)]))
}
