// Channel presence as applications use it: presenceState() and the sync, join and leave events.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import {
  quietPeriod, client, closeAll, newUser, presenceOf, sql, subscribe, uniqueTopic, until, VERSIONS,
} from './helpers.mjs'

after(closeAll)

/** Creates a channel that records its presence events. */
function presenceChannel(supabase, topic, key, config = {}) {
  const channel = supabase.channel(topic, { config: { presence: { key }, ...config } })
  channel.seen = { sync: 0, join: [], leave: [] }
  channel
    .on('presence', { event: 'sync' }, () => { channel.seen.sync += 1 })
    .on('presence', { event: 'join' }, ({ key, newPresences }) => channel.seen.join.push([key, newPresences.length]))
    .on('presence', { event: 'leave' }, ({ key, leftPresences }) => channel.seen.leave.push([key, leftPresences.length]))
  return channel
}

const waitForPresence = (channel, expected) =>
  until(() => `${JSON.stringify(expected)}, not ${JSON.stringify(presenceOf(channel))}`, () => {
    try {
      assert.deepEqual(presenceOf(channel), expected)
      return true
    } catch {
      return false
    }
  })

for (const vsn of VERSIONS) {
  test(`tracking, updating and untracking reach every member (${vsn})`, async () => {
    const topic = uniqueTopic()
    const [ann, bob] = [client({ vsn }), client({ vsn })].map((supabase, n) => presenceChannel(supabase, topic, ['ann', 'bob'][n]))
    await Promise.all([subscribe(ann), subscribe(bob)])
    await until('an empty state triggers sync too', () => ann.seen.sync > 0 && bob.seen.sync > 0)

    assert.equal(await ann.track({ status: 'online', since: 1 }), 'ok')
    for (const channel of [ann, bob]) await waitForPresence(channel, { ann: [{ status: 'online', since: 1 }] })
    assert.equal(await bob.track({ status: 'busy' }), 'ok')
    for (const channel of [ann, bob]) {
      await waitForPresence(channel, { ann: [{ status: 'online', since: 1 }], bob: [{ status: 'busy' }] })
      assert.deepEqual(channel.seen.join, [['ann', 1], ['bob', 1]])
      assert.deepEqual(channel.seen.leave, [])
    }

    assert.equal(await ann.track({ status: 'away' }), 'ok')
    for (const channel of [ann, bob]) {
      await waitForPresence(channel, { ann: [{ status: 'away' }], bob: [{ status: 'busy' }] })
      // Applications see an update as a join and a leave.
      assert.deepEqual([channel.seen.join.length, channel.seen.leave.length], [3, 1])
    }

    assert.equal(await ann.untrack(), 'ok')
    for (const channel of [ann, bob]) await waitForPresence(channel, { bob: [{ status: 'busy' }] })

    const late = presenceChannel(client({ vsn }), topic, 'late')
    await subscribe(late)
    await waitForPresence(late, { bob: [{ status: 'busy' }] })
    await late.unsubscribe()
    await bob.unsubscribe()
    await waitForPresence(ann, {})
  })
}

test('a closed socket leaves', async () => {
  const topic = uniqueTopic()
  const gone = client()
  const [stays, goes] = [presenceChannel(client(), topic, 'stays'), presenceChannel(gone, topic, 'goes')]
  await Promise.all([subscribe(stays), subscribe(goes)])
  await goes.track({ here: true })
  await waitForPresence(stays, { goes: [{ here: true }] })
  gone.realtime.disconnect()
  await waitForPresence(stays, {})
  assert.deepEqual(stays.seen.leave, [['goes', 1]])
})

test('several tabs of one user share a key', async () => {
  const topic = uniqueTopic()
  const watcher = presenceChannel(client(), topic, 'watcher')
  const tabs = [client(), client(), client()].map((supabase) => presenceChannel(supabase, topic, 'user'))
  await Promise.all([watcher, ...tabs].map((channel) => subscribe(channel)))
  for (const [n, tab] of tabs.entries()) await tab.track({ tab: n })
  await waitForPresence(watcher, { user: [{ tab: 0 }, { tab: 1 }, { tab: 2 }] })
  await tabs[0].unsubscribe()
  await waitForPresence(watcher, { user: [{ tab: 1 }, { tab: 2 }] })
  for (const tab of tabs) await waitForPresence(tab === tabs[0] ? watcher : tab, { user: [{ tab: 1 }, { tab: 2 }] })
  await tabs[1].untrack()
  await tabs[2].untrack()
  await waitForPresence(watcher, {})
})

test('a channel without a key gets a generated key', async () => {
  const topic = uniqueTopic()
  const channels = [client(), client()].map((supabase) => presenceChannel(supabase, topic, ''))
  await Promise.all(channels.map((channel) => subscribe(channel)))
  for (const [n, channel] of channels.entries()) await channel.track({ n })
  await until('two keys', () => channels.every((channel) => Object.keys(channel.presenceState()).length === 2))
})

test('presence in a private channel follows its policies', async () => {
  const topic = uniqueTopic('open')
  const [ann, bob] = ['ann', 'bob'].map((key) => presenceChannel(client({ user: newUser() }), topic, key, { private: true }))
  await Promise.all([subscribe(ann), subscribe(bob)])
  assert.equal(await ann.track({ secret: 1 }), 'ok')
  await waitForPresence(bob, { ann: [{ secret: 1 }] })

  const readonly = presenceChannel(client({ user: newUser() }), uniqueTopic('readonly'), 'me', { private: true })
  await subscribe(readonly)
  assert.equal(await readonly.track({}), 'error')
  assert.deepEqual(presenceOf(readonly), {})
})

test('channel presence is visible in SQL', async () => {
  const topic = uniqueTopic()
  const channel = presenceChannel(client(), topic, 'visible')
  await subscribe(channel)
  await channel.track({ mood: 'fine' })
  const row = () => sql(`select key || ' ' || (meta ->> 'mood') from realtime.presence where topic = '${topic}'`)
  await until('a row', async () => await row() === 'visible fine')
  await channel.unsubscribe()
  await until('no row', async () => await row() === '')
})

test('the sixth push within 30 seconds exceeds the limit', async () => {
  const channel = presenceChannel(client(), uniqueTopic(), 'me')
  const system = []
  channel.on('system', {}, (message) => system.push(message))
  await subscribe(channel)
  for (let n = 0; n < 5; n += 1) assert.equal(await channel.track({ n }), 'ok')
  channel.track({ n: 5 })
  await until('the error arrives', () => system.length === 1)
  assert.equal(system[0].message, 'Client presence rate limit exceeded')
  await until('the channel is closed', () => channel.statuses.some(({ status }) => status === 'CLOSED'))
  await quietPeriod()
})
