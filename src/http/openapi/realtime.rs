//! Source S over HTTP: its own shape of errors, as its clients know it.

use serde_json::json;

use super::{
    Access, Operation, post, read,
    schemas::{Field, Shape, field, nullable, optional},
};

/// `{"error": …}`.
fn error_body() -> Shape {
    let fields = vec![field("error", Shape::text(), "For a person, in the words that clients know.")];
    Shape::named("RealtimeError", "What errors of the channels' routes look like.", Shape::Object(fields))
}

/// `{"message": …}`.
fn message() -> Shape {
    let fields = vec![field("message", Shape::text(), "For a person, in the words that clients know.")];
    Shape::named("RealtimeMessage", "What the channels' routes say beside data.", Shape::Object(fields))
}

/// What 401 is on these routes.
fn unauthorized(operation: Operation) -> Operation {
    let example = json!({ "message": "Unauthorized" });
    operation.response(401, "No token or key, or one that is not believed.", message(), example)
}

/// Several broadcasts at once.
fn batch(path: &'static str, id: &'static str) -> Operation {
    let one = Shape::Object(vec![
        field("topic", Shape::text(), "The channel's name, without `realtime:`."),
        field("event", Shape::text(), "The event's name."),
        field("payload", Shape::any_object(), "Passed on as it came."),
        nullable("private", Shape::flag(), "Which of the two channels of that name; public by default."),
        nullable("id", Shape::text(), "Arrives as `meta.id`."),
    ]);
    let fields: Vec<Field> = vec![field("messages", Shape::list(one), "All are taken, or none.")];
    let operation = post(path, id, "Broadcast several messages")
        .description(
            "To whoever is in the channels now. Private messages need the policies' leave to insert; without it they \
             are dropped, and the answer is 202 all the same.",
        )
        .request_body(
            Shape::Object(fields),
            json!({ "messages": [{ "topic": "harbour", "event": "tide", "payload": { "metres": 3.2 } }] }),
        )
        .empty_response(202, "On their way.")
        .response(
            422,
            "One or more are wrong; position by position, what.",
            Shape::Object(vec![field("errors", Shape::any_object(), "By field.")]),
            json!({ "errors": { "messages": [{}, { "payload": ["can't be blank"] }] } }),
        )
        .response(429, "Too many messages.", message(), json!({ "message": "You have exceeded your rate limit" }));
    unauthorized(operation)
}

/// One broadcast, whose body is the payload.
fn single(path: &'static str, id: &'static str) -> Operation {
    let operation = post(path, id, "Broadcast one message")
        .description(
            "The body is the payload: a JSON object (anything else arrives as `_json`), or bytes as \
             `application/octet-stream`, which only serializer 2.0.0 can hear.",
        )
        .path_parameter("topic", Shape::text(), "The channel's name, without `realtime:`.", "harbour")
        .path_parameter("event", Shape::text(), "The event's name.", "tide")
        .query("private", Shape::flag(), "Which of the two channels of that name.", None)
        .request_body(Shape::any_object(), json!({ "metres": 3.2 }))
        .empty_response(202, "On its way.")
        .response(
            403,
            "A private channel that the caller may not speak in.",
            message(),
            json!({ "message": "Unauthorized" }),
        )
        .response(
            415,
            "Neither JSON nor bytes.",
            error_body(),
            json!({ "error": "Unsupported Media Type. Use application/json or application/octet-stream" }),
        )
        .response(
            422,
            "Too large, or the policies could not be asked.",
            Shape::any_object(),
            json!({ "errors": { "payload": ["Payload size exceeds tenant limit"] } }),
        )
        .response(
            429,
            "Too many messages.",
            message(),
            json!({ "message": "You have exceeded your rate limit" }),
        );
    unauthorized(operation)
}

fn ping(path: &'static str, id: &'static str) -> Operation {
    read(path, id, "Is the channels' server there?").access(Access::Open).response(
        200,
        "It is.",
        message(),
        json!({ "message": "Success" }),
    )
}

fn tenant_health() -> Operation {
    let data = Shape::Object(vec![
        field("healthy", Shape::flag(), "Whether channels work in full."),
        field("db_connected", Shape::flag(), "Whether the database answers."),
        field("replication_connected", Shape::flag(), "Whether broadcasts from the database arrive."),
        field("connected_cluster", Shape::count(), "Channel sockets of this node."),
        optional("region", Shape::Plain(json!({ "type": "null" })), "There is none."),
        optional("node", Shape::Plain(json!({ "type": "null" })), "Not told."),
    ]);
    read("/api/tenants/{id}/health", "tenantHealth", "Are channels well?")
        .description(
            "As the usual compose files of Supabase ask it. There is one tenant, whatever it is called.",
        )
        .path_parameter("id", Shape::text(), "Any name.", "realtime-dev")
        .response(
            200,
            "How they are.",
            Shape::Object(vec![field("data", data, "What was found.")]),
            json!({ "data": { "healthy": true, "db_connected": true, "replication_connected": true,
                "connected_cluster": 3, "region": null, "node": null } }),
        )
}

pub(super) fn operations() -> Vec<Operation> {
    let socket = |path, id| {
        read(path, id, "Channels: broadcast, presence, database changes")
            .description(
                "Phoenix channels as Supabase Realtime speaks them; `supabase-js` and the other official clients connect \
                 here. `vsn` picks the serializer.",
            )
            .query("apikey", Shape::text(), "A token or key; needed unless `x-api-key` holds it.", None)
            .query("vsn", Shape::text(), "`1.0.0` (the default): objects. `2.0.0`: arrays and binary frames.", None)
            .empty_response(101, "A WebSocket from here on.")
            .response(400, "Not the handshake of a WebSocket.", error_body(), json!({ "error": "not a WebSocket handshake" }))
            .response(401, "No key, or one that is not believed.", error_body(), json!({ "error": "API key is missing" }))
            .empty_response(403, "A serializer that there is not.")
            .response(429, "Too many sockets or joins.", error_body(), json!({ "error": "Too many connected users" }))
            .empty_response(431, "A header that is too long.")
            .without_example()
    };
    Operation::with_tag(
        "Realtime",
        vec![
            socket("/realtime/v1/websocket", "channelsSocket"),
            socket("/socket/websocket", "channelsSocketWithoutPrefix"),
            batch("/realtime/v1/api/broadcast", "broadcast"),
            batch("/api/broadcast", "broadcastWithoutPrefix"),
            single("/realtime/v1/api/broadcast/{topic}/events/{event}", "broadcastOne"),
            single("/api/broadcast/{topic}/events/{event}", "broadcastOneWithoutPrefix"),
            ping("/realtime/v1/api/ping", "ping"),
            ping("/api/ping", "pingWithoutPrefix"),
            tenant_health(),
            read("/realtime/v1/api/presence/{topic}", "channelPresence", "Who is present in a channel")
                .description(
                    "On all nodes, as `presence_state` tells a client. A private channel's is for whoever may read its \
                     presence by the policies on `realtime.messages`, and so for the service.",
                )
                .path_parameter("topic", Shape::text(), "The channel's name without `realtime:`.", json!("harbour"))
                .query("private", Shape::string_enum(&["true", "false"]), "Whether the private channel of that name is meant.", None)
                .response(
                    200,
                    "Per key what its channels track.",
                    Shape::Object(vec![
                        field("topic", Shape::text(), "The channel's name."),
                        field("private", Shape::flag(), "Whether it is the private one."),
                        field("presence", Shape::any_object(), "`{key: {metas: [{phx_ref, …}]}}`."),
                    ]),
                    json!({
                        "topic": "harbour", "private": false,
                        "presence": { "alice": { "metas": [{ "phx_ref": "GKV5bJ4-BTFw1gBC", "status": "online" }] } },
                    }),
                )
                .response(401, "No token or key, or one that is not believed.", message(), json!({ "message": "Unauthorized" }))
                .response(403, "A private channel that the caller may not see.", message(), json!({ "message": "Unauthorized" }))
                .response(
                    422,
                    "`private` is neither, or the policies could not be asked.",
                    Shape::any_object(),
                    json!({ "errors": { "private": ["is invalid"] } }),
                )
                .response(
                    429,
                    "Too many ask the policies.",
                    message(),
                    json!({ "message": "Connection pool exhausted" }),
                ),
        ],
    )
}
