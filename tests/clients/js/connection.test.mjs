// Connections: many channels, leaving, heartbeats, and server restarts.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, test } from 'node:test'
import {
  quietPeriod, client, closeAll, DATABASE_URL, JWT_SECRET, listen, newUser, presenceOf, subscribe, uniqueTopic, until,
} from './helpers.mjs'

after(closeAll)

test('a hundred channels share a socket and the next is rejected', async () => {
  const supabase = client()
  const topics = Array.from({ length: 100 }, () => uniqueTopic())
  const channels = topics.map((topic) => supabase.channel(topic, { config: { broadcast: { self: true } } }))
  const received = channels.map((channel) => listen(channel))
  const began = Date.now()
  await Promise.all(channels.map((channel) => subscribe(channel)))
  assert.ok(Date.now() - began < 3_000, `${Date.now() - began} ms`)
  channels.forEach((channel, n) => channel.send({ type: 'broadcast', event: 'e', payload: { n } }))
  await until('each channel receives its own message', () => received.every((messages) => messages.length === 1))
  received.forEach((messages, n) => assert.equal(messages[0].payload.n, n))
  const tooMany = supabase.channel(uniqueTopic())
  const { error } = await subscribe(tooMany, 'CHANNEL_ERROR')
  assert.match(error.message, /^ChannelRateLimitReached: Too many channels/)
  await supabase.removeChannel(tooMany)
  await supabase.removeChannel(channels[0])
  await subscribe(supabase.channel(uniqueTopic()))
})

test('removeChannel leaves and the topic can be joined again at once', async () => {
  const topic = uniqueTopic()
  const supabase = client()
  // With ack: a message sent while the topic is empty must not arrive late at the next member.
  const config = { broadcast: { ack: true } }
  const other = client().channel(topic, { config })
  const second = supabase.channel(uniqueTopic(), { config })
  await Promise.all([subscribe(other), subscribe(second)])
  for (let round = 0; round < 5; round += 1) {
    const channel = supabase.channel(topic)
    const received = listen(channel)
    await subscribe(channel)
    await other.send({ type: 'broadcast', event: 'e', payload: { round } })
    await until(() => `received once in round ${round}: ${JSON.stringify(received)}`, () => received.length === 1)
    assert.equal(await supabase.removeChannel(channel), 'ok')
    assert.equal(channel.statuses.at(-1).status, 'CLOSED')
    // The client does not wait for the reply to its leave. The next reply on the same socket comes after it.
    assert.equal(await second.send({ type: 'broadcast', event: 'e', payload: {} }), 'ok')
    await other.send({ type: 'broadcast', event: 'e', payload: { round } })
  }
  await supabase.removeChannel(second)
  await quietPeriod()
  assert.equal(supabase.getChannels().length, 0)
})

test('heartbeats get replies', async () => {
  const statuses = []
  // The client reports a timeout if a reply takes longer than the interval, which a busy machine may cause.
  const supabase = client({ heartbeatIntervalMs: 1_500, heartbeatCallback: (status) => statuses.push(status) })
  await subscribe(supabase.channel(uniqueTopic()))
  await until('three replies', () => statuses.filter((status) => status === 'ok').length >= 3, 20_000)
  assert.ok(!statuses.includes('timeout') && !statuses.includes('disconnected'), String(statuses))
})

/** Starts another server on the same database, for tests that stop it. */
async function startServer(port) {
  const server = spawn(process.env.SERVER_BINARY, ['serve'], {
    env: { PATH: process.env.PATH, DATABASE_URL, JWT_SECRET, PORT: String(port), NODE_LEASE: '2s' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  server.stderr.on('data', (data) => { log += data })
  await until('the server is ready', () => {
    if (server.exitCode !== null) throw new Error(log)
    return log.includes('is ready at')
  }, 20_000)
  return server
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`clients rejoin after a server restart (${signal})`, async () => {
    const port = await freePort()
    let server = await startServer(port)
    try {
      const url = `http://127.0.0.1:${port}`
      const topic = uniqueTopic('open')
      const config = { private: true, broadcast: { ack: true }, presence: { enabled: true } }
      const channels = ['ann', 'bob'].map((key) => {
        const supabase = client({ url, user: newUser() })
        return supabase.channel(topic, { config: { ...config, presence: { key, enabled: true } } })
      })
      const [ann, bob] = channels
      const received = listen(bob)
      await Promise.all(channels.map((channel) => subscribe(channel)))
      await ann.track({ before: true })
      await until('bob sees ann', () => presenceOf(bob).ann)

      server.kill(signal)
      await once(server, 'exit')
      channels.forEach((channel) => { channel.statuses.length = 0 })
      server = await startServer(port)
      await until('both have rejoined', () =>
        channels.every(({ statuses }) => statuses.at(-1)?.status === 'SUBSCRIBED'), 30_000)

      assert.equal(await ann.send({ type: 'broadcast', event: 'after', payload: {} }), 'ok')
      await until('bob receives the broadcast of ann', () => received.some(({ event }) => event === 'after'))
      await ann.track({ after: true })
      await until('bob sees ann again, once', () => {
        const seen = presenceOf(bob).ann
        return seen?.length === 1 && seen[0].after
      })
    } finally {
      await closeAll()
      server.kill('SIGKILL')
    }
  })
}
