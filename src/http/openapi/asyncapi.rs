//! Description of the sockets: AsyncAPI 3. Tests compare it with what the dialects decode and encode.

use serde_json::{Map, Value, json};

use super::{
    channels,
    schemas::{Field, Shape, field, nullable, optional, or_null},
    socket_channel::{Channel, Message},
};
use crate::{
    hub::CloseCode,
    model::{ConversationId, CustomEvent, DeviceContext, DeviceId, Status, UserId},
    protocol::{ErrorCode, FieldError, StatusUpdate, Subscription, presence::PresenceJson},
};

/// A message that the server sends.
fn from_server(kind: &'static str, description: &'static str, fields: Vec<Field>) -> Message {
    Message { kind, description, fields: with_type(kind, fields), example: None }
}

/// A message that clients send.
fn from_client(kind: &'static str, description: &'static str, fields: Vec<Field>, example: Value) -> Message {
    Message { kind, description, fields: with_type(kind, fields), example: Some(example) }
}

fn with_type(kind: &'static str, mut fields: Vec<Field>) -> Vec<Field> {
    fields.insert(0, field("type", Shape::constant(kind), "Type of the message."));
    fields
}

/// The object with the fields of a message: `data` or `payload`.
fn part(name: &'static str, fields: Vec<Field>) -> Vec<Field> {
    vec![field(name, Shape::Object(fields), "Fields of the message.")]
}

fn user_id() -> Field {
    field("user_id", Shape::of::<UserId>(), "ID of the user (UUID).")
}

fn server_time() -> Field {
    field("server_time", Shape::timestamp(), "Current time of the server.")
}

fn heartbeat(kind: &'static str, name: &'static str) -> Message {
    let active = optional("active", Shape::flag(), "Whether the device is in use.");
    let fields = vec![nullable(name, Shape::Object(vec![active]), "Fields of the heartbeat, if any.")];
    from_client(kind, "Reports that the client is alive.", fields, json!({ "type": kind }))
}

/// IDs are those of the table that provides participants, which is the application's or the built-in one.
fn typing_conversation_id() -> Shape {
    let forms = json!({ "anyOf": [
        { "type": "string", "minLength": 1, "maxLength": 255 },
        { "type": "integer", "format": "int64" },
    ] });
    Shape::named(
        "TypingConversationId",
        "ID of a conversation in the table that provides participants: a UUID in the built-in table, a UUID, an \
         integer or text in a table of the application.",
        Shape::Plain(forms),
    )
}

fn typing_fields() -> Vec<Field> {
    vec![
        field("conversation_id", typing_conversation_id(), "ID of the conversation."),
        field("is_typing", Shape::flag(), "Whether the user is typing: `false` after stopping."),
    ]
}

fn typing(name: &'static str) -> Message {
    let fields = json!({ "conversation_id": "c0000000-0000-4000-8000-000000000001", "is_typing": true });
    let description =
        "Reports that the user started or stopped typing. Typing ends after 5 s unless it is refreshed.";
    let example = json!({ "type": "typing", name: fields });
    from_client("typing", description, part(name, typing_fields()), example)
}

/// Typing with the names of the context dialect.
fn context_typing() -> Message {
    let fields = vec![
        field("conversationId", typing_conversation_id(), "ID of the conversation."),
        field("isTyping", Shape::flag(), "Whether the user is typing: `false` after stopping."),
    ];
    let description =
        "Reports that the user started or stopped typing. Typing ends after 5 s unless it is refreshed.";
    let data = json!({ "conversationId": "c0000000-0000-4000-8000-000000000001", "isTyping": true });
    from_client("typing", description, part("data", fields), json!({ "type": "typing", "data": data }))
}

fn auth() -> Message {
    let fields = vec![field("token", Shape::text(), "New token of the same user.")];
    let description = "Renews the token. Without a new token, the server closes the socket with code 4401 when the \
                       current one expires.";
    from_client("auth", description, fields, json!({ "type": "auth", "token": "eyJhbGciOiJIUzI1NiJ9.e30.x" }))
}

fn error_fields() -> Vec<Field> {
    vec![
        field("code", code(), "Stable code of the error, for programs."),
        field("message", Shape::text(), "English text for people."),
        optional(
            "retry_after_ms",
            Shape::count(),
            "Milliseconds to wait before the next message. Present with `RATE_LIMITED`.",
        ),
        optional("details", Shape::list(Shape::of::<FieldError>()), "The invalid fields of the message."),
    ]
}

fn code() -> Shape {
    let codes = Shape::string_enum(&ErrorCode::ON_SOCKETS.map(ErrorCode::as_str));
    Shape::named("ErrorCode", "Code of an error on a socket.", codes)
}

fn broadcast(name: &'static str) -> Message {
    from_server(
        "broadcast",
        "Event that a back end sent to the user.",
        vec![field(name, Shape::of::<CustomEvent>(), "Event of the back end.")],
    )
}

/// One channel for each dialect.
pub(super) fn channels() -> Vec<Channel> {
    vec![presence(), devices(), context(), channels::channel()]
}

fn presence() -> Channel {
    let presence = Shape::of::<PresenceJson<'static>>;
    let ids = Shape::list_of(Shape::of::<UserId>(), 1, Subscription::MAX_USERS);
    let presences = field(
        "presences",
        Shape::list(presence()),
        "Presences of all users that the viewer may see; after a resume those that differ from what the client has.",
    );
    let resumed = optional(
        "resumed",
        Shape::flag(),
        "Whether `presences` holds only differences. Present if the request had `resume`.",
    );
    let position = || Shape::text();
    Channel {
        name: "presence",
        address: "/api/presence/subscribe",
        title: "Presence for web and iOS",
        description: "The first message is `initial_state`; changes follow in order, without gaps. `status` is `online`, \
                      `away` or `offline`; `availability` is the full status. `GET /api/presence/events` sends the \
                      same messages of the server as server-sent events.",
        discriminator: "type",
        client: vec![
            from_client(
                "status",
                "Sets the status of the user. An absent field is kept, `null` clears it.",
                part("data", status_update()),
                json!({ "type": "status", "data": { "status": "busy", "custom_status": "Writing" } }),
            ),
            heartbeat("heartbeat", "data"),
            typing("data"),
            from_client(
                "subscribe",
                "Follows further users, as far as they are visible, or the users of a page. One of the two fields is \
                 required.",
                part(
                    "data",
                    vec![
                        optional("user_ids", ids, "IDs of the users: 1 to 1,000."),
                        nullable(
                            "current_page",
                            Shape::trimmed(StatusUpdate::MAX_PAGE_CHARS),
                            "Page whose users are sent from now on; `null` for all users.",
                        ),
                    ],
                ),
                json!({ "type": "subscribe", "data": { "user_ids": ["a0000000-0000-4000-8000-000000000002"] } }),
            ),
            auth(),
        ],
        server: vec![
            from_server(
                "initial_state",
                "State: the first message. Nobody is typing in it; who is, follows.",
                part(
                    "data",
                    vec![
                        presences,
                        resumed,
                        optional(
                            "position",
                            position(),
                            "Position of the state. Present if the request had `resume`.",
                        ),
                    ],
                ),
            ),
            from_server(
                "position",
                "Position of everything that was sent before, for `resume`. Sent at most every 2 s after messages, if \
                 the request had `resume`; over server-sent events it is the ID of an event without data.",
                part("data", vec![field("position", position(), "Position to resume from: opaque text.")]),
            ),
            from_server(
                "presence_update",
                "Presence of a user changed. A user who is no longer visible arrives as `offline` with `\"last_seen\": \
                 null`.",
                vec![field("data", presence(), "New presence of the user.")],
            ),
            from_server(
                "typing_update",
                "A user started or stopped typing.",
                part("data", [vec![user_id()], typing_fields()].concat()),
            ),
            broadcast("data"),
            from_server("error", "Error of a message. The socket stays open.", error_fields()),
        ],
    }
}

fn status_update() -> Vec<Field> {
    let text = || Shape::trimmed(StatusUpdate::MAX_TEXT_CHARS);
    vec![
        field("status", Shape::of::<Status>(), "New status. Any other value is `UNPROCESSABLE`."),
        optional("device_id", Shape::of::<DeviceId>(), "ID of the device, by default the one of the socket."),
        nullable(
            "custom_status",
            text(),
            "Custom status text: at most 140 characters after trimming. Control characters, direction overrides and \
             markup are neutralized.",
        ),
        nullable("custom_status_expires_at", Shape::timestamp(), "Time at which the custom status expires."),
        nullable("activity", text(), "Activity text: at most 140 characters after trimming."),
        nullable(
            "current_page",
            Shape::trimmed(StatusUpdate::MAX_PAGE_CHARS),
            "Page that the user is on: at most 2,048 characters after trimming.",
        ),
        background(),
        background_seconds(),
    ]
}

fn background() -> Field {
    optional(
        "background",
        Shape::flag(),
        "Whether the app goes to the background: its device stays `away` after the socket closed, then it is offline. \
         Only with status `away`, `busy`, `dnd` or `invisible`.",
    )
}

fn background_seconds() -> Field {
    optional(
        "background_seconds",
        Shape::count(),
        "Seconds in the background: 1 to 86,400; without it, the server's setting `BACKGROUND_GRACE` counts.",
    )
}

fn devices() -> Channel {
    let custom_status = || or_null("custom_status", Shape::text(), "Custom status text of the user.");
    let online_status = || field("online_status", Shape::of::<Status>(), "Full status of the user.");
    let update = vec![
        field("online_status", Shape::of::<Status>(), "New status. Any other value is `UNPROCESSABLE`."),
        nullable(
            "custom_status",
            Shape::trimmed(StatusUpdate::MAX_TEXT_CHARS),
            "Custom status text: at most 140 characters after trimming.",
        ),
        background(),
        background_seconds(),
    ];
    let ack = vec![
        field("client_id", Shape::uuid(), "Random ID of the connection (UUID)."),
        user_id(),
        field("device_id", Shape::of::<DeviceId>(), "ID of the device of the socket."),
        server_time(),
        field(
            "heartbeat_interval_ms",
            Shape::count(),
            "Milliseconds between heartbeats that the server recommends.",
        ),
    ];
    let shown = vec![
        user_id(),
        online_status(),
        custom_status(),
        or_null(
            "last_seen_at",
            Shape::timestamp(),
            "Time at which a device was last live; `null` if the user does not share it.",
        ),
    ];
    let error = vec![
        field("code", code(), "Stable code of the error, for programs."),
        optional("retry_after_ms", Shape::count(), "Milliseconds to wait before the next message."),
        field("payload", Shape::Object(error_fields()), "Fields of the error."),
    ];
    Channel {
        name: "devices",
        address: "/ws",
        title: "Presence for devices and services",
        description: "The first message is `connection_ack`; then each visible user arrives as a `presence_update`.",
        discriminator: "type",
        client: vec![
            from_client(
                "presence_update",
                "Sets the status of the user. The server acknowledges with `presence_update_ack`.",
                part("payload", update),
                json!({ "type": "presence_update", "payload": { "online_status": "dnd" } }),
            ),
            heartbeat("heartbeat", "payload"),
            heartbeat("presence_heartbeat", "payload"),
            typing("payload"),
            from_client("ping", "Asks for a `pong` message.", Vec::new(), json!({ "type": "ping" })),
            auth(),
        ],
        server: vec![
            from_server("connection_ack", "First message of the socket.", part("payload", ack)),
            from_server(
                "presence_update_ack",
                "The status of the user is committed.",
                part("payload", vec![online_status(), custom_status()]),
            ),
            from_server("heartbeat_ack", "The heartbeat was recorded.", part("payload", vec![server_time()])),
            from_server(
                "presence_update",
                "Presence of a user, at the beginning and when it changes.",
                part("payload", shown),
            ),
            from_server(
                "typing_indicator",
                "A user started or stopped typing.",
                part("payload", [vec![user_id()], typing_fields()].concat()),
            ),
            broadcast("payload"),
            from_server("pong", "Answer to a `ping` message.", part("payload", Vec::new())),
            from_server("error", "Error of a message. The socket stays open.", error),
        ],
    }
}

fn context() -> Channel {
    let conversations = || Shape::list_of(Shape::of::<ConversationId>(), 0, DeviceContext::MAX_VISIBLE);
    let signals = |nullable: fn(&'static str, Shape, &'static str) -> Field, visible: Field| {
        vec![
            field("deviceId", Shape::of::<DeviceId>(), "ID of the device that reports the signals."),
            nullable(
                "activeConversationId",
                Shape::of::<ConversationId>(),
                "ID of the conversation that is open.",
            ),
            visible,
            nullable("activeNotebookId", Shape::uuid(), "ID of the notebook that is open."),
            nullable("activePersonaId", Shape::uuid(), "ID of the persona that is selected."),
            nullable(
                "lastNavigationPath",
                Shape::trimmed(StatusUpdate::MAX_PAGE_CHARS),
                "Page in the application: at most 2,048 characters after trimming.",
            ),
            nullable(
                "localTime",
                Shape::text(),
                "Local time of the user: 14:30, or with a date and an offset.",
            ),
        ]
    };
    let visible = "IDs of the visible conversations: at most 100.";
    let update = signals(nullable, nullable("visibleConversationIds", conversations(), visible));
    let synced = signals(or_null, field("visibleConversationIds", conversations(), visible));
    let bundle = vec![
        field("bundleType", Shape::text(), "Type of the bundle, for example `identity_core` or `topic`."),
        field("bundleId", Shape::uuid(), "ID of the stored bundle."),
        field("version", Shape::count(), "Version of the bundle. It rises with every compilation."),
    ];
    let timestamp = || field("timestamp", Shape::count(), "Time of the message in Unix milliseconds.");
    Channel {
        name: "context",
        address: "/api/v1/context/ws",
        title: "Context of the user's other devices",
        description: "What a user does on one device reaches the user's other devices, and `bundle_ready` reports compiled \
                      context. A socket without a valid user is closed with code 4001.",
        discriminator: "type",
        client: vec![
            from_client(
                "presence_update",
                "Reports what the user does on this device. An absent field is kept, `null` clears it.",
                part("data", update),
                json!({
                    "type": "presence_update",
                    "data": { "deviceId": "tab", "activeConversationId": "c0000000-0000-4000-8000-000000000001" },
                }),
            ),
            heartbeat("heartbeat", "data"),
            context_typing(),
            auth(),
        ],
        server: vec![
            from_server("heartbeat_ack", "The heartbeat was recorded.", vec![timestamp()]),
            from_server(
                "presence_sync",
                "What the user does on another device.",
                [part("data", synced), vec![timestamp()]].concat(),
            ),
            from_server("bundle_ready", "A bundle was compiled for the next question.", part("data", bundle)),
            broadcast("data"),
            from_server("error", "Error of a message. The socket stays open.", error_fields()),
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
            format!("{}Send", channel.name),
            json!({
                "action": "send", "channel": of, "summary": "Messages that the server sends.", "messages": sent,
            }),
        );
        operations.insert(
            format!("{}Receive", channel.name),
            json!({
                "action": "receive", "channel": of, "summary": "Messages that clients send.", "messages": received,
            }),
        );
    }
    let security = json!([{ "$ref": "#/components/securitySchemes/token" }]);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Rollcall sockets",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0" },
            "description": description(),
        },
        "defaultContentType": "application/json",
        "servers": {
            "here": {
                "host": "127.0.0.1:4000", "protocol": "ws", "security": security,
                "description": "The server that serves this description.",
            },
        },
        "channels": rendered,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "A JWT in the header `Authorization` or in the query parameter `token`.",
                },
            },
        },
        "x-close-codes": CloseCode::ALL.map(|code| json!({
            "code": code.number(), "reason": code.reason(), "reconnect": code.reconnect(),
            "description": code.meaning(),
        })),
    })
}

fn description() -> String {
    let mut text = "On the presence, devices and context sockets, a message that is not JSON or has an unknown type gets \
                    an `error`, and the socket stays open. The server pings a socket after 25 s without a frame; two \
                    unanswered pings end it.\n\n## Close codes\n\nIn `x-close-codes` too.\n\n\
                    | code | reason | meaning | reconnect |\n| --- | --- | --- | --- |\n"
        .to_owned();
    for code in CloseCode::ALL {
        let reconnect = if code.reconnect() { "yes" } else { "no" };
        text += &format!("| {} | {} | {} | {reconnect} |\n", code.number(), code.reason(), code.meaning());
    }
    text
}

fn query(channel: &str, schemas: &mut Map<String, Value>) -> Value {
    if channel == "realtime" {
        return Shape::Object(vec![
            field("apikey", Shape::text(), "A token, or an API key of the server."),
            optional(
                "vsn",
                Shape::string_enum(&["1.0.0", "2.0.0"]),
                "Version of the serializer, by default 1.0.0.",
            ),
        ])
        .schema(schemas);
    }
    let mut fields = vec![
        optional(
            "token",
            Shape::text(),
            "Token of the user, for browsers, which cannot set headers on sockets.",
        ),
        optional("device_id", Shape::of::<DeviceId>(), "ID of the device that opens the socket."),
    ];
    if channel != "context" {
        let description = "IDs of further users to follow, separated by commas (1 to 1,000).";
        fields.push(optional("user_ids", ids_in_query(), description));
    }
    if channel == "presence" {
        let description = "Receives only users whose `current_page` this is.";
        fields.push(optional("current_page", Shape::text(), description));
    }
    Shape::Object(fields).schema(schemas)
}

/// Up to 1000 user IDs joined by commas.
fn ids_in_query() -> Shape {
    const ID: &str = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
    Shape::Plain(json!({ "type": "string", "pattern": format!("^{ID}(,{ID}){{0,999}}$") }))
}

fn message_object(message: &Message, schemas: &mut Map<String, Value>) -> Value {
    let payload = Shape::Object(message.fields.clone()).schema(schemas);
    let mut described = json!({
        "name": message.kind, "summary": message.description, "description": message.description, "payload": payload,
    });
    if let Some(example) = &message.example {
        described["examples"] = json!([{ "payload": example }]);
    }
    described
}
