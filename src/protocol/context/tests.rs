use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::protocol::{ErrorCode, Token};

const ALICE: &str = "11111111-1111-4111-8111-111111111111";
const ROOM: &str = "22222222-2222-4222-8222-222222222222";

fn read(message: &Value) -> Result<ClientMessage, WireError> {
    decode(Frame::Text(&message.to_string()))
}

fn update(data: Value) -> Result<ClientMessage, WireError> {
    read(&json!({"type": "presence_update", "data": data}))
}

fn said(message: &ServerMessage) -> Value {
    let mut out = Vec::new();
    assert_eq!(encode_into(message, &mut out), Some(FrameKind::Text));
    serde_json::from_slice(&out).expect("valid JSON")
}

#[test]
fn what_the_back_end_sends_is_passed_on_as_it_came() {
    let payload = serde_json::value::RawValue::from_string(r#"{"n":1.50}"#.to_owned()).expect("is JSON");
    let event = CustomEvent { category: crate::model::Category::Custom, event: "paid".into(), payload };
    let mut out = Vec::new();
    assert_eq!(encode_into(&ServerMessage::Custom(event), &mut out), Some(FrameKind::Text));
    let expected = r#"{"type":"broadcast","data":{"category":"custom","event":"paid","payload":{"n":1.50}}}"#;
    assert_eq!(String::from_utf8(out).expect("is text"), expected);
}

fn empty() -> DeviceContext {
    DeviceContext {
        user_id: ALICE.parse().expect("a UUID"),
        device_id: DeviceId::unnamed(),
        active_conversation_id: None,
        visible_conversation_ids: Vec::new(),
        active_notebook_id: None,
        active_persona_id: None,
        last_navigation_path: None,
        local_time: None,
        updated_at: Timestamp::from_millisecond(1_700_000_000_123).expect("in range"),
    }
}

#[test]
fn everything_that_is_said_has_the_contract_s_shape() {
    let context = DeviceContext {
        active_conversation_id: Some(ROOM.parse().expect("a UUID")),
        visible_conversation_ids: vec![ROOM.parse().expect("a UUID")],
        last_navigation_path: Some("/notes".into()),
        local_time: Some("14:30".into()),
        ..empty()
    };
    for (message, expected) in [
        (
            ServerMessage::HeartbeatAck { server_time: Timestamp::UNIX_EPOCH },
            json!({"type": "heartbeat_ack", "timestamp": 0}),
        ),
        (
            ServerMessage::ContextSync(Arc::new(context)),
            json!({"type": "presence_sync", "timestamp": 1_700_000_000_123_i64, "data": {
                "deviceId": "default", "activeConversationId": ROOM, "visibleConversationIds": [ROOM],
                "activeNotebookId": null, "activePersonaId": null, "lastNavigationPath": "/notes", "localTime": "14:30",
            }}),
        ),
        (
            ServerMessage::BundleReady { bundle_type: "topic".into(), bundle_id: Uuid::nil(), version: 3 },
            json!({"type": "bundle_ready", "data": {"bundleType": "topic", "bundleId": Uuid::nil(), "version": 3}}),
        ),
        (
            ServerMessage::Error(WireError::new(ErrorCode::TokenExpired, "the token has expired")),
            json!({"type": "error", "code": "TOKEN_EXPIRED", "message": "the token has expired"}),
        ),
    ] {
        assert_eq!(said(&message), expected);
    }
}

#[test]
fn nothing_is_said_of_other_people() {
    let mut out = Vec::new();
    for message in [ServerMessage::InitialState(Vec::new()), ServerMessage::Pong] {
        assert_eq!(encode_into(&message, &mut out), None);
    }
    assert!(out.is_empty());
    assert!(!crate::protocol::Dialect::Context.tells_of_others());
}

#[test]
fn an_update_tells_what_is_cleared_from_what_is_not_mentioned() {
    let Ok(ClientMessage::Context(bare)) = update(json!({"deviceId": "web"})) else { panic!("not read") };
    assert_eq!(serde_json::to_value(&bare).expect("serializes"), json!({}));
    let full = update(json!({
        "deviceId": "web", "activeConversationId": ROOM, "visibleConversationIds": [ROOM], "activeNotebookId": null,
        "activePersonaId": ALICE, "lastNavigationPath": "/a", "localTime": "2024-06-15T14:30:00+02:00",
    }));
    let Ok(ClientMessage::Context(full)) = full else { panic!("not read: {full:?}") };
    assert_eq!(full.device_id.as_str(), "web");
    assert_eq!(
        serde_json::to_value(&full).expect("serializes"),
        json!({
            "active_conversation_id": ROOM, "visible_conversation_ids": [ROOM], "active_notebook_id": null,
            "active_persona_id": ALICE, "last_navigation_path": "/a", "local_time": "2024-06-15T14:30:00+02:00",
        })
    );
    let Ok(ClientMessage::Context(none)) = update(json!({"deviceId": "web", "visibleConversationIds": null}))
    else {
        panic!("not read")
    };
    assert_eq!(none.visible_conversation_ids, Some(Vec::new()));
}

#[test]
fn the_other_messages_are_read() {
    assert_eq!(read(&json!({"type": "heartbeat"})), Ok(ClientMessage::Heartbeat { active: None }));
    let auth = read(&json!({"type": "auth", "token": "t"}));
    assert_eq!(auth, Ok(ClientMessage::Authenticate(Token::new("t".into()))));
    let typing = read(&json!({"type": "typing", "data": {"conversationId": ROOM, "isTyping": true}}));
    assert!(matches!(typing, Ok(ClientMessage::Typing { is_typing: true, .. })));
}

#[test]
fn every_complaint_names_its_field() {
    for (message, field) in [
        (json!({"type": "status", "data": {}}), "type"),
        (json!({"type": "presence_update"}), "data"),
        (json!({"type": "presence_update", "data": {}}), "data.deviceId"),
        (json!({"type": "presence_update", "data": {"deviceId": ""}}), "data.deviceId"),
        (
            json!({"type": "presence_update", "data": {"deviceId": "a", "activeConversationId": "x"}}),
            "data.activeConversationId",
        ),
        (
            json!({"type": "presence_update", "data": {"deviceId": "a", "visibleConversationIds": "x"}}),
            "data.visibleConversationIds",
        ),
        (
            json!({"type": "presence_update", "data": {"deviceId": "a", "visibleConversationIds": [ROOM, 1]}}),
            "data.visibleConversationIds[1]",
        ),
        (
            json!({"type": "presence_update", "data": {"deviceId": "a", "visibleConversationIds": vec![ROOM; 101]}}),
            "data.visibleConversationIds",
        ),
        (
            json!({"type": "presence_update", "data": {"deviceId": "a", "lastNavigationPath": "x".repeat(2_049)}}),
            "data.lastNavigationPath",
        ),
        (
            json!({"type": "presence_update", "data": {"deviceId": "a", "localTime": "noon"}}),
            "data.localTime",
        ),
    ] {
        let error = read(&message).expect_err("the message is not valid");
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        assert!(error.details.iter().any(|detail| detail.field == field), "{message}: {error:?}");
    }
}

const KEYS: &[&str] = &[
    "deviceId",
    "activeConversationId",
    "visibleConversationIds",
    "activeNotebookId",
    "activePersonaId",
    "lastNavigationPath",
    "localTime",
    "active",
];

proptest! {
    #[test]
    fn reading_any_text_never_panics(text in ".*") {
        let _ = decode(Frame::Text(&text));
    }

    #[test]
    fn a_refusal_always_says_why(
        kind in prop::sample::select(&["presence_update", "heartbeat", "typing", "auth", "?"][..]),
        data in json::any_json(KEYS),
    ) {
        if let Err(error) = read(&json!({"type": kind, "data": data})) {
            prop_assert!(!error.message.is_empty() && !error.details.is_empty());
            said(&ServerMessage::Error(error));
        }
    }
}
