// Changes through restarts: of the server, which is killed, and of PostgreSQL, which is shut down at once. What is
// committed after a confirmation arrives, or is announced as missed; nothing comes twice without a word.

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
/** A server that starts has a cluster to make, on a machine that may be busy. */
const START = 60_000

let server, data
after(async () => {
  await closeAll()
  server?.kill('SIGTERM')
  if (server) await new Promise((ended) => server.once('exit', ended))
  if (data) await rm(data, { recursive: true, force: true })
})

const freePort = () => new Promise((found) => {
  const probe = createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address()
    probe.close(() => found(port))
  })
})

/** Starts a server with a cluster of its own, always on the same port. */
async function start(port) {
  server = spawn(process.env.SERVER_BINARY, ['serve'], {
    cwd: data,
    env: { PATH: process.env.PATH, PORT: String(port), ROLLCALL_DATA_DIR: join(data, 'rollcall'), JWT_SECRET: process.env.JWT_SECRET, NODE_LEASE: '2s' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  server.stderr.on('data', (text) => { log += text })
  await until('the server is ready', () => log.includes('is ready at'), START)
  const env = await readFile(join(data, 'rollcall', 'env'), 'utf8')
  return Object.fromEntries(env.split('\n').filter((line) => line.includes('=')).map((line) => {
    const [name, ...value] = line.split('=')
    return [name.trim(), value.join('=').replace(/^['"]|['"]$/g, '')]
  }))
}

test('inserts, updates and deletes under row-level security, through a kill of the server and a crash of PostgreSQL', { timeout: 180_000 }, async () => {
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
  const said = []
  const channel = client({ url: `http://127.0.0.1:${port}`, key: env.ANON_KEY, user: me }).channel(uniqueTopic())
  channel.on('postgres_changes', { event: '*', schema: 'public', table: 'restarts', filter: 'kind=eq.a' },
    ({ eventType, new: row, old }) => said.push(`${eventType} ${row.id ?? old.id}`))
  channel.on('system', {}, ({ status, message }) => said.push(status === 'ok' && message === CONFIRMED ? 'confirmed' : `${status}: ${message}`))
  // A client asks for its user's token when it is made. What it joins in the same tick, it joins without that.
  await new Promise(setImmediate)
  channel.subscribe()
  const heard = (what) => until(() => `${what} after ${said.join('; ')}`, () => said.includes(what), START)
  const round = (n) => sql(`insert into restarts values (${n}, '${me.id}', 'a'), (${n + 100}, '${me.id}', 'b'), (${n + 200}, '${other.id}', 'a');
    update restarts set kind = kind; delete from restarts`)
  const told = (n) => [`INSERT ${n}`, `UPDATE ${n}`, `DELETE ${n}`]

  await heard('confirmed')
  await round(1)
  await heard('DELETE 1')
  assert.deepEqual(said.splice(0), ['confirmed', ...told(1)])

  const killed = new Promise((ended) => server.once('exit', ended))
  server.kill('SIGKILL')
  await killed
  await start(port)
  await heard('confirmed')
  await round(2)
  await heard('DELETE 2')
  assert.deepEqual(said.splice(0).slice(-4), ['confirmed', ...told(2)], 'the confirmation marks where it goes on')

  const { stdout } = await promisify(execFile)('sh', ['-c', `head -1 '${join(data, 'rollcall')}'/*/postmaster.pid`])
  process.kill(Number(stdout.trim()), 'SIGQUIT')
  await until('the gap is announced', () => said.some((word) => word.startsWith('error: ')), START)
  said.splice(0, said.findIndex((word) => word.startsWith('error: ')) + 1)
  await heard('confirmed')
  await until('PostgreSQL is back', () => round(3).then(() => true, () => false), START)
  await heard('DELETE 3')
  assert.deepEqual(said.filter((word) => / 3$/.test(word)), told(3), 'each once')
  await channel.unsubscribe()
})
