//! The context engine: signals, warm-ups, roll-ups, and chat.

use serde_json::{Value, json};

use super::{
    Operation, context_shapes, post, read,
    schemas::{Shape, field, nullable, optional},
    types::{conversation_id, user_id},
};
use crate::limits::LimitClass;

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const HARBOUR: &str = "c0000000-0000-4000-8000-000000000001";

fn number() -> Shape {
    Shape::Plain(json!({ "type": "number" }))
}

fn done(data: Shape) -> Shape {
    Shape::Object(vec![
        field("success", Shape::flag(), "True."),
        field("message", Shape::text(), "What was done."),
        field("data", data, "What came of it."),
    ])
}

fn counts(names: &[&'static str], description: &'static str) -> Shape {
    Shape::Object(names.iter().map(|name| field(name, Shape::count(), description)).collect())
}

fn signals() -> Shape {
    Shape::Object(vec![
        field("deviceId", Shape::text_of(1, 255), "Which device."),
        field("localTime", Shape::text(), "The time of day there: 14:30, or with a date and offset."),
        nullable("activeConversationId", conversation_id(), "The conversation that is open."),
        optional("visibleConversationIds", Shape::list_of(conversation_id(), 0, 100), "Those in view."),
        nullable("activeNotebookId", Shape::uuid(), "The notebook that is open."),
        nullable("activePersonaId", Shape::uuid(), "The persona that is chosen."),
        nullable("lastNavigationPath", Shape::text(), "Where in the application; the last ten are kept."),
    ])
}

fn chat() -> Shape {
    let message = Shape::any_object();
    Shape::Object(vec![
        field("messages", Shape::list_of(message, 1, 500), "The last of the user's is what was typed."),
        field("conversationId", conversation_id(), "Where."),
        nullable("userId", user_id(), "For whom; oneself without."),
        nullable("provider", Shape::text(), "One of those that are configured."),
        nullable("model", Shape::text(), "One of the provider's."),
        nullable("maxTokens", Shape::count(), "The most tokens of the answer."),
        nullable("temperature", number(), "From 0 to 2."),
        nullable("stream", Shape::flag(), "Answer with server-sent events."),
        nullable("includeHistory", Shape::flag(), "Read the conversation's messages; true without."),
        nullable("useDynamicContext", Shape::flag(), "Bundles and retrieval, or the simple engine."),
        nullable("maxContextTokens", Shape::count(), "The prompt's tokens; 12,000 without."),
        nullable(
            "idempotencyKey",
            Shape::text_of(1, 255),
            "Repeats with it are answered once; also a header.",
        ),
    ])
}

fn statistics(names: &[&'static str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), json!(0))).collect::<serde_json::Map<_, _>>().into()
}

pub(super) fn operations() -> Vec<Operation> {
    const WARMED: [&str; 5] = [
        "freshTopicBundles",
        "freshEntityBundles",
        "freshConversationBundles",
        "dirtyBundles",
        "totalFreshBundles",
    ];
    const ROLLED: [&str; 5] =
        ["topicsCreated", "topicsUpdated", "entitiesCreated", "entitiesUpdated", "acusProcessed"];
    let about = |operation: Operation| {
        operation
            .path_parameter(
                "user_id",
                user_id(),
                "Whose context; another's for the service and context:admin.",
                ALICE,
            )
            .rate_limit(LimitClass::Context)
    };
    let health = json!({
        "status": "healthy", "newEngineAvailable": true, "oldEngineAvailable": true, "topicProfiles": 0,
        "entityProfiles": 0, "contextBundles": 0, "dirtyBundles": 0, "invalidationQueue": 0, "deadLetters": 0,
        "timestamp": "2026-11-21T12:00:00.000Z",
    });
    Operation::with_tag(
        "Context",
        vec![
            about(
                post("/api/v1/context/presence/{user_id}", "noteContext", "Say what the user does on a device")
                    .description("Sets off a warm-up, which keeps nobody waiting; sockets hear bundle_ready."),
            )
            .request_body(signals(), json!({ "deviceId": "web", "localTime": "14:30", "activeConversationId": HARBOUR }))
            .response(
                200,
                "Noted.",
                done(Shape::Object(vec![field("sessionId", Shape::uuid(), "Of user and device.")])),
                json!({ "success": true, "message": "Presence updated", "data": { "sessionId": HARBOUR } }),
            ),
            about(
                post("/api/v1/context/warmup/{user_id}", "warmUp", "Compile what will be wanted")
                    .description("Answers when it is done."),
            )
            .request_body(
                Shape::Object(vec![
                    nullable("deviceId", Shape::text(), "The device whose signals count; the newest without."),
                    optional("force", Shape::flag(), "Also what is fresh."),
                ]),
                json!({ "deviceId": "web" }),
            )
            .response(
                200,
                "How the bundles stand.",
                done(counts(&WARMED, "How many.")),
                json!({ "success": true, "message": "Warm-up done", "data": statistics(&WARMED) }),
            )
            .errors(&[404]),
            about(
                post("/api/v1/context/rollup/{user_id}", "rollUp", "Make profiles of new units")
                    .description("Oldest units first. At most one a user at a time; `force` takes the place of one that runs."),
            )
            .request_body(
                Shape::Object(vec![
                    nullable("limit", Shape::count(), "Units, from 1 to 500; 50 without."),
                    optional("force", Shape::flag(), "Whether to take over."),
                ]),
                json!({ "limit": 50 }),
            )
            .response(
                200,
                "What changed.",
                done(counts(&ROLLED, "How many.")),
                json!({ "success": true, "message": "Roll-up done", "data": statistics(&ROLLED) }),
            )
            .errors(&[409]),
            about(
                post("/api/v1/context/invalidate/{user_id}", "invalidate", "Say by hand that a source has changed")
                    .description("Triggers notice by themselves. An unknown event is a 400 with `validTypes`."),
            )
            .request_body(
                Shape::Object(vec![
                    field("eventType", Shape::text(), "As memory_updated or topic_deleted."),
                    optional("relatedIds", Shape::any_object(), "topicId, entityId, conversationId, memoryId, instructionId."),
                ]),
                json!({ "eventType": "conversation_updated", "relatedIds": { "conversationId": HARBOUR } }),
            )
            .response(
                200,
                "Queued.",
                Shape::Object(vec![
                    field("success", Shape::flag(), "True."),
                    field("message", Shape::text(), "Invalidation queued."),
                ]),
                json!({ "success": true, "message": "Invalidation queued" }),
            )
            .response(
                400,
                "The request is malformed, or there is no such event: then with those that there are.",
                context_shapes::unknown_event_type(),
                json!({
                    "success": false, "error": "INVALID_REQUEST", "message": "eventType: is no event that there is",
                    "statusCode": 400, "validTypes": ["memory_created"],
                    "details": [{ "field": "eventType", "message": "is no event that there is" }],
                }),
            ),
            read("/api/v1/context/health", "contextHealth", "How the context engine is")
                .description("The counts are the caller's own; the service's are everybody's.")
                .rate_limit(LimitClass::Context)
                .response(200, "Both engines can answer.", context_shapes::health(), health.clone())
                .response(206, "One can.", context_shapes::health(), health),
            read("/api/v1/ai/context/{conversation_id}", "showContext", "The assembled prompt, layer by layer")
                .description("Without calling a model: for seeing and debugging.")
                .path_parameter("conversation_id", conversation_id(), "Which conversation.", HARBOUR)
                .query("userId", user_id(), "For whom; oneself without.", Some(ALICE.into()))
                .query("message", Shape::text(), "What would be typed.", None)
                .query("maxContextTokens", Shape::count(), "The prompt's tokens.", None)
                .query("includeHistory", Shape::flag(), "Read the conversation's messages.", None)
                .rate_limit(LimitClass::Context)
                .response(200, "The prompt.", context_shapes::prompt(), context_shapes::prompt_example())
                .errors(&[404]),
            post("/api/v1/ai/chat", "chat", "Ask a model, with what is known of the user")
                .description(
                    "Question and answer are saved once. With `stream` the answer is server-sent events: context, delta, \
                     done or error, then [DONE].",
                )
                .header("x-use-dynamic-context", Shape::flag(), "As useDynamicContext, which is stronger.")
                .header("Idempotency-Key", Shape::text_of(1, 255), "As idempotencyKey, which is stronger.")
                .request_body(
                    chat(),
                    json!({ "conversationId": HARBOUR, "messages": [{ "role": "user", "content": "Hello" }] }),
                )
                .response(200, "The answer.", context_shapes::chat(), context_shapes::chat_example())
                .event_stream_response(200, "The answer, as it comes.", context_shapes::chat_event())
                .errors(&[409, 422, 500])
                .rate_limit(LimitClass::Chat)
                // The demo has no model.
                .without_example(),
        ],
    )
}
