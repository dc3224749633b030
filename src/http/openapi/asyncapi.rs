//! What sockets say: AsyncAPI 3. Tests compare it with what dialects take and encode.

use serde_json::{Map, Value, json};

use super::{
    channels,
    schemas::{Field, Shape, field, nullable, optional, or_null},
    socket_channel::{Channel, Message},
    types::{
        conversation_id, device_id, event, field_error, presence as presence_shape, status, status_update,
        typing_conversation_id, user_id,
    },
};
use crate::{
    model::DeviceContext,
    protocol::{ErrorCode, StatusUpdate, Subscription},
};

/// A message that clients send.
fn client_message(kind: &'static str, description: &'static str, fields: Vec<Field>) -> Message {
    Message { kind, description, fields: with_type(kind, fields), example: None }
}

/// A message that the server sends.
fn server_message(
    kind: &'static str,
    description: &'static str,
    fields: Vec<Field>,
    example: Value,
) -> Message {
    Message { kind, description, fields: with_type(kind, fields), example: Some(example) }
}

fn with_type(kind: &'static str, mut fields: Vec<Field>) -> Vec<Field> {
    fields.insert(0, field("type", Shape::constant(kind), "Which message."));
    fields
}

/// The part of a message that holds its fields.
fn part(name: &'static str, fields: Vec<Field>) -> Vec<Field> {
    vec![field(name, Shape::Object(fields), "The fields.")]
}

fn heartbeat(kind: &'static str, name: &'static str) -> Message {
    let active = optional("active", Shape::flag(), "Whether somebody is using the device.");
    let fields = vec![nullable(name, Shape::Object(vec![active]), "The fields, if any.")];
    server_message(kind, "The client is alive.", fields, json!({ "type": kind }))
}

fn typing_user() -> Vec<Field> {
    vec![
        field("conversation_id", typing_conversation_id(), "ID of the conversation."),
        field("is_typing", Shape::flag(), "Typing, or stopped."),
    ]
}

fn typing(name: &'static str) -> Message {
    let told = json!({ "conversation_id": "c0000000-0000-4000-8000-000000000001", "is_typing": true });
    let about = "The user types, or has stopped; lasts 5 s unless refreshed.";
    server_message("typing", about, part(name, typing_user()), json!({ "type": "typing", name: told }))
}

fn auth() -> Message {
    let fields = vec![field("token", Shape::text(), "A fresh token of the same user.")];
    let about = "A fresh token, before the old one runs out: with that the server closes by 4401.";
    server_message("auth", about, fields, json!({ "type": "auth", "token": "eyJhbGciOiJIUzI1NiJ9.e30.x" }))
}

/// What an error says, beside its type or in its part.
fn error() -> Vec<Field> {
    vec![
        field("code", code(), "For programs."),
        field("message", Shape::text(), "For a person."),
        optional("retry_after_ms", Shape::count(), "When trying again makes sense; with `RATE_LIMITED`."),
        optional("details", Shape::list(field_error()), "Which fields are wrong."),
    ]
}

fn code() -> Shape {
    Shape::named("ErrorCode", "What is wrong.", Shape::string_enum(&ErrorCode::ALL.map(ErrorCode::as_str)))
}

/// One channel for each dialect.
pub(super) fn channels() -> Vec<Channel> {
    vec![presence(), devices(), context(), channels::channel()]
}

fn presence() -> Channel {
    let users = Shape::list_of(user_id(), 1, Subscription::MAX_USERS);
    let bob = "a0000000-0000-4000-8000-000000000002";
    let user = || field("user_id", user_id(), "Who.");
    let everybody = field("presences", Shape::list(presence_shape()), "Everybody whom the viewer sees.");
    Channel {
        name: "presence",
        address: "/api/presence/subscribe",
        title: "Presence for web and iOS",
        description: "The first frame is `initial_state`; then updates as they happen, none lost in between. `status` \
                      knows three words, `availability` all.",
        discriminator: "type",
        client: vec![
            server_message(
                "status",
                "Sets the own status; what is left out stays, `null` clears.",
                part("data", status_update()),
                json!({ "type": "status", "data": { "status": "busy", "custom_status": "Writing" } }),
            ),
            heartbeat("heartbeat", "data"),
            typing("data"),
            server_message(
                "subscribe",
                "Follows further users, as far as they are visible.",
                part("data", vec![field("user_ids", users, "Whom.")]),
                json!({ "type": "subscribe", "data": { "user_ids": [bob] } }),
            ),
            auth(),
        ],
        server: vec![
            client_message(
                "initial_state",
                "The first frame, and after the server lost its database.",
                part("data", vec![everybody]),
            ),
            client_message(
                "presence_update",
                "Somebody's presence has changed; who ceases to be visible is taken back with `offline` and \
                 `\"last_seen\": null`.",
                vec![field("data", presence_shape(), "Whose, and what.")],
            ),
            client_message(
                "typing_update",
                "Somebody types, or has stopped.",
                part("data", [vec![user()], typing_user()].concat()),
            ),
            client_message(
                "broadcast",
                "The operator's back end says something.",
                vec![field("data", event(), "What.")],
            ),
            client_message("error", "What was wrong; the socket stays open.", error()),
        ],
    }
}

fn devices() -> Channel {
    let written = || or_null("custom_status", Shape::text(), "What the user wrote.");
    let whole = || field("online_status", status(), "The full value.");
    let update = vec![
        field("online_status", status(), "The new status."),
        nullable(
            "custom_status",
            Shape::trimmed(StatusUpdate::MAX_TEXT_CHARS),
            "What the user writes: at most 140 characters after trimming.",
        ),
    ];
    let welcome = vec![
        field("client_id", Shape::text(), "The connection, for logs on both sides."),
        field("user_id", user_id(), "Who the client is."),
        field("device_id", device_id(), "On which device."),
        field("server_time", Shape::timestamp(), "The server's clock."),
        field("heartbeat_interval_ms", Shape::count(), "How often the client does well to say something."),
    ];
    let shown = vec![
        field("user_id", user_id(), "Whose."),
        whole(),
        written(),
        or_null(
            "last_seen_at",
            Shape::timestamp(),
            "When any device was last live; `null` where it is not shared.",
        ),
    ];
    let refusal = vec![
        field("code", code(), "For programs."),
        optional("retry_after_ms", Shape::count(), "When trying again makes sense."),
        field("payload", Shape::Object(error()), "The fields."),
    ];
    Channel {
        name: "devices",
        address: "/ws",
        title: "Presence for devices and services",
        description: "The first frame is `connection_ack`; then everybody who is visible arrives as `presence_update`.",
        discriminator: "type",
        client: vec![
            server_message(
                "presence_update",
                "Sets the own status; acknowledged by `presence_update_ack`.",
                part("payload", update),
                json!({ "type": "presence_update", "payload": { "online_status": "dnd" } }),
            ),
            heartbeat("heartbeat", "payload"),
            heartbeat("presence_heartbeat", "payload"),
            typing("payload"),
            server_message("ping", "Answered by `pong`.", Vec::new(), json!({ "type": "ping" })),
            auth(),
        ],
        server: vec![
            client_message("connection_ack", "The first frame.", part("payload", welcome)),
            client_message(
                "presence_update_ack",
                "The own status is committed.",
                part("payload", vec![whole(), written()]),
            ),
            client_message(
                "heartbeat_ack",
                "A heartbeat has been noted.",
                part("payload", vec![field("server_time", Shape::timestamp(), "The server's clock.")]),
            ),
            client_message(
                "presence_update",
                "Somebody's presence, at first and as it changes.",
                part("payload", shown),
            ),
            client_message(
                "typing_indicator",
                "Somebody types, or has stopped.",
                part("payload", [vec![field("user_id", user_id(), "Who.")], typing_user()].concat()),
            ),
            client_message(
                "broadcast",
                "The operator's back end says something.",
                vec![field("payload", event(), "What.")],
            ),
            client_message("pong", "The answer to `ping`.", part("payload", Vec::new())),
            client_message("error", "What was wrong; the socket stays open.", refusal),
        ],
    }
}

fn context() -> Channel {
    let many = || Shape::list_of(conversation_id(), 0, DeviceContext::MAX_VISIBLE);
    let signals = |nullable: fn(&'static str, Shape, &'static str) -> Field, visible: Field| {
        vec![
            field("deviceId", device_id(), "Which device."),
            nullable("activeConversationId", conversation_id(), "The conversation that is open."),
            visible,
            nullable("activeNotebookId", Shape::uuid(), "The notebook that is open."),
            nullable("activePersonaId", Shape::uuid(), "The persona that is chosen."),
            nullable(
                "lastNavigationPath",
                Shape::trimmed(StatusUpdate::MAX_PAGE_CHARS),
                "Where in the application the user is.",
            ),
            nullable("localTime", Shape::text(), "The time where the user is, ISO 8601."),
        ]
    };
    let in_view = "The conversations that are in view.";
    let update = signals(nullable, nullable("visibleConversationIds", many(), in_view));
    let synced = signals(or_null, field("visibleConversationIds", many(), in_view));
    let bundle = vec![
        field("bundleType", Shape::text(), "Which kind: `identity_core`, `topic` and the like."),
        field("bundleId", Shape::uuid(), "Which one."),
        field("version", Shape::count(), "Rises with every compilation."),
    ];
    let timestamp = || field("timestamp", Shape::count(), "Milliseconds since 1970.");
    let harbour = "c0000000-0000-4000-8000-000000000001";
    Channel {
        name: "context",
        address: "/api/v1/context/ws",
        title: "What the user does on other devices",
        description: "What a user does on one device reaches the user's others; says when context is ready. Whoever is \
                      no valid user is closed with 4001.",
        discriminator: "type",
        client: vec![
            server_message(
                "presence_update",
                "What the user does on this device; what is left out stays, `null` clears.",
                part("data", update),
                json!({ "type": "presence_update", "data": { "deviceId": "tab", "activeConversationId": harbour } }),
            ),
            heartbeat("heartbeat", "data"),
            typing("data"),
            auth(),
        ],
        server: vec![
            client_message("heartbeat_ack", "A heartbeat has been noted.", vec![timestamp()]),
            client_message(
                "presence_sync",
                "What the user does on another of the user's own devices.",
                [part("data", synced), vec![timestamp()]].concat(),
            ),
            client_message(
                "bundle_ready",
                "Context has been compiled ahead of the next question.",
                part("data", bundle),
            ),
            client_message(
                "broadcast",
                "The operator's back end says something.",
                vec![field("data", event(), "What.")],
            ),
            client_message("error", "What was wrong; the socket stays open.", error()),
        ],
    }
}

/// The whole AsyncAPI document.
pub(super) fn document() -> Value {
    let (mut rendered, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    let mut schemas = Map::new();
    for channel in channels() {
        let mut own = Map::new();
        let mut refer = |message: &Message, by: &str| {
            let (name, key) =
                (format!("{}.{by}.{}", channel.name, message.kind), format!("{by}.{}", message.kind));
            own.insert(key.clone(), json!({ "$ref": format!("#/components/messages/{name}") }));
            messages.insert(name, message_object(message, &mut schemas));
            json!({ "$ref": format!("#/channels/{}/messages/{key}", channel.name) })
        };
        let sent: Vec<_> = channel.server.iter().map(|message| refer(message, "server")).collect();
        let received: Vec<_> = channel.client.iter().map(|message| refer(message, "client")).collect();
        let of = json!({ "$ref": format!("#/channels/{}", channel.name) });
        rendered.insert(
            channel.name.to_owned(),
            json!({
                "address": channel.address, "title": channel.title, "description": channel.description,
                "messages": own, "x-discriminator": channel.discriminator, "servers": [{ "$ref": "#/servers/here" }],
                "bindings": { "ws": { "method": "GET", "query": query(channel.name, &mut schemas) } },
            }),
        );
        operations.insert(
            format!("{}Says", channel.name),
            json!({ "action": "send", "channel": of, "summary": "What the server says", "messages": sent }),
        );
        operations.insert(
            format!("{}Hears", channel.name),
            json!({ "action": "receive", "channel": of, "summary": "What clients say", "messages": received }),
        );
    }
    let security = json!([{ "$ref": "#/components/securitySchemes/token" }]);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Rollcall's sockets",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0" },
            "description": "But for channels: a message of an unknown type or that is no JSON gets an `error` frame, and the socket stays \
                            open. A message over 64 KiB closes by 1009, a run-out token by 4401, flooding by 4429; on \
                            shutdown sockets are closed by 1001. The server pings every 25 s.",
        },
        "defaultContentType": "application/json",
        "servers": { "here": { "host": "127.0.0.1:4000", "protocol": "ws", "security": security } },
        "channels": rendered,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
        },
    })
}

fn query(channel: &str, schemas: &mut Map<String, Value>) -> Value {
    if channel == "realtime" {
        return Shape::Object(vec![
            field("apikey", Shape::text(), "A token or key."),
            optional("vsn", Shape::string_enum(&["1.0.0", "2.0.0"]), "The serializer."),
        ])
        .schema(schemas);
    }
    Shape::Object(vec![
        optional("token", Shape::text(), "The token, for browsers, which cannot set headers on sockets."),
        optional("device_id", device_id(), "Which of the user's devices this is."),
        optional("user_ids", ids_in_query(), "Further users to follow."),
    ])
    .schema(schemas)
}

/// Up to 1000 user IDs joined by commas.
fn ids_in_query() -> Shape {
    const ID: &str = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
    Shape::Plain(json!({ "type": "string", "pattern": format!("^{ID}(,{ID}){{0,999}}$") }))
}

fn message_object(message: &Message, schemas: &mut Map<String, Value>) -> Value {
    let payload = Shape::Object(message.fields.clone()).schema(schemas);
    let mut described = json!({ "name": message.kind, "summary": message.description, "payload": payload });
    if let Some(example) = &message.example {
        described["examples"] = json!([{ "payload": example }]);
    }
    described
}
