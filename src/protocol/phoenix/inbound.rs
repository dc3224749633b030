//! What a client says: frames taken apart, payloads left alone.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::protocol::{Dialect, Frame};

/// The frame is none of this dialect's. Such a frame is dropped without a word, and the connection stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame is malformed")]
pub struct Malformed;

/// One message of a client. Borrows from the frame wherever nothing had to be unescaped.
#[derive(Debug, Clone, PartialEq)]
pub struct Push<'a> {
    /// Which join it belongs to, in the client's count; empty counts as absent.
    pub join_ref: Option<Cow<'a, str>>,
    /// What a reply is to name; empty counts as absent.
    pub reference: Option<Cow<'a, str>>,
    /// The whole topic, `realtime:` included.
    pub topic: Cow<'a, str>,
    /// What happens: `phx_join`, `broadcast`, ….
    pub event: Cow<'a, str>,
    /// What goes with it.
    pub payload: Payload<'a>,
}

/// What goes with a message, as it came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Payload<'a> {
    /// One JSON value, valid and not looked into.
    Json(&'a str),
    /// The data of a binary push (kind 0).
    Binary(&'a [u8]),
    /// A user broadcast push (kind 3).
    User(UserPush<'a>),
}

/// A user broadcast push. What it says about itself (its metadata) is ignored, as in the original.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UserPush<'a> {
    /// The user's own event.
    pub event: &'a str,
    /// JSON text, checked to be valid, …
    pub json: Option<&'a str>,
    /// … or else opaque bytes.
    pub bytes: &'a [u8],
}

/// The kinds of binary frames that clients send.
mod kind {
    pub const PUSH: u8 = 0;
    pub const USER_BROADCAST_PUSH: u8 = 3;
}

impl<'a> Push<'a> {
    /// How many bytes it has, but for what holds it together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let payload = match self.payload {
            Payload::Json(json) => json.len(),
            Payload::Binary(bytes) => bytes.len(),
            Payload::User(user) => user.event.len() + user.bytes.len(),
        };
        self.topic.len() + self.event.len() + payload
    }

    /// Reads one frame of a client.
    ///
    /// # Errors
    /// The frame is not one of the dialect's; nothing is to be said about it.
    pub fn decode(dialect: Dialect, frame: Frame<'a>) -> Result<Self, Malformed> {
        match (dialect, frame) {
            (Dialect::PhoenixV1, Frame::Text(text)) => {
                serde_json::from_str::<Object<'a>>(text).map(|Object(push)| push).map_err(|_| Malformed)
            }
            (Dialect::PhoenixV2, Frame::Text(text)) => {
                serde_json::from_str::<Array<'a>>(text).map(|Array(push)| push).map_err(|_| Malformed)
            }
            (Dialect::PhoenixV2, Frame::Binary(bytes)) => Self::decode_binary(bytes),
            _ => Err(Malformed),
        }
    }

    fn decode_binary(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = Cursor(bytes);
        match rest.byte()? {
            kind::PUSH => {
                let [join_ref, reference, topic, event] = rest.lengths()?;
                Ok(Self {
                    join_ref: non_empty(rest.text(join_ref)?),
                    reference: non_empty(rest.text(reference)?),
                    topic: rest.text(topic)?.into(),
                    event: rest.text(event)?.into(),
                    payload: Payload::Binary(rest.0),
                })
            }
            kind::USER_BROADCAST_PUSH => {
                let [join_ref, reference, topic, event, metadata, encoding] = rest.lengths()?;
                let join_ref = non_empty(rest.text(join_ref)?);
                let reference = non_empty(rest.text(reference)?);
                let topic = rest.text(topic)?;
                let event = rest.text(event)?;
                let metadata = rest.text(metadata)?;
                if !metadata.is_empty() {
                    json(metadata.as_bytes())?;
                }
                let json = if encoding == 0 { None } else { Some(json(rest.0)?) };
                let user = UserPush { event, json, bytes: rest.0 };
                let payload = Payload::User(user);
                Ok(Self { join_ref, reference, topic: topic.into(), event: "broadcast".into(), payload })
            }
            _ => Err(Malformed),
        }
    }
}

/// The text of one JSON value as it came, with whatever space is around it.
fn json(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| Malformed)?;
    serde_json::from_str::<&RawValue>(text).map(|_| text).map_err(|_| Malformed)
}

fn non_empty(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// What is left of a binary frame.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn lengths<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (lengths, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*lengths)
    }

    fn text(&mut self, length: u8) -> Result<&'a str, Malformed> {
        let (text, rest) = self.0.split_at_checked(usize::from(length)).ok_or(Malformed)?;
        self.0 = rest;
        simdutf8::basic::from_utf8(text).map_err(|_| Malformed)
    }
}

/// Text that is borrowed where it needs no unescaping.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'a> Text<'a> {
    fn reference(text: Option<Self>) -> Option<Cow<'a, str>> {
        text.map(|Text(text)| text).filter(|text| !text.is_empty())
    }
}

/// `[join_ref, ref, topic, event, payload, …]`
struct Array<'a>(Push<'a>);

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArrayVisitor;

        impl<'de> Visitor<'de> for ArrayVisitor {
            type Value = Array<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of five")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let short = || serde::de::Error::custom("too short");
                let join_ref: Option<Text<'de>> = all.next_element()?.ok_or_else(short)?;
                let reference: Option<Text<'de>> = all.next_element()?.ok_or_else(short)?;
                let Text(topic) = all.next_element()?.ok_or_else(short)?;
                let Text(event) = all.next_element()?.ok_or_else(short)?;
                let payload: &'de RawValue = all.next_element()?.ok_or_else(short)?;
                while all.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Array(Push {
                    join_ref: Text::reference(join_ref),
                    reference: Text::reference(reference),
                    topic,
                    event,
                    payload: Payload::Json(payload.get()),
                }))
            }
        }

        deserializer.deserialize_seq(ArrayVisitor)
    }
}

/// `{topic, event, payload, ref, join_ref?}`; of a key given twice the last counts.
struct Object<'a>(Push<'a>);

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Topic,
    Event,
    Payload,
    Ref,
    JoinRef,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with topic, event, payload and ref")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let (mut topic, mut event, mut payload, mut reference) = (None, None, None, None);
                let mut join_ref = None;
                while let Some(key) = all.next_key()? {
                    match key {
                        Key::Topic => topic = Some(all.next_value::<Text<'de>>()?.0),
                        Key::Event => event = Some(all.next_value::<Text<'de>>()?.0),
                        Key::Payload => payload = Some(all.next_value::<&'de RawValue>()?),
                        Key::Ref => reference = Some(all.next_value::<Option<Text<'de>>>()?),
                        Key::JoinRef => join_ref = all.next_value::<Option<Text<'de>>>()?,
                        Key::Other => drop(all.next_value::<IgnoredAny>()?),
                    }
                }
                let missing = |name| move || serde::de::Error::missing_field(name);
                Ok(Object(Push {
                    join_ref: Text::reference(join_ref),
                    reference: Text::reference(reference.ok_or_else(missing("ref"))?),
                    topic: topic.ok_or_else(missing("topic"))?,
                    event: event.ok_or_else(missing("event"))?,
                    payload: Payload::Json(payload.ok_or_else(missing("payload"))?.get()),
                }))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}
