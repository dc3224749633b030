// Changes of tables: what is committed reaches those who may see it.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import {
  aMoment, client, closeAll, expectStatus, newUser, renew, sql, subscribe, uniqueTopic, until, VERSIONS,
} from './helpers.mjs'

after(closeAll)

/** Keeps the changes of a channel, as they come, in a list. */
function changesOf(channel, filter) {
  const heard = []
  channel.on('postgres_changes', { schema: 'public', ...filter }, (change) => heard.push(change))
  return heard
}

/** Subscribed, and heard of by the database. */
async function listening(channel) {
  const system = []
  channel.on('system', {}, (message) => system.push(message))
  await subscribe(channel)
  await until('the database is heard', () => system.some(({ message }) => message === 'Subscribed to PostgreSQL'))
}

for (const vsn of VERSIONS) {
  test(`inserts, updates and deletes are told, filtered and typed (${vsn})`, async () => {
    const room = uniqueTopic()
    const channel = client({ vsn }).channel(uniqueTopic())
    const all = changesOf(channel, { event: '*', table: 'client_notes', filter: `room=eq.${room}` })
    const inserts = changesOf(channel, { event: 'INSERT', table: 'client_notes', filter: `room=eq.${room},rank=gt.1` })
    await listening(channel)
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
    await aMoment()
    assert.equal(inserts.length, 1)
  })
}

test('a delete is told with its key', async () => {
  const channel = client().channel(uniqueTopic())
  const deletes = changesOf(channel, { event: 'DELETE', table: 'client_notes' })
  await listening(channel)
  const id = Number(await sql(`insert into public.client_notes (room) values ('gone') returning id`))
  await sql(`delete from public.client_notes where id = ${id}`)
  await until('the delete', () => deletes.some(({ old }) => old.id === id))
})

test('a token that is refreshed decides what is told from then on', async () => {
  const [ann, bob] = [newUser(), newUser()]
  const user = { token: ann.token }
  const supabase = client({ user })
  const channel = supabase.channel(uniqueTopic())
  const heard = changesOf(channel, { event: 'INSERT', table: 'client_todos' })
  const system = []
  channel.on('system', {}, (message) => system.push(message))
  await subscribe(channel)
  await until('the database is heard', () => system.length === 1)
  await renew(supabase, user, bob.token)
  await until('and again with the other token', () => system.length === 2)
  await sql(`insert into public.client_todos (user_id, body) values ('${ann.id}', 'hers'), ('${bob.id}', 'his')`)
  await until('his', () => heard.length === 1)
  await aMoment()
  assert.deepEqual(heard.map(({ new: row }) => row.body), ['his'])
})

test('row-level security decides who is told', async () => {
  const [ann, bob] = [newUser(), newUser()]
  const channels = [ann, bob].map((user) => client({ user }).channel(uniqueTopic()))
  const heard = channels.map((channel) => changesOf(channel, { event: '*', table: 'client_todos' }))
  await Promise.all(channels.map((channel) => listening(channel)))
  await sql(`insert into public.client_todos (user_id, body) values ('${ann.id}', 'hers'), ('${bob.id}', 'his')`)
  await until('each its own', () => heard.every((changes) => changes.length === 1))
  await aMoment()
  assert.deepEqual(heard.map((changes) => changes.map(({ new: row }) => row.body)), [['hers'], ['his']])
})

test('SUBSCRIBED is the truth: what is committed after it is told', async () => {
  for (const postgres_changes_options of [undefined, { wait: true }]) {
    const room = uniqueTopic()
    const channel = client().channel(uniqueTopic(), { config: { postgres_changes_options } })
    const heard = changesOf(channel, { event: 'INSERT', table: 'client_notes', filter: `room=eq.${room}` })
    await subscribe(channel)
    await sql(`insert into public.client_notes (room, title) values ('${room}', 'at once')`)
    await until('the insert', () => heard.length === 1)
  }
})

test('who waits for changes that never come is refused', async () => {
  const channel = client().channel(uniqueTopic(), { config: { postgres_changes_options: { wait: true } } })
  changesOf(channel, { event: '*', table: 'client_messages' })
  const { error } = await subscribe(channel, 'CHANNEL_ERROR')
  assert.match(error.message, /^RealtimeDisabledForConfiguration: Unable to subscribe to changes/)
  await channel.unsubscribe()
})

test('a table that is not published is a system error, and the channel stays', async () => {
  const channel = client().channel(uniqueTopic())
  changesOf(channel, { event: '*', table: 'client_messages' })
  const system = []
  channel.on('system', {}, (message) => system.push(message))
  channel.told = []
  channel.subscribe((status, error) => channel.told.push({ status, error }))
  await until('it is told', () => system.some(({ status, message }) => status === 'error' && message.startsWith('Unable to subscribe to changes')))
  await expectStatus(channel, 'SUBSCRIBED')
})

test('changes and broadcasts share a channel', async () => {
  const topic = uniqueTopic()
  const channel = client().channel(topic, { config: { broadcast: { self: true } } })
  const changes = changesOf(channel, { event: 'INSERT', table: 'client_notes', filter: `room=eq.${topic}` })
  const broadcasts = []
  channel.on('broadcast', { event: 'e' }, (message) => broadcasts.push(message))
  await listening(channel)
  await channel.send({ type: 'broadcast', event: 'e', payload: {} })
  await sql(`insert into public.client_notes (room) values ('${topic}')`)
  await until('both', () => changes.length === 1 && broadcasts.length === 1)
})
