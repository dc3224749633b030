//! Source S over HTTP: its own shape of errors, as its clients know it.

use serde_json::json;

use super::{
    Operation, read,
    schemas::{Shape, field},
};

/// `{"error": …}`.
fn refusal() -> Shape {
    let fields = vec![field("error", Shape::text(), "For a person, in the words that clients know.")];
    Shape::named("RealtimeError", "What errors of the channels' routes look like.", Shape::Object(fields))
}

pub(super) fn operations() -> Vec<Operation> {
    let socket = |path, id| {
        read(path, id, "Channels: broadcast, presence, database changes")
            .about(
                "Phoenix channels as Supabase Realtime speaks them; `supabase-js` and the other official clients connect \
                 here. `vsn` picks the serializer.",
            )
            .query("apikey", Shape::text(), "A token or key; needed unless `x-api-key` holds it.", None)
            .query("vsn", Shape::text(), "`1.0.0` (the default): objects. `2.0.0`: arrays and binary frames.", None)
            .answers_nothing(101, "A WebSocket from here on.")
            .answers(400, "Not the handshake of a WebSocket.", refusal(), json!({ "error": "not a WebSocket handshake" }))
            .answers(401, "No key, or one that is not believed.", refusal(), json!({ "error": "API key is missing" }))
            .answers_nothing(403, "A serializer that there is not.")
            .answers(429, "Too many sockets or joins.", refusal(), json!({ "error": "Too many connected users" }))
            .answers_nothing(431, "A header that is too long.")
            .without_example()
    };
    Operation::all_under(
        "Realtime",
        vec![
            socket("/realtime/v1/websocket", "channelsSocket"),
            socket("/socket/websocket", "channelsSocketWithoutPrefix"),
        ],
    )
}
