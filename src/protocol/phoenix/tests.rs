use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::protocol::{Dialect, Encode, Frame, FrameKind};

const V1_: Dialect = Dialect::PhoenixV1;
const V2_: Dialect = Dialect::PhoenixV2;

fn decode_text(dialect: Dialect, frame: &str) -> Result<Push<'_>, Malformed> {
    Push::decode(dialect, Frame::Text(frame))
}

fn decode_binary(frame: &[u8]) -> Result<Push<'_>, Malformed> {
    Push::decode(V2_, Frame::Binary(frame))
}

fn encoded(dialect: Dialect, message: &dyn Encode) -> Option<(FrameKind, Vec<u8>)> {
    let mut out = Vec::new();
    let kind = message.encode_into(dialect, &mut out)?;
    Some((kind, out))
}

fn encoded_json(dialect: Dialect, message: &dyn Encode) -> Value {
    let (kind, bytes) = encoded(dialect, message).expect("encoded");
    assert_eq!(kind, FrameKind::Text);
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn both_versions_decode_the_same_push() {
    let payload = r#"{"z":12345678901234567890123,"a":[1.10]}"#;
    let v2 = format!(r#" ["1", "2" ,"realtime:ä\u00e4","broadcast", {payload} , "extra"] "#);
    let v1 = format!(
        r#"{{"topic":"realtime:ää","event":"broadcast","x":[{{}}],"payload":{payload},"ref":"2","join_ref":"1"}}"#
    );
    let expected = Push {
        join_ref: Some("1".into()),
        reference: Some("2".into()),
        topic: "realtime:ää".into(),
        event: "broadcast".into(),
        payload: Payload::Json(payload),
    };
    assert_eq!(decode_text(V2_, &v2), Ok(expected.clone()));
    assert_eq!(decode_text(V1_, &v1), Ok(expected));
}

#[test]
fn references_may_be_null_and_an_empty_one_is_none() {
    let push = decode_text(V2_, r#"[null,"","phoenix","heartbeat",{}]"#).expect("valid");
    assert_eq!((push.join_ref, push.reference), (None, None));
    let push = decode_text(V1_, r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#);
    assert_eq!(push.expect("valid").reference, None);
}

#[test]
fn invalid_frames_are_malformed() {
    for frame in [
        "",
        "{",
        "not json",
        "[]",
        "{}",
        "null",
        "1",
        "\"x\"",
        "[null]",
        "\0",
        r#"[null,"1","realtime:a"]"#,
        r#"["1","2","realtime:a","broadcast"]"#,
        r#"["1","2",5,"broadcast",{}]"#,
        r#"["1","2","realtime:a",7,{}]"#,
        r#"[1,"2","realtime:a","broadcast",{}]"#,
        r#"["1","2","realtime:a","broadcast",{}"#,
        r#"["1","2","realtime:a","broadcast",{]]"#,
        r#"["1","2","realtime:a","broadcast",{}] x"#,
        r#"{"topic":"realtime:a","event":"e","payload":{}}"#,
        r#"{"topic":"realtime:a","event":"e","ref":"1"}"#,
        r#"{"topic":5,"event":"e","payload":{},"ref":"1"}"#,
        r#"{"topic":"realtime:a","event":7,"payload":{},"ref":"1"}"#,
    ] {
        assert_eq!(decode_text(V1_, frame), Err(Malformed), "{frame}");
        assert_eq!(decode_text(V2_, frame), Err(Malformed), "{frame}");
    }
    let nested = format!(r#"[null,"1","realtime:a","e",{}{}]"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(decode_text(V2_, &nested).is_ok(), "payloads are not parsed, so their depth does not matter");
}

#[test]
fn a_user_broadcast_is_decoded_from_kind_3_and_encoded_as_kind_4() {
    let push = b"\x03\x01\x01\x0a\x03\x00\x0112realtime:acur{\"x\":1}";
    let push = decode_binary(push).expect("is a push");
    let expected = UserPush { event: "cur", json: Some(r#"{"x":1}"#), bytes: br#"{"x":1}"# };
    assert_eq!((&*push.topic, &*push.event), ("realtime:a", "broadcast"));
    assert_eq!((push.join_ref.as_deref(), push.reference.as_deref()), (Some("1"), Some("2")));
    assert_eq!(push.payload, Payload::User(expected));

    let broadcast = UserBroadcast {
        topic: "a".into(),
        event: "cur".into(),
        payload: UserPayload::Json(r#"{"x":1}"#.into()),
        meta: None,
    };
    let (kind, bytes) = encoded(V2_, &broadcast).expect("encoded");
    assert_eq!(kind, FrameKind::Binary);
    assert_eq!(bytes, b"\x04\x0a\x03\x00\x01realtime:acur{\"x\":1}");
    let expected = json!({
        "topic": "realtime:a", "event": "broadcast", "ref": null,
        "payload": {"type": "broadcast", "event": "cur", "payload": {"x": 1}},
    });
    assert_eq!(encoded_json(V1_, &broadcast), expected);
}

#[test]
fn invalid_json_or_metadata_makes_a_push_malformed() {
    assert_eq!(decode_binary(b"\x03\x00\x00\x01\x01\x00\x01te{not json"), Err(Malformed));
    assert_eq!(decode_binary(b"\x03\x00\x00\x01\x01\x02\x01tezz{}"), Err(Malformed));
    assert_eq!(decode_binary(b"\x03\x00\x00\x01\x01\x00\x01te\xff"), Err(Malformed));
    assert!(decode_binary(b"\x03\x00\x00\x01\x01\x02\x00te{}\xff\x00").is_ok());
}

#[test]
fn oversized_names_are_sent_as_text_and_binary_has_no_text_form() {
    let long = |payload| UserBroadcast {
        topic: "a".into(),
        event: "é".repeat(128).into(),
        payload,
        meta: Some(r#"{"id":"x"}"#.into()),
    };
    let json_broadcast = long(UserPayload::Json("[1]".into()));
    let expected = json!([null, null, "realtime:a", "broadcast", {
        "type": "broadcast", "event": "é".repeat(128), "payload": [1], "meta": {"id": "x"},
    }]);
    assert_eq!(encoded_json(V2_, &json_broadcast), expected);
    assert_eq!(encoded(V2_, &long(UserPayload::Binary("b".into()))), None);
    assert_eq!(encoded(V1_, &long(UserPayload::Binary("b".into()))), None);
    assert_eq!(encoded(Dialect::Presence, &json_broadcast), None);
}

#[test]
fn replies_and_pushes_match_each_version() {
    let reply = Message {
        join_ref: Some("1"),
        reference: Some("2"),
        topic: "realtime:\"a\"",
        event: "phx_reply",
        body: Body::Reply(ReplyStatus::Error, r#"{"reason":"no"}"#),
    };
    let payload = json!({"status": "error", "response": {"reason": "no"}});
    assert_eq!(encoded_json(V2_, &reply), json!(["1", "2", "realtime:\"a\"", "phx_reply", payload]));
    assert_eq!(
        encoded_json(V1_, &reply),
        json!({"ref": "2", "event": "phx_reply", "payload": payload, "topic": "realtime:\"a\""})
    );
    let broadcast = TopicMessage { topic: "\"a\n".into(), event: "broadcast".into(), payload: "{}".into() };
    assert_eq!(encoded_json(V2_, &broadcast), json!([null, null, "realtime:\"a\n", "broadcast", {}]));
}

/// JSON texts that parsing and serializing would change: large numbers, duplicate keys, unusual escapes, white space.
fn odd_json() -> impl Strategy<Value = String> {
    let space = "[ \t\r\n]{0,3}";
    let leaf = prop_oneof![
        Just("null".to_owned()),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        "\"[a-zA-Z é😀/]{0,8}\"",
        r#""(\\u[0-9a-fA-F]{4}|\\/|\\n|\\\\){0,4}""#,
    ];
    let value = leaf.prop_recursive(4, 32, 4, move |inner| {
        let padded =
            (space, inner, space).prop_map(|(before, value, after)| format!("{before}{value}{after}"));
        let entry = ("[ab]{0,1}", padded.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            prop::collection::vec(padded, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(entry, 0..4).prop_map(|all| format!("{{ {} }}", all.join(" , "))),
        ]
    });
    (space, value, space).prop_map(|(before, value, after)| format!("{before}{{\"a\":{value}}}{after}"))
}

proptest! {
    #[test]
    fn payloads_are_forwarded_unchanged(payload in odd_json()) {
        // In text frames, white space around a value belongs to the frame, not to the payload.
        let inner = payload.trim_matches([' ', '\t', '\r', '\n']);
        let frames = [
            (V2_, format!(r#"["1","2","realtime:a","broadcast",{payload}]"#)),
            (V1_, format!(r#"{{"payload":{payload},"topic":"realtime:a","event":"broadcast","ref":"2"}}"#)),
        ];
        for (dialect, frame) in frames {
            let Payload::Json(json) = decode_text(dialect, &frame).expect("a push").payload else { panic!("JSON") };
            prop_assert_eq!(json, inner);
            let message = TopicMessage { topic: "a".into(), event: "broadcast".into(), payload: json.into() };
            for dialect in [V1_, V2_] {
                let (_, bytes) = encoded(dialect, &message).expect("encoded");
                prop_assert!(String::from_utf8(bytes).expect("text").contains(inner));
            }
        }
        let mut frame = b"\x03\x00\x00\x0a\x01\x00\x01realtime:ae".to_vec();
        frame.extend_from_slice(payload.as_bytes());
        let Payload::User(user) = decode_binary(&frame).expect("a push").payload else { panic!("a broadcast") };
        prop_assert_eq!(user.json, Some(&*payload));
        let broadcast = UserBroadcast {
            topic: "a".into(),
            event: "e".into(),
            payload: UserPayload::Json(user.json.expect("JSON").into()),
            meta: None,
        };
        let (_, bytes) = encoded(V2_, &broadcast).expect("kind 4");
        prop_assert!(bytes.ends_with(payload.as_bytes()));
        let (_, bytes) = encoded(V1_, &broadcast).expect("text");
        prop_assert!(String::from_utf8(bytes).expect("text").contains(&payload));
    }

    #[test]
    fn a_user_broadcast_push_is_decoded_and_truncations_are_malformed(
        topic in ".{0,20}", event in ".{0,20}", bytes: Vec<u8>, cut in 0_usize..80,
    ) {
        let mut frame = vec![3, 1, 0, topic.len() as u8, event.len() as u8, 0, 0, b'7'];
        for part in [topic.as_bytes(), event.as_bytes(), &bytes] {
            frame.extend_from_slice(part);
        }
        let push = decode_binary(&frame).expect("is whole");
        prop_assert_eq!(&*push.topic, &*topic);
        prop_assert_eq!(push.join_ref.as_deref(), Some("7"));
        prop_assert_eq!(push.payload, Payload::User(UserPush { event: &event, json: None, bytes: &bytes }));
        let head = frame.len() - bytes.len();
        prop_assert!(cut >= head || decode_binary(&frame[..cut]).is_err());
    }

    #[test]
    fn decoding_any_bytes_never_panics(bytes: Vec<u8>, kind in 0_u8..5) {
        let mut frame = vec![kind];
        frame.extend_from_slice(&bytes);
        let _ = decode_binary(&frame);
        if let Ok(readable) = std::str::from_utf8(&bytes) {
            let _ = (decode_text(V1_, readable), decode_text(V2_, readable));
        }
    }

    #[test]
    fn kind_4_frames_contain_the_names_and_the_payload(topic in ".{0,60}", event in ".{0,100}", bytes: Vec<u8>) {
        let broadcast = UserBroadcast {
            topic: topic.as_str().into(),
            event: event.as_str().into(),
            payload: UserPayload::Binary(bytes.clone().into()),
            meta: None,
        };
        match encoded(V2_, &broadcast) {
            Some((_, frame)) => {
                let names = format!("realtime:{topic}{event}");
                prop_assert_eq!(&frame[5..5 + names.len()], names.as_bytes());
                prop_assert_eq!(&frame[5 + names.len()..], &bytes[..]);
            }
            None => prop_assert!(topic.len() > 246 || event.len() > 255),
        }
    }
}
