//! The presence socket of iOS and web clients, `/api/presence/subscribe`.
//!
//! Its clients know three statuses, so `status` carries the reach and `availability` the full status. There are no
//! acknowledgements: a client that wants to receive its own status subscribes to its own user.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    Background, ClientMessage, Fields, Frame, FrameKind, ServerMessage, StatePosition, StatusUpdate,
    Subscription, WireError,
    json::{self, BodyField, Envelope, ParsedDeviceId, Rfc3339},
    spec::{ConnectionPolicy, DialectSpec, Framing, PresenceCodec},
};
use crate::model::{
    ConversationKey, CustomEvent, Presence, Reach, Status, TypingState, UserId, milliseconds,
};

pub(super) const SPEC: DialectSpec = DialectSpec {
    name: "presence",
    framing: Framing::WebSocket,
    max_message_bytes: 64 * 1024,
    policy: ConnectionPolicy::PRESENCE,
    presence_codec: Some(PresenceCodec { includes_other_users: true, decode, encode_into }),
};

/// The same messages as server-sent events, `/api/presence/events`. The client sends nothing.
pub(super) const EVENTS: DialectSpec = DialectSpec {
    name: "presence_events",
    framing: Framing::EventStream,
    max_message_bytes: 0,
    policy: ConnectionPolicy::EVENTS,
    presence_codec: Some(PresenceCodec {
        includes_other_users: true,
        decode,
        encode_into: encode_event_into,
    }),
};

/// Decodes one client frame.
///
/// # Errors
/// `INVALID_REQUEST` unless the frame is one of the dialect's messages, `UNPROCESSABLE` for an unknown status. The
/// message names the field.
pub fn decode(frame: Frame<'_>) -> Result<ClientMessage, WireError> {
    let envelope = Envelope::read(frame, BodyField::DATA)?;
    match envelope.message_type()? {
        "status" => status_update(envelope.fields()?, BodyField::DATA.prefix).map(ClientMessage::Status),
        "heartbeat" => envelope.heartbeat(),
        "typing" => envelope.typing(),
        "subscribe" => subscribe(envelope.fields()?),
        "auth" => envelope.auth(),
        _ => Err(json::unknown_type("status, heartbeat, typing, subscribe, auth")),
    }
}

/// Reads a status with its optional fields.
///
/// # Errors
/// Names every invalid field as `prefix` + name.
fn status_update(object: &Map<String, Value>, prefix: &'static str) -> Result<StatusUpdate, WireError> {
    let mut fields = Fields::new(object, prefix);
    let status = fields.required_enum(&["status"]);
    let device_id = fields.optional::<ParsedDeviceId>(&["device_id", "deviceId"]).map(|device| device.0);
    let custom_status = fields.nullable(&["custom_status", "customStatus"]);
    let custom_status_expires_at = fields
        .nullable::<Rfc3339>(&["custom_status_expires_at", "customStatusExpiresAt"])
        .map(|time| time.map(|time| time.0));
    let activity = fields.nullable(&["activity"]);
    let current_page = fields.nullable(&["current_page", "currentPage"]);
    let background = background(&mut fields);
    let update = status.map(|status| StatusUpdate {
        status,
        device_id,
        custom_status,
        custom_status_expires_at,
        activity,
        current_page,
        background,
    });
    fields.finish(update)
}

/// Reads whether the device goes to the background, and for how long.
pub(super) fn background(fields: &mut Fields<'_>) -> Option<Background> {
    let is_background = fields.optional_bool(&["background"]);
    let seconds =
        fields.optional_integer(&["background_seconds", "backgroundSeconds"], 1..=Background::MAX_SECONDS);
    Background::from_fields(is_background, seconds)
}

fn subscribe(data: &Map<String, Value>) -> Result<ClientMessage, WireError> {
    let mut fields = Fields::new(data, BodyField::DATA.prefix);
    const USER_IDS: &[&str] = &["user_ids", "userIds"];
    let current_page = fields.nullable(&["current_page", "currentPage"]);
    let user_ids = if current_page.is_some() {
        fields.optional_list::<UserId>(USER_IDS, Subscription::MAX_USERS)
    } else {
        fields.required_list::<UserId>(USER_IDS, Subscription::MAX_USERS)
    };
    fields.finish(Some(Subscription { user_ids, current_page })).map(ClientMessage::Subscribe)
}

/// Appends a message as JSON; `None` for acknowledgements and other messages that this dialect does not have.
pub fn encode_into(message: &ServerMessage, out: &mut Vec<u8>) -> Option<FrameKind> {
    let frame = match message {
        ServerMessage::InitialState { presences, position } => ServerFrame::InitialState {
            data: InitialState {
                presences: presences.iter().map(|presence| PresenceJson::from(&**presence)).collect(),
                resumed: position.map(|position| position.resumed),
                position: position.map(|position| position.position.to_string()),
            },
        },
        ServerMessage::Position(position) => {
            ServerFrame::Position { data: PositionPayload { position: position.to_string() } }
        }
        ServerMessage::Presence(presence) => {
            ServerFrame::PresenceUpdate { data: PresenceJson::from(&**presence) }
        }
        ServerMessage::Typing(state) => {
            ServerFrame::TypingUpdate { data: TypingPayload::from(state.clone()) }
        }
        ServerMessage::Custom(event) => ServerFrame::Broadcast { data: event },
        ServerMessage::Error(error) => ServerFrame::Error(error),
        ServerMessage::Connected(_)
        | ServerMessage::HeartbeatAck { .. }
        | ServerMessage::StatusAck(_)
        | ServerMessage::Pong
        | ServerMessage::ContextSync(_)
        | ServerMessage::BundleReady { .. } => return None,
    };
    Some(json::write_json(&frame, out))
}

/// As [`encode_into`]. The position is the ID of the event, which browsers send when they reconnect. Without a state, the
/// event has no data, and browsers only remember its ID.
fn encode_event_into(message: &ServerMessage, out: &mut Vec<u8>) -> Option<FrameKind> {
    let position = match message {
        ServerMessage::InitialState { position: Some(StatePosition { position, .. }), .. }
        | ServerMessage::Position(position) => position,
        _ => return encode_into(message, out),
    };
    out.extend_from_slice(position.to_string().as_bytes());
    out.push(b'\n');
    if matches!(message, ServerMessage::InitialState { .. }) {
        encode_into(message, out)?;
    }
    Some(FrameKind::Identified)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ServerFrame<'a> {
    InitialState { data: InitialState<'a> },
    Position { data: PositionPayload },
    PresenceUpdate { data: PresenceJson<'a> },
    TypingUpdate { data: TypingPayload },
    Broadcast { data: &'a CustomEvent },
    Error(&'a WireError),
}

#[derive(Serialize)]
struct InitialState<'a> {
    presences: Vec<PresenceJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
}

#[derive(Serialize)]
struct PositionPayload {
    position: String,
}

/// Presence of a user, as the caller may see it.
//
// The format of this dialect, on the socket and in REST.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Presence)]
pub struct PresenceJson<'a> {
    /// ID of the user this presence belongs to (UUID).
    user_id: UserId,
    /// Whether the user is reachable.
    #[schema(value_type = Reach)]
    status: &'static str,
    /// Full status of the user.
    #[schema(value_type = Status)]
    availability: &'static str,
    /// Time at which a device was last live; `null` if the user does not share it.
    #[serde(serialize_with = "milliseconds::option")]
    #[schema(required)]
    last_seen: Option<Timestamp>,
    /// Whether the user is typing in a conversation shared with the caller. Present only in lists.
    // On sockets, typing has its own frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    is_typing: Option<bool>,
    /// Custom status text of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    custom_status: Option<&'a str>,
    /// Activity text of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    activity: Option<&'a str>,
    /// Page that the user is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    current_page: Option<&'a str>,
    /// Time since which all live devices of the user have been idle.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds::option")]
    #[schema(nullable = false)]
    idle_since: Option<Timestamp>,
}

impl<'a> From<&'a Presence> for PresenceJson<'a> {
    fn from(presence: &'a Presence) -> Self {
        Self {
            user_id: presence.user_id,
            status: presence.reach.as_str(),
            availability: presence.status.as_str(),
            last_seen: presence.last_seen,
            is_typing: None,
            custom_status: presence.custom_status.as_deref(),
            activity: presence.activity.as_deref(),
            current_page: presence.current_page.as_deref(),
            idle_since: presence.idle_since,
        }
    }
}

impl PresenceJson<'_> {
    /// Sets `is_typing`.
    #[must_use]
    pub const fn with_typing(self, is_typing: bool) -> Self {
        Self { is_typing: Some(is_typing), ..self }
    }
}

#[derive(Serialize)]
struct TypingPayload {
    user_id: UserId,
    conversation_id: ConversationKey,
    is_typing: bool,
}

impl From<TypingState> for TypingPayload {
    fn from(TypingState { user_id, conversation_id, is_typing }: TypingState) -> Self {
        Self { user_id, conversation_id, is_typing }
    }
}

#[cfg(test)]
mod tests;
