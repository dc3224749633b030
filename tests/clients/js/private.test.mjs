// Private channels: policies, token refresh and expiry, and revoked access.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import {
  quietPeriod, ANON_KEY, client, closeAll, expectStatus, inSeconds, listen, mint, newUser, renew, SERVICE_ROLE_KEY,
  sleep, sql, subscribe, uniqueTopic, until, VERSIONS,
} from './helpers.mjs'

after(closeAll)

const secret = { config: { private: true, broadcast: { ack: true } } }

for (const vsn of VERSIONS) {
  test(`policies decide who joins, writes and receives (${vsn})`, async () => {
    const topic = uniqueTopic('readonly')
    const reader = client({ vsn, user: newUser() }).channel(topic, secret)
    const received = listen(reader)
    await subscribe(reader)
    assert.equal(await reader.send({ type: 'broadcast', event: 'e', payload: {} }), 'error', 'rejected with a reply')
    const service = client({ vsn, key: SERVICE_ROLE_KEY }).channel(topic, secret)
    await subscribe(service)
    assert.equal(await service.send({ type: 'broadcast', event: 'e', payload: { n: 1 } }), 'ok')
    await until('the reader receives it', () => received.length === 1)

    const { error } = await subscribe(client({ vsn }).channel(topic, secret), 'CHANNEL_ERROR')
    assert.match(error.message, /^Unauthorized: You do not have permissions to read from this Channel topic: readonly:/)
    const { error: closed } = await subscribe(client({ vsn, user: newUser() }).channel(uniqueTopic('nobody'), secret), 'CHANNEL_ERROR')
    assert.match(closed.message, /^Unauthorized: /)
  })
}

test('public and private topics of one name are separate', async () => {
  const topic = uniqueTopic('open')
  const open = client().channel(topic)
  const closed = client({ user: newUser() }).channel(topic, secret)
  const [receivedOpen, receivedClosed] = [listen(open), listen(closed)]
  await Promise.all([subscribe(open), subscribe(closed)])
  await closed.send({ type: 'broadcast', event: 'secret', payload: {} })
  await open.send({ type: 'broadcast', event: 'public', payload: {} })
  await quietPeriod()
  assert.deepEqual([receivedOpen, receivedClosed], [[], []])
})

test('setAuth refreshes the token of an open channel', async () => {
  const user = newUser()
  const seconds = 6
  user.token = user.tokenFor(seconds)
  const supabase = client({ user })
  const channel = supabase.channel(uniqueTopic('open'), secret)
  await subscribe(channel)
  await renew(supabase, user, user.tokenFor(600))
  await sleep((seconds + 1) * 1_000)
  assert.deepEqual(channel.statuses.map(({ status }) => status), ['SUBSCRIBED'], 'after the expiry of the first token')
  assert.equal(await channel.send({ type: 'broadcast', event: 'e', payload: {} }), 'ok')
})

test('an expired token closes only its channels', async () => {
  const user = newUser()
  const supabase = client()
  const lasting = supabase.channel(uniqueTopic(), { config: { broadcast: { ack: true } } })
  await subscribe(lasting)
  const limited = client({ user })
  const [open, closed] = [limited.channel(uniqueTopic()), limited.channel(uniqueTopic('open'), secret)]
  const system = []
  for (const channel of [open, closed]) {
    channel.on('system', {}, (message) => system.push(message.message))
    await subscribe(channel)
  }
  // The short token is set after the joins, so that it cannot expire before them.
  await renew(limited, user, user.tokenFor(2))
  for (const channel of [open, closed]) await expectStatus(channel, 'CLOSED')
  assert.ok(system.length === 2 && system.every((message) => /^Token has expired \d+ seconds ago$/.test(message)), String(system))
  assert.equal(await lasting.send({ type: 'broadcast', event: 'e', payload: {} }), 'ok')
})

test('a join with an expired token is rejected', async () => {
  const supabase = client({ user: { token: newUser().tokenFor(-5) } })
  const { error } = await subscribe(supabase.channel(uniqueTopic()), 'CHANNEL_ERROR')
  assert.match(error.message, /^InvalidJWTToken: Token has expired \d+ seconds ago/)
})

test('losing a membership closes only that channel at once', async () => {
  const topic = uniqueTopic('members')
  const [stays, goes] = [newUser(), newUser()]
  await sql(`insert into public.client_members values ('${topic}', '${stays.id}'), ('${topic}', '${goes.id}')`)
  const [staying, going] = [stays, goes].map((user) => client({ user }).channel(topic, secret))
  const received = listen(staying)
  await Promise.all([subscribe(staying), subscribe(going)])
  const began = Date.now()
  await sql(`delete from public.client_members where topic = '${topic}' and user_id = '${goes.id}'`)
  await expectStatus(going, 'CLOSED')
  assert.ok(Date.now() - began < 2_000, `${Date.now() - began} ms`)
  await sql(`select realtime.send('{}', 'after', '${topic}')`)
  await until('the remaining member still receives messages', () => received.length === 1)
  assert.deepEqual(staying.statuses.map(({ status }) => status), ['SUBSCRIBED'])
})

test('publishable and secret keys map to roles', async () => {
  const publishable = client({ key: 'sb_publishable_clients' })
  const open = publishable.channel(uniqueTopic(), { config: { broadcast: { ack: true } } })
  await subscribe(open)
  assert.equal(await open.send({ type: 'broadcast', event: 'e', payload: {} }), 'ok')
  assert.deepEqual(await publishable.channel(uniqueTopic()).httpSend('e', {}), { success: true })
  const { error } = await subscribe(publishable.channel(uniqueTopic('open'), secret), 'CHANNEL_ERROR')
  assert.match(error.message, /^Unauthorized: /)
  const service = client({ key: 'sb_secret_clients' }).channel(uniqueTopic('anything'), secret)
  await subscribe(service)
  assert.equal(await service.send({ type: 'broadcast', event: 'e', payload: {} }), 'ok')
})

test('invalid tokens and keys are rejected', async () => {
  for (const [token, reason] of [
    ['garbage', /MalformedJWT/],
    [`${newUser().token}x`, /JwtSignatureError/],
    [mint({ role: 'authenticated' }), /InvalidJWTToken/],
    [mint({ role: 'nosuchrole', exp: inSeconds(60) }), /Unauthorized/],
  ]) {
    const supabase = client({ user: { token } })
    const channel = supabase.channel(uniqueTopic('open'), secret)
    const { error } = await subscribe(channel, 'CHANNEL_ERROR')
    assert.match(error.message, reason)
    await supabase.removeChannel(channel)
  }
  const { error } = await subscribe(client({ key: `${ANON_KEY}x` }).channel(uniqueTopic()), 'CHANNEL_ERROR')
  assert.ok(error)
})
