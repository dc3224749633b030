//! An invisible user cannot be distinguished from an offline one: not by bodies, codes or fields, nor by frames, their
//! number or their order.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::{Socket, SocketEvent, send},
    harness::{TestDatabase, TestServer, User},
};
use uuid::Uuid;

/// Returns the body without the parts that identify the user or a time.
fn without_user_id(body: &Value, user: Uuid) -> String {
    let mut body = body.clone();
    hide_times(&mut body);
    body.to_string().replace(&user.to_string(), "<user>")
}

fn hide_times(value: &mut Value) {
    match value {
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => *text = "<time>".into(),
        Value::Array(items) => items.iter_mut().for_each(hide_times),
        Value::Object(fields) => fields.values_mut().for_each(hide_times),
        _ => {}
    }
}

/// Returns all REST responses about a user, with their codes.
async fn rest_responses(node: &TestServer, viewer: &User, user: Uuid) -> Vec<String> {
    let mut responses = Vec::new();
    for path in [
        format!("/api/presence/users/{user}"),
        format!("/api/presence/users?user_ids={user}"),
        format!("/api/presence/last-seen?user_ids={user}"),
        format!("/{user}"),
    ] {
        let response = send(node.request(Method::GET, &path).bearer_auth(&viewer.token)).await;
        responses.push(format!("{} {}", response.status, without_user_id(&response.body, user)));
    }
    let response = node.post(viewer, "/api/presence/batch", json!({"user_ids": [user]})).await;
    responses.push(format!("{} {}", response.status, without_user_id(&response.body, user)));
    responses
}

/// Returns what a socket receives about two users, in order, until it has been quiet for a while.
async fn received_frames(socket: &mut Socket, users: [Uuid; 2]) -> [Vec<String>; 2] {
    let mut frames = [Vec::new(), Vec::new()];
    while let Some(SocketEvent::Frame(frame)) =
        socket.receive(tokio::time::Instant::now() + Duration::from_millis(700)).await
    {
        let index =
            users.iter().position(|user| frame["data"]["user_id"] == json!(user)).expect("of one of them");
        frames[index].push(without_user_id(&frame, users[index]));
    }
    frames
}

#[testkit::test]
async fn an_invisible_user_looks_offline_to_others(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, gone, hidden) = (User::new(), User::new(), User::new());
    let conversation = Uuid::new_v4();
    let ids = [("c", conversation), ("v", viewer.id), ("g", gone.id), ("h", hidden.id)];
    db
        .execute(
            "insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values ($v, $g, now()), ($v, $h, now());
             insert into rollcall.conversations (id, created_by) values ($c, $v);
             insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $v), ($c, $g), ($c, $h);",
            &ids,
        )
        .await;
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let mut devices = Vec::new();
    for user in [&gone, &hidden] {
        devices.push(node.socket_with(user, "&device_id=web").await);
        node.post(
            user,
            "/api/presence/status",
            json!({"status": "online", "custom_status": "hi", "device_id": "web"}),
        )
        .await
        .expect_status(200);
    }
    socket
        .wait_until("both online", |socket| {
            [&gone, &hidden]
                .iter()
                .all(|user| socket.presences.get(&user.id).is_some_and(|face| face["custom_status"] == "hi"))
        })
        .await;

    // One user goes offline and disconnects; the other turns invisible and stays connected.
    node.post(&gone, "/api/presence/status", json!({"status": "offline"})).await.expect_status(200);
    node.post(&hidden, "/api/presence/status", json!({"status": "invisible"})).await.expect_status(200);
    devices.remove(0).close().await;
    let [of_gone, of_hidden] = received_frames(&mut socket, [gone.id, hidden.id]).await;
    assert_eq!(of_hidden, of_gone);
    assert_eq!(of_gone.len(), 1, "exactly one frame: {of_gone:?}");

    // From now on no action of the invisible user changes anything for other users.
    let before = rest_responses(&node, &viewer, hidden.id).await;
    assert_eq!(before, rest_responses(&node, &viewer, gone.id).await);
    let moment = db
        .query_row(
            "select last_seen from rollcall.user_presence where user_id = $1 and face = 'public'",
            &[&hidden.id],
        )
        .await;
    let moment: jiff::Timestamp = moment.get(0);
    let mut phone = node.socket_with(&hidden, "&device_id=phone").await;
    phone.next_message().await;
    for (path, body) in [
        (
            "/api/presence/status",
            json!({"status": "invisible", "custom_status": "secret", "activity": "secret", "current_page": "/secret"}),
        ),
        ("/api/presence/heartbeat", json!({"device_id": "tablet", "active": true})),
    ] {
        node.post(&hidden, path, body).await.expect_status(200);
    }
    let typing = format!("/api/conversations/{conversation}/typing");
    node.post(&hidden, &typing, json!({"is_typing": true})).await.expect_status(200);
    assert_eq!(node.get(&viewer, &typing).await.expect_status(200), json!([]));
    phone
        .send_message(
            json!({"type": "typing", "data": {"conversation_id": conversation, "is_typing": false}}),
        )
        .await;
    phone.close().await;
    db.execute("delete from rollcall.presence_devices where user_id = $h and device_id = 'phone'", &ids)
        .await;

    let [of_gone, of_hidden] = received_frames(&mut socket, [gone.id, hidden.id]).await;
    assert_eq!((of_gone.len(), of_hidden.len()), (0, 0), "{of_hidden:?}");
    assert_eq!(rest_responses(&node, &viewer, hidden.id).await, before);
    let still = db
        .query_row(
            "select last_seen from rollcall.user_presence where user_id = $1 and face = 'public'",
            &[&hidden.id],
        )
        .await;
    assert_eq!(still.get::<_, jiff::Timestamp>(0), moment, "last_seen stays that of the moment of hiding");

    // A new socket shows both users alike.
    let mut late = node.socket(&viewer).await;
    let initial = late.next_message().await;
    let faces = initial["data"]["presences"].as_array().expect("a list");
    let face = |user: Uuid| {
        faces.iter().find(|face| face["user_id"] == json!(user)).map(|face| without_user_id(face, user))
    };
    assert_eq!(face(hidden.id), face(gone.id));
    assert!(face(gone.id).is_some());
}

#[testkit::test]
async fn users_on_the_visibility_list_see_an_invisible_user(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (friend, outsider, hidden) = (User::new(), User::new(), User::new());
    db.add_contact(&friend, &hidden).await;
    db.add_contact(&outsider, &hidden).await;
    db.execute(
        "insert into rollcall.presence_visibility_list (user_id, viewer_id) values ($h, $f)",
        &[("h", hidden.id), ("f", friend.id)],
    )
    .await;
    let (mut near, mut far) = (node.socket(&friend).await, node.socket(&outsider).await);
    near.next_message().await;
    far.next_message().await;
    db.set_status(&hidden, "online").await;
    far.wait_until("online", |socket| socket.shows_online(hidden.id)).await;
    db.set_status(&hidden, "invisible").await;
    near.wait_until("invisible", |socket| {
        socket
            .presences
            .get(&hidden.id)
            .is_some_and(|face| face["availability"] == "invisible" && face["status"] != "offline")
    })
    .await;
    far.wait_until("offline", |socket| socket.shows_offline(hidden.id)).await;
}
