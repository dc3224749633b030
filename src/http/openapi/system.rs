//! The server itself, and the operator's way to sockets.

use serde_json::json;

use super::{
    Access, ExampleUser, Operation, post, read,
    schemas::{Shape, field},
    types::{category, user_id},
};
use crate::http::{broadcast::MAX_EVENT_CHARS, ids::MAX_IDS};

const METRICS: &str = "text/plain";

fn report() -> Shape {
    let check = json!({
        "type": "object",
        "required": ["ok", "latency_ms"],
        "properties": {
            "ok": { "type": "boolean", "description": "Whether the server can do its work with this." },
            "latency_ms": { "type": "integer", "minimum": 0, "description": "How long the answer took." },
            "message": { "type": "string", "description": "What is wrong." },
        },
        "additionalProperties": true,
    });
    let checks = json!({ "type": "object", "additionalProperties": check });
    let fields = vec![
        field(
            "status",
            Shape::string_enum(&["ok", "unavailable", "draining"]),
            "`unavailable` if one of the checks is not well, `draining` once the server is stopping.",
        ),
        field("version", Shape::text(), "The server's version."),
        field("checks", Shape::Plain(checks), "What was found, by what was asked."),
        field("timestamp", Shape::timestamp(), "When."),
    ];
    Shape::named("Health", "Whether the server is well.", Shape::Object(fields))
}

pub(super) fn operations() -> Vec<Operation> {
    let metrics = |path, id| {
        read(path, id, "What the server counts")
            .description("Prometheus text; 404 where nothing is counted.")
            .text_response(200, "Sockets, deliveries, latencies, requests.", METRICS)
            .errors(&[404])
    };
    let document = |path, id, summary| {
        read(path, id, summary).access(Access::Open).response(
            200,
            "The document.",
            Shape::any_object(),
            json!({}),
        )
    };
    let well = json!({
        "status": "ok", "version": env!("CARGO_PKG_VERSION"), "timestamp": "2026-11-21T12:00:00Z",
        "checks": { "database": { "ok": true, "latency_ms": 1 }, "listener": { "ok": true, "latency_ms": 0 } },
    });
    let health = |path, id| {
        read(path, id, "Is the server well?")
            .description("Open, as balancers have no token; asks its dependencies at most once a second.")
            .access(Access::Open)
            .response(200, "Well.", report(), well.clone())
            .response(
                503,
                "Not well, or stopping.",
                report(),
                json!({
                    "status": "unavailable", "version": env!("CARGO_PKG_VERSION"),
                    "timestamp": "2026-11-21T12:00:00Z",
                    "checks": { "database": { "ok": false, "message": "out of reach", "latency_ms": 2000 } },
                }),
            )
    };
    Operation::with_tag(
        "System",
        vec![
            post("/api/presence/broadcast", "pushToSockets", "Push an event to users' sockets")
                .description(
                    "At most once: recipients who have no socket open now miss it. Their sockets get it in their \
                     dialect.",
                )
                .access(Access::Operator)
                .example_user(ExampleUser::Service)
                .request_body(
                    Shape::Object(vec![
                        field("category", category(), "What it is about; any other word is a 422."),
                        field("event", Shape::text_of(1, MAX_EVENT_CHARS), "Its name."),
                        field("recipients", Shape::list_of(user_id(), 1, MAX_IDS), "To whom."),
                        field("payload", Shape::any_object(), "Passed on as it came."),
                    ]),
                    json!({
                        "category": "custom", "event": "tide", "payload": { "metres": 3.2 },
                        "recipients": ["a0000000-0000-4000-8000-000000000001"],
                    }),
                )
                .response(
                    200,
                    "Handed over.",
                    Shape::Object(vec![field("delivered_to", Shape::count(), "How many of them have a socket open.")]),
                    json!({ "delivered_to": 1 }),
                )
                .errors(&[422]),
            health("/api/v1/system/health", "health"),
            health("/realtime/v1/api/health", "channelsHealth"),
            read("/healthcheck", "alive", "Is the server there?")
                .access(Access::Open)
                .text_response(200, "`ok`.", METRICS),
            metrics("/metrics", "metrics").access(Access::Open),
            metrics("/api/v1/system/metrics", "metricsWithToken"),
            document("/openapi.json", "openapi", "This description"),
            document("/asyncapi.json", "asyncapi", "The sockets' description"),
        ],
    )
}
