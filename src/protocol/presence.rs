//! Source B: the presence socket of iOS and web clients, `/api/presence/subscribe`.
//!
//! Its clients know three statuses, so `status` is the reach and `availability` the full value. It has no
//! acknowledgements: a status comes back as the user's own `presence_update`.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    ClientMessage, ErrorCode, FieldError, Fields, Frame, FrameKind, ServerMessage, StatusUpdate,
    Subscription, Token, WireError, fields::kind,
};
use crate::model::{ConversationId, CustomEvent, DeviceId, InvalidDeviceId, Presence, TypingState, UserId};
use jiff::Timestamp;

/// Reads one frame of a client.
///
/// # Errors
/// `INVALID_REQUEST` for whatever is not one of the dialect's messages, `UNPROCESSABLE` for a status that does
/// not exist; the message names the field.
pub fn decode(frame: Frame<'_>) -> Result<ClientMessage, WireError> {
    let Frame::Text(text) = frame else {
        return Err(WireError::new(
            ErrorCode::InvalidRequest,
            "Binary frames are not part of this protocol.",
        ));
    };
    let message: Map<String, Value> = match serde_json::from_str(text) {
        Ok(Value::Object(message)) => message,
        Ok(other) => {
            let message = format!("The message must be a JSON object, not {}.", kind(&other));
            return Err(WireError::new(ErrorCode::InvalidRequest, message));
        }
        Err(error) => {
            let message = format!("The message is not valid JSON: {error}.");
            return Err(WireError::new(ErrorCode::InvalidRequest, message));
        }
    };
    let mut envelope = Fields::new(&message, "");
    let Some(kind) = envelope.required_text(&["type"]) else {
        return envelope.finish_plain(None);
    };
    match kind {
        "status" => status_update(data(&message)?, "data.").map(ClientMessage::Status),
        "heartbeat" => heartbeat(&message),
        "typing" => typing(data(&message)?),
        "subscribe" => subscribe(data(&message)?),
        "auth" => {
            let token = envelope.required_text(&["token"]);
            envelope
                .finish_plain(token.map(|token| ClientMessage::Authenticate(Token::new(token.to_owned()))))
        }
        _ => Err(WireError::field(
            ErrorCode::InvalidRequest,
            FieldError::new("type", "must be one of status, heartbeat, typing, subscribe, auth"),
        )),
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

/// Lets a device id be read like every other text.
pub struct ParsedDevice(pub DeviceId);

impl std::str::FromStr for ParsedDevice {
    type Err = InvalidDeviceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DeviceId::try_from(text).map(Self)
    }
}

fn data(message: &Map<String, Value>) -> Result<&Map<String, Value>, WireError> {
    let wrong = |what| Err(WireError::field(ErrorCode::InvalidRequest, FieldError::new("data", what)));
    match message.get("data") {
        Some(Value::Object(data)) => Ok(data),
        Some(other) => wrong(format!("must be an object, not {}", kind(other))),
        None => wrong("is required".to_owned()),
    }
}

fn heartbeat(message: &Map<String, Value>) -> Result<ClientMessage, WireError> {
    // A bare heartbeat is the rule, so `data` may be missing here.
    if matches!(message.get("data"), None | Some(Value::Null)) {
        return Ok(ClientMessage::Heartbeat { active: None });
    }
    let mut fields = Fields::new(data(message)?, "data.");
    let active = fields.optional_bool(&["active"]);
    fields.finish_plain(Some(ClientMessage::Heartbeat { active }))
}

fn typing(data: &Map<String, Value>) -> Result<ClientMessage, WireError> {
    let mut fields = Fields::new(data, "data.");
    let conversation_id = fields.required::<ConversationId>(&["conversation_id", "conversationId"]);
    let is_typing = fields.required_bool(&["is_typing", "isTyping"]);
    let message = conversation_id
        .zip(is_typing)
        .map(|(conversation_id, is_typing)| ClientMessage::Typing { conversation_id, is_typing });
    fields.finish_plain(message)
}

fn subscribe(data: &Map<String, Value>) -> Result<ClientMessage, WireError> {
    let mut fields = Fields::new(data, "data.");
    let user_ids = fields.required_list::<UserId>(&["user_ids", "userIds"], Subscription::MAX_USERS);
    fields.finish(user_ids.map(|user_ids| Subscription { user_ids })).map(ClientMessage::Subscribe)
}

/// Appends a message's JSON; `None` for acknowledgements, which this dialect does not have.
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
        ServerMessage::Error(error) => Spoken::Error {
            code: error.code,
            message: &error.message,
            retry_after_ms: error.retry_after_ms,
            details: &error.details,
        },
        ServerMessage::HeartbeatAck { .. } | ServerMessage::StatusAck(_) => return None,
    };
    serde_json::to_writer(out, &spoken).expect("strings, ids and numbers written to memory cannot fail");
    Some(FrameKind::Text)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Spoken<'a> {
    InitialState {
        data: InitialState<'a>,
    },
    PresenceUpdate {
        data: Shown<'a>,
    },
    TypingUpdate {
        data: Typing,
    },
    Broadcast {
        data: &'a CustomEvent,
    },
    Error {
        code: ErrorCode,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        details: &'a [FieldError],
    },
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
    #[serde(serialize_with = "milliseconds")]
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
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
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

/// RFC 3339 in UTC with three decimals: what `Date.toISOString` gives, and what every client's parser takes.
#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn milliseconds<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&format_args!("{time:.3}")),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests;
