// Channels with a history: an unmodified client works as on others, and can ask for what it missed.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { client, closeAll, listen, newUser, subscribe, uniqueTopic, until, VERSIONS } from './helpers.mjs'

after(closeAll)

const cases = ['open:kept', 'open:stored'].flatMap((kind) =>
  VERSIONS.flatMap((vsn) => [false, true].map((isPrivate) => ({ kind, vsn, isPrivate }))))

for (const { kind, vsn, isPrivate } of cases) {
  test(`a channel with a history (${kind}, ${vsn}, ${isPrivate ? 'private' : 'public'})`, async () => {
    const topic = uniqueTopic(kind)
    const channel = (config) =>
      client({ vsn, user: newUser() }).channel(topic, { config: { private: isPrivate, ...config } })
    const quiet = channel({ broadcast: { ack: true } })
    const own = channel({ broadcast: { self: true }, presence: { key: 'own' } })
    const [receivedQuiet, receivedOwn] = [listen(quiet), listen(own, 'said')]
    let synced = 0
    own.on('presence', { event: 'sync' }, () => synced++)
    await Promise.all([subscribe(quiet), subscribe(own)])
    const payload = { n: 1, name: 'Ä✓😀', deep: { list: [1, 2.5, null] } }
    assert.equal(await quiet.send({ type: 'broadcast', event: 'said', payload }), 'ok')
    await until('the other client receives it', () => receivedOwn.length === 1)
    const { meta, ...message } = receivedOwn[0]
    assert.deepEqual(message, { type: 'broadcast', event: 'said', payload })
    assert.match(meta.id, /^[0-9a-f-]{36}$/)
    await own.send({ type: 'broadcast', event: 'said', payload: { n: 2 } })
    await until('it arrived', () => receivedQuiet.length === 1)
    assert.deepEqual(await own.httpSend('said', { n: 3 }), { success: true })
    await until('all arrived', () => receivedOwn.length === 3 && receivedQuiet.length === 2)
    assert.deepEqual(receivedQuiet.map(({ payload }) => payload.n), [2, 3], 'not its own')
    assert.equal(await own.track({ here: true }), 'ok')
    await until('presence works', () => synced > 0)
    // The client itself refuses `replay` on public channels.
    if (!isPrivate) return

    const late = channel({ broadcast: { replay: { after: meta.id } } })
    const replayed = listen(late)
    await subscribe(late)
    await until('what was missed arrived', () => replayed.some(({ payload }) => payload.n === 3))
    assert.deepEqual(replayed.map(({ payload }) => payload.n).filter((n) => n > 1), [2, 3])
    assert.ok(replayed.every(({ meta }) => meta.replayed))
  })
}
