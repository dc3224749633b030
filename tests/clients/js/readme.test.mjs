// Checks that the README's snippet for Supabase clients works when pasted.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { sql, until } from './helpers.mjs'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))

test('the first snippet of "Supabase clients" works when pasted', async () => {
  const readme = await readFile(here('../../../README.md'), 'utf8')
  const section = readme.split('## Supabase clients\n')[1]
  const [, snippet] = section.match(/```js\n(.*?)```/s)
  const file = here('.pasted.mjs')
  await writeFile(file, snippet)
  const pasted = spawn(process.execPath, [file], { stdio: 'pipe' })
  try {
    let output = ''
    for (const stream of [pasted.stdout, pasted.stderr]) stream.on('data', (data) => { output += data })
    await until('alice is present and receives her own message', () =>
      output.includes("here: [ 'alice' ]") && output.includes("heard: { from: 'alice' }")).catch((error) => {
      throw new Error(`${error.message}; output: ${output}`)
    })
    await sql(`select realtime.send('{"from": "sql"}', 'hello', 'room:1', false)`)
    await until('she receives the message from the database', () => /heard: \{ id: '[0-9a-f-]+', from: 'sql' \}|heard: \{ from: 'sql', id: '[0-9a-f-]+' \}/.test(output))
    assert.ok(!output.includes('CHANNEL_ERROR'), output)
  } finally {
    pasted.kill()
    await rm(file)
  }
})
