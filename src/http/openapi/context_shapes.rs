//! What the context engine answers: its health, a prompt layer by layer, and a chat.

use serde_json::{Value, json};

use super::{
    schemas::{Field, Shape, field, optional, or_null},
    types::{conversation_id, field_error},
};

fn number() -> Shape {
    Shape::Plain(json!({ "type": "number" }))
}

fn counts(named: &[(&'static str, &'static str)]) -> Vec<Field> {
    named.iter().map(|(name, about)| field(name, Shape::count(), about)).collect()
}

/// How the engine is, with counts that are the caller's own or everybody's.
pub(super) fn health() -> Shape {
    let words = Shape::string_enum(&["healthy", "degraded", "down"]);
    let mut fields = vec![
        field("status", words, "Whether both engines answer, one, or none."),
        field("newEngineAvailable", Shape::flag(), "Whether the dynamic engine answers."),
        field("oldEngineAvailable", Shape::flag(), "Whether the simple engine answers."),
        field("timestamp", Shape::timestamp(), "The server's clock."),
    ];
    for (name, about) in [
        ("topicProfiles", "Topics."),
        ("entityProfiles", "Entities."),
        ("contextBundles", "Bundles."),
        ("dirtyBundles", "Those of which a source has changed."),
        ("invalidationQueue", "What waits to be compiled again."),
        ("deadLetters", "What was given up."),
    ] {
        fields.push(or_null(name, Shape::count(), about));
    }
    Shape::named("ContextHealth", "How the context engine is.", Shape::Object(fields))
}

/// A malformed request, with the events that there are where it named another.
pub(super) fn unknown_event_type() -> Shape {
    Shape::Object(vec![
        field("success", Shape::constant(false), "Always `false`."),
        field("error", Shape::constant("INVALID_REQUEST"), "For programs."),
        field("message", Shape::text(), "For a person."),
        field("statusCode", Shape::constant(400), "The status again."),
        optional("details", Shape::list(field_error()), "Which fields are wrong."),
        optional("validTypes", Shape::list(Shape::text()), "The events that there are."),
    ])
}

fn section() -> Shape {
    let ready = Shape::string_enum(&["fresh", "missing", "dirty", "expired", "forced"]);
    Shape::Object(vec![
        field("layer", Shape::text(), "Its layer's name."),
        field("title", Shape::text(), "What it is about."),
        field("content", Shape::text(), "Its text; empty where it was left out."),
        field("tokens", Shape::count(), "The text's tokens."),
        field("reason", Shape::text(), "Why it is here, or is not."),
        optional("readiness", ready, "Of a bundle, whether it was ready."),
        optional("bundle", Shape::text(), "Name of the bundle."),
        optional("bundleId", Shape::uuid(), "Of a bundle, its row."),
        field("cut", Shape::flag(), "Whether it is only the beginning."),
    ])
}

fn layer() -> Shape {
    let mut fields = vec![
        field("layer", Shape::text(), "`L0` to `L7`."),
        field("name", Shape::text(), "In words."),
        field("priority", number(), "Who gets first what is left."),
        field("elasticity", number(), "How willingly it shrinks, from 0 to 1."),
        field("sections", Shape::list(section()), "What it consists of."),
    ];
    fields.extend(counts(&[
        ("minimum", "The fewest tokens that make sense."),
        ("ideal", "As many as it would like."),
        ("maximum", "The most."),
        ("given", "What it was given of the budget."),
        ("used", "What it took."),
    ]));
    Shape::named("ContextLayer", "A layer of a prompt with its part of the budget.", Shape::Object(fields))
}

fn chat_message() -> Shape {
    Shape::any_object()
}

fn detected() -> Shape {
    Shape::Object(vec![
        field("kind", Shape::string_enum(&["topic", "entity"]), "Which of the two."),
        field("id", Shape::uuid(), "Its row."),
        field("name", Shape::text(), "Its name."),
        field("score", number(), "How sure, from 0 to 1."),
        field("reason", Shape::text(), "`conversation`, `named`, `misspelt` or `meaning`."),
    ])
}

fn metadata_fields() -> Vec<Field> {
    vec![
        field("assemblyTimeMs", number(), "Milliseconds."),
        field("cacheHitRate", number(), "Bundles that were ready and fresh over bundles wanted."),
        field("bundlesUsed", Shape::list(Shape::text()), "Bundles in the prompt."),
    ]
}

fn metadata(further: Vec<Field>) -> Shape {
    let mut fields = metadata_fields();
    fields.extend(further);
    Shape::Object(fields)
}

fn answer(data: Shape, metadata: Shape) -> Shape {
    Shape::Object(vec![
        field("success", Shape::constant(true), "Always `true`."),
        field("data", data, "The answer."),
        field("metadata", metadata, "How it came about."),
        field("timestamp", Shape::timestamp(), "The server's clock."),
    ])
}

/// An assembled prompt, layer by layer.
pub(super) fn prompt() -> Shape {
    let budget = counts(&[
        ("tokens", "What the prompt may have."),
        ("given", "What the layers were given."),
        ("used", "What they took."),
    ]);
    let data = Shape::Object(vec![
        field("conversationId", conversation_id(), "Which conversation."),
        field("systemPrompt", Shape::text(), "Everything that is known, as Markdown."),
        field("messages", Shape::list(chat_message()), "The last messages, oldest first."),
        field("detected", Shape::list(detected()), "What the message is about."),
        field("depth", Shape::text(), "How deep the question goes."),
        field("layers", Shape::list(layer()), "By priority."),
        field("budget", Shape::Object(budget), "The tokens."),
    ]);
    answer(
        data,
        metadata(counts(&[("bundlesWanted", "Bundles wanted."), ("bundlesReady", "Those ready and fresh.")])),
    )
}

/// What a prompt looks like.
pub(super) fn prompt_example() -> Value {
    json!({
        "success": true, "timestamp": "2026-11-21T12:00:00Z",
        "data": {
            "conversationId": "c0000000-0000-4000-8000-000000000001", "systemPrompt": "# You", "messages": [],
            "detected": [], "depth": "minimal",
            "layers": [{
                "layer": "L1", "name": "preferences", "priority": 90, "elasticity": 0.1, "minimum": 0, "ideal": 400,
                "maximum": 800, "given": 400, "used": 4,
                "sections": [{
                    "layer": "preferences", "title": "How to answer", "content": "Answer briefly.", "tokens": 4,
                    "reason": "the user's own words", "readiness": "fresh", "cut": false,
                }],
            }],
            "budget": { "tokens": 12_000, "given": 400, "used": 4 },
        },
        "metadata": {
            "assemblyTimeMs": 1.5, "cacheHitRate": 1.0, "bundlesUsed": ["global_prefs"], "bundlesWanted": 1, "bundlesReady": 1,
        },
    })
}

/// What a model said.
pub(super) fn chat() -> Shape {
    answer(Shape::Object(reply_fields()), metadata(Vec::new()))
}

/// One event of an answer that comes in pieces; the last is `[DONE]`.
pub(super) fn chat_event() -> Shape {
    let kind = |word: &'static str, description| field("type", Shape::constant(word), description);
    let context = vec![
        kind("context", "The first: how the prompt came about."),
        field("engine", Shape::text(), "Who assembled."),
        or_null("contextStats", statistics(), "What the prompt consists of."),
        field("metadata", metadata(Vec::new()), "How it came about."),
        field("messageId", Shape::uuid(), "The answer's row."),
    ];
    let delta = vec![
        kind("delta", "More of the answer."),
        optional("content", Shape::text(), "The text."),
        optional("toolCalls", Shape::list(Shape::any_object()), "Parts of tool calls."),
    ];
    let mut done = vec![kind("done", "The whole, once it is saved.")];
    done.extend(reply_fields());
    let error = vec![
        kind("error", "It broke off; what was said is saved as partial."),
        field("error", Shape::text(), "As in the error envelope."),
        field("message", Shape::text(), "For a person."),
    ];
    let events = [context, delta, done, error].map(Shape::Object).to_vec();
    let json = Shape::JsonText(Box::new(Shape::AnyOf(events)));
    let data = Shape::AnyOf(vec![Shape::constant("[DONE]"), json]);
    let fields =
        vec![field("data", data, "JSON of a `context`, `delta`, `done` or `error`; at last `[DONE]`.")];
    Shape::named("ChatEvent", "A server-sent event of an answer.", Shape::Object(fields))
}

fn reply_fields() -> Vec<Field> {
    let usage = counts(&[
        ("totalTokens", "Of both."),
        ("promptTokens", "Of the prompt."),
        ("completionTokens", "Of the answer."),
    ]);
    vec![
        field("content", Shape::text(), "What the model says."),
        optional(
            "toolCalls",
            Shape::list(Shape::any_object()),
            "Calls of tools, in the format of OpenAI\'s API.",
        ),
        optional("finishReason", Shape::text(), "Why the answer ends, as the provider reports it."),
        field("model", Shape::text(), "Which model."),
        field("usage", Shape::Object(usage), "What it cost."),
        field("engine", Shape::text(), "Who assembled."),
        field("contextStats", statistics(), "What the prompt consisted of."),
        field("messageId", Shape::uuid(), "The answer's row."),
        optional("replayed", Shape::flag(), "It was answered before, and this is that answer."),
        optional("partial", Shape::flag(), "It broke off."),
    ]
}

fn statistics() -> Shape {
    let mut statistics = metadata_fields();
    statistics.extend(counts(&[
        ("tokens", "The prompt's tokens."),
        ("maxTokens", "What they may be."),
        ("historyMessages", "Messages of the conversation."),
        ("bundlesWanted", "Bundles wanted."),
        ("bundlesReady", "Those ready and fresh."),
        ("bundlesCompiled", "Those that were compiled for this."),
    ]));
    let by_layer = Shape::Plain(json!({ "type": "object", "additionalProperties": { "type": "integer" } }));
    statistics.extend([
        field("topics", Shape::list(Shape::text()), "The topics that the message is about."),
        field("entities", Shape::list(Shape::text()), "The entities."),
        field("layers", by_layer, "Tokens by layer."),
        optional("fellBack", Shape::flag(), "The simple engine had to step in."),
    ]);
    Shape::Object(statistics)
}

/// What an answer looks like.
pub(super) fn chat_example() -> Value {
    json!({
        "success": true, "timestamp": "2026-11-21T12:00:00Z",
        "data": {
            "content": "Hello, Alice.", "model": "echo", "engine": "dynamic",
            "usage": { "totalTokens": 12, "promptTokens": 8, "completionTokens": 4 },
            "contextStats": {
                "assemblyTimeMs": 1.5, "cacheHitRate": 1.0, "bundlesUsed": [],
                "tokens": 8, "maxTokens": 12_000, "historyMessages": 0, "bundlesWanted": 0, "bundlesReady": 0,
                "bundlesCompiled": 0, "topics": [], "entities": [], "layers": { "L0": 8 },
            },
            "messageId": "d0000000-0000-4000-8000-000000000001",
        },
        "metadata": { "assemblyTimeMs": 1.5, "cacheHitRate": 1.0, "bundlesUsed": [] },
    })
}
