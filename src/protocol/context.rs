//! The socket of the context engine's clients, `/api/v1/context/ws`.
//!
//! It sends the context of a device to the user's other devices and announces compiled bundles. It has no messages
//! about other users' presence. Times are milliseconds since 1970, names are camelCase.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    ClientMessage, ContextUpdate, Fields, Frame, FrameKind, ServerMessage, StatusUpdate, WireError,
    json::{self, BodyField, BoundedText, Envelope, ParsedDeviceId},
    spec::{ConnectionPolicy, DialectSpec, Framing, PresenceCodec},
};
use crate::model::{ConversationId, CustomEvent, DeviceContext, DeviceId, NotebookId, PersonaId};

pub(super) const SPEC: DialectSpec = DialectSpec {
    name: "context",
    framing: Framing::WebSocket,
    max_message_bytes: 64 * 1024,
    policy: ConnectionPolicy::PRESENCE,
    presence_codec: Some(PresenceCodec { includes_other_users: false, decode, encode_into }),
};

/// The same maximum as for the page of a status.
const MAX_PATH_CHARS: usize = StatusUpdate::MAX_PAGE_CHARS;

/// Decodes one client frame.
///
/// # Errors
/// `INVALID_REQUEST` unless the frame is one of the dialect's messages. The message names the field.
pub fn decode(frame: Frame<'_>) -> Result<ClientMessage, WireError> {
    let envelope = Envelope::read(frame, BodyField::DATA)?;
    match envelope.message_type()? {
        "presence_update" => {
            context_update(envelope.fields()?, BodyField::DATA.prefix).map(ClientMessage::Context)
        }
        "heartbeat" => envelope.heartbeat(),
        "typing" => envelope.typing(),
        "auth" => envelope.auth(),
        _ => Err(json::unknown_type("presence_update, heartbeat, typing, auth")),
    }
}

/// Reads a context update.
///
/// # Errors
/// Names every invalid field as `prefix` + name.
fn context_update(object: &Map<String, Value>, prefix: &'static str) -> Result<ContextUpdate, WireError> {
    let mut fields = Fields::new(object, prefix);
    let device_id = fields.required::<ParsedDeviceId>(&["deviceId", "device_id"]);
    let active_conversation_id = fields.nullable(&["activeConversationId", "active_conversation_id"]);
    let visible_conversation_ids = fields
        .optional_list(&["visibleConversationIds", "visible_conversation_ids"], DeviceContext::MAX_VISIBLE);
    let active_notebook_id = fields.nullable(&["activeNotebookId", "active_notebook_id"]);
    let active_persona_id = fields.nullable(&["activePersonaId", "active_persona_id"]);
    let last_navigation_path =
        fields.nullable::<BoundedText<MAX_PATH_CHARS>>(&["lastNavigationPath", "last_navigation_path"]);
    let local_time = fields.nullable(&["localTime", "local_time"]);
    let update = device_id.map(|ParsedDeviceId(device_id)| ContextUpdate {
        device_id,
        active_conversation_id,
        visible_conversation_ids,
        active_notebook_id,
        active_persona_id,
        last_navigation_path: last_navigation_path.map(|path| path.map(|BoundedText(path)| path)),
        local_time,
    });
    fields.finish_plain(update)
}

/// Appends a message as JSON; `None` for messages that this dialect does not have.
pub fn encode_into(message: &ServerMessage, out: &mut Vec<u8>) -> Option<FrameKind> {
    let frame = match message {
        ServerMessage::HeartbeatAck { server_time } => {
            ServerFrame::HeartbeatAck { timestamp: server_time.as_millisecond() }
        }
        ServerMessage::ContextSync(context) => ServerFrame::PresenceSync {
            data: ContextPayload::from(&**context),
            timestamp: context.updated_at.as_millisecond(),
        },
        ServerMessage::BundleReady { bundle_type, bundle_id, version } => ServerFrame::BundleReady {
            data: BundlePayload { bundle_type, bundle_id: *bundle_id, version: *version },
        },
        ServerMessage::Custom(event) => ServerFrame::Broadcast { data: event },
        ServerMessage::Error(error) => ServerFrame::Error(error),
        ServerMessage::Connected(_)
        | ServerMessage::InitialState { .. }
        | ServerMessage::Position(_)
        | ServerMessage::Presence(_)
        | ServerMessage::Typing(_)
        | ServerMessage::StatusAck(_)
        | ServerMessage::Pong => return None,
    };
    Some(json::write_json(&frame, out))
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ServerFrame<'a> {
    HeartbeatAck { timestamp: i64 },
    PresenceSync { data: ContextPayload<'a>, timestamp: i64 },
    BundleReady { data: BundlePayload<'a> },
    Broadcast { data: &'a CustomEvent },
    Error(&'a WireError),
}

/// The complete context of another device; unset fields are `null`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContextPayload<'a> {
    device_id: &'a DeviceId,
    active_conversation_id: Option<ConversationId>,
    visible_conversation_ids: &'a [ConversationId],
    active_notebook_id: Option<NotebookId>,
    active_persona_id: Option<PersonaId>,
    last_navigation_path: Option<&'a str>,
    local_time: Option<&'a str>,
}

impl<'a> From<&'a DeviceContext> for ContextPayload<'a> {
    fn from(context: &'a DeviceContext) -> Self {
        Self {
            device_id: &context.device_id,
            active_conversation_id: context.active_conversation_id,
            visible_conversation_ids: &context.visible_conversation_ids,
            active_notebook_id: context.active_notebook_id,
            active_persona_id: context.active_persona_id,
            last_navigation_path: context.last_navigation_path.as_deref(),
            local_time: context.local_time.as_deref(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BundlePayload<'a> {
    bundle_type: &'a str,
    bundle_id: Uuid,
    version: i64,
}

#[cfg(test)]
mod tests;
