//! Description of channel sockets, in serializer 1.0.0; 2.0.0 has the same five parts in an array.

use serde_json::{Value, json};

use super::{
    schemas::{Field, Shape, field, nullable, optional, or_null},
    socket_channel::{Channel, Message},
};

const TOPIC: &str = "realtime:harbour";

/// A message that the server sends.
fn from_server(kind: &'static str, description: &'static str, payload: Shape) -> Message {
    Message { kind, description, fields: envelope(kind, payload), example: None }
}

/// A message that clients send.
fn from_client(kind: &'static str, description: &'static str, payload: Shape, example: Value) -> Message {
    let topic = if kind == "heartbeat" { "phoenix" } else { TOPIC };
    let example = json!({ "topic": topic, "event": kind, "payload": example, "ref": "2", "join_ref": "1" });
    Message { kind, description, fields: envelope(kind, payload), example: Some(example) }
}

fn envelope(kind: &'static str, payload: Shape) -> Vec<Field> {
    vec![
        field("topic", Shape::text(), "`realtime:` and the name of the channel; `phoenix` for heartbeats."),
        field("event", Shape::constant(kind), "Type of the message."),
        field("payload", payload, "Content of the message."),
        or_null("ref", Shape::text(), "Reference of a push. Its reply has the same reference."),
        nullable("join_ref", Shape::text(), "Reference of the join that opened the channel."),
    ]
}

pub(super) fn channel() -> Channel {
    let changes = Shape::Object(vec![
        field("event", Shape::text(), "Operation: `INSERT`, `UPDATE`, `DELETE` or `*`."),
        field("schema", Shape::text(), "Name of the schema, or `*`."),
        optional("table", Shape::text(), "Name of the table, or `*`; by default all tables."),
        optional("filter", Shape::text(), "Filter of rows, for example `id=eq.1`."),
        optional("select", Shape::list(Shape::text()), "Names of the columns to receive, by default all."),
    ]);
    let broadcast = Shape::Object(vec![
        optional("self", Shape::flag(), "Whether the sender receives its own messages."),
        optional("ack", Shape::flag(), "Whether the server acknowledges each message."),
        nullable(
            "replay",
            Shape::any_object(),
            "Which earlier messages to receive: those after a message, or since a time.",
        ),
        optional(
            "replication_ready",
            Shape::flag(),
            "Whether a system message says when broadcasts from the database arrive.",
        ),
    ]);
    let presence = Shape::Object(vec![
        optional("key", Shape::text(), "Key of the client in the presence state, by default a UUID."),
        optional("enabled", Shape::flag(), "Whether the client receives the presence state."),
        optional("occupancy", Shape::flag(), "Whether the client receives the counts of the presence."),
    ]);
    let config = Shape::Object(vec![
        nullable("broadcast", broadcast, "Options for broadcast messages."),
        nullable("presence", presence, "Options for the channel's presence."),
        nullable("postgres_changes", Shape::list(changes), "Row changes that the client subscribes to."),
        nullable(
            "private",
            Shape::flag(),
            "Whether the policies on `realtime.messages` authorize the client.",
        ),
    ]);
    let join = vec![
        optional("config", config, "Options of the channel."),
        nullable("access_token", Shape::text(), "Token of the user, by default the one of the socket."),
    ];
    let push = Shape::Object(vec![
        optional("type", Shape::text(), "Always `presence` in this message."),
        field("event", Shape::text(), "Either `track` or `untrack`."),
        optional("payload", Shape::any_object(), "State of the client that others see."),
    ]);
    let reply = Shape::Object(vec![
        field("status", Shape::string_enum(&["ok", "error"]), "Whether the push succeeded."),
        field("response", Shape::any_object(), "Result of the push; `reason` says why it failed."),
    ]);
    let system = Shape::Object(vec![
        field("status", Shape::string_enum(&["ok", "error"]), "Whether it is a notice or an error."),
        field("extension", Shape::text(), "Part of the channel: `system` or `postgres_changes`."),
        field("message", Shape::text(), "English text for people."),
        optional("channel", Shape::text(), "Name of the channel, without `realtime:`."),
    ]);
    let diff = Shape::Object(vec![
        field("joins", Shape::any_object(), "Clients that joined or changed, by key."),
        field("leaves", Shape::any_object(), "Clients that left or changed, by key."),
    ]);
    let counts = Shape::Object(vec![
        field("keys", Shape::count(), "Number of presence keys in the channel."),
        field("metas", Shape::count(), "Number of clients that track something."),
    ]);
    let any = Shape::any_object;
    Channel {
        name: "realtime",
        address: "/realtime/v1/websocket",
        title: "Channels",
        description: "Phoenix channels, compatible with Supabase Realtime. The messages are shown in serializer 1.0.0. With \
                      `vsn=2.0.0` a message is `[join_ref, ref, topic, event, payload]`, and broadcasts may be binary.",
        discriminator: "event",
        client: vec![
            from_client(
                "phx_join",
                "Joins a channel, public or private.",
                Shape::Object(join),
                json!({ "config": { "broadcast": { "self": true }, "private": false } }),
            ),
            from_client("phx_leave", "Leaves the channel of the topic.", any(), json!({})),
            from_client(
                "heartbeat",
                "Reports that the client is alive. It is due every 60 s.",
                any(),
                json!({}),
            ),
            from_client(
                "access_token",
                "Renews the token of the channel.",
                Shape::Object(vec![or_null("access_token", Shape::text(), "New token of the user.")]),
                json!({ "access_token": "eyJhbGciOiJIUzI1NiJ9.e30.x" }),
            ),
            from_client(
                "broadcast",
                "Sends a message to the members of the channel.",
                any(),
                json!({ "type": "broadcast", "event": "tide", "payload": { "metres": 3.2 } }),
            ),
            from_client(
                "presence",
                "Tracks or changes the state of this client in the channel.",
                push,
                json!({ "type": "presence", "event": "track", "payload": { "name": "Alice" } }),
            ),
        ],
        server: vec![
            from_server("phx_reply", "Reply to a push with the same reference.", reply),
            from_server("system", "Notice or error of the channel itself.", system),
            from_server("broadcast", "Message of a member, a back end or the database.", any()),
            from_server("presence_state", "Presence state of the channel, by key.", any()),
            from_server("presence_diff", "Change of the channel's presence state.", diff),
            from_server("presence_occupancy", "Counts of the channel, with `presence.occupancy`.", counts),
            from_server("postgres_changes", "Change of a row that the client may see.", any()),
            from_server("phx_error", "The channel failed. Join it again.", any()),
            from_server("phx_close", "The channel is closed by the server.", any()),
        ],
    }
}
