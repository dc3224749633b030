//! Who types, and who may know.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Case,
    client::{Socket, TIME, assert_like},
    world::{Node, User, World},
};

pub fn cases() -> Vec<Case> {
    crate::cases![
        typing_is_told_to_participants_and_ends_after_five_seconds,
        typing_over_a_socket_is_the_same_as_over_rest,
        a_refresh_keeps_typing_without_another_frame,
        whoever_is_no_participant_types_nowhere_and_learns_nothing,
        typing_of_those_who_hide_it_is_not_told,
        a_block_ends_what_was_seen_of_typing,
        rows_written_in_sql_are_told,
    ]
}

/// Two people in a conversation who may see each other, the second on a socket.
struct Room {
    id: Uuid,
    typist: User,
    reader: User,
    socket: Socket,
}

impl Room {
    async fn open(world: &World, node: &Node) -> Self {
        let (typist, reader, id) = (User::new(), User::new(), Uuid::new_v4());
        world.befriend(&typist, &reader).await;
        world
            .run(
                "insert into public.conversations (id, created_by) values ($room, $typist);
                 insert into public.conversation_participants (conversation_id, user_id)
                   values ($room, $typist), ($room, $reader);",
                &[("room", id), ("typist", typist.id), ("reader", reader.id)],
            )
            .await;
        world.set_status(&typist, "online").await;
        let mut socket = node.socket(&reader).await;
        socket.next().await;
        Self { id, typist, reader, socket }
    }

    fn path(&self) -> String {
        format!("/api/conversations/{}/typing", self.id)
    }

    async fn type_over_rest(&self, node: &Node, is_typing: bool) {
        let answer = node.post(&self.typist, &self.path(), json!({"is_typing": is_typing})).await;
        assert_eq!(answer.expect(200), json!({"success": true}));
    }

    fn frame(&self, is_typing: bool) -> Value {
        let data = json!({"user_id": self.typist.id, "conversation_id": self.id, "is_typing": is_typing});
        json!({"type": "typing_update", "data": data})
    }
}

async fn typing_is_told_to_participants_and_ends_after_five_seconds(world: Arc<World>) {
    let node = world.node().await;
    let mut room = Room::open(&world, &node).await;
    room.type_over_rest(&node, true).await;
    let (began, expected) = (Instant::now(), room.frame(true));
    room.socket.expect(expected).await;

    let listed = node.get(&room.reader, &room.path()).await.expect(200);
    assert_like(&listed, &json!([{"user_id": room.typist.id, "updated_at": TIME}]));
    let users = node.get(&room.reader, "/api/presence/users").await.expect(200);
    assert_eq!((&users[0]["user_id"], &users[0]["is_typing"]), (&json!(room.typist.id), &json!(true)));

    let expected = room.frame(false);
    room.socket.expect(expected).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(4_500) && took < Duration::from_millis(5_500), "{took:?}");
    assert_eq!(node.get(&room.reader, &room.path()).await.expect(200), json!([]));
}

async fn typing_over_a_socket_is_the_same_as_over_rest(world: Arc<World>) {
    let node = world.node().await;
    let mut room = Room::open(&world, &node).await;
    let mut own = node.socket(&room.typist).await;
    own.next().await;
    for is_typing in [true, false] {
        own.say(json!({"type": "typing", "data": {"conversationId": room.id, "isTyping": is_typing}})).await;
        let expected = room.frame(is_typing);
        let told = room.socket.find("typing", |frame| frame["type"] == "typing_update").await;
        assert_eq!(told, expected);
    }
    own.say(json!({"type": "typing", "data": {"conversation_id": Uuid::new_v4(), "is_typing": true}})).await;
    let error = own.find("a complaint", |frame| frame["type"] == "error").await;
    assert_eq!(error["code"], "NOT_FOUND");
}

async fn a_refresh_keeps_typing_without_another_frame(world: Arc<World>) {
    let node = world.node().await;
    let mut room = Room::open(&world, &node).await;
    room.type_over_rest(&node, true).await;
    let expected = room.frame(true);
    room.socket.expect(expected).await;
    room.socket.expect_silence(Duration::from_millis(1_500)).await;
    room.type_over_rest(&node, true).await;
    let refreshed = Instant::now();
    let expected = room.frame(false);
    room.socket.expect(expected).await;
    let took = refreshed.elapsed();
    assert!(took > Duration::from_millis(4_500) && took < Duration::from_millis(5_500), "{took:?}");
}

async fn whoever_is_no_participant_types_nowhere_and_learns_nothing(world: Arc<World>) {
    let node = world.node().await;
    let mut room = Room::open(&world, &node).await;
    let stranger = User::new();
    let unknown = format!("/api/conversations/{}/typing", Uuid::new_v4());
    let mut answers = Vec::new();
    for path in [&room.path(), &unknown] {
        let typed = node.post(&stranger, path, json!({"is_typing": true})).await;
        answers.push(typed.expect_error(404, "NOT_FOUND"));
        let asked = node.get(&stranger, path).await;
        answers.push(asked.expect_error(404, "NOT_FOUND"));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    for body in [json!({}), json!({"is_typing": "yes"}), json!({"is_typing": null})] {
        node.post(&room.typist, &room.path(), body).await.expect_error(400, "INVALID_REQUEST");
    }
    let nowhere = node.post(&room.typist, "/api/conversations/bob/typing", json!({"is_typing": true})).await;
    nowhere.expect_error(400, "INVALID_REQUEST");
    room.socket.expect_silence(Duration::from_millis(300)).await;
    assert_eq!(world.row("select count(*) from public.typing_indicators", &[]).await.get::<_, i64>(0), 0);
}

async fn typing_of_those_who_hide_it_is_not_told(world: Arc<World>) {
    let node = world.node().await;
    for hide in [
        "insert into public.presence_settings (user_id, show_typing) values ($typist, false)",
        "insert into public.presence_settings (user_id, visibility) values ($typist, 'nobody')",
        "insert into public.presence_choices (user_id, chosen) values ($typist, 'invisible')",
        "insert into public.blocks values ($typist, $reader)",
        "insert into public.blocks values ($reader, $typist)",
    ] {
        let mut room = Room::open(&world, &node).await;
        world.run(hide, &[("typist", room.typist.id), ("reader", room.reader.id)]).await;
        room.type_over_rest(&node, true).await;
        let until = Instant::now() + Duration::from_millis(500);
        while let Some(heard) = room.socket.hear(until).await {
            assert!(!format!("{heard:?}").contains("typing"), "{hide}: {heard:?}");
        }
        assert_eq!(node.get(&room.reader, &room.path()).await.expect(200), json!([]), "{hide}");
        // Who types sees it, whatever others may see.
        let own = node.get(&room.typist, &room.path()).await.expect(200);
        assert_eq!(own[0]["user_id"], json!(room.typist.id), "{hide}");
    }
}

async fn a_block_ends_what_was_seen_of_typing(world: Arc<World>) {
    let node = world.node().await;
    let mut room = Room::open(&world, &node).await;
    room.type_over_rest(&node, true).await;
    let expected = room.frame(true);
    room.socket.expect(expected).await;
    let blocked = Instant::now();
    world
        .run("insert into public.blocks values ($a, $b)", &[("a", room.typist.id), ("b", room.reader.id)])
        .await;
    let told = room.socket.find("the end of typing", |frame| frame["type"] == "typing_update").await;
    assert_eq!(told, room.frame(false));
    assert!(blocked.elapsed() < Duration::from_secs(2), "{:?}", blocked.elapsed());
    room.type_over_rest(&node, true).await;
    let until = Instant::now() + Duration::from_millis(500);
    while let Some(heard) = room.socket.hear(until).await {
        assert!(!format!("{heard:?}").contains("typing"), "{heard:?}");
    }
}

async fn rows_written_in_sql_are_told(world: Arc<World>) {
    let node = world.node().await;
    let mut room = Room::open(&world, &node).await;
    let ids = [("room", room.id), ("typist", room.typist.id)];
    for (statement, is_typing) in [
        ("insert into public.typing_indicators (conversation_id, user_id) values ($room, $typist)", true),
        ("delete from public.typing_indicators", false),
    ] {
        world.run(statement, &ids).await;
        let expected = room.frame(is_typing);
        room.socket.expect(expected).await;
    }
}
