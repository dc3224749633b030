//! Chat messages in the format of OpenAI's API.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::tokens;

/// Estimated tokens of an image, audio or file part.
const ATTACHMENT_TOKENS: usize = 800;

/// A message as it is sent to a provider. Fields other than `role` and `content`, such as `name`, `tool_calls` and
/// `tool_call_id`, are kept as the client sent them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct ChatMessage(Map<String, Value>);

impl ChatMessage {
    /// A message that consists of text.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let fields =
            [("role".to_owned(), role.into()), ("content".to_owned(), Value::String(content.into()))];
        Self(fields.into_iter().collect())
    }

    /// Sets the `name` of the speaker.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.0.insert("name".to_owned(), name.into());
        self
    }

    /// `system`, `developer`, `user`, `assistant`, `tool` or `function`; empty if the field is missing.
    #[must_use]
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// Content as the client sent it; null if the field is missing.
    #[must_use]
    pub fn content(&self) -> &Value {
        self.0.get("content").unwrap_or(&Value::Null)
    }

    /// A field by its name.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }

    /// Text of the content: the string, or the text parts joined by line breaks.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self.content() {
            Value::String(text) => Cow::Borrowed(text),
            Value::Array(parts) => {
                let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
                Cow::Owned(texts.collect::<Vec<_>>().join("\n"))
            }
            _ => Cow::Borrowed(""),
        }
    }

    /// Whether the content has a part that is no text.
    #[must_use]
    pub fn has_attachments(&self) -> bool {
        self.attachments() > 0
    }

    fn attachments(&self) -> usize {
        let parts = self.content().as_array();
        parts.map_or(0, |parts| parts.iter().filter(|part| part.get("text").is_none()).count())
    }

    /// Tokens of the message, overhead included. Attachments and tool calls are estimated.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let calls = self.0.get("tool_calls").map_or(0, |calls| tokens::count(&calls.to_string()));
        tokens::count(&self.text())
            + calls
            + self.attachments() * ATTACHMENT_TOKENS
            + tokens::MESSAGE_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(value: Value) -> ChatMessage {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn unknown_fields_and_parts_are_kept() {
        let sent = json!({"role": "user", "name": "ada", "content": [
            {"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]});
        let parsed = message(sent.clone());
        assert_eq!(json!(parsed), sent);
        assert_eq!((parsed.role(), &*parsed.text()), ("user", "What is this?"));
        assert!(parsed.has_attachments() && parsed.tokens() > ATTACHMENT_TOKENS);
    }

    #[test]
    fn a_message_without_content_has_no_text() {
        let call = message(json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}));
        assert_eq!(&*call.text(), "");
        assert!(call.tokens() > tokens::MESSAGE_OVERHEAD);
    }
}
