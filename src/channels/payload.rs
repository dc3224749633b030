//! Content of a broadcast, and its encoding for the other nodes.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::history::KeptMessage;
use crate::protocol::phoenix::UserPayload;

/// Content of a broadcast. Payloads are the bytes that the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BroadcastPayload {
    /// The complete payload as a JSON object, forwarded verbatim.
    Json(Box<str>),
    /// A broadcast with its event outside of the payload.
    User {
        event: Box<str>,
        payload: UserPayload,
        /// JSON object with further metadata.
        meta: Option<Box<str>>,
    },
}

/// Further metadata of a broadcast that is kept or comes from the database.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BroadcastMeta {
    id: Uuid,
}

impl BroadcastMeta {
    fn to_json(&self) -> Box<str> {
        format!(r#"{{"id":"{}"}}"#, self.id).into()
    }
}

/// A text broadcast as client libraries send it, and nothing besides.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextBroadcast<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    /// Only in batches over HTTP.
    meta: Option<BroadcastMeta>,
}

/// Type byte of an encoded payload.
mod kind {
    pub(super) const JSON: u8 = 0;
    pub(super) const USER_JSON: u8 = 1;
    pub(super) const USER_BINARY: u8 = 2;
}

impl BroadcastPayload {
    /// A broadcast with this ID as `meta.id`.
    #[must_use]
    pub fn with_id(event: Box<str>, payload: UserPayload, id: Uuid) -> Self {
        Self::User { event, payload, meta: Some(BroadcastMeta { id }.to_json()) }
    }

    /// Gives the broadcast an ID unless it has one. A text broadcast `{type, event, payload}` becomes a
    /// [`User`](Self::User) broadcast; others are returned unchanged, because they have no place for an ID.
    #[must_use]
    pub fn identified(self) -> Self {
        match self {
            Self::User { event, payload, meta: None } => Self::with_id(event, payload, Uuid::new_v4()),
            Self::Json(text) => match serde_json::from_str::<TextBroadcast<'_>>(&text) {
                Ok(TextBroadcast { kind, event, payload, meta }) if kind == "broadcast" => {
                    let id = meta.map_or_else(Uuid::new_v4, |meta| meta.id);
                    Self::with_id(event.into(), UserPayload::Json(payload.get().into()), id)
                }
                _ => Self::Json(text),
            },
            Self::User { .. } => self,
        }
    }

    /// The broadcast for the history; `None` without an ID.
    #[must_use]
    pub fn to_kept(&self) -> Option<KeptMessage> {
        let Self::User { event, payload, meta: Some(meta) } = self else { return None };
        let BroadcastMeta { id } = serde_json::from_str(meta).ok()?;
        Some(KeptMessage { id, event: event.clone(), payload: payload.clone() })
    }

    /// Encodes the payload for the bus.
    #[expect(clippy::cast_possible_truncation, reason = "frames are limited to megabytes")]
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Json(payload) => {
                out.put_u8(kind::JSON);
                out.put_slice(payload.as_bytes());
            }
            Self::User { event, payload, meta } => {
                let meta = meta.as_deref().unwrap_or_default();
                let (kind, payload) = match payload {
                    UserPayload::Json(json) => (kind::USER_JSON, json.as_bytes()),
                    UserPayload::Binary(bytes) => (kind::USER_BINARY, &**bytes),
                };
                out.put_u8(kind);
                for part in [event.as_bytes(), meta.as_bytes()] {
                    out.put_u32(part.len() as u32);
                    out.put_slice(part);
                }
                out.put_slice(payload);
            }
        }
        out.into()
    }

    /// Decodes a payload from the bus. `None` if another version of the server wrote it.
    #[must_use]
    pub fn decode(mut body: Bytes) -> Option<Self> {
        let kind = body.try_get_u8().ok()?;
        if kind == kind::JSON {
            return Some(Self::Json(into_text(body)?));
        }
        let (event, meta) = (read_part(&mut body)?, read_part(&mut body)?);
        let payload = match kind {
            kind::USER_JSON => UserPayload::Json(into_text(body)?),
            kind::USER_BINARY => UserPayload::Binary(body),
            _ => return None,
        };
        let meta = Some(into_text(meta)?).filter(|meta| !meta.is_empty());
        Some(Self::User { event: into_text(event)?, payload, meta })
    }
}

fn read_part(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32().ok()? as usize;
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn into_text(bytes: Bytes) -> Option<Box<str>> {
    String::from_utf8(bytes.into()).ok().map(String::into_boxed_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_round_trip_and_truncated_ones_are_rejected() {
        let user = |payload, meta: Option<&str>| BroadcastPayload::User {
            event: "é".into(),
            payload,
            meta: meta.map(Box::from),
        };
        for payload in [
            BroadcastPayload::Json(r#"{"a":1.10}"#.into()),
            user(UserPayload::Json("[1]".into()), None),
            user(UserPayload::Binary(Bytes::from_static(b"\0\xff")), Some(r#"{"id":"x"}"#)),
            user(UserPayload::Binary(Bytes::new()), None),
        ] {
            let body = payload.encode();
            assert_eq!(BroadcastPayload::decode(body.clone()), Some(payload));
            for cut in 0..body.len().min(6) {
                let read = BroadcastPayload::decode(body.slice(..cut));
                assert!(matches!(read, None | Some(BroadcastPayload::Json(_))), "{read:?}");
            }
        }
        assert_eq!(BroadcastPayload::decode(Bytes::from_static(&[9, 0, 0, 0, 0, 0, 0, 0, 0])), None);
    }

    #[test]
    fn broadcasts_of_client_libraries_get_an_id() {
        let id = Uuid::from_u128(7);
        let json = |text: &str| BroadcastPayload::Json(text.into()).identified();
        let sent = r#"{"payload":{"n": 1.10 },"type":"broadcast","event":"a\"b"}"#;
        let kept = json(sent).to_kept().expect("has an ID");
        assert_eq!((&*kept.event, kept.payload), ("a\"b", UserPayload::Json(r#"{"n": 1.10 }"#.into())));
        let sent = format!(r#"{{"type":"broadcast","event":"e","payload":[],"meta":{{"id":"{id}"}}}}"#);
        assert_eq!(json(&sent).to_kept().map(|kept| kept.id), Some(id));
        for other in [
            "{}",
            r#"{"type":"broadcast","event":"e"}"#,
            r#"{"type":"presence","event":"e","payload":{}}"#,
            r#"{"type":"broadcast","event":1,"payload":{}}"#,
            r#"{"type":"broadcast","event":"e","payload":{},"more":1}"#,
            r#"{"type":"broadcast","event":"e","event":"e","payload":{}}"#,
            r#"{"type":"broadcast","event":"e","payload":{},"meta":{"id":"mine"}}"#,
        ] {
            assert_eq!(json(other), BroadcastPayload::Json(other.into()));
            assert_eq!(json(other).to_kept(), None);
        }
        let user =
            |meta| BroadcastPayload::User { event: "e".into(), payload: UserPayload::Json("1".into()), meta };
        assert!(user(None).identified().to_kept().is_some());
        assert_eq!(
            user(Some(format!(r#"{{"id":"{id}"}}"#).into())).identified().to_kept().map(|kept| kept.id),
            Some(id)
        );
        assert_eq!(user(Some("{}".into())).identified().to_kept(), None);
    }
}
