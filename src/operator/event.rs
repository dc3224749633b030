//! How a message of a watched connection is shown: its type and topic, and its payload without tokens.

use std::cell::RefCell;

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    hub::{Direction, WatchedMessage, frame::MessageKind},
    model::MessageState,
};

/// Maximum characters of a type or topic.
const MAX_TEXT_CHARS: usize = 255;
/// What replaces a token.
const REDACTED: &str = "[token]";
/// Names of members that hold tokens, in lowercase and without `_` and `-`.
const SECRET_NAMES: [&str; 8] =
    ["accesstoken", "refreshtoken", "token", "jwt", "apikey", "authorization", "password", "secret"];

/// Describes a message. The payload is left out unless it is requested, complete and JSON.
pub(super) fn describe(message: &WatchedMessage, payloads: bool) -> MessageState {
    let (Names { kind, topic }, json) = match message.kind {
        MessageKind::Text => (names(&message.head), &*message.head),
        MessageKind::Event => (names(event_data(&message.head)), event_data(&message.head)),
        MessageKind::Binary => binary(&message.head).unwrap_or_default(),
        MessageKind::Ping | MessageKind::Pong | MessageKind::Close => (Names::default(), &[][..]),
    };
    let is_whole = message.bytes == message.head.len();
    MessageState {
        at: message.at.try_into().unwrap_or_default(),
        direction: match message.direction {
            Direction::In => "in",
            Direction::Out => "out",
        }
        .to_owned(),
        kind: message.kind.as_str().to_owned(),
        r#type: kind,
        topic,
        bytes: message.bytes,
        payload: if payloads && is_whole { without_tokens(json) } else { None },
    }
}

/// The data of a server-sent event in one line, or of the first of several.
fn event_data(event: &[u8]) -> &[u8] {
    let mut lines = event.split(|byte| *byte == b'\n');
    lines.find_map(|line| line.strip_prefix(b"data: ")).unwrap_or_default()
}

/// Names and JSON of a binary message of channels: kind, lengths of the texts, encoding, texts, payload.
fn binary(frame: &[u8]) -> Option<(Names, &[u8])> {
    /// Kinds with their number of texts, the position of the topic among them, and whether an encoding follows.
    const KINDS: [(u8, usize, usize, bool); 3] = [(0, 4, 2, false), (3, 5, 2, true), (4, 3, 0, true)];
    let (kind, rest) = frame.split_first()?;
    let (_, texts, topic, has_encoding) = KINDS.into_iter().find(|(known, ..)| known == kind)?;
    let (lengths, rest) = rest.split_at_checked(texts)?;
    let (encoding, mut rest) = if has_encoding { rest.split_first()? } else { (&0, rest) };
    let mut parts = Vec::with_capacity(texts);
    for length in lengths {
        let part;
        (part, rest) = rest.split_at_checked(usize::from(*length))?;
        parts.push(String::from_utf8_lossy(part).into_owned());
    }
    let kind = if has_encoding { "broadcast".to_owned() } else { parts.get(topic + 1)?.clone() };
    let names = Names { kind: Some(kind), topic: parts.get(topic).cloned() };
    Some((names, if *encoding == 0 { &[] } else { rest }))
}

/// The JSON with tokens replaced; `None` if it is not JSON.
fn without_tokens(json: &[u8]) -> Option<String> {
    let mut value: Value = serde_json::from_slice(json).ok()?;
    redact(&mut value);
    Some(value.to_string())
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) if looks_like_token(text) => REDACTED.clone_into(text),
        Value::Array(values) => values.iter_mut().for_each(redact),
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| {
            if is_secret(name) && !value.is_null() {
                *value = Value::String(REDACTED.to_owned());
            } else {
                redact(value);
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|char| !matches!(char, '_' | '-')).flat_map(char::to_lowercase).collect();
    SECRET_NAMES.contains(&&*plain)
}

/// A JWT anywhere in the text: two parts of base64 that begin as JSON objects do.
fn looks_like_token(text: &str) -> bool {
    text.split(|char: char| !(char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_')))
        .any(|word| word.find("eyJ").is_some_and(|start| word[start..].contains(".eyJ")))
}

/// Type and topic of a message, as far as its beginning shows them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    kind: Option<String>,
    topic: Option<String>,
}

/// Reads until both are known or the text ends. An error is the end of a message that is not complete.
fn names(json: &[u8]) -> Names {
    let found = RefCell::default();
    let _ = serde_json::Deserializer::from_slice(json).deserialize_any(NamesVisitor(&found));
    found.into_inner()
}

struct NamesVisitor<'a>(&'a RefCell<Names>);

impl<'de> Visitor<'de> for NamesVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "type" | "event" => {
                    let kind = map.next_value_seed(ShortText)?;
                    let mut names = self.0.borrow_mut();
                    names.kind = names.kind.take().or(kind);
                }
                "topic" => self.0.borrow_mut().topic = map.next_value_seed(ShortText)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    /// Serializer 2.0.0 of Phoenix: join reference, reference, topic, event, payload.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let _ = (seq.next_element::<IgnoredAny>()?, seq.next_element::<IgnoredAny>()?);
        self.0.borrow_mut().topic = seq.next_element_seed(ShortText)?.flatten();
        self.0.borrow_mut().kind = seq.next_element_seed(ShortText)?.flatten();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// A text of limited length; `None` for another value.
struct ShortText;

impl<'de> DeserializeSeed<'de> for ShortText {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let value: Value = serde::Deserialize::deserialize(deserializer)?;
        Ok(value.as_str().map(|text| text.chars().take(MAX_TEXT_CHARS).collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;

    fn shown(text: &str, payloads: bool) -> MessageState {
        let message = WatchedMessage {
            at: SystemTime::now(),
            direction: Direction::In,
            kind: MessageKind::Text,
            bytes: text.len(),
            head: Bytes::copy_from_slice(text.as_bytes()),
        };
        describe(&message, payloads)
    }

    #[test]
    fn type_and_topic_are_found_in_each_dialect() {
        for (text, kind, topic) in [
            (r#"{"type":"status","data":{"status":"away"}}"#, Some("status"), None),
            (r#"{"topic":"realtime:a","event":"phx_join","payload":{"#, Some("phx_join"), Some("realtime:a")),
            (r#"["1","2","realtime:b","broadcast",{"x":"#, Some("broadcast"), Some("realtime:b")),
            (r#"{"data":{"type":"inner"}}"#, None, None),
            ("nonsense", None, None),
            ("7", None, None),
        ] {
            let message = shown(text, false);
            assert_eq!((message.r#type.as_deref(), message.topic.as_deref()), (kind, topic), "{text}");
            assert_eq!(message.payload, None);
        }
    }

    #[test]
    fn binary_broadcasts_have_a_topic_and_json() {
        let push = b"\x03\x01\x01\x01\x02\x00\x0112tev{}";
        let (names, json) = binary(push).expect("a broadcast");
        assert_eq!(
            (names.kind.as_deref(), names.topic.as_deref(), json),
            (Some("broadcast"), Some("t"), &b"{}"[..])
        );
        let sent = b"\x04\x01\x01\x00\x00te\xff";
        let (names, json) = binary(sent).expect("a broadcast");
        assert_eq!((names.topic.as_deref(), json.len()), (Some("t"), 0));
        for cut in 0..6 {
            assert!(binary(&push[..cut]).is_none(), "{cut}");
        }
        assert!(binary(b"\x09").is_none());
    }

    #[test]
    fn payloads_are_shown_on_request_and_without_tokens() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln";
        let text = format!(
            r#"{{"event":"phx_join","payload":{{"access_token":"{token}","Api-Key":"k","note":"Bearer {token}","list":["{token}",7],"token":null}}}}"#
        );
        let payload = shown(&text, true).payload.expect("is JSON");
        assert!(!payload.contains("eyJ") && !payload.contains(r#""k""#), "{payload}");
        assert!(payload.contains(r#""token":null"#) && payload.contains(",7]"), "{payload}");
        assert_eq!(shown("no JSON", true).payload, None);
    }
}
