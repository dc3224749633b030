//! Intended deviations from Supabase Realtime, with the reason why each is better for every client.
//!
//! A deviation rewrites the expected frames. The result is compared as strictly as any other frame.

use serde_json::{Value, json};
use testkit::phoenix::{Frame, SerializerVersion};

use crate::recording::{Event, Kind, Recording, version_in};

struct Deviation {
    scenario: &'static str,
    /// Serializer version; `None` for both.
    version: Option<&'static str>,
    /// Why the deviation is better.
    reason: &'static str,
    /// How the expected events change.
    edit: Edit,
}

/// A change of the expected events. Frames are matched by a substring of `[join_ref,ref,topic,event,payload]`; in
/// version 1 the join_ref is null.
enum Edit {
    /// (socket, substring): the matching frames are not expected.
    Absent(&'static str, &'static str),
    /// (socket, substring, payload): the first matching frame has another payload.
    Payload(&'static str, &'static str, Value),
    /// (socket, substring, frame): after the frames caused by the first matching text or request, the socket also
    /// receives this frame: join_ref, ref, topic, event, payload.
    Additional(&'static str, &'static str, [Value; 5]),
    /// (substring, status, body): response to the request whose path and body match.
    Response(&'static str, u16, &'static str),
    /// (socket, outcome): result of the handshake. `None` is success; the socket then does nothing.
    Handshake(&'static str, Option<(u16, &'static str)>),
    /// (socket, substring, ref): the first matching frame has another ref.
    Reference(&'static str, &'static str, Value),
    /// (socket, substring, join_ref): the first matching frame has another join_ref.
    JoinRef(&'static str, &'static str, Value),
    /// (socket, substring, field, value): one payload field of the first matching frame differs.
    Field(&'static str, &'static str, &'static str, Value),
    /// (socket, ref, topic or join_ref, payload): the reply belongs to an open channel and has its join_ref and this
    /// payload.
    OpenChannelReply(&'static str, &'static str, &'static str, Value),
}

/// Scenarios that are not replayed, with the reason.
const NOT_REPLAYED: [(&str, &str); 14] = [
    ("tenant_api", REASON_NO_TENANTS),
    ("tenant_jwt_rotate", REASON_NO_TENANTS),
    ("tenant_presence_enabled", REASON_NO_TENANTS),
    ("tenant_private_only", REASON_NO_TENANTS),
    ("tenant_reload", REASON_NO_TENANTS),
    ("tenant_shutdown", REASON_NO_TENANTS),
    ("tenant_suspend", REASON_NO_TENANTS),
    (
        "limit_presence",
        "Supabase Realtime counts delivered messages and closes the next channel that pushes; Rollcall counts pushes: \
         tests/integration/channels_limits.rs",
    ),
    (
        "limit_joins",
        "Supabase Realtime detects too many joins seconds later; Rollcall at the next join: \
         tests/integration/channels_limits.rs",
    ),
    (
        "limit_events",
        "a limit closes the channel of the sender and no other: tests/integration/channels_broadcast.rs",
    ),
    ("db_down_default_clustering", "Supabase Realtime stops with its database; see db_down for Rollcall"),
    (
        "db_fast_shutdown_hangs",
        "Supabase Realtime keeps PostgreSQL from stopping for a minute; there is no behavior to compare",
    ),
    ("db_down", REASON_OUTAGE),
    ("db_restart_pg", REASON_OUTAGE),
];
const REASON_NO_TENANTS: &str =
    "Rollcall serves one project; its settings belong to the process and change with a restart";
const REASON_OUTAGE: &str = "Supabase Realtime stalls for many seconds and loses changes without an error; Rollcall's behavior is \
                      tested in tests/integration: postgres_changes_faults.rs, channels_lifecycle.rs";

/// Returns the reason why a scenario is not replayed; `None` if it is.
pub fn reason_not_replayed(scenario: &str) -> Option<&'static str> {
    NOT_REPLAYED.iter().find(|(name, _)| scenario == *name).map(|(_, reason)| *reason)
}

/// Returns the recording with all deviations applied.
///
/// # Panics
///
/// If a deviation matches no event.
pub fn apply(mut recording: Recording) -> Recording {
    if recording.scenario == "server_shutdown" {
        // The recorder changed the server without a line in the recording.
        let end = recording.events.iter().position(|event| matches!(event.kind, Kind::Closed(1012)));
        let end = end.expect("a close with 1012");
        let kind = Kind::Note("stopping the server".into());
        recording.events.insert(end, Event { kind, socket: String::new(), ..recording.events[end].clone() });
    }
    for deviation in deviations() {
        if deviation.applies_to(&recording) {
            deviation.edit(&mut recording.events);
        }
    }
    recording
}

/// Checks that every deviation changes an event and has a reason.
pub fn check(recordings: &[Recording]) -> Result<(), String> {
    for deviation in deviations() {
        if !recordings.iter().any(|recording| deviation.applies_to(recording)) {
            return Err(format!("no recording named {}", deviation.scenario));
        }
        if deviation.reason.len() < 20 {
            return Err(format!("{}: the reason {:?} is too short", deviation.scenario, deviation.reason));
        }
    }
    for (scenario, _) in NOT_REPLAYED {
        if !recordings.iter().any(|recording| recording.scenario == scenario) {
            return Err(format!("no recording named {scenario}"));
        }
    }
    Ok(())
}

impl Deviation {
    fn applies_to(&self, recording: &Recording) -> bool {
        self.scenario == recording.scenario && self.version.is_none_or(|version| version == recording.version)
    }

    fn frame<'a>(&self, events: &'a mut [Event], socket: &str, part: &str) -> &'a mut Frame {
        let event = events.iter_mut().find(|event| is_received(event, socket, part));
        match event.map(|event| &mut event.kind) {
            Some(Kind::Received(frame)) => frame,
            _ => panic!("{}: {socket} never received {part}", self.scenario),
        }
    }

    fn edit(&self, events: &mut Vec<Event>) {
        let before = events.len();
        match &self.edit {
            Edit::Absent(socket, part) => {
                events.retain(|event| !is_received(event, socket, part));
                assert!(events.len() < before, "{}: {socket} never received {part}", self.scenario);
            }
            Edit::Payload(socket, part, payload) => {
                self.frame(events, socket, part).payload = payload.clone();
            }
            Edit::Additional(socket, part, frame) => {
                let sent = |event: &Event| match &event.kind {
                    Kind::Send { text, .. } => event.socket == *socket && text.contains(part),
                    Kind::SendBytes(bytes) => {
                        event.socket == *socket && String::from_utf8_lossy(bytes).contains(part)
                    }
                    _ => is_sent(event, part),
                };
                let at = events.iter().position(sent);
                let at = at.unwrap_or_else(|| panic!("{}: {socket} never sent {part}", self.scenario));
                let path = events.iter().find_map(|event| match &event.kind {
                    Kind::Connect { path, .. } if event.socket == *socket => Some(path.clone()),
                    _ => None,
                });
                let [join_ref, reference, topic, event, payload] = frame.clone();
                let old = version_in(&path.expect("it was opened")) == SerializerVersion::V1;
                let frame = Frame {
                    join_ref: if old { Value::Null } else { join_ref },
                    reference,
                    topic,
                    event: event.as_str().expect("text").to_owned(),
                    payload,
                    data: None,
                    text: String::new(),
                };
                let kind = Kind::Received(frame);
                let next = events[at + 1..].iter().position(|event| event.kind.is_action());
                let end = next.map_or(events.len(), |next| at + 1 + next);
                events.insert(end, Event { kind, socket: (*socket).to_owned(), ..events[at].clone() });
            }
            Edit::Response(part, status, body) => {
                let at = events.iter().position(|event| is_sent(event, part));
                let at = at.unwrap_or_else(|| panic!("{}: no request contains {part}", self.scenario));
                let next_response = events[at..].iter_mut().find_map(|event| match &mut event.kind {
                    Kind::Response { status, headers, body } => Some((status, headers, body)),
                    _ => None,
                });
                let response = next_response.expect("a request has a response");
                (*response.0, *response.2) = (*status, (*body).to_owned());
                response.1.clear();
            }
            Edit::Handshake(socket, outcome) => {
                let kind = match outcome {
                    None => Kind::Opened,
                    Some((status, body)) => Kind::Refused { status: *status, body: (*body).to_owned() },
                };
                let at = events.iter().position(|event| {
                    event.socket == *socket && matches!(event.kind, Kind::Opened | Kind::Refused { .. })
                });
                let at = at.unwrap_or_else(|| panic!("{}: {socket} never connected", self.scenario));
                events[at].kind = kind;
                let mut index = 0;
                events.retain(|event| {
                    index += 1;
                    event.socket != *socket || index - 1 <= at
                });
            }
            Edit::Reference(socket, part, reference) => {
                self.frame(events, socket, part).reference = reference.clone()
            }
            Edit::JoinRef(socket, part, join_ref) => {
                self.frame(events, socket, part).join_ref = join_ref.clone()
            }
            Edit::Field(socket, part, name, value) => {
                self.frame(events, socket, part).payload[*name] = value.clone()
            }
            Edit::OpenChannelReply(socket, part, join_ref, payload) => {
                let frame = self.frame(events, socket, part);
                (frame.join_ref, frame.payload) = (json!(join_ref), payload.clone());
            }
        }
    }
}

/// Whether the event is a request or text that contains `part`.
fn is_sent(event: &Event, part: &str) -> bool {
    let Kind::Request { method, path, body, headers } = &event.kind else { return false };
    let body = body.as_deref().unwrap_or_default();
    format!("{method} {path} {body} {}", Value::from(headers.clone())).contains(part)
}

fn is_received(event: &Event, socket: &str, part: &str) -> bool {
    matches!(&event.kind, Kind::Received(frame) if event.socket == socket && format!("{frame:?}").contains(part))
}

fn refused_upgrade(reason: &str) -> Value {
    json!({"status": "error", "response": {"reason": reason}})
}

/// Returns every deviation with its scenario, reason and edit.
fn deviations() -> Vec<Deviation> {
    use Edit::{Absent, Additional, Handshake, Payload, Response};
    let both = |scenario, reason, edits: Vec<Edit>| deviation(scenario, None, reason, edits);
    let only =
        |scenario, version, reason, edits: Vec<Edit>| deviation(scenario, Some(version), reason, edits);
    [
        both(
            "bad_json",
            "A numeric topic names no channel; the frame is malformed like the others in this recording",
            vec![Absent("A", ",5,\"phx_reply\",")],
        ),
        only(
            "bad_json",
            "2.0.0",
            "A payload that is not an object is rejected; the channel of Supabase Realtime crashes",
            vec![
                Absent("A", "\"phx_error\""),
                Additional("A", "\"broadcast\",\"str\"]", [
                    json!("1"), json!("11"), json!("realtime:bj"), json!("phx_reply"),
                    refused_upgrade("Broadcast payload must be a map"),
                ]),
                Edit::OpenChannelReply("A", "\"12\"", "1", refused_upgrade("Broadcast payload must be a map")),
                Edit::OpenChannelReply("A", "\"13\"", "1", refused_upgrade("Broadcast payload must be a map")),
            ],
        ),
        only(
            "bad_json",
            "1.0.0",
            "A payload that is not an object is rejected: supabase-js throws when it receives one",
            vec![
                Absent("A", "\"broadcast\",\"str\"]"),
                Absent("A", "\"broadcast\",[1]]"),
                Absent("A", "\"broadcast\",null]"),
                Payload("A", "\"11\"", refused_upgrade("Broadcast payload must be a map")),
                Payload("A", "\"12\"", refused_upgrade("Broadcast payload must be a map")),
                Payload("A", "\"13\"", refused_upgrade("Broadcast payload must be a map")),
            ],
        ),
        only(
            "bad_json",
            "1.0.0",
            "Version 1 has no binary frames; Supabase Realtime decodes them as text, which no client relies on",
            vec![Absent("A", "[null,\"1\",\"phoenix\"")],
        ),
        both(
            "heartbeat",
            "Every client sends refs as strings; a numeric ref is a malformed frame",
            vec![Absent("A", "[null,12,\"phoenix\"")],
        ),
        only(
            "broadcast_binary",
            "2.0.0",
            "Invalid JSON would break every version 1 receiver, and kind 0 would be sent as a kind that no client \
             decodes: both are malformed and dropped",
            vec![
                Absent("A", "badjson"),
                Absent("B_v2", "badjson"),
                Absent("C_v1", "badjson"),
                Absent("A", "[\"1\",\"5\","),
                Absent("A", "rawbytes"),
                Absent("B_v2", "rawbytes"),
                Absent("C_v1", "%{error}"),
                Absent("A", "[\"1\",\"10\","),
            ],
        ),
        only(
            "broadcast_binary",
            "2.0.0",
            "An empty ref in a binary frame means no ref, and the reply has none",
            vec![Edit::Reference("A", "[\"1\",\"\",", Value::Null)],
        ),
        both(
            "broadcast_large",
            "Every client can decode an object in a reply; realtime-py drops the plain text of Supabase Realtime",
            vec![Payload("A", "payload_size_exceeded", refused_upgrade("payload_size_exceeded"))],
        ),
        both(
            "limit_payload",
            "Every client can decode an object in a reply; realtime-py drops the plain text of Supabase Realtime",
            vec![Payload("A", "\"response\":\"payload_size_exceeded\"", refused_upgrade("payload_size_exceeded"))],
        ),
        only(
            "limit_payload",
            "2.0.0",
            "The same for the binary broadcast, which version 1 does not have",
            vec![Payload("A", "\"response\":\"payload_size_exceeded\"", refused_upgrade("payload_size_exceeded"))],
        ),
        both(
            "connect_errors",
            "Rollcall serves one project under any host name",
            vec![Handshake("unknown_tenant", None), Handshake("host_127.0.0.1", None)],
        ),
        both(
            "connect_errors",
            "Rollcall also serves the path that Supabase's gateway adds in front of Realtime",
            vec![Handshake("wrong_path_2", None)],
        ),
        both(
            "connect_errors",
            "HTTP errors use Rollcall's error envelope",
            vec![
                Handshake("wrong_path", Some((404, NOT_FOUND))),
                Response(
                    "GET /socket/websocket",
                    400,
                    r#"{"error":"this endpoint is a WebSocket; send the headers Connection: Upgrade and Upgrade: websocket"}"#,
                ),
            ],
        ),
        both(
            "join_validation",
            "The error names the invalid field; Supabase Realtime returns a stack trace",
            vec![
                Payload("A", "realtime:val_bcast_list", refused_upgrade("UnknownErrorOnChannel: broadcast must be an object")),
                Payload("A", "realtime:val_bcast_str", refused_upgrade("UnknownErrorOnChannel: broadcast must be an object")),
                Payload("A", "realtime:val_cfg_str", refused_upgrade("UnknownErrorOnChannel: config must be an object")),
                Payload("A", "realtime:val_cfg_list", refused_upgrade("UnknownErrorOnChannel: config must be an object")),
                Payload("A", "realtime:val_payload_list", refused_upgrade("UnknownErrorOnChannel: the payload must be an object")),
                Payload("A", "realtime:val_payload_str", refused_upgrade("UnknownErrorOnChannel: the payload must be an object")),
            ],
        ),
        both(
            "join_validation",
            "A channel with private: \"yes\" must not become public",
            vec![Payload("A", "realtime:val_private_str", refused_upgrade("InvalidJoinPayload: private must be true or false"))],
        ),
        both(
            "limit_users",
            "A socket counts from its handshake on, so that the limit is exact",
            vec![Handshake("B", Some((429, r#"{"error":"Too many connected users"}"#)))],
        ),
        both(
            "token_refresh_bad_signature",
            "The message describes the error; Supabase Realtime returns an internal name",
            vec![
                Edit::Field("A", ":signature_error", "message", json!("Failed to validate JWT signature")),
                Edit::Field("A", ":signature_error", "message", json!("Failed to validate JWT signature")),
            ],
        ),
        only(
            "presence_leave",
            "1.0.0",
            "The leaving client does not receive its own leave; in Supabase Realtime this depends on timing",
            vec![Absent("A", "\"leaves\":{\"alice\"")],
        ),
        both(
            "private_presence_denied",
            "A client with ack gets a reply when a broadcast is rejected, instead of a timeout",
            vec![Additional("A", "\"9\"", [
                json!("7"), json!("9"), json!("realtime:room:presonly:1"), json!("phx_reply"),
                refused_upgrade("Unauthorized: You do not have permissions to write to this Channel topic: room:presonly:1"),
            ])],
        ),
        only(
            "private_presence_denied",
            "2.0.0",
            "Diffs are encoded once for all members, without a join_ref; clients accept this for every fan-out",
            vec![Edit::JoinRef("A", "[\"12\",null,\"realtime:room:full:p\",\"presence_diff\"", Value::Null)],
        ),
        only(
            "replay",
            "1.0.0",
            "A time in the far future is valid like tomorrow, which Supabase Realtime accepts: the replay is empty",
            vec![
                Payload("A", "\"19\"", json!({"status": "ok", "response": {"postgres_changes": []}})),
                Additional("A", "\"20\"", [
                    json!("19"), json!("19"), json!("realtime:room:full:replay1"), json!("phx_close"), json!({}),
                ]),
            ],
        ),
        only(
            "replay",
            "2.0.0",
            "A time in the far future is valid like tomorrow, which Supabase Realtime accepts: the replay is empty",
            vec![
                Payload("A", "\"19\"", json!({"status": "ok", "response": {"postgres_changes": []}})),
                Additional("A", "\"20\"", [
                    json!("19"), json!("19"), json!("realtime:room:full:replay2"), json!("phx_close"), json!({}),
                ]),
            ],
        ),
        only(
            "replay",
            "1.0.0",
            "A list is not a valid time: it is rejected like an empty object instead of being ignored",
            vec![
                Payload("A", "\"25\"", refused_upgrade("UnableToReplayMessages: Replay params are not valid")),
                Absent("A", "\"25\",\"realtime:room:full:replay1\",\"phx_close\""),
            ],
        ),
        only(
            "replay",
            "2.0.0",
            "A list is not a valid time: it is rejected like an empty object instead of being ignored",
            vec![
                Payload("A", "\"25\"", refused_upgrade("UnableToReplayMessages: Replay params are not valid")),
                Absent("A", "\"25\",\"realtime:room:full:replay2\",\"phx_close\""),
            ],
        ),
        both(
            "rest_broadcast",
            "The error describes the invalid body in Rollcall's error envelope",
            vec![Response(
                "{bad",
                400,
                r##"{"success":false,"error":"INVALID_REQUEST","message":"the body is not valid JSON","statusCode":400,"doc_url":"/docs/errors#INVALID_REQUEST"}"##,
            )],
        ),
        both(
            "rest_broadcast",
            "Rollcall serves one project under any host name",
            vec![
                Response("nosuch.localhost", 202, ""),
                Additional("A", "nosuch.localhost", [
                    Value::Null, Value::Null, json!("realtime:rest1"), json!("broadcast"),
                    json!({"type": "broadcast", "event": "ev", "payload": {"n": 1}}),
                ]),
            ],
        ),
        both(
            "rest_broadcast",
            "CORS preflight requests succeed without a gateway in front",
            vec![Response("OPTIONS", 200, "")],
        ),
        both(
            "pg_rls",
            "A subscriber whose role no policy allows to select is told so on join, instead of waiting for events that never arrive",
            vec![Additional("ANON", "phx_join", [
                json!("1"), Value::Null, json!("realtime:rls"), json!("system"),
                json!({
                    "message": "row-level security of public.todos is on, and no policy lets the role anon select: none of its INSERTs and UPDATEs come",
                    "status": "ok", "extension": "postgres_changes", "channel": "rls",
                }),
            ])],
        ),
        both(
            "private_write_denied",
            "A client with ack gets a reply when a broadcast is rejected, instead of a timeout",
            vec![Additional("A", "\"event\":\"x\"", [
                json!("1"), json!("2"), json!("realtime:room:readonly:1"), json!("phx_reply"),
                refused_upgrade("Unauthorized: You do not have permissions to write to this Channel topic: room:readonly:1"),
            ])],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const NOT_FOUND: &str = r##"{"success":false,"error":"NOT_FOUND","message":"not found","statusCode":404,"doc_url":"/docs/errors#NOT_FOUND"}"##;

fn deviation(
    scenario: &'static str,
    version: Option<&'static str>,
    reason: &'static str,
    edits: Vec<Edit>,
) -> Vec<Deviation> {
    edits.into_iter().map(|edit| Deviation { scenario, version, reason, edit }).collect()
}
