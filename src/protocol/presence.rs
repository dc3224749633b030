//! Source B: the presence socket of iOS and web clients, `/api/presence/subscribe`.
//!
//! Its clients know three statuses, so `status` is the reach and `availability` the full value. It has no
//! acknowledgements: whoever wants to hear of the own status follows oneself.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

pub use super::json::ParsedDevice;
use super::{
    ClientMessage, Fields, Frame, FrameKind, ServerMessage, StatusUpdate, Subscription, WireError,
    dialect::{Language, Manners, Words},
    json::{self, Envelope, Part},
};
use crate::model::{ConversationId, CustomEvent, Presence, TypingState, UserId, milliseconds};

/// The dialect.
pub(super) const LANGUAGE: Language = Language {
    name: "presence",
    max_message_bytes: 64 * 1024,
    manners: Manners::PRESENCE,
    words: Some(Words { tells_of_others: true, decode, encode_into }),
};

/// Reads one frame of a client.
///
/// # Errors
/// `INVALID_REQUEST` for whatever is not one of the dialect's messages, `UNPROCESSABLE` for a status that does
/// not exist; the message names the field.
pub fn decode(frame: Frame<'_>) -> Result<ClientMessage, WireError> {
    let envelope = Envelope::read(frame, Part::DATA)?;
    match envelope.kind()? {
        "status" => status_update(envelope.fields()?, Part::DATA.prefix).map(ClientMessage::Status),
        "heartbeat" => envelope.heartbeat(),
        "typing" => envelope.typing(),
        "subscribe" => subscribe(envelope.fields()?),
        "auth" => envelope.auth(),
        _ => Err(json::unknown_type("status, heartbeat, typing, subscribe, auth")),
    }
}

/// Reads a status with what goes with it; REST bodies have the same fields, with an empty `prefix`.
///
/// # Errors
/// Names every field that is wrong, as `prefix` + name.
pub fn status_update(object: &Map<String, Value>, prefix: &'static str) -> Result<StatusUpdate, WireError> {
    let mut fields = Fields::new(object, prefix);
    let status = fields.required_word(&["status"]);
    let device_id = fields.optional::<ParsedDevice>(&["device_id", "deviceId"]).map(|device| device.0);
    let custom_status = fields.nullable(&["custom_status", "customStatus"]);
    let custom_status_expires_at = fields.nullable(&["custom_status_expires_at", "customStatusExpiresAt"]);
    let activity = fields.nullable(&["activity"]);
    let current_page = fields.nullable(&["current_page", "currentPage"]);
    let update = status.map(|status| StatusUpdate {
        status,
        device_id,
        custom_status,
        custom_status_expires_at,
        activity,
        current_page,
    });
    fields.finish(update)
}

fn subscribe(data: &Map<String, Value>) -> Result<ClientMessage, WireError> {
    let mut fields = Fields::new(data, Part::DATA.prefix);
    let user_ids = fields.required_list::<UserId>(&["user_ids", "userIds"], Subscription::MAX_USERS);
    fields.finish(user_ids.map(|user_ids| Subscription { user_ids })).map(ClientMessage::Subscribe)
}

/// Appends a message's JSON; `None` for acknowledgements and what else this dialect does not have.
pub fn encode_into(message: &ServerMessage, out: &mut Vec<u8>) -> Option<FrameKind> {
    let spoken = match message {
        ServerMessage::InitialState(presences) => Spoken::InitialState {
            data: InitialState {
                presences: presences.iter().map(|presence| Shown::from(&**presence)).collect(),
            },
        },
        ServerMessage::Presence(presence) => Spoken::PresenceUpdate { data: Shown::from(&**presence) },
        ServerMessage::Typing(state) => Spoken::TypingUpdate { data: Typing::from(*state) },
        ServerMessage::Custom(event) => Spoken::Broadcast { data: event },
        ServerMessage::Error(error) => Spoken::Error(error),
        ServerMessage::Connected(_)
        | ServerMessage::HeartbeatAck { .. }
        | ServerMessage::StatusAck(_)
        | ServerMessage::Pong
        | ServerMessage::ContextSync(_)
        | ServerMessage::BundleReady { .. } => return None,
    };
    Some(json::write(&spoken, out))
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Spoken<'a> {
    InitialState { data: InitialState<'a> },
    PresenceUpdate { data: Shown<'a> },
    TypingUpdate { data: Typing },
    Broadcast { data: &'a CustomEvent },
    Error(&'a WireError),
}

#[derive(Serialize)]
struct InitialState<'a> {
    presences: Vec<Shown<'a>>,
}

/// A presence in source B's shape, on sockets and in REST.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    user_id: UserId,
    status: &'static str,
    availability: &'static str,
    #[serde(serialize_with = "milliseconds::option")]
    last_seen: Option<Timestamp>,
    /// Only in lists over REST; on sockets typing has frames of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_typing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_page: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds::option")]
    idle_since: Option<Timestamp>,
}

impl<'a> From<&'a Presence> for Shown<'a> {
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

impl Shown<'_> {
    /// The same with whether the user types.
    #[must_use]
    pub const fn typing(self, is_typing: bool) -> Self {
        Self { is_typing: Some(is_typing), ..self }
    }
}

#[derive(Serialize)]
struct Typing {
    user_id: UserId,
    conversation_id: ConversationId,
    is_typing: bool,
}

impl From<TypingState> for Typing {
    fn from(TypingState { user_id, conversation_id, is_typing }: TypingState) -> Self {
        Self { user_id, conversation_id, is_typing }
    }
}

#[cfg(test)]
mod tests;
