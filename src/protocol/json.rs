//! Shared code of the dialects that use JSON objects with a `type`.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    ClientMessage, ErrorCode, FieldError, Fields, Frame, FrameKind, Token, WireError, fields::json_type,
};
use crate::model::{DeviceId, InvalidDeviceId};

/// The key of a message's fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyField {
    name: &'static str,
    /// Prefix of field names in errors.
    pub prefix: &'static str,
}

impl BodyField {
    /// Used by the context and presence dialects.
    pub(super) const DATA: Self = Self { name: "data", prefix: "data." };
    /// Used by the devices dialect.
    pub(super) const PAYLOAD: Self = Self { name: "payload", prefix: "payload." };
}

/// The common form of client messages: an object with a `type` and an object of fields under one key.
#[derive(Debug)]
pub(super) struct Envelope {
    object: Map<String, Value>,
    body: BodyField,
}

impl Envelope {
    /// Parses a frame.
    ///
    /// # Errors
    /// `INVALID_REQUEST` unless the frame is text with a JSON object.
    pub(super) fn read(frame: Frame<'_>, body: BodyField) -> Result<Self, WireError> {
        let invalid = |message: String| Err(WireError::new(ErrorCode::InvalidRequest, message));
        let Frame::Text(text) = frame else {
            return invalid("Binary frames are not part of this protocol.".to_owned());
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Ok(Self { object, body }),
            Ok(other) => invalid(format!("The message must be a JSON object, not {}.", json_type(&other))),
            Err(error) => invalid(format!("The message is not valid JSON: {error}.")),
        }
    }

    /// Returns the `type` field.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it is missing.
    pub(super) fn message_type(&self) -> Result<&str, WireError> {
        let mut fields = Fields::new(&self.object, "");
        let kind = fields.required_text(&["type"]);
        fields.finish_plain(kind)
    }

    /// Returns the object of fields.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it is missing or not an object.
    pub(super) fn fields(&self) -> Result<&Map<String, Value>, WireError> {
        let BodyField { name, .. } = self.body;
        let invalid = |what| Err(WireError::field(ErrorCode::InvalidRequest, FieldError::new(name, what)));
        match self.object.get(name) {
            Some(Value::Object(fields)) => Ok(fields),
            Some(other) => invalid(format!("must be an object, not {}", json_type(other))),
            None => invalid("is required".to_owned()),
        }
    }

    /// Decodes a heartbeat, with or without `active`.
    pub(super) fn heartbeat(&self) -> Result<ClientMessage, WireError> {
        if matches!(self.object.get(self.body.name), None | Some(Value::Null)) {
            return Ok(ClientMessage::Heartbeat { active: None });
        }
        let mut fields = Fields::new(self.fields()?, self.body.prefix);
        let active = fields.optional_bool(&["active"]);
        fields.finish_plain(Some(ClientMessage::Heartbeat { active }))
    }

    /// Decodes a typing message.
    pub(super) fn typing(&self) -> Result<ClientMessage, WireError> {
        let mut fields = Fields::new(self.fields()?, self.body.prefix);
        let conversation_id = fields.required_conversation(&["conversation_id", "conversationId"]);
        let is_typing = fields.required_bool(&["is_typing", "isTyping"]);
        let message = conversation_id
            .zip(is_typing)
            .map(|(conversation_id, is_typing)| ClientMessage::Typing { conversation_id, is_typing });
        fields.finish_plain(message)
    }

    /// Decodes a new token, which is next to the type in all dialects.
    pub(super) fn auth(&self) -> Result<ClientMessage, WireError> {
        let mut fields = Fields::new(&self.object, "");
        let token = fields.required_text(&["token"]);
        fields.finish_plain(token.map(|token| ClientMessage::Authenticate(Token::new(token.to_owned()))))
    }
}

/// The error for an unknown message type.
pub(super) fn unknown_type(types: &str) -> WireError {
    WireError::field(ErrorCode::InvalidRequest, FieldError::new("type", format!("must be one of {types}")))
}

/// Parses a device ID through `FromStr`.
pub(super) struct ParsedDeviceId(pub DeviceId);

impl std::str::FromStr for ParsedDeviceId {
    type Err = InvalidDeviceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DeviceId::try_from(text).map(Self)
    }
}

/// A time in RFC 3339.
#[derive(Debug, Clone, Copy)]
pub struct Rfc3339(pub Timestamp);

/// The text is not a time.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("must be an RFC 3339 time, for example 2026-11-21T12:00:00Z")]
pub struct InvalidTime;

impl std::str::FromStr for Rfc3339 {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| InvalidTime)
    }
}

impl<'de> serde::Deserialize<'de> for Rfc3339 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text of at most `MAX` characters after trimming.
pub(super) struct BoundedText<const MAX: usize>(pub String);

/// The text is too long.
#[derive(Debug, thiserror::Error)]
#[error("must have at most {0} characters")]
pub(super) struct TooLong(usize);

impl<const MAX: usize> std::str::FromStr for BoundedText<MAX> {
    type Err = TooLong;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().chars().count() <= MAX { Ok(Self(text.to_owned())) } else { Err(TooLong(MAX)) }
    }
}

/// Serializes a message as JSON and appends it.
pub(super) fn write_json(frame: &impl Serialize, out: &mut Vec<u8>) -> FrameKind {
    serde_json::to_writer(out, frame).expect("strings, ids and numbers written to memory cannot fail");
    FrameKind::Text
}

/// Arbitrary JSON with the given keys and some meaningful values, for property tests of decoders.
#[cfg(test)]
pub(super) fn any_json(keys: &'static [&'static str]) -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(Value::from("11111111-1111-4111-8111-111111111111")),
        Just(Value::from("online")),
    ];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(prop::sample::select(keys).prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
