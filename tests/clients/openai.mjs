// The official OpenAI SDK, unmodified, against a server whose provider is a stub. Run by tests/integration/context_openai.rs.
import assert from "node:assert/strict";

const { default: OpenAI } = await import(process.env.OPENAI_MODULE);
const client = new OpenAI({ maxRetries: 0 });
const metadata = { conversation_id: process.env.CONVERSATION_ID };
const model = "default-model";
const ask = (content, more = {}) => ({ model, metadata, messages: [{ role: "user", content }], ...more });

const models = await client.models.list();
assert.deepEqual(models.data.map((one) => one.id), [model]);

const completion = await client.chat.completions.create(ask("Hello"));
assert.equal(completion.object, "chat.completion");
assert.match(completion.id, /^chatcmpl-/);
assert.equal(completion.choices[0].message.content, "Hello.");
assert.equal(completion.choices[0].finish_reason, "stop");
assert.equal(completion.usage.total_tokens, 18);

async function collect(stream) {
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    return chunks;
}

const withUsage = await collect(
    await client.chat.completions.create(ask("Stream", { stream: true, stream_options: { include_usage: true } })),
);
const text = withUsage.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");
assert.equal(text, "word0 word1 word2 word3 ");
assert.equal(withUsage[0].choices[0].delta.role, "assistant");
assert.equal(withUsage.at(-1).usage.total_tokens, 18);
assert.deepEqual(withUsage.at(-1).choices, []);
assert.equal(withUsage.filter((chunk) => chunk.usage).length, 1);
assert.ok(withUsage.every((chunk) => chunk.id === withUsage[0].id && chunk.object === "chat.completion.chunk"));
assert.equal(withUsage.filter((chunk) => chunk.choices[0]?.finish_reason === "stop").length, 1);

const withoutUsage = await collect(await client.chat.completions.create(ask("Again", { stream: true })));
assert.ok(withoutUsage.every((chunk) => chunk.usage === undefined && chunk.choices.length === 1));

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
const call = await client.chat.completions.create(ask("Weather?", { tools, tool_choice: "auto" }));
assert.equal(call.choices[0].finish_reason, "tool_calls");
assert.equal(call.choices[0].message.tool_calls[0].function.arguments, '{"city":"Quito"}');

// The SDK's own accumulation of streamed tool calls.
const streamed = await client.chat.completions.stream(ask("Weather, streamed?", { tools })).finalChatCompletion();
assert.equal(streamed.choices[0].message.tool_calls[0].function.arguments, '{"city":"Quito"}');

const messages = [
    { role: "user", content: "Weather in Quito?" },
    call.choices[0].message,
    { role: "tool", tool_call_id: "call_1", content: "Rain." },
];
const last = await client.chat.completions.create({ model, metadata, messages, tools });
assert.equal(last.choices[0].message.content, "It rains.");

await assert.rejects(client.chat.completions.create(ask("Hot", { temperature: 1.9 })), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.match(error.message, /temperature is too high/);
    return true;
});
await assert.rejects(client.chat.completions.create(ask("Hi", { no_such_field: 1 })), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "no_such_field");
    return true;
});
const stranger = new OpenAI({ maxRetries: 0, apiKey: "x.y.z" });
await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
