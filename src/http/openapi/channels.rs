//! What channel sockets say: source S, in serializer 1.0.0; 2.0.0 has the same five parts in an array.

use serde_json::{Value, json};

use super::{
    schemas::{Field, Shape, field, nullable, optional, or_null},
    socket_channel::{Channel, Message},
};

const TOPIC: &str = "realtime:harbour";

fn client_message(kind: &'static str, description: &'static str, payload: Shape) -> Message {
    Message { kind, description, fields: envelope(kind, payload), example: None }
}

fn server_message(kind: &'static str, description: &'static str, payload: Shape, example: Value) -> Message {
    let topic = if kind == "heartbeat" { "phoenix" } else { TOPIC };
    let example = json!({ "topic": topic, "event": kind, "payload": example, "ref": "2", "join_ref": "1" });
    Message { kind, description, fields: envelope(kind, payload), example: Some(example) }
}

fn envelope(kind: &'static str, payload: Shape) -> Vec<Field> {
    let event = field("event", Shape::constant(kind), "Which message.");
    vec![
        field("topic", Shape::text(), "`realtime:` and the channel's name; `phoenix` for heartbeats."),
        event,
        field("payload", payload, "What it says."),
        or_null("ref", Shape::text(), "Names a push; its reply has the same."),
        nullable("join_ref", Shape::text(), "Names the join that the channel began with."),
    ]
}

pub(super) fn channel() -> Channel {
    let on = |name| nullable(name, Shape::any_object(), "See the clients' documentation.");
    let config = vec![
        optional(
            "config",
            Shape::Object(vec![
                on("broadcast"),
                on("presence"),
                nullable(
                    "postgres_changes",
                    Shape::list(Shape::any_object()),
                    "Event, schema, table, filter.",
                ),
                nullable("private", Shape::flag(), "Whether the policies on `realtime.messages` decide."),
            ]),
            "What the channel is for.",
        ),
        nullable("access_token", Shape::text(), "Whose channel it is."),
    ];
    let presence = Shape::Object(vec![
        optional("type", Shape::text(), "`presence`."),
        field("event", Shape::text(), "`track` or `untrack`."),
        optional("payload", Shape::any_object(), "What others see."),
    ]);
    let reply = Shape::Object(vec![
        field("status", Shape::string_enum(&["ok", "error"]), "How it went."),
        field("response", Shape::any_object(), "With `reason` where it failed."),
    ]);
    let system = Shape::Object(vec![
        field("status", Shape::string_enum(&["ok", "error"]), "After an error the channel is closed."),
        field("extension", Shape::text(), "`system` or `postgres_changes`."),
        field("message", Shape::text(), "For a person."),
        optional("channel", Shape::text(), "The channel's name, without `realtime:`."),
    ]);
    let nothing = Shape::any_object;
    Channel {
        name: "realtime",
        address: "/realtime/v1/websocket",
        title: "Channels",
        description: "Phoenix channels as Supabase Realtime speaks them. Shown in serializer 1.0.0; with `vsn=2.0.0` the \
                      same is `[join_ref, ref, topic, event, payload]`, and broadcasts may be binary.",
        discriminator: "event",
        client: vec![
            server_message(
                "phx_join",
                "Joins a channel.",
                Shape::Object(config),
                json!({ "config": { "broadcast": { "self": true }, "private": false } }),
            ),
            server_message("phx_leave", "Leaves it.", nothing(), json!({})),
            server_message(
                "heartbeat",
                "The client is alive; due every 60 s at the latest.",
                nothing(),
                json!({}),
            ),
            server_message(
                "access_token",
                "A fresh token.",
                Shape::Object(vec![or_null("access_token", Shape::text(), "The token.")]),
                json!({ "access_token": "eyJhbGciOiJIUzI1NiJ9.e30.x" }),
            ),
            server_message(
                "broadcast",
                "Says something to everybody in the channel.",
                nothing(),
                json!({ "type": "broadcast", "event": "tide", "payload": { "metres": 3.2 } }),
            ),
            server_message(
                "presence",
                "Enters or changes what others see of this client.",
                presence,
                json!({ "type": "presence", "event": "track", "payload": { "name": "Alice" } }),
            ),
        ],
        server: vec![
            client_message("phx_reply", "The answer to a push.", reply),
            client_message("system", "About the channel itself.", system),
            client_message("broadcast", "Somebody says something.", nothing()),
            client_message("presence_state", "Who is in the channel, by key.", nothing()),
            client_message(
                "presence_diff",
                "Who came and who left.",
                Shape::Object(vec![
                    field("joins", nothing(), "By key."),
                    field("leaves", nothing(), "By key."),
                ]),
            ),
            client_message("postgres_changes", "A row has changed.", nothing()),
            client_message("phx_error", "The channel has failed; join again.", nothing()),
            client_message("phx_close", "The channel is closed.", nothing()),
        ],
    }
}
