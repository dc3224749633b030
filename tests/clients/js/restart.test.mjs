// postgres_changes across a kill of the server and an immediate shutdown of PostgreSQL. Changes committed after a
// confirmation arrive or are reported as a gap, and nothing arrives twice without a report.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, chmod } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { client, closeAll, newUser, uniqueTopic, until } from './helpers.mjs'

const CONFIRMED = 'Subscribed to PostgreSQL'
/** Time limit for a server start, which includes creating a cluster, in milliseconds. */
const START_TIMEOUT = 60_000

let server, data
after(async () => {
  await closeAll()
  server?.kill('SIGTERM')
  if (server) await new Promise((resolve) => server.once('exit', resolve))
  if (data) await rm(data, { recursive: true, force: true })
})

const freePort = () => new Promise((found) => {
  const probe = createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address()
    probe.close(() => found(port))
  })
})

/** Starts a server with its own cluster on the given port. */
async function start(port) {
  server = spawn(process.env.SERVER_BINARY, ['serve'], {
    cwd: data,
    env: { PATH: process.env.PATH, PORT: String(port), EMBEDDED_DATABASE: 'true', ROLLCALL_DATA_DIR: join(data, 'rollcall'), JWT_SECRET: process.env.JWT_SECRET, NODE_LEASE: '2s' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  server.stderr.on('data', (text) => { log += text })
  await until('the server is ready', () => log.includes('is ready at'), START_TIMEOUT)
  const env = await readFile(join(data, 'rollcall', 'env'), 'utf8')
  return Object.fromEntries(env.split('\n').filter((line) => line.includes('=')).map((line) => {
    const [name, ...value] = line.split('=')
    return [name.trim(), value.join('=').replace(/^['"]|['"]$/g, '')]
  }))
}

test('changes under row-level security survive a kill of the server and a crash of PostgreSQL', { timeout: 180_000 }, async () => {
  data = await mkdtemp(join(tmpdir(), 'rollcall-restart-'))
  await chmod(data, 0o755)
  const port = await freePort()
  const env = await start(port)
  const sql = async (text) => promisify(execFile)('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', env.DATABASE_URL, '-c', text])
  await sql(`create table public.restarts (id int primary key, user_id uuid not null, kind text);
    alter table public.restarts replica identity full; alter table public.restarts enable row level security;
    grant select on public.restarts to authenticated;
    create policy own on public.restarts for select to authenticated using (user_id = (select auth.uid()));
    insert into rollcall.change_settings values ('public.restarts', true);
    alter publication supabase_realtime add table public.restarts`)

  const [me, other] = [newUser(), newUser()]
  const events = []
  const channel = client({ url: `http://127.0.0.1:${port}`, key: env.ANON_KEY, user: me }).channel(uniqueTopic())
  channel.on('postgres_changes', { event: '*', schema: 'public', table: 'restarts', filter: 'kind=eq.a' },
    ({ eventType, new: row, old }) => events.push(`${eventType} ${row.id ?? old.id}`))
  channel.on('system', {}, ({ status, message }) => events.push(status === 'ok' && message === CONFIRMED ? 'confirmed' : `${status}: ${message}`))
  // A client requests its user's token when it is created. Joins in the same tick do not have the token yet.
  await new Promise(setImmediate)
  channel.subscribe()
  const waitForEvent = (what) => until(() => `${what} after ${events.join('; ')}`, () => events.includes(what), START_TIMEOUT)
  const round = (n) => sql(`insert into restarts values (${n}, '${me.id}', 'a'), (${n + 100}, '${me.id}', 'b'), (${n + 200}, '${other.id}', 'a');
    update restarts set kind = kind; delete from restarts`)
  const expected = (n) => [`INSERT ${n}`, `UPDATE ${n}`, `DELETE ${n}`]

  await waitForEvent('confirmed')
  await round(1)
  await waitForEvent('DELETE 1')
  assert.deepEqual(events.splice(0), ['confirmed', ...expected(1)])

  const killed = new Promise((resolve) => server.once('exit', resolve))
  server.kill('SIGKILL')
  await killed
  await start(port)
  await waitForEvent('confirmed')
  await round(2)
  await waitForEvent('DELETE 2')
  assert.deepEqual(events.splice(0).slice(-4), ['confirmed', ...expected(2)], 'the confirmation precedes the following changes')

  const { stdout } = await promisify(execFile)('sh', ['-c', `head -1 '${join(data, 'rollcall')}'/*/postmaster.pid`])
  process.kill(Number(stdout.trim()), 'SIGQUIT')
  await until('the gap is reported', () => events.some((event) => event.startsWith('error: ')), START_TIMEOUT)
  events.splice(0, events.findIndex((event) => event.startsWith('error: ')) + 1)
  await waitForEvent('confirmed')
  await until('PostgreSQL is back', () => round(3).then(() => true, () => false), START_TIMEOUT)
  await waitForEvent('DELETE 3')
  assert.deepEqual(events.filter((event) => / 3$/.test(event)), expected(3), 'each once')
  await channel.unsubscribe()
})
