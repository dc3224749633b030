// Broadcasts between clients of both versions, over REST, in binary, from the database, and replayed.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import {
  quietPeriod, client, closeAll, listen, newUser, sql, subscribe, uniqueTopic, until, VERSIONS,
} from './helpers.mjs'

after(closeAll)

for (const vsn of VERSIONS) {
  test(`a broadcast reaches other clients, and its sender with self (${vsn})`, async () => {
    const topic = uniqueTopic()
    const [quiet, loud] = [client({ vsn }), client({ vsn })]
    const without = quiet.channel(topic)
    const own = loud.channel(topic, { config: { broadcast: { self: true } } })
    const [receivedWithout, receivedOwn] = [listen(without), listen(own, 'cursor')]
    await Promise.all([subscribe(without), subscribe(own)])

    const payload = { x: 1, name: 'Ä✓😀', deep: { list: [1, 2.5, null] } }
    assert.equal(await without.send({ type: 'broadcast', event: 'cursor', payload }), 'ok')
    await until('the other client receives it', () => receivedOwn.length === 1)
    assert.deepEqual(receivedOwn[0], { type: 'broadcast', event: 'cursor', payload })
    assert.equal(await own.send({ type: 'broadcast', event: 'cursor', payload }), 'ok')
    await until('both receive it', () => receivedOwn.length === 2 && receivedWithout.length === 1)
    // Another event, which only one client listens to.
    await own.send({ type: 'broadcast', event: 'other', payload: {} })
    await until('the client that listens to all events receives it', () => receivedWithout.length === 2)
    await quietPeriod()
    assert.equal(receivedOwn.length, 2)
  })

  test(`a broadcast with ack gets a reply (${vsn})`, async () => {
    const channel = client({ vsn }).channel(uniqueTopic(), { config: { broadcast: { ack: true } } })
    await subscribe(channel)
    const result = await channel.send({ type: 'broadcast', event: 'e', payload: {} })
    assert.equal(result, 'ok')
    const large = { s: 'x'.repeat(3_200_000) }
    assert.equal(await channel.send({ type: 'broadcast', event: 'e', payload: large }), 'error')
    assert.equal(await channel.send({ type: 'broadcast', event: 'e', payload: {} }), 'ok', 'the channel stays open')
  })

  test(`httpSend and the REST fallback reach subscribers (${vsn})`, async () => {
    const topic = uniqueTopic('room with spaces, ü & /')
    const listener = client({ vsn }).channel(topic)
    const received = listen(listener)
    await subscribe(listener)
    const sender = client({ vsn }).channel(topic)
    assert.deepEqual(await sender.httpSend('rest', { n: 1 }), { success: true })
    await until('it arrived', () => received.length === 1)
    assert.deepEqual(received[0], { type: 'broadcast', event: 'rest', payload: { n: 1 } })
    // Without a subscription the client uses REST.
    assert.equal(await sender.send({ type: 'broadcast', event: 'fallback', payload: { n: 2 } }), 'ok')
    await until('it arrived', () => received.length === 2)
    assert.deepEqual(received[1], { type: 'broadcast', event: 'fallback', payload: { n: 2 } })
  })
}

test('binary payloads stay binary', async () => {
  const topic = uniqueTopic()
  const receiver = client().channel(topic)
  const old = client({ vsn: '1.0.0' }).channel(topic)
  const [received, receivedOld] = [listen(receiver), listen(old)]
  const sender = client().channel(topic)
  await Promise.all([subscribe(receiver), subscribe(old), subscribe(sender)])
  const bytes = Uint8Array.from([0, 1, 254, 255])
  await sender.send({ type: 'broadcast', event: 'blob', payload: bytes.buffer })
  await until('it arrived', () => received.length === 1)
  assert.equal(received[0].event, 'blob')
  assert.deepEqual(new Uint8Array(received[0].payload), bytes)
  assert.deepEqual(await sender.httpSend('blob', bytes.buffer), { success: true })
  await until('it arrived over REST', () => received.length === 2)
  assert.deepEqual(new Uint8Array(received[1].payload), bytes)
  await quietPeriod()
  assert.equal(receivedOld.length, 0, 'version 1 has no format for bytes')
})

test('broadcasts reach clients of the other version', async () => {
  const topic = uniqueTopic()
  const channels = VERSIONS.map((vsn) => client({ vsn }).channel(topic))
  const received = channels.map((channel) => listen(channel))
  await Promise.all(channels.map((channel) => subscribe(channel)))
  for (const [from, to] of [[0, 1], [1, 0]]) {
    await channels[from].send({ type: 'broadcast', event: 'hello', payload: { from } })
    await until('the other version receives it', () => received[to].length === 1)
    assert.deepEqual(received[to][0], { type: 'broadcast', event: 'hello', payload: { from } })
  }
})

test('five hundred messages arrive in order', async () => {
  const topic = uniqueTopic()
  const [sender, receiver] = [client().channel(topic), client().channel(topic)]
  const received = listen(receiver)
  await Promise.all([subscribe(sender), subscribe(receiver)])
  for (let n = 0; n < 500; n += 1) sender.send({ type: 'broadcast', event: 'n', payload: { n } })
  await until('all arrived', () => received.length === 500)
  assert.deepEqual(received.map(({ payload }) => payload.n), Array.from({ length: 500 }, (_, n) => n))
})

for (const vsn of VERSIONS) {
  test(`messages from the database are delivered (${vsn})`, async () => {
    const topic = uniqueTopic('open')
    const supabase = client({ vsn, user: newUser() })
    const channel = supabase.channel(topic, { config: { private: true } })
    const received = listen(channel)
    await subscribe(channel)

    await sql(`select realtime.send('{"n": 1}', 'sent', '${topic}')`)
    await until('realtime.send arrives', () => received.length === 1)
    assert.equal(received[0].event, 'sent')
    assert.deepEqual(received[0].payload, { n: 1, id: received[0].meta.id })

    await sql(`insert into public.client_messages (topic, body) values ('${topic}', 'first');
      update public.client_messages set body = 'second' where topic = '${topic}';
      delete from public.client_messages where topic = '${topic}'`)
    await until('the trigger messages arrive', () => received.length === 4)
    assert.deepEqual(received.slice(1).map(({ event }) => event), ['INSERT', 'UPDATE', 'DELETE'])
    const [, insert, update, deleted] = received.map(({ payload }) => payload)
    assert.deepEqual([insert.table, insert.schema, insert.operation], ['client_messages', 'public', 'INSERT'])
    assert.deepEqual([insert.record.body, insert.old_record], ['first', null])
    assert.deepEqual([update.record.body, update.old_record.body], ['second', 'first'])
    assert.deepEqual([deleted.record, deleted.old_record.body], [null, 'second'])
  })
}

test('earlier messages are replayed', async () => {
  const topic = uniqueTopic('open')
  const since = Date.now() - 60_000
  for (const n of [1, 2, 3]) await sql(`select realtime.send('{"n": ${n}}', 'old', '${topic}')`)
  const supabase = client({ user: newUser() })
  const channel = supabase.channel(topic, { config: { private: true, broadcast: { replay: { since, limit: 2 } } } })
  const received = listen(channel)
  await subscribe(channel)
  await until('two arrived', () => received.length === 2)
  assert.deepEqual(received.map(({ payload }) => payload.n), [2, 3])
  assert.ok(received.every(({ meta }) => meta.replayed === true))
  await sql(`select realtime.send('{"n": 4}', 'new', '${topic}')`)
  await until('the live message arrived', () => received.length === 3)
  assert.equal(received[2].meta.replayed, undefined)
  assert.throws(() => supabase.channel(uniqueTopic(), { config: { broadcast: { replay: { since } } } }), /private/)
})

test('replication_ready sends a system message', async () => {
  const channel = client().channel(uniqueTopic(), { config: { broadcast: { replication_ready: true } } })
  const system = []
  channel.on('system', {}, (message) => system.push(message))
  await subscribe(channel)
  await until('the system message arrives', () => system.length === 1)
  assert.deepEqual([system[0].status, system[0].message], ['ok', 'Replication connection established'])
})
