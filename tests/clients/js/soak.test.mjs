// Soak test: short-lived tokens are refreshed on many channels while all clients broadcast. `SOAK_SECONDS` sets the
// duration.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { client, closeAll, listen, newUser, renew, sleep, subscribe, uniqueTopic, until } from './helpers.mjs'

after(closeAll)

const SECONDS = Number(process.env.SOAK_SECONDS ?? 10)
const TOKEN_SECONDS = 4
const CHANNELS = 20
const CLIENTS = 4

test(`tokens are refreshed on ${CLIENTS * CHANNELS} channels for ${SECONDS} s without a lost message`, async () => {
  const topics = Array.from({ length: CHANNELS }, () => uniqueTopic('open'))
  const clients = []
  for (let n = 0; n < CLIENTS; n += 1) {
    const user = newUser()
    const supabase = client({ user })
    const channels = topics.map((topic) => supabase.channel(topic, { config: { private: true } }))
    const received = channels.map((channel) => listen(channel))
    await Promise.all(channels.map((channel) => subscribe(channel)))
    clients.push({ user, supabase, channels, received })
  }

  const end = Date.now() + SECONDS * 1_000
  let rounds = 0
  while (Date.now() < end) {
    if (rounds % 8 === 0) {
      for (const { user, supabase } of clients) {
        await renew(supabase, user, user.tokenFor(TOKEN_SECONDS, { n: rounds }))
      }
    }
    for (const [n, { channels }] of clients.entries()) {
      const channel = channels[(rounds + n) % CHANNELS]
      assert.equal(await channel.send({ type: 'broadcast', event: 'message', payload: { n, rounds } }), 'ok')
    }
    rounds += 1
    await sleep(250)
  }

  // Each message is received once by every client except its sender.
  const expected = rounds * (CLIENTS - 1)
  const messageCount = ({ received }) => received.flat().length
  await until('all messages arrived', () => clients.every((entry) => messageCount(entry) === expected))
  for (const { channels } of clients) {
    for (const { statuses } of channels) assert.deepEqual(statuses.map(({ status }) => status), ['SUBSCRIBED'])
  }
})
