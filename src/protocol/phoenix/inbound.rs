//! Decoding of client frames. Payloads are not parsed.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::protocol::{Dialect, Frame};

/// The frame is not valid in this dialect. It is dropped silently, and the connection stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame is malformed")]
pub struct Malformed;

/// One message of a client. It borrows from the frame unless text had to be unescaped.
#[derive(Debug, Clone, PartialEq)]
pub struct Push<'a> {
    /// Reference of the join it belongs to, chosen by the client; `None` if empty.
    pub join_ref: Option<Cow<'a, str>>,
    /// Reference to repeat in a reply; `None` if empty.
    pub reference: Option<Cow<'a, str>>,
    /// The topic, `realtime:` included.
    pub topic: Cow<'a, str>,
    /// The event: `phx_join`, `broadcast`, ….
    pub event: Cow<'a, str>,
    pub payload: Payload<'a>,
}

/// The payload of a message, unchanged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Payload<'a> {
    /// One valid JSON value, not parsed.
    Json(&'a str),
    /// The data of a binary push (kind 0).
    Binary(&'a [u8]),
    /// A user broadcast push (kind 3).
    User(UserPush<'a>),
}

/// A user broadcast push. Its metadata is ignored, as in Supabase Realtime.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UserPush<'a> {
    pub event: &'a str,
    /// The payload as validated JSON; `None` if it is binary.
    pub json: Option<&'a str>,
    pub bytes: &'a [u8],
}

/// Kinds of binary frames that clients send.
mod kind {
    pub(super) const PUSH: u8 = 0;
    pub(super) const USER_BROADCAST_PUSH: u8 = 3;
}

impl<'a> Push<'a> {
    /// Size in bytes of topic, event and payload.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let payload = match self.payload {
            Payload::Json(json) => json.len(),
            Payload::Binary(bytes) => bytes.len(),
            Payload::User(user) => user.event.len() + user.bytes.len(),
        };
        self.topic.len() + self.event.len() + payload
    }

    /// Decodes one client frame.
    ///
    /// # Errors
    /// [`Malformed`] if the frame is not valid in the dialect. No error is sent to the client.
    pub fn decode(dialect: Dialect, frame: Frame<'a>) -> Result<Self, Malformed> {
        match (dialect, frame) {
            (Dialect::PhoenixV1 | Dialect::ChannelEvents, Frame::Text(text)) => {
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

/// Validates one JSON value and returns its text, including surrounding white space.
fn json(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| Malformed)?;
    serde_json::from_str::<&RawValue>(text).map(|_| text).map_err(|_| Malformed)
}

fn non_empty(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// The undecoded rest of a binary frame.
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

/// A string, borrowed unless it needs unescaping.
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
                f.write_str("an array of five elements")
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

/// `{topic, event, payload, ref, join_ref?}`. Of duplicate keys, the last one counts.
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
