//! IDs of conversations, which may live in a table of the application with IDs of any type.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::{Number, Value};

/// Maximum length of an ID in characters; in SQL `typing_indicators_conversation_id_is_plain`.
const MAX_CHARS: usize = 255;

/// The value cannot be an ID of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConversationKey {
    #[error("must be text of 1 to 255 characters without control characters")]
    Text,
    #[error("must be an integer or a string")]
    Number,
}

/// ID of a conversation as text: a UUID, an integer or other text. Written to JSON in the form in which it was given.
#[derive(Debug, Clone)]
pub struct ConversationKey {
    text: Arc<str>,
    /// Whether it was given as a JSON number; `None` where the form is unknown, as in a path.
    is_number: Option<bool>,
}

impl ConversationKey {
    /// An ID read from the database.
    #[must_use]
    pub fn stored(text: &str, is_number: Option<bool>) -> Self {
        Self { text: text.into(), is_number }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it was given as a JSON number, if that is known.
    #[must_use]
    pub const fn is_number(&self) -> Option<bool> {
        self.is_number
    }

    /// An ID from a string or an integer in JSON; `None` for a value of another type.
    ///
    /// # Errors
    ///
    /// If the text or number cannot be an ID.
    pub fn from_json(value: &Value) -> Option<Result<Self, InvalidConversationKey>> {
        match value {
            Value::String(text) => Some(text.parse().map(|key| Self { is_number: Some(false), ..key })),
            Value::Number(number) => Some(Self::from_number(number)),
            _ => None,
        }
    }

    fn from_number(number: &Number) -> Result<Self, InvalidConversationKey> {
        let integer = number.as_i64().ok_or(InvalidConversationKey::Number)?;
        Ok(Self { text: integer.to_string().into(), is_number: Some(true) })
    }
}

impl FromStr for ConversationKey {
    type Err = InvalidConversationKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.chars().count() > MAX_CHARS || text.chars().any(char::is_control) {
            return Err(InvalidConversationKey::Text);
        }
        Ok(Self { text: text.into(), is_number: None })
    }
}

/// From a path, where the form is unknown.
impl<'de> Deserialize<'de> for ConversationKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl PartialEq for ConversationKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ConversationKey {}

impl Hash for ConversationKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for ConversationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Serialize for ConversationKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.text.parse::<i64>() {
            Ok(integer) if self.is_number == Some(true) => serializer.serialize_i64(integer),
            _ => serializer.serialize_str(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_written_as_it_was_given() {
        for given in [
            json!(42),
            json!(-7),
            json!(i64::MAX),
            json!("42"),
            json!("a b:|c,d"),
            json!("Ünï"),
            json!("f0e1d2c3-0000-4000-8000-000000000001"),
        ] {
            let key = ConversationKey::from_json(&given).expect("has a type of IDs").expect("is an ID");
            assert_eq!(serde_json::to_value(&key).expect("serializes"), given);
        }
    }

    #[test]
    fn the_form_makes_no_difference_in_comparisons() {
        let [number, text] = [json!(42), json!("42")]
            .map(|value| ConversationKey::from_json(&value).expect("typed").expect("valid"));
        assert_eq!(number, text);
        assert_eq!(ConversationKey::stored("42", None), text);
        assert_eq!(serde_json::to_value(ConversationKey::stored("x", Some(true))).expect("serializes"), "x");
    }

    #[test]
    fn values_that_cannot_be_ids_are_rejected() {
        for value in [
            json!(""),
            json!("a\nb"),
            json!("\u{0}"),
            json!("x".repeat(MAX_CHARS + 1)),
            json!(1.5),
            json!(u64::MAX),
        ] {
            assert!(ConversationKey::from_json(&value).expect("has a type of IDs").is_err(), "{value}");
        }
        for value in [json!(null), json!(true), json!([1]), json!({})] {
            assert!(ConversationKey::from_json(&value).is_none(), "{value}");
        }
    }
}
