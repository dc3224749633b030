//! Decoders of bytes that strangers send. Each function takes any bytes, and panics if a decoder does or if a property does
//! not hold.

use bytes::Bytes;
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey};
use rollcall::{
    auth::{Verifier, VerifierSettings},
    channels::{
        BroadcastPayload,
        bus::{decode, encode},
        postgres_changes::{RequestedBinding, echo_bindings, filter::Filter},
    },
    clock::SystemClock,
    http::body_decoders::BODY_DECODERS,
    hub::frame::{Decoder, Event, WireFrame},
    pg::{
        notification::{NotificationReader, channel},
        replication::pgoutput,
    },
    protocol::{Dialect, Frame, context, devices, phoenix::Push, presence},
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const SECRET: &str = "a-secret-of-more-than-32-bytes-for-fuzzing";
const MAX_MESSAGE_BYTES: usize = 4096;

/// A decoder: its name, and what it checks.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 9] = [
    ("frames", frames),
    ("phoenix", phoenix),
    ("dialects", dialects),
    ("filters", filters),
    ("pgoutput", replication),
    ("jwt", tokens),
    ("notifications", notifications),
    ("bus", bus),
    ("bodies", bodies),
];

/// WebSocket frames: a stream of bytes, and a message that is encoded and decoded again.
pub fn frames(data: &[u8]) {
    let mut input = data.to_vec();
    let (mut decoder, mut at) = (Decoder::new(MAX_MESSAGE_BYTES), 0);
    while let Ok(Some(decoded)) = decoder.decode(&mut input[at..]) {
        match decoded.event {
            Event::Message(Frame::Text(text)) => assert!(text.len() <= MAX_MESSAGE_BYTES),
            Event::Message(Frame::Binary(bytes)) => assert!(bytes.len() <= MAX_MESSAGE_BYTES),
            Event::Ping(payload) => assert!(payload.len() <= 125),
            _ => {}
        }
        assert!(decoded.consumed > 0);
        at += decoded.consumed;
        assert!(at <= data.len());
    }
    if data.len() <= MAX_MESSAGE_BYTES {
        let mut masked = mask(WireFrame::binary(data).as_bytes());
        let mut decoder = Decoder::new(MAX_MESSAGE_BYTES);
        let decoded = decoder.decode(&mut masked).expect("valid").expect("complete");
        assert_eq!(decoded.event, Event::Message(Frame::Binary(data)));
    }
}

/// A frame of a server as a client sends it.
fn mask(frame: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [1, 2, 0xfe, 0xff];
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mut masked = frame[..header].to_vec();
    masked[1] |= 0x80;
    masked.extend(KEY);
    masked.extend(frame[header..].iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    masked
}

/// Phoenix messages of both serializers.
pub fn phoenix(data: &[u8]) {
    let check = |dialect, frame| {
        if let Ok(push) = Push::decode(dialect, frame) {
            // The event of a user broadcast is not in the frame.
            assert!(push.byte_len() <= data.len() + "broadcast".len(), "{push:?}");
        }
    };
    check(Dialect::PhoenixV2, Frame::Binary(data));
    if let Ok(text) = std::str::from_utf8(data) {
        check(Dialect::PhoenixV1, Frame::Text(text));
        check(Dialect::PhoenixV2, Frame::Text(text));
    }
}

/// Messages of the other dialects. Errors name the code and say something.
pub fn dialects(data: &[u8]) {
    let frames = [Some(Frame::Binary(data)), std::str::from_utf8(data).ok().map(Frame::Text)];
    for frame in frames.into_iter().flatten() {
        for result in [presence::decode(frame), devices::decode(frame), context::decode(frame)] {
            if let Err(error) = result {
                assert!(!error.message.is_empty());
                assert!(error.message.len() < 1024, "{}", error.message.len());
            }
        }
    }
}

/// Filters and parameters of `postgres_changes`.
pub fn filters(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Filter::parse_all(text) {
        Ok(filters) => {
            let bytes: usize = filters.iter().map(|filter| filter.column.len() + filter.value.len()).sum();
            assert!(bytes <= text.len() + 2 * filters.len(), "{filters:?}");
            for filter in &filters {
                drop(filter.describe());
            }
        }
        Err(error) => drop(error.to_string()),
    }
    for json in
        [text.to_owned(), serde_json::json!({"event": "*", "schema": text, "filter": text}).to_string()]
    {
        let Ok(raw) = serde_json::from_str::<&RawValue>(&json) else { continue };
        if let Some(binding) = RequestedBinding::parse(raw) {
            let echo = echo_bindings(&[binding]);
            assert!(serde_json::from_str::<serde_json::Value>(&echo).is_ok(), "{echo}");
        }
    }
}

/// Messages of the replication stream.
pub fn replication(data: &[u8]) {
    if let Err(error) = pgoutput::decode(Bytes::copy_from_slice(data)) {
        drop(error.to_string());
    }
}

/// Tokens: any text, and any signed payload. Only the signed payload may be accepted.
pub fn tokens(data: &[u8]) {
    // New each time, because accepted tokens stay in its cache.
    let settings = VerifierSettings { jwt_secret: Some(SECRET.into()), ..VerifierSettings::default() };
    let verifier = Verifier::new(settings, Arc::new(SystemClock)).expect("valid settings");
    let verify = |token: &str| {
        let api = verifier.verify(token).now_or_never().expect("no key is fetched");
        let channel = verifier.verify_channel_token(token).now_or_never().expect("no key is fetched");
        (api, channel)
    };
    if let Ok(text) = std::str::from_utf8(data) {
        let (api, channel) = verify(text);
        assert!(api.is_err() && channel.is_err(), "nobody signed {text}");
    }
    let (api, channel) = verify(&sign(data));
    if let Ok(principal) = api {
        assert!(serde_json::from_str::<serde_json::Value>(&principal.claims).is_ok());
    }
    if let Ok(token) = channel {
        assert!(serde_json::from_str::<serde_json::Value>(&token.claims).is_ok());
    }
}

fn sign(payload: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    format!("{signed}.{signature}")
}

/// Notifications: any text, and any authenticated body.
pub fn notifications(data: &[u8]) {
    const KEY: &[u8] = b"key";
    let Ok(text) = std::str::from_utf8(data) else { return };
    for name in channel::ALL {
        let mut reader = NotificationReader::new(KEY.to_vec());
        assert!(reader.open(name, text).is_err(), "nobody sealed {text}");
        let inner = Sha256::digest([KEY, format!("{name}:7:{text}").as_bytes()].concat());
        let code = Sha256::digest([KEY, &inner].concat());
        let code: String = code.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let sealed = format!("{code}.7.{text}");
        let first = reader.open(name, &sealed);
        assert!(first.is_err() || reader.open(name, &sealed).is_err(), "a repeated payload is refused");
    }
}

/// Batches of messages between nodes. What is decoded is the same when it is encoded and decoded again.
pub fn bus(data: &[u8]) {
    let messages: Vec<_> = decode(data.to_vec()).map_while(|message| message).collect();
    let bytes: usize = messages.iter().map(|message| message.topic.name.len() + message.body.len()).sum();
    assert!(bytes <= data.len());
    let again: Vec<_> = decode(encode(&messages)).collect();
    assert!(again.into_iter().eq(messages.iter().cloned().map(Some)));
    for message in messages {
        if let Some(payload) = BroadcastPayload::decode(message.body) {
            let encoded = payload.encode();
            assert!(BroadcastPayload::decode(encoded.clone()).is_some_and(|again| again.encode() == encoded));
        }
    }
}

/// Bodies of requests. Whatever a client sends is its own fault.
pub fn bodies(data: &[u8]) {
    for decode in BODY_DECODERS {
        let status = decode(data);
        assert!(status.is_success() || status.is_client_error(), "{status}");
    }
}
