//! What the dialects that speak JSON objects with a `type` have in common.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    ClientMessage, ErrorCode, FieldError, Fields, Frame, FrameKind, Token, WireError, fields::json_type,
};
use crate::model::{ConversationId, DeviceId, InvalidDeviceId};

/// Where a message has its fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyField {
    name: &'static str,
    /// Stands before each field in complaints.
    pub prefix: &'static str,
}

impl BodyField {
    /// Sources A and B.
    pub const DATA: Self = Self { name: "data", prefix: "data." };
    /// Source D.
    pub const PAYLOAD: Self = Self { name: "payload", prefix: "payload." };
}

/// A client's message as far as all dialects agree: an object with a `type`, and the rest in one part of it.
#[derive(Debug)]
pub(super) struct Envelope {
    object: Map<String, Value>,
    body: BodyField,
}

impl Envelope {
    /// Reads a frame.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for whatever is not a JSON object in a text frame.
    pub fn read(frame: Frame<'_>, part: BodyField) -> Result<Self, WireError> {
        let refused = |message: String| Err(WireError::new(ErrorCode::InvalidRequest, message));
        let Frame::Text(text) = frame else {
            return refused("Binary frames are not part of this protocol.".to_owned());
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Ok(Self { object, body: part }),
            Ok(other) => refused(format!("The message must be a JSON object, not {}.", json_type(&other))),
            Err(error) => refused(format!("The message is not valid JSON: {error}.")),
        }
    }

    /// The message's type.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where there is none.
    pub fn message_type(&self) -> Result<&str, WireError> {
        let mut fields = Fields::new(&self.object, "");
        let kind = fields.required_text(&["type"]);
        fields.finish_plain(kind)
    }

    /// The fields.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where they are missing.
    pub fn fields(&self) -> Result<&Map<String, Value>, WireError> {
        let BodyField { name, .. } = self.body;
        let wrong = |what| Err(WireError::field(ErrorCode::InvalidRequest, FieldError::new(name, what)));
        match self.object.get(name) {
            Some(Value::Object(fields)) => Ok(fields),
            Some(other) => wrong(format!("must be an object, not {}", json_type(other))),
            None => wrong("is required".to_owned()),
        }
    }

    /// A heartbeat: bare as a rule, or with `active`.
    pub fn heartbeat(&self) -> Result<ClientMessage, WireError> {
        if matches!(self.object.get(self.body.name), None | Some(Value::Null)) {
            return Ok(ClientMessage::Heartbeat { active: None });
        }
        let mut fields = Fields::new(self.fields()?, self.body.prefix);
        let active = fields.optional_bool(&["active"]);
        fields.finish_plain(Some(ClientMessage::Heartbeat { active }))
    }

    /// Who types where.
    pub fn typing(&self) -> Result<ClientMessage, WireError> {
        let mut fields = Fields::new(self.fields()?, self.body.prefix);
        let conversation_id = fields.required::<ConversationId>(&["conversation_id", "conversationId"]);
        let is_typing = fields.required_bool(&["is_typing", "isTyping"]);
        let message = conversation_id
            .zip(is_typing)
            .map(|(conversation_id, is_typing)| ClientMessage::Typing { conversation_id, is_typing });
        fields.finish_plain(message)
    }

    /// A fresh token, which stands beside the type in every dialect.
    pub fn auth(&self) -> Result<ClientMessage, WireError> {
        let mut fields = Fields::new(&self.object, "");
        let token = fields.required_text(&["token"]);
        fields.finish_plain(token.map(|token| ClientMessage::Authenticate(Token::new(token.to_owned()))))
    }
}

/// What a client is told whose message is of no type that its dialect has.
pub(super) fn unknown_type(types: &str) -> WireError {
    WireError::field(ErrorCode::InvalidRequest, FieldError::new("type", format!("must be one of {types}")))
}

/// Lets a device id be read like every other text.
pub struct ParsedDeviceId(pub DeviceId);

impl std::str::FromStr for ParsedDeviceId {
    type Err = InvalidDeviceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DeviceId::try_from(text).map(Self)
    }
}

/// A text of at most so many characters after trimming.
pub(super) struct BoundedText<const MAX: usize>(pub String);

/// The text is longer.
#[derive(Debug, thiserror::Error)]
#[error("must have at most {0} characters")]
pub(super) struct TooLong(usize);

impl<const MAX: usize> std::str::FromStr for BoundedText<MAX> {
    type Err = TooLong;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().chars().count() <= MAX { Ok(Self(text.to_owned())) } else { Err(TooLong(MAX)) }
    }
}

/// Appends a message's JSON.
pub(super) fn write_json(spoken: &impl Serialize, out: &mut Vec<u8>) -> FrameKind {
    serde_json::to_writer(out, spoken).expect("strings, ids and numbers written to memory cannot fail");
    FrameKind::Text
}

/// Any JSON, made of the names and values that mean something somewhere: what property tests feed to readers.
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
