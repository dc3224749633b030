//! The socket of services and devices, `/ws`.
//!
//! Every message is `{"type", "payload"}`. The full status is named `online_status`. There is no frame for the initial
//! state: the presence of each visible user, offline users included, is sent as a `presence_update` after
//! `connection_ack`. An error also has its code next to the type, as in the other dialects.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    ClientMessage, ErrorCode, Fields, Frame, FrameKind, ServerMessage, StatusUpdate, Welcome, WireError,
    json::{self, BodyField, Envelope},
    presence::background,
    spec::{ConnectionPolicy, DialectSpec, Framing, PresenceCodec},
};
use crate::model::{
    ConversationKey, CustomEvent, DeviceId, Presence, Status, TypingState, UserId, milliseconds,
};

pub(super) const SPEC: DialectSpec = DialectSpec {
    name: "devices",
    framing: Framing::WebSocket,
    max_message_bytes: 64 * 1024,
    policy: ConnectionPolicy::PRESENCE,
    presence_codec: Some(PresenceCodec { includes_other_users: true, decode, encode_into }),
};

/// Decodes one client frame.
///
/// # Errors
/// `INVALID_REQUEST` unless the frame is one of the dialect's messages, `UNPROCESSABLE` for an unknown status. The
/// message names the field.
pub fn decode(frame: Frame<'_>) -> Result<ClientMessage, WireError> {
    let envelope = Envelope::read(frame, BodyField::PAYLOAD)?;
    match envelope.message_type()? {
        "presence_update" => presence_update(envelope.fields()?),
        "heartbeat" | "presence_heartbeat" => envelope.heartbeat(),
        "typing" => envelope.typing(),
        "ping" => Ok(ClientMessage::Ping),
        "auth" => envelope.auth(),
        _ => Err(json::unknown_type("presence_update, heartbeat, presence_heartbeat, typing, ping, auth")),
    }
}

fn presence_update(payload: &Map<String, Value>) -> Result<ClientMessage, WireError> {
    let mut fields = Fields::new(payload, BodyField::PAYLOAD.prefix);
    let status = fields.required_enum(&["online_status", "onlineStatus"]);
    let custom_status = fields.nullable(&["custom_status", "customStatus"]);
    let background = background(&mut fields);
    let update =
        status.map(|status| StatusUpdate { custom_status, background, ..StatusUpdate::with_status(status) });
    fields.finish(update).map(ClientMessage::Status)
}

/// Appends a message as JSON; `None` for messages that this dialect does not have.
pub fn encode_into(message: &ServerMessage, out: &mut Vec<u8>) -> Option<FrameKind> {
    let frame = match message {
        ServerMessage::Connected(welcome) => ServerFrame::ConnectionAck(ConnectionAckPayload::from(welcome)),
        ServerMessage::InitialState { presences, .. } => {
            for presence in presences {
                json::write_json(&ServerFrame::PresenceUpdate(PresenceJson::from(&**presence)), out);
                out.push(b'\n');
            }
            return Some(FrameKind::TextLines);
        }
        ServerMessage::Presence(presence) => ServerFrame::PresenceUpdate(PresenceJson::from(&**presence)),
        ServerMessage::Typing(state) => ServerFrame::TypingIndicator(TypingPayload::from(state.clone())),
        ServerMessage::HeartbeatAck { server_time } => {
            ServerFrame::HeartbeatAck { server_time: *server_time }
        }
        ServerMessage::StatusAck(own) => ServerFrame::PresenceUpdateAck {
            online_status: own.status,
            custom_status: own.custom_status.as_deref(),
        },
        ServerMessage::Custom(event) => ServerFrame::Broadcast(event),
        ServerMessage::Pong => ServerFrame::Pong {},
        ServerMessage::Error(error) => {
            let retry_after_ms = error.retry_after_ms;
            return Some(json::write_json(
                &ErrorFrame { kind: "error", code: error.code, retry_after_ms, payload: error },
                out,
            ));
        }
        ServerMessage::ContextSync(_) | ServerMessage::BundleReady { .. } | ServerMessage::Position(_) => {
            return None;
        }
    };
    Some(json::write_json(&frame, out))
}

#[derive(Serialize)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
enum ServerFrame<'a> {
    ConnectionAck(ConnectionAckPayload<'a>),
    PresenceUpdateAck {
        online_status: Status,
        custom_status: Option<&'a str>,
    },
    HeartbeatAck {
        #[serde(serialize_with = "milliseconds::serialize")]
        server_time: Timestamp,
    },
    PresenceUpdate(PresenceJson<'a>),
    TypingIndicator(TypingPayload),
    Broadcast(&'a CustomEvent),
    Pong {},
}

#[derive(Serialize)]
struct ErrorFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: ErrorCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    payload: &'a WireError,
}

#[derive(Serialize)]
struct ConnectionAckPayload<'a> {
    client_id: Uuid,
    user_id: UserId,
    device_id: &'a DeviceId,
    #[serde(serialize_with = "milliseconds::serialize")]
    server_time: Timestamp,
    heartbeat_interval_ms: u64,
}

impl<'a> From<&'a Welcome> for ConnectionAckPayload<'a> {
    fn from(welcome: &'a Welcome) -> Self {
        Self {
            client_id: welcome.client_id,
            user_id: welcome.user_id,
            device_id: &welcome.device_id,
            server_time: welcome.server_time,
            heartbeat_interval_ms: u64::try_from(welcome.heartbeat_interval.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A presence in the format of this dialect.
#[derive(Debug, Serialize)]
pub struct PresenceJson<'a> {
    user_id: UserId,
    online_status: Status,
    custom_status: Option<&'a str>,
    #[serde(serialize_with = "milliseconds::option")]
    last_seen_at: Option<Timestamp>,
}

impl<'a> From<&'a Presence> for PresenceJson<'a> {
    fn from(presence: &'a Presence) -> Self {
        Self {
            user_id: presence.user_id,
            online_status: presence.status,
            custom_status: presence.custom_status.as_deref(),
            last_seen_at: presence.last_seen,
        }
    }
}

#[derive(Serialize)]
struct TypingPayload {
    conversation_id: ConversationKey,
    user_id: UserId,
    is_typing: bool,
}

impl From<TypingState> for TypingPayload {
    fn from(TypingState { user_id, conversation_id, is_typing }: TypingState) -> Self {
        Self { conversation_id, user_id, is_typing }
    }
}

#[cfg(test)]
mod tests;
