use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    model::{Reach, Status},
    protocol::{ErrorCode, Token},
};

const ALICE: &str = "11111111-1111-4111-8111-111111111111";
const CONVERSATION: &str = "22222222-2222-4222-8222-222222222222";

fn decode_json(message: &Value) -> Result<ClientMessage, WireError> {
    decode(Frame::Text(&message.to_string()))
}

fn decode_error(message: &Value) -> WireError {
    decode_json(message).expect_err("the message is not valid")
}

fn encoded(message: &ServerMessage) -> Value {
    let mut out = Vec::new();
    assert_eq!(encode_into(message, &mut out), Some(FrameKind::Text));
    serde_json::from_slice(&out).expect("valid JSON")
}

#[test]
fn custom_events_are_forwarded_unchanged() {
    let payload = serde_json::value::RawValue::from_string(r#"{"n":1.50}"#.to_owned()).expect("is JSON");
    let event = CustomEvent { category: crate::model::Category::Custom, event: "paid".into(), payload };
    let mut out = Vec::new();
    assert_eq!(encode_into(&ServerMessage::Custom(event), &mut out), Some(FrameKind::Text));
    let expected = r#"{"type":"broadcast","data":{"category":"custom","event":"paid","payload":{"n":1.50}}}"#;
    assert_eq!(String::from_utf8(out).expect("is text"), expected);
}

fn alice() -> Presence {
    Presence {
        user_id: ALICE.parse().expect("a UUID"),
        status: Status::Dnd,
        reach: Reach::Online,
        last_seen: Some("2024-01-01T12:00:00.1239Z".parse().expect("a time")),
        custom_status: None,
        activity: None,
        current_page: None,
        idle_since: None,
    }
}

#[test]
fn a_presence_update_matches_the_protocol() {
    let frame = encoded(&ServerMessage::Presence(Arc::new(alice())));
    let expected = json!({"type": "presence_update", "data": {
        "user_id": ALICE, "status": "online", "availability": "dnd", "last_seen": "2024-01-01T12:00:00.123Z"
    }});
    assert_eq!(frame, expected);
}

#[test]
fn optional_fields_are_omitted_and_last_seen_is_always_present() {
    let presence = Presence {
        last_seen: None,
        custom_status: Some("lunch \"now\"".into()),
        idle_since: Some("2024-01-01T00:00:00Z".parse().expect("a time")),
        ..alice()
    };
    let expected = json!({"type": "presence_update", "data": {
        "user_id": ALICE, "status": "online", "availability": "dnd", "last_seen": null,
        "custom_status": "lunch \"now\"", "idle_since": "2024-01-01T00:00:00.000Z"
    }});
    assert_eq!(encoded(&ServerMessage::Presence(Arc::new(presence))), expected);
}

#[test]
fn the_initial_state_lists_presences() {
    let frame = encoded(&ServerMessage::InitialState { presences: vec![Arc::new(alice())], position: None });
    assert_eq!(frame["type"], "initial_state");
    assert_eq!(frame["data"]["presences"][0]["user_id"], ALICE);
    assert_eq!(
        encoded(&ServerMessage::InitialState { presences: Vec::new(), position: None })["data"],
        json!({"presences": []})
    );
}

#[test]
fn typing_and_error_frames_match_the_protocol() {
    let typing = TypingState {
        user_id: ALICE.parse().expect("a UUID"),
        conversation_id: CONVERSATION.parse().expect("a UUID"),
        is_typing: true,
    };
    assert_eq!(
        encoded(&ServerMessage::Typing(typing)),
        json!({"type": "typing_update", "data": {"user_id": ALICE, "conversation_id": CONVERSATION, "is_typing": true}})
    );
    let frame = encoded(&ServerMessage::Error(WireError::rate_limited(250)));
    assert_eq!((&frame["type"], &frame["code"]), (&json!("error"), &json!("RATE_LIMITED")));
    assert_eq!(frame["retry_after_ms"], 250);
    assert_eq!(frame.get("details"), None);
}

#[test]
fn acknowledgements_are_not_encoded() {
    let mut out = Vec::new();
    assert_eq!(encode_into(&ServerMessage::StatusAck(Arc::new(alice())), &mut out), None);
    assert_eq!(
        encode_into(&ServerMessage::HeartbeatAck { server_time: Timestamp::UNIX_EPOCH }, &mut out),
        None
    );
    assert!(out.is_empty());
}

#[test]
fn a_status_is_decoded_in_snake_case_and_camel_case() {
    let snake_case = decode_json(&json!({"type": "status", "data": {
        "status": "busy", "device_id": "web", "custom_status": null,
        "custom_status_expires_at": "2030-01-01T00:00:00+01:00", "activity": "reading", "current_page": "/a"
    }}));
    let camel_case = decode_json(&json!({"type": "status", "data": {
        "status": "busy", "deviceId": "web", "customStatus": null,
        "customStatusExpiresAt": "2029-12-31T23:00:00Z", "activity": "reading", "currentPage": "/a"
    }}));
    assert_eq!(snake_case, camel_case);
    let Ok(ClientMessage::Status(update)) = snake_case else { panic!("not a status: {snake_case:?}") };
    assert_eq!(update.status, Status::Busy);
    assert_eq!(update.custom_status, Some(None));
    assert_eq!(update.activity, Some(Some("reading".into())));
}

#[test]
fn a_status_alone_leaves_other_fields_unchanged() {
    let message = decode_json(&json!({"type": "status", "data": {"status": "away"}}));
    assert_eq!(message, Ok(ClientMessage::Status(StatusUpdate::with_status(Status::Away))));
}

#[test]
fn an_unknown_status_is_unprocessable() {
    let error = decode_error(&json!({"type": "status", "data": {"status": "idle"}}));
    assert_eq!(error.code, ErrorCode::Unprocessable);
    assert_eq!(error.details[0].field, "data.status");
}

#[test]
fn errors_name_their_field() {
    for (message, field) in [
        (json!({}), "type"),
        (json!({"type": 5}), "type"),
        (json!({"type": "dance"}), "type"),
        (json!({"type": "status"}), "data"),
        (json!({"type": "status", "data": []}), "data"),
        (json!({"type": "status", "data": {}}), "data.status"),
        (json!({"type": "status", "data": {"status": null}}), "data.status"),
        (json!({"type": "status", "data": {"status": "online", "deviceId": ""}}), "data.device_id"),
        (
            json!({"type": "status", "data": {"status": "online", "custom_status": "x".repeat(141)}}),
            "data.custom_status",
        ),
        (
            json!({"type": "status", "data": {"status": "online", "customStatusExpiresAt": "soon"}}),
            "data.custom_status_expires_at",
        ),
        (json!({"type": "status", "data": {"status": "online", "activity": {}}}), "data.activity"),
        (json!({"type": "heartbeat", "data": {"active": "yes"}}), "data.active"),
        (json!({"type": "typing", "data": {"is_typing": true}}), "data.conversation_id"),
        (
            json!({"type": "typing", "data": {"conversation_id": 1.5, "is_typing": true}}),
            "data.conversation_id",
        ),
        (
            json!({"type": "typing", "data": {"conversation_id": CONVERSATION, "is_typing": 1}}),
            "data.is_typing",
        ),
        (json!({"type": "subscribe", "data": {}}), "data.user_ids"),
        (json!({"type": "subscribe", "data": {"user_ids": []}}), "data.user_ids"),
        (json!({"type": "subscribe", "data": {"current_page": 7}}), "data.current_page"),
        (json!({"type": "subscribe", "data": {"current_page": "x".repeat(2049)}}), "data.current_page"),
        (json!({"type": "subscribe", "data": {"user_ids": [ALICE, 7]}}), "data.user_ids[1]"),
        (json!({"type": "subscribe", "data": {"user_ids": vec![ALICE; 1001]}}), "data.user_ids"),
        (json!({"type": "auth"}), "token"),
    ] {
        let error = decode_error(&message);
        assert!(error.details.iter().any(|detail| detail.field == field), "{message}: {error:?}");
    }
}

#[test]
fn the_other_messages_are_decoded() {
    assert_eq!(decode_json(&json!({"type": "heartbeat"})), Ok(ClientMessage::Heartbeat { active: None }));
    assert_eq!(
        decode_json(&json!({"type": "heartbeat", "data": {"active": false}})),
        Ok(ClientMessage::Heartbeat { active: Some(false) })
    );
    let typing = decode_json(
        &json!({"type": "typing", "data": {"conversation_id": CONVERSATION, "is_typing": false}}),
    );
    assert!(matches!(typing, Ok(ClientMessage::Typing { is_typing: false, .. })));
    let subscribe = decode_json(&json!({"type": "subscribe", "data": {"user_ids": vec![ALICE; 1000]}}));
    assert!(
        matches!(subscribe, Ok(ClientMessage::Subscribe(Subscription { user_ids: Some(ids), current_page: None })) if ids.len() == 1000)
    );
    for (data, page) in
        [(json!({"current_page": "/a"}), Some("/a".to_owned())), (json!({"currentPage": null}), None)]
    {
        let subscribe = decode_json(&json!({"type": "subscribe", "data": data}));
        let expected = Subscription { user_ids: None, current_page: Some(page) };
        assert_eq!(subscribe, Ok(ClientMessage::Subscribe(expected)));
    }
    let auth = decode_json(&json!({"type": "auth", "token": "t"}));
    assert_eq!(auth, Ok(ClientMessage::Authenticate(Token::new("t".into()))));
}

#[test]
fn non_objects_are_rejected() {
    for text in ["", "{", "[]", "null", "{\"type\":\"heartbeat\"}x", &"[".repeat(10_000)] {
        assert_eq!(decode(Frame::Text(text)).expect_err("refused").code, ErrorCode::InvalidRequest);
    }
    assert!(decode(Frame::Binary(b"{}")).is_err());
}

const KEYS: &[&str] = &[
    "status",
    "deviceId",
    "custom_status",
    "customStatusExpiresAt",
    "activity",
    "current_page",
    "conversation_id",
    "is_typing",
    "user_ids",
    "active",
];

proptest! {
    #[test]
    fn decoding_any_text_never_panics(text in ".*") {
        let _ = decode(Frame::Text(&text));
    }

    #[test]
    fn errors_always_have_a_message_and_details(
        kind in prop_oneof![Just("status"), Just("heartbeat"), Just("typing"), Just("subscribe"), Just("auth"), Just("?")],
        data in json::any_json(KEYS),
    ) {
        if let Err(error) = decode_json(&json!({"type": kind, "data": data})) {
            prop_assert!(!error.message.is_empty());
            prop_assert!(!error.details.is_empty());
            encoded(&ServerMessage::Error(error));
        }
    }

    #[test]
    fn encoded_messages_are_valid_json(
        custom_status in proptest::option::of(".*"),
        activity in proptest::option::of(".*"),
        seconds in proptest::option::of(-62_135_596_800i64..253_402_207_200),
        message in ".*",
    ) {
        let time = seconds.map(|seconds| Timestamp::from_second(seconds).expect("in range"));
        let presence = Presence { custom_status: custom_status.clone(), activity, last_seen: time, idle_since: time, ..alice() };
        let frame = encoded(&ServerMessage::Presence(Arc::new(presence)));
        prop_assert_eq!(frame["data"].get("custom_status").and_then(Value::as_str), custom_status.as_deref());
        encoded(&ServerMessage::Error(WireError::new(ErrorCode::InternalError, message)));
    }
}
