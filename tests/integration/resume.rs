//! Resumed presence sockets and streams: a client that presents its last position gets only what changed, and ends with
//! what a full state would show. The visibility model resumes in random histories; here are the rules.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::{LastState, Socket, hidden_presence},
    harness::{TestDatabase, TestServer, User},
};
use tokio::time::Instant;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(10);

/// The presences of the first frame by user, and whether it holds only differences.
async fn first_state(socket: &mut Socket) -> (HashMap<Uuid, Value>, Option<bool>) {
    let frame = socket.next_message().await;
    assert_eq!(frame["type"], "initial_state", "{frame}");
    let presences = frame["data"]["presences"].as_array().expect("a list");
    let by_user = presences.iter().map(|presence| {
        (presence["user_id"].as_str().and_then(|id| id.parse().ok()).expect("an ID"), presence.clone())
    });
    (by_user.collect(), frame["data"]["resumed"].as_bool())
}

/// Waits until the client was told the position of everything that it received.
async fn positioned(socket: &mut Socket) -> LastState {
    let before = socket.last_state().position;
    let deadline = Instant::now() + LIMIT;
    while socket.last_state().position == before {
        assert!(Instant::now() < deadline, "no position");
        assert!(socket.receive(Instant::now() + Duration::from_millis(100)).await.is_none());
    }
    socket.last_state()
}

/// Reads until nothing more arrives for a while.
async fn positioned_or_quiet(socket: &mut Socket) -> LastState {
    while socket.receive(Instant::now() + Duration::from_secs(3)).await.is_some() {}
    socket.last_state()
}

async fn set_status(node: &TestServer, user: &User, status: &str) {
    node.post(user, "/api/presence/status", json!({"status": status, "device_id": "pc"}))
        .await
        .expect_status(200);
}

/// A viewer with contacts that are online.
async fn viewer_with_contacts(db: &TestDatabase, count: usize) -> (User, Vec<User>) {
    let (viewer, contacts) = (User::new(), User::many(count));
    for contact in &contacts {
        db.add_contact(&viewer, contact).await;
        db.set_status(contact, "online").await;
    }
    (viewer, contacts)
}

#[testkit::test]
async fn a_resumed_connection_gets_only_what_changed(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for is_socket in [true, false] {
        let (viewer, contacts) = viewer_with_contacts(&db, 5).await;
        let [changed, blocked, removed, known, back] = &contacts[..] else { panic!("five") };
        let mut first = node.resumed(&viewer, "", &LastState::default(), is_socket).await;
        let (all, resumed) = first_state(&mut first).await;
        assert_eq!((all.len(), resumed), (5, Some(false)));
        set_status(&node, known, "dnd").await;
        first.wait_until("dnd", |socket| socket.shows(known.id, "online", "dnd")).await;
        let last = positioned(&mut first).await;
        first.close().await;

        set_status(&node, changed, "busy").await;
        set_status(&node, back, "busy").await;
        set_status(&node, back, "online").await;
        db.execute(
            "insert into rollcall.blocks (blocker_id, blocked_id) values ($blocked, $viewer);
             delete from rollcall.contacts where $removed in (requester_id, addressee_id);",
            &[("blocked", blocked.id), ("removed", removed.id), ("viewer", viewer.id)],
        )
        .await;
        let added = User::new();
        db.add_contact(&viewer, &added).await;
        db.set_status(&added, "busy").await;

        let mut second = node.resumed(&viewer, "", &last, is_socket).await;
        let (told, resumed) = first_state(&mut second).await;
        assert_eq!(resumed, Some(true));
        second
            .wait_until("the current state", |socket| {
                socket.shows(changed.id, "online", "busy")
                    && socket.shows(added.id, "online", "busy")
                    && socket.shows(known.id, "online", "dnd")
                    && socket.hides(blocked.id)
                    && socket.hides(removed.id)
                    && socket.shows_online(back.id)
            })
            .await;
        assert!(!told.contains_key(&known.id), "it was known: {told:?}");
        let mut fresh = node.socket(&viewer).await;
        let (full, resumed) = first_state(&mut fresh).await;
        assert_eq!(resumed, None, "a client that knows no positions is told none");
        let shown = second.presences.iter().filter(|(user, face)| **face != hidden_presence(**user));
        assert_eq!(shown.map(|(user, face)| (*user, face.clone())).collect::<HashMap<_, _>>(), full);
    }
}

/// A position is behind what it acknowledges, so what was sent after it counts as lost.
#[testkit::test]
async fn what_may_not_have_arrived_is_sent_again(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, contacts) = viewer_with_contacts(&db, 3).await;
    let [changed, hidden, other] = &contacts[..] else { panic!("three") };
    let mut first = node.resumed(&viewer, "", &LastState::default(), true).await;
    first_state(&mut first).await;
    let last = first.last_state();
    set_status(&node, changed, "dnd").await;
    db.execute(
        "delete from rollcall.contacts where $hidden in (requester_id, addressee_id)",
        &[("hidden", hidden.id)],
    )
    .await;
    first
        .wait_until("both", |socket| socket.shows(changed.id, "online", "dnd") && socket.hides(hidden.id))
        .await;

    // The network changed: the old connection is still open, and this client has seen nothing of the above.
    let mut second = node.resumed(&viewer, "", &last, true).await;
    let (told, resumed) = first_state(&mut second).await;
    assert_eq!((told.len(), resumed), (2, Some(true)), "{told:?}");
    assert!(second.shows(changed.id, "online", "dnd") && second.hides(hidden.id));
    assert!(second.shows_online(other.id));
    let before = first.expect_close(1012).await;
    assert!(before.is_empty(), "{before:?}");
    // The same position again, as if the answer had been lost.
    let mut third = node.resumed(&viewer, "", &last, false).await;
    let (told, resumed) = first_state(&mut third).await;
    assert_eq!((told.len(), resumed), (2, Some(true)), "{told:?}");
    set_status(&node, other, "busy").await;
    third.wait_until("busy", |socket| socket.shows(other.id, "online", "busy")).await;
}

#[testkit::test]
async fn a_position_that_the_node_does_not_know_brings_the_full_state(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("RESUME_WINDOW", "1s")).await;
    let never = db.start_server_with(|settings| settings.set("RESUME_WINDOW", "0")).await;
    let (viewer, contacts) = viewer_with_contacts(&db, 2).await;
    let mut first = node.resumed(&viewer, "", &LastState::default(), true).await;
    first_state(&mut first).await;
    let last = first.last_state();
    let (stranger, _) = viewer_with_contacts(&db, 1).await;
    let (name, _) = last.position.split_once('.').expect("a number");
    let later = LastState { position: format!("{name}.4000000000"), ..last.clone() };
    let nonsense = LastState { position: "x".into(), ..last.clone() };
    for (what, node, user, last, count) in [
        ("of another user", &node, &stranger, &last, 1),
        ("of another node", &never, &viewer, &last, 2),
        ("from the future", &node, &viewer, &later, 2),
        ("nonsense", &node, &viewer, &nonsense, 2),
    ] {
        let mut socket = node.resumed(user, "", last, true).await;
        let (all, resumed) = first_state(&mut socket).await;
        assert_eq!((all.len(), resumed), (count, Some(false)), "{what}");
        assert_ne!(socket.last_state().position, last.position, "{what}");
    }
    first.close().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut expired = node.resumed(&viewer, "", &last, true).await;
    assert_eq!(first_state(&mut expired).await.1, Some(false), "too late");
    let mut closed = never.resumed(&viewer, "", &LastState::default(), true).await;
    first_state(&mut closed).await;
    let last = closed.last_state();
    closed.close().await;
    assert_eq!(first_state(&mut never.resumed(&viewer, "", &last, true).await).await.1, Some(false));
    assert!(contacts.len() == 2);
}

/// A closed connection is invalidated as an open one, so nothing is asked again.
#[testkit::test]
async fn an_unchanged_state_is_resumed_without_asking_the_policies(db: Arc<TestDatabase>) {
    db.execute(
        "create sequence public.evaluations;
         create function public.is_counted() returns boolean language plpgsql security definer as
           $$begin perform nextval('public.evaluations'); return true; end$$;
         create policy counted on rollcall.user_presence as restrictive for select to authenticated
           using (public.is_counted());",
        &[],
    )
    .await;
    let evaluations =
        async || -> i64 { db.query_row("select last_value from public.evaluations", &[]).await.get(0) };
    let node = db.start_server().await;
    let (viewer, contacts) = viewer_with_contacts(&db, 2).await;
    let mut first = node.resumed(&viewer, "&device_id=tab", &LastState::default(), true).await;
    first_state(&mut first).await;
    let last = positioned_or_quiet(&mut first).await;
    first.close().await;
    let before = evaluations().await;
    assert!(before > 2, "the policy is evaluated: {before}");
    let mut second = node.resumed(&viewer, "&device_id=tab", &last, true).await;
    let (told, resumed) = first_state(&mut second).await;
    assert_eq!((told.len(), resumed), (0, Some(true)));
    assert!(second.shows_online(contacts[0].id));
    assert_eq!(evaluations().await, before);
    // Other claims may see others, so they are asked.
    let other = User { token: viewer.token_for(1_800), ..User::with_id(viewer.id) };
    let mut third = node.resumed(&other, "&device_id=tab", &second.last_state(), true).await;
    let (told, resumed) = first_state(&mut third).await;
    assert_eq!((told.len(), resumed), (0, Some(true)));
    assert!(evaluations().await > before);
}

#[testkit::test]
async fn a_resumed_connection_follows_and_shows_typing_as_before(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, contacts) = viewer_with_contacts(&db, 1).await;
    let (followed, typist) = (User::new(), &contacts[0]);
    let conversation = Uuid::new_v4();
    db.execute(
        "insert into rollcall.presence_settings (user_id, visibility) values ($followed, 'everyone');
         insert into rollcall.conversations (id, created_by) values ($conversation, $viewer);
         insert into rollcall.conversation_participants (conversation_id, user_id)
           values ($conversation, $viewer), ($conversation, $typist) on conflict do nothing;",
        &[
            ("followed", followed.id),
            ("conversation", conversation),
            ("viewer", viewer.id),
            ("typist", typist.id),
        ],
    )
    .await;
    db.set_status(&followed, "online").await;
    let mut first = node.resumed(&viewer, "", &LastState::default(), true).await;
    first_state(&mut first).await;
    first.send_message(json!({"type": "subscribe", "data": {"user_ids": [followed.id]}})).await;
    first.wait_until("followed", |socket| socket.shows_online(followed.id)).await;
    let path = format!("/api/conversations/{conversation}/typing");
    node.post(typist, &path, json!({"is_typing": true})).await.expect_status(200);
    let is_typing = |frame: &Value| frame["type"] == "typing_update" && frame["data"]["is_typing"] == true;
    first.find_message("typing", is_typing).await;
    let last = first.last_state();
    first.close().await;
    node.post(typist, &path, json!({"is_typing": true})).await.expect_status(200);

    let mut second = node.resumed(&viewer, "", &last, true).await;
    assert_eq!(first_state(&mut second).await.1, Some(true));
    second.find_message("typing", is_typing).await;
    assert!(second.shows_online(followed.id), "still followed");
    set_status(&node, &followed, "dnd").await;
    second.wait_until("dnd", |socket| socket.shows(followed.id, "online", "dnd")).await;
}
