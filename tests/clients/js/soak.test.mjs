// A long life in short: tokens that end after seconds are refreshed on many channels, while everybody talks.
// `SOAK_SECONDS` says for how long.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { client, closeAll, listen, newUser, renew, sleep, subscribe, uniqueTopic, until } from './helpers.mjs'

after(closeAll)

const SECONDS = Number(process.env.SOAK_SECONDS ?? 10)
const TOKEN_SECONDS = 4
const CHANNELS = 20
const CLIENTS = 4

test(`tokens are refreshed on ${CLIENTS * CHANNELS} channels for ${SECONDS} s and nobody misses a word`, async () => {
  const topics = Array.from({ length: CHANNELS }, () => uniqueTopic('open'))
  const people = []
  for (let n = 0; n < CLIENTS; n += 1) {
    const user = newUser()
    const supabase = client({ user })
    const channels = topics.map((topic) => supabase.channel(topic, { config: { private: true } }))
    const heard = channels.map((channel) => listen(channel))
    await Promise.all(channels.map((channel) => subscribe(channel)))
    people.push({ user, supabase, channels, heard })
  }

  const end = Date.now() + SECONDS * 1_000
  let rounds = 0
  while (Date.now() < end) {
    if (rounds % 8 === 0) {
      for (const { user, supabase } of people) {
        await renew(supabase, user, user.tokenFor(TOKEN_SECONDS, { n: rounds }))
      }
    }
    for (const [n, { channels }] of people.entries()) {
      const channel = channels[(rounds + n) % CHANNELS]
      assert.equal(await channel.send({ type: 'broadcast', event: 'word', payload: { n, rounds } }), 'ok')
    }
    rounds += 1
    await sleep(250)
  }

  // Each word is heard by all but its speaker, once.
  const expected = rounds * (CLIENTS - 1)
  const words = ({ heard }) => heard.flat().length
  await until('all words came', () => people.every((person) => words(person) === expected))
  for (const { channels } of people) {
    for (const { told } of channels) assert.deepEqual(told.map(({ status }) => status), ['SUBSCRIBED'])
  }
})
