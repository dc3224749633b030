use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{model::Reach, protocol::Token};

const ALICE: &str = "11111111-1111-4111-8111-111111111111";
const CONVERSATION: &str = "22222222-2222-4222-8222-222222222222";

fn decode_json(message: &Value) -> Result<ClientMessage, WireError> {
    decode(Frame::Text(&message.to_string()))
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
    let expected =
        r#"{"type":"broadcast","payload":{"category":"custom","event":"paid","payload":{"n":1.50}}}"#;
    assert_eq!(String::from_utf8(out).expect("is text"), expected);
}

fn alice() -> Presence {
    Presence {
        user_id: ALICE.parse().expect("a UUID"),
        status: Status::Dnd,
        reach: Reach::Online,
        last_seen: Some("2024-01-01T12:00:00.1239Z".parse().expect("a time")),
        custom_status: None,
        activity: Some("not in this dialect".into()),
        current_page: None,
        idle_since: None,
    }
}

#[test]
fn server_messages_match_the_protocol() {
    let welcome = Welcome {
        client_id: uuid::uuid!("0b7f2f0e-0000-4000-8000-000000000000"),
        user_id: ALICE.parse().expect("a UUID"),
        device_id: DeviceId::unnamed(),
        server_time: Timestamp::UNIX_EPOCH,
        heartbeat_interval: Duration::from_secs(25),
    };
    let typing = TypingState {
        user_id: ALICE.parse().expect("a UUID"),
        conversation_id: CONVERSATION.parse().expect("a UUID"),
        is_typing: true,
    };
    let out = Presence { custom_status: Some("out".into()), ..alice() };
    for (message, expected) in [
        (
            ServerMessage::Connected(welcome),
            json!({"type": "connection_ack", "payload": {
                "client_id": "0b7f2f0e-0000-4000-8000-000000000000", "user_id": ALICE, "device_id": "default",
                "server_time": "1970-01-01T00:00:00.000Z", "heartbeat_interval_ms": 25_000,
            }}),
        ),
        (
            ServerMessage::StatusAck(Arc::new(out)),
            json!({"type": "presence_update_ack", "payload": {"online_status": "dnd", "custom_status": "out"}}),
        ),
        (
            ServerMessage::HeartbeatAck { server_time: Timestamp::UNIX_EPOCH },
            json!({"type": "heartbeat_ack", "payload": {"server_time": "1970-01-01T00:00:00.000Z"}}),
        ),
        (
            ServerMessage::Presence(Arc::new(alice())),
            json!({"type": "presence_update", "payload": {
                "user_id": ALICE, "online_status": "dnd", "custom_status": null,
                "last_seen_at": "2024-01-01T12:00:00.123Z",
            }}),
        ),
        (
            ServerMessage::Presence(Arc::new(Presence::hidden(alice().user_id))),
            json!({"type": "presence_update", "payload": {
                "user_id": ALICE, "online_status": "offline", "custom_status": null, "last_seen_at": null,
            }}),
        ),
        (
            ServerMessage::Typing(typing),
            json!({"type": "typing_indicator", "payload": {
                "conversation_id": CONVERSATION, "user_id": ALICE, "is_typing": true,
            }}),
        ),
        (ServerMessage::Pong, json!({"type": "pong", "payload": {}})),
        (
            ServerMessage::Error(WireError::new(ErrorCode::TokenExpired, "the token has expired")),
            json!({"type": "error", "code": "TOKEN_EXPIRED", "payload": {
                "code": "TOKEN_EXPIRED", "message": "the token has expired",
            }}),
        ),
    ] {
        assert_eq!(encoded(&message), expected);
    }
    let frame = encoded(&ServerMessage::Error(WireError::rate_limited(250)));
    assert_eq!((&frame["retry_after_ms"], &frame["payload"]["retry_after_ms"]), (&json!(250), &json!(250)));
}

#[test]
fn the_initial_state_is_one_frame_per_user() {
    let mut out = Vec::new();
    let other = Presence { custom_status: Some("two\nlines".into()), ..alice() };
    let both =
        ServerMessage::InitialState { presences: vec![Arc::new(alice()), Arc::new(other)], position: None };
    assert_eq!(encode_into(&both, &mut out), Some(FrameKind::TextLines));
    let lines: Vec<Value> = String::from_utf8(out)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a frame"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|frame| frame["type"] == "presence_update"));
    assert_eq!(lines[1]["payload"]["custom_status"], "two\nlines");
}

#[test]
fn messages_of_other_dialects_are_not_encoded() {
    let mut out = Vec::new();
    let ready =
        ServerMessage::BundleReady { bundle_type: "topic".into(), bundle_id: uuid::Uuid::nil(), version: 1 };
    assert_eq!(encode_into(&ready, &mut out), None);
    assert!(out.is_empty());
}

#[test]
fn all_client_messages_are_decoded() {
    let status = decode_json(&json!({"type": "presence_update", "payload": {"online_status": "busy"}}));
    assert_eq!(status, Ok(ClientMessage::Status(StatusUpdate::with_status(Status::Busy))));
    let status = decode_json(
        &json!({"type": "presence_update", "payload": {"online_status": "busy", "custom_status": null}}),
    );
    let Ok(ClientMessage::Status(update)) = status else { panic!("not a status: {status:?}") };
    assert_eq!(update.custom_status, Some(None));
    for name in ["heartbeat", "presence_heartbeat"] {
        assert_eq!(decode_json(&json!({"type": name})), Ok(ClientMessage::Heartbeat { active: None }));
        let active = decode_json(&json!({"type": name, "payload": {"active": true}}));
        assert_eq!(active, Ok(ClientMessage::Heartbeat { active: Some(true) }));
    }
    let typing = decode_json(
        &json!({"type": "typing", "payload": {"conversation_id": CONVERSATION, "is_typing": true}}),
    );
    assert!(matches!(typing, Ok(ClientMessage::Typing { is_typing: true, .. })));
    assert_eq!(decode_json(&json!({"type": "ping"})), Ok(ClientMessage::Ping));
    assert_eq!(decode_json(&json!({"type": "ping", "payload": {}})), Ok(ClientMessage::Ping));
    let auth = decode_json(&json!({"type": "auth", "token": "t"}));
    assert_eq!(auth, Ok(ClientMessage::Authenticate(Token::new("t".into()))));
}

#[test]
fn errors_name_their_field() {
    for (message, field, code) in [
        (json!({}), "type", ErrorCode::InvalidRequest),
        (json!({"type": "status"}), "type", ErrorCode::InvalidRequest),
        (json!({"type": "presence_update"}), "payload", ErrorCode::InvalidRequest),
        (json!({"type": "presence_update", "payload": "x"}), "payload", ErrorCode::InvalidRequest),
        (
            json!({"type": "presence_update", "payload": {}}),
            "payload.online_status",
            ErrorCode::InvalidRequest,
        ),
        (
            json!({"type": "presence_update", "payload": {"online_status": "idle"}}),
            "payload.online_status",
            ErrorCode::Unprocessable,
        ),
        (
            json!({"type": "presence_update", "payload": {"online_status": "online", "custom_status": "x".repeat(141)}}),
            "payload.custom_status",
            ErrorCode::InvalidRequest,
        ),
        (
            json!({"type": "typing", "payload": {"conversation_id": CONVERSATION}}),
            "payload.is_typing",
            ErrorCode::InvalidRequest,
        ),
        (json!({"type": "heartbeat", "payload": {"active": 1}}), "payload.active", ErrorCode::InvalidRequest),
        (json!({"type": "auth", "token": 7}), "token", ErrorCode::InvalidRequest),
    ] {
        let error = decode_json(&message).expect_err("the message is not valid");
        assert_eq!(error.code, code, "{message}");
        assert!(error.details.iter().any(|detail| detail.field == field), "{message}: {error:?}");
    }
}

const KEYS: &[&str] =
    &["online_status", "custom_status", "conversation_id", "is_typing", "active", "payload"];

proptest! {
    #[test]
    fn decoding_any_text_never_panics(text in ".*") {
        let _ = decode(Frame::Text(&text));
    }

    #[test]
    fn errors_always_have_a_message_and_details(
        kind in prop::sample::select(&["presence_update", "heartbeat", "typing", "ping", "auth", "?"][..]),
        payload in json::any_json(KEYS),
    ) {
        if let Err(error) = decode_json(&json!({"type": kind, "payload": payload})) {
            prop_assert!(!error.message.is_empty() && !error.details.is_empty());
            encoded(&ServerMessage::Error(error));
        }
    }

    #[test]
    fn encoded_messages_are_valid_json(custom_status in proptest::option::of(".*"), message in ".*") {
        let presence = Presence { custom_status: custom_status.clone(), ..alice() };
        let frame = encoded(&ServerMessage::Presence(Arc::new(presence)));
        prop_assert_eq!(frame["payload"]["custom_status"].as_str(), custom_status.as_deref());
        encoded(&ServerMessage::Error(WireError::new(ErrorCode::InternalError, message)));
    }
}
