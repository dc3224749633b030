// postgres_changes: committed changes reach the clients that may see them.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import {
  quietPeriod, client, closeAll, expectStatus, newUser, renew, sql, subscribe, uniqueTopic, until, VERSIONS,
} from './helpers.mjs'

after(closeAll)

/** Records the changes of a channel in a list. */
function changesOf(channel, filter) {
  const received = []
  channel.on('postgres_changes', { schema: 'public', ...filter }, (change) => received.push(change))
  return received
}

/** Subscribes and waits for the confirmation of postgres_changes. */
async function subscribeToChanges(channel) {
  const system = []
  channel.on('system', {}, (message) => system.push(message))
  await subscribe(channel)
  await until('the subscription is confirmed', () => system.some(({ message }) => message === 'Subscribed to PostgreSQL'))
}

for (const vsn of VERSIONS) {
  test(`inserts and updates are delivered, filtered and typed (${vsn})`, async () => {
    const room = uniqueTopic()
    const channel = client({ vsn }).channel(uniqueTopic())
    const all = changesOf(channel, { event: '*', table: 'client_notes', filter: `room=eq.${room}` })
    const inserts = changesOf(channel, { event: 'INSERT', table: 'client_notes', filter: `room=eq.${room},rank=gt.1` })
    await subscribeToChanges(channel)
    await sql(`insert into public.client_notes (room, title, rank) values
      ('${room}', 'one', 1), ('${room}', 'two', 2), ('elsewhere', 'three', 3)`)
    await until('both inserts', () => all.length === 2 && inserts.length === 1)
    assert.deepEqual(all.map(({ new: row }) => row.title), ['one', 'two'])
    const [change] = inserts
    assert.deepEqual([change.eventType, change.schema, change.table, change.errors], ['INSERT', 'public', 'client_notes', null])
    assert.deepEqual([change.new.rank, typeof change.new.id, change.old], [2, 'number', {}])
    assert.ok(!Number.isNaN(Date.parse(change.commit_timestamp)))

    await sql(`update public.client_notes set title = 'TWO' where room = '${room}' and rank = 2`)
    await until('the update', () => all.length === 3)
    assert.deepEqual([all[2].eventType, all[2].new.title, all[2].old], ['UPDATE', 'TWO', { id: change.new.id }])
    await quietPeriod()
    assert.equal(inserts.length, 1)
  })
}

test('a delete carries its key', async () => {
  const channel = client().channel(uniqueTopic())
  const deletes = changesOf(channel, { event: 'DELETE', table: 'client_notes' })
  await subscribeToChanges(channel)
  const id = Number(await sql(`insert into public.client_notes (room) values ('gone') returning id`))
  await sql(`delete from public.client_notes where id = ${id}`)
  await until('the delete', () => deletes.some(({ old }) => old.id === id))
})

test('a refreshed token applies to later changes', async () => {
  const [ann, bob] = [newUser(), newUser()]
  const user = { token: ann.token }
  const supabase = client({ user })
  const channel = supabase.channel(uniqueTopic())
  const received = changesOf(channel, { event: 'INSERT', table: 'client_todos' })
  const system = []
  channel.on('system', {}, (message) => system.push(message))
  await subscribe(channel)
  await until('the subscription is confirmed', () => system.length === 1)
  await renew(supabase, user, bob.token)
  await until('confirmed again with the other token', () => system.length === 2)
  await sql(`insert into public.client_todos (user_id, body) values ('${ann.id}', 'hers'), ('${bob.id}', 'his')`)
  await until('his', () => received.length === 1)
  await quietPeriod()
  assert.deepEqual(received.map(({ new: row }) => row.body), ['his'])
})

test('row-level security decides who receives a change', async () => {
  const [ann, bob] = [newUser(), newUser()]
  const channels = [ann, bob].map((user) => client({ user }).channel(uniqueTopic()))
  const received = channels.map((channel) => changesOf(channel, { event: '*', table: 'client_todos' }))
  await Promise.all(channels.map((channel) => subscribeToChanges(channel)))
  await sql(`insert into public.client_todos (user_id, body) values ('${ann.id}', 'hers'), ('${bob.id}', 'his')`)
  await until('each its own', () => received.every((changes) => changes.length === 1))
  await quietPeriod()
  assert.deepEqual(received.map((changes) => changes.map(({ new: row }) => row.body)), [['hers'], ['his']])
})

test('changes committed after SUBSCRIBED are delivered', async () => {
  for (const postgres_changes_options of [undefined, { wait: true }]) {
    const room = uniqueTopic()
    const channel = client().channel(uniqueTopic(), { config: { postgres_changes_options } })
    const received = changesOf(channel, { event: 'INSERT', table: 'client_notes', filter: `room=eq.${room}` })
    await subscribe(channel)
    await sql(`insert into public.client_notes (room, title) values ('${room}', 'at once')`)
    await until('the insert', () => received.length === 1)
  }
})

test('a join that waits for an unpublished table is rejected', async () => {
  const channel = client().channel(uniqueTopic(), { config: { postgres_changes_options: { wait: true } } })
  changesOf(channel, { event: '*', table: 'client_messages' })
  const { error } = await subscribe(channel, 'CHANNEL_ERROR')
  assert.match(error.message, /^RealtimeDisabledForConfiguration: Unable to subscribe to changes/)
  await channel.unsubscribe()
})

test('an unpublished table is a system error and the channel stays open', async () => {
  const channel = client().channel(uniqueTopic())
  changesOf(channel, { event: '*', table: 'client_messages' })
  const system = []
  channel.on('system', {}, (message) => system.push(message))
  channel.statuses = []
  channel.subscribe((status, error) => channel.statuses.push({ status, error }))
  await until('the error arrives', () => system.some(({ status, message }) => status === 'error' && message.startsWith('Unable to subscribe to changes')))
  await expectStatus(channel, 'SUBSCRIBED')
})

test('changes and broadcasts share a channel', async () => {
  const topic = uniqueTopic()
  const channel = client().channel(topic, { config: { broadcast: { self: true } } })
  const changes = changesOf(channel, { event: 'INSERT', table: 'client_notes', filter: `room=eq.${topic}` })
  const broadcasts = []
  channel.on('broadcast', { event: 'e' }, (message) => broadcasts.push(message))
  await subscribeToChanges(channel)
  await channel.send({ type: 'broadcast', event: 'e', payload: {} })
  await sql(`insert into public.client_notes (room) values ('${topic}')`)
  await until('both', () => changes.length === 1 && broadcasts.length === 1)
})
