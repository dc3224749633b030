//! Typing indicators and their visibility.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::{ANY_TIME, Socket, assert_matches_pattern},
    harness::{TestDatabase, TestServer, User},
};
use tokio::time::Instant;
use uuid::Uuid;

/// Two participants of a conversation who may see each other; the second one has a socket.
struct TypingConversation {
    id: Uuid,
    typist: User,
    reader: User,
    socket: Socket,
}

impl TypingConversation {
    async fn open(db: &TestDatabase, node: &TestServer) -> Self {
        let (typist, reader, id) = (User::new(), User::new(), Uuid::new_v4());
        db.add_contact(&typist, &reader).await;
        db.execute(
            "insert into rollcall.conversations (id, created_by) values ($room, $typist);
                 insert into rollcall.conversation_participants (conversation_id, user_id)
                   values ($room, $typist), ($room, $reader);",
            &[("room", id), ("typist", typist.id), ("reader", reader.id)],
        )
        .await;
        db.set_status(&typist, "online").await;
        let mut socket = node.socket(&reader).await;
        socket.next_message().await;
        Self { id, typist, reader, socket }
    }

    fn path(&self) -> String {
        format!("/api/conversations/{}/typing", self.id)
    }

    async fn set_typing_over_rest(&self, node: &TestServer, is_typing: bool) {
        let response = node.post(&self.typist, &self.path(), json!({"is_typing": is_typing})).await;
        assert_eq!(response.expect_status(200), json!({"success": true}));
    }

    fn typing_message(&self, is_typing: bool) -> Value {
        let data = json!({"user_id": self.typist.id, "conversation_id": self.id, "is_typing": is_typing});
        json!({"type": "typing_update", "data": data})
    }

    /// Reads until the state arrives. After missed notifications, a node sends the states before it again.
    async fn expect_typing(&mut self, is_typing: bool) {
        let expected = self.typing_message(is_typing);
        self.socket.find_message("the typing state", |frame| *frame == expected).await;
    }
}

#[testkit::test]
async fn typing_reaches_participants_and_expires_after_five_seconds(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut conversation = TypingConversation::open(&db, &node).await;
    conversation.set_typing_over_rest(&node, true).await;
    let started = Instant::now();
    conversation.expect_typing(true).await;

    let listed = node.get(&conversation.reader, &conversation.path()).await.expect_status(200);
    assert_matches_pattern(&listed, &json!([{"user_id": conversation.typist.id, "updated_at": ANY_TIME}]));
    let users = node.get(&conversation.reader, "/api/presence/users").await.expect_status(200);
    assert_eq!(
        (&users[0]["user_id"], &users[0]["is_typing"]),
        (&json!(conversation.typist.id), &json!(true))
    );

    conversation.expect_typing(false).await;
    let took = started.elapsed();
    assert!(took > Duration::from_millis(4_500) && took < Duration::from_millis(5_500), "{took:?}");
    assert_eq!(node.get(&conversation.reader, &conversation.path()).await.expect_status(200), json!([]));
}

#[testkit::test]
async fn typing_over_a_socket_matches_rest(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut conversation = TypingConversation::open(&db, &node).await;
    let mut own = node.socket(&conversation.typist).await;
    own.next_message().await;
    for is_typing in [true, false] {
        own.send_message(
            json!({"type": "typing", "data": {"conversationId": conversation.id, "isTyping": is_typing}}),
        )
        .await;
        let expected = conversation.typing_message(is_typing);
        let update =
            conversation.socket.find_message("typing", |frame| frame["type"] == "typing_update").await;
        assert_eq!(update, expected);
    }
    own.send_message(
        json!({"type": "typing", "data": {"conversation_id": Uuid::new_v4(), "is_typing": true}}),
    )
    .await;
    let error = own.find_message("an error message", |frame| frame["type"] == "error").await;
    assert_eq!(error["code"], "NOT_FOUND");
}

#[testkit::test]
async fn repeated_typing_extends_it_without_another_message(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut conversation = TypingConversation::open(&db, &node).await;
    conversation.set_typing_over_rest(&node, true).await;
    conversation.expect_typing(true).await;
    conversation.socket.expect_no_message(Duration::from_millis(1_500)).await;
    conversation.set_typing_over_rest(&node, true).await;
    let refreshed = Instant::now();
    conversation.expect_typing(false).await;
    let took = refreshed.elapsed();
    assert!(took > Duration::from_millis(4_500) && took < Duration::from_millis(5_500), "{took:?}");
}

#[testkit::test]
async fn non_participants_cannot_type_or_see_typing(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut conversation = TypingConversation::open(&db, &node).await;
    let stranger = User::new();
    let unknown = format!("/api/conversations/{}/typing", Uuid::new_v4());
    let mut responses = Vec::new();
    for path in [&conversation.path(), &unknown] {
        let typed = node.post(&stranger, path, json!({"is_typing": true})).await;
        responses.push(typed.expect_error(404, "NOT_FOUND"));
        let list = node.get(&stranger, path).await;
        responses.push(list.expect_error(404, "NOT_FOUND"));
    }
    assert!(responses.windows(2).all(|pair| pair[0] == pair[1]), "{responses:?}");
    for body in [json!({}), json!({"is_typing": "yes"}), json!({"is_typing": null})] {
        node.post(&conversation.typist, &conversation.path(), body)
            .await
            .expect_error(400, "INVALID_REQUEST");
    }
    let nowhere =
        node.post(&conversation.typist, "/api/conversations/bob/typing", json!({"is_typing": true})).await;
    nowhere.expect_error(400, "INVALID_REQUEST");
    conversation.socket.expect_no_message(Duration::from_millis(300)).await;
    assert_eq!(
        db.query_row("select count(*) from rollcall.typing_indicators", &[]).await.get::<_, i64>(0),
        0
    );
}

#[testkit::test]
async fn hidden_typing_is_not_sent(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for hide in [
        "insert into rollcall.presence_settings (user_id, show_typing) values ($typist, false)",
        "insert into rollcall.presence_settings (user_id, visibility) values ($typist, 'nobody')",
        "insert into rollcall.presence_choices (user_id, chosen) values ($typist, 'invisible')",
        "insert into rollcall.blocks values ($typist, $reader)",
        "insert into rollcall.blocks values ($reader, $typist)",
    ] {
        let mut conversation = TypingConversation::open(&db, &node).await;
        db.execute(hide, &[("typist", conversation.typist.id), ("reader", conversation.reader.id)]).await;
        conversation.set_typing_over_rest(&node, true).await;
        let until = Instant::now() + Duration::from_millis(500);
        while let Some(received) = conversation.socket.receive(until).await {
            assert!(!format!("{received:?}").contains("typing"), "{hide}: {received:?}");
        }
        assert_eq!(
            node.get(&conversation.reader, &conversation.path()).await.expect_status(200),
            json!([]),
            "{hide}"
        );
        // A typing user sees the own indicator, whatever others may see.
        let own = node.get(&conversation.typist, &conversation.path()).await.expect_status(200);
        assert_eq!(own[0]["user_id"], json!(conversation.typist.id), "{hide}");
    }
}

#[testkit::test]
async fn a_block_ends_visible_typing(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut conversation = TypingConversation::open(&db, &node).await;
    conversation.set_typing_over_rest(&node, true).await;
    conversation.expect_typing(true).await;
    let blocked = Instant::now();
    db.execute(
        "insert into rollcall.blocks values ($a, $b)",
        &[("a", conversation.typist.id), ("b", conversation.reader.id)],
    )
    .await;
    let update =
        conversation.socket.find_message("the end of typing", |frame| frame["type"] == "typing_update").await;
    assert_eq!(update, conversation.typing_message(false));
    assert!(blocked.elapsed() < Duration::from_secs(2), "{:?}", blocked.elapsed());
    conversation.set_typing_over_rest(&node, true).await;
    let until = Instant::now() + Duration::from_millis(500);
    while let Some(received) = conversation.socket.receive(until).await {
        assert!(!format!("{received:?}").contains("typing"), "{received:?}");
    }
}

#[testkit::test]
async fn typing_rows_written_in_sql_are_sent(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut conversation = TypingConversation::open(&db, &node).await;
    let ids = [("room", conversation.id), ("typist", conversation.typist.id)];
    for (statement, is_typing) in [
        ("insert into rollcall.typing_indicators (conversation_id, user_id) values ($room, $typist)", true),
        ("delete from rollcall.typing_indicators", false),
    ] {
        db.execute(statement, &ids).await;
        conversation.expect_typing(is_typing).await;
    }
}
