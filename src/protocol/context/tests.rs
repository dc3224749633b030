use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::protocol::{ErrorCode, Token};

const ALICE: &str = "11111111-1111-4111-8111-111111111111";
const CONVERSATION: &str = "22222222-2222-4222-8222-222222222222";

fn decode_json(message: &Value) -> Result<ClientMessage, WireError> {
    decode(Frame::Text(&message.to_string()))
}

fn decode_update(data: Value) -> Result<ClientMessage, WireError> {
    decode_json(&json!({"type": "presence_update", "data": data}))
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

fn empty_context() -> DeviceContext {
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
fn server_messages_match_the_protocol() {
    let context = DeviceContext {
        active_conversation_id: Some(CONVERSATION.parse().expect("a UUID")),
        visible_conversation_ids: vec![CONVERSATION.parse().expect("a UUID")],
        last_navigation_path: Some("/notes".into()),
        local_time: Some("14:30".into()),
        ..empty_context()
    };
    for (message, expected) in [
        (
            ServerMessage::HeartbeatAck { server_time: Timestamp::UNIX_EPOCH },
            json!({"type": "heartbeat_ack", "timestamp": 0}),
        ),
        (
            ServerMessage::ContextSync(Arc::new(context)),
            json!({"type": "presence_sync", "timestamp": 1_700_000_000_123_i64, "data": {
                "deviceId": "default", "activeConversationId": CONVERSATION, "visibleConversationIds": [CONVERSATION],
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
        assert_eq!(encoded(&message), expected);
    }
}

#[test]
fn presence_of_other_users_is_not_encoded() {
    let mut out = Vec::new();
    for message in
        [ServerMessage::InitialState { presences: Vec::new(), position: None }, ServerMessage::Pong]
    {
        assert_eq!(encode_into(&message, &mut out), None);
    }
    assert!(out.is_empty());
    assert!(!crate::protocol::Dialect::Context.includes_other_users());
}

#[test]
fn an_update_distinguishes_null_from_absent_fields() {
    let Ok(ClientMessage::Context(empty)) = decode_update(json!({"deviceId": "web"})) else {
        panic!("not decoded")
    };
    assert_eq!(serde_json::to_value(&empty).expect("serializes"), json!({}));
    let full = decode_update(json!({
        "deviceId": "web", "activeConversationId": CONVERSATION, "visibleConversationIds": [CONVERSATION], "activeNotebookId": null,
        "activePersonaId": ALICE, "lastNavigationPath": "/a", "localTime": "2024-06-15T14:30:00+02:00",
    }));
    let Ok(ClientMessage::Context(full)) = full else { panic!("not decoded: {full:?}") };
    assert_eq!(full.device_id.as_str(), "web");
    assert_eq!(
        serde_json::to_value(&full).expect("serializes"),
        json!({
            "active_conversation_id": CONVERSATION, "visible_conversation_ids": [CONVERSATION], "active_notebook_id": null,
            "active_persona_id": ALICE, "last_navigation_path": "/a", "local_time": "2024-06-15T14:30:00+02:00",
        })
    );
    let Ok(ClientMessage::Context(none)) =
        decode_update(json!({"deviceId": "web", "visibleConversationIds": null}))
    else {
        panic!("not decoded")
    };
    assert_eq!(none.visible_conversation_ids, Some(Vec::new()));
}

#[test]
fn the_other_messages_are_decoded() {
    assert_eq!(decode_json(&json!({"type": "heartbeat"})), Ok(ClientMessage::Heartbeat { active: None }));
    let auth = decode_json(&json!({"type": "auth", "token": "t"}));
    assert_eq!(auth, Ok(ClientMessage::Authenticate(Token::new("t".into()))));
    let typing =
        decode_json(&json!({"type": "typing", "data": {"conversationId": CONVERSATION, "isTyping": true}}));
    assert!(matches!(typing, Ok(ClientMessage::Typing { is_typing: true, .. })));
}

#[test]
fn errors_name_their_field() {
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
            json!({"type": "presence_update", "data": {"deviceId": "a", "visibleConversationIds": [CONVERSATION, 1]}}),
            "data.visibleConversationIds[1]",
        ),
        (
            json!({"type": "presence_update", "data": {"deviceId": "a", "visibleConversationIds": vec![CONVERSATION; 101]}}),
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
        let error = decode_json(&message).expect_err("the message is not valid");
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
    fn decoding_any_text_never_panics(text in ".*") {
        let _ = decode(Frame::Text(&text));
    }

    #[test]
    fn errors_always_have_a_message_and_details(
        kind in prop::sample::select(&["presence_update", "heartbeat", "typing", "auth", "?"][..]),
        data in json::any_json(KEYS),
    ) {
        if let Err(error) = decode_json(&json!({"type": kind, "data": data})) {
            prop_assert!(!error.message.is_empty() && !error.details.is_empty());
            encoded(&ServerMessage::Error(error));
        }
    }
}
