//! Counts of a channel as a subscription (docs/protocol/realtime.md, "Occupancy"), and the users of a page as one
//! (docs/protocol/presence.md, "Users of a page").

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::Socket,
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, mint_token, unix_time_in},
    phoenix::{PhoenixClient, QUIET_PERIOD, SerializerVersion},
};
use tokio::time::Instant;

const POLICIES: &str = include_str!("channel_policies.sql");
const TOPIC: &str = "realtime:room";
const STATUS_PATH: &str = "/api/presence/status";

fn counts(keys: usize, metas: usize) -> Value {
    json!({"keys": keys, "metas": metas})
}

async fn counting(node: &TestServer, vsn: SerializerVersion) -> PhoenixClient {
    let mut socket = node.channel_client(vsn).await;
    socket.join(TOPIC, json!({"presence": {"occupancy": true}})).await;
    socket
}

async fn tracking(node: &TestServer, key: &str) -> PhoenixClient {
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join(TOPIC, json!({"presence": {"key": key, "enabled": true}})).await;
    socket.track(TOPIC, json!({"secret": key})).await;
    socket
}

/// Sends a presence push without waiting for its reply, which may come after the counts.
async fn push(socket: &mut PhoenixClient, topic: &str, payload: Value) {
    socket.push(topic, "presence", payload).await;
}

/// Waits for the counts. Nothing else may arrive, and no message may repeat the one before.
async fn expect_counts(socket: &mut PhoenixClient, expected: &Value) {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    let mut last = Value::Null;
    loop {
        let frame = socket.receive(deadline).await.unwrap_or_else(|| panic!("{last}, not {expected}"));
        if frame.event == "phx_reply" {
            continue;
        }
        assert_eq!(frame.event, "presence_occupancy", "{frame:?}");
        assert_ne!(frame.payload, last);
        last = frame.payload;
        if last == *expected {
            return;
        }
    }
}

// docs/protocol/realtime.md, "Occupancy"
#[testkit::test]
async fn a_channel_may_receive_counts_instead_of_members(db: Arc<TestDatabase>) {
    let nodes = [db.start_server().await, db.start_server().await];
    let mut members = vec![tracking(&nodes[0], "a").await];
    for vsn in SerializerVersion::BOTH {
        let mut watcher = counting(&nodes[0], vsn).await;
        let first = watcher.next_frame().await;
        assert_eq!((first.event.as_str(), &first.payload), ("presence_occupancy", &counts(1, 1)));
        if vsn == SerializerVersion::V2 {
            assert_eq!(first.join_ref, json!(watcher.join_ref(TOPIC)));
        }
        // Members of both nodes, two of one key.
        members.push(tracking(&nodes[0], "a").await);
        members.push(tracking(&nodes[1], "b").await);
        expect_counts(&mut watcher, &counts(2, 3)).await;
        // A new payload changes no count.
        members[1].track(TOPIC, json!({"secret": "new"})).await;
        assert_eq!(watcher.frames_within(QUIET_PERIOD * 2).await, []);
        // The watcher itself is counted when it tracks, and receives no list for it.
        push(&mut watcher, TOPIC, json!({"event": "track"})).await;
        expect_counts(&mut watcher, &counts(3, 4)).await;
        members.pop().expect("a member").abort();
        members.pop().expect("a member").leave(TOPIC).await;
        push(&mut watcher, TOPIC, json!({"event": "untrack"})).await;
        expect_counts(&mut watcher, &counts(1, 1)).await;
        watcher.leave(TOPIC).await;
    }
    // With the list as well, and by default without counts.
    let mut both = nodes[0].channel_client(SerializerVersion::V2).await;
    both.join(TOPIC, json!({"presence": {"key": "", "enabled": true, "occupancy": true}})).await;
    both.wait_for(TOPIC, "presence_state").await;
    assert_eq!(both.wait_for(TOPIC, "presence_occupancy").await.payload, counts(1, 1));
    members.push(tracking(&nodes[1], "c").await);
    both.wait_for(TOPIC, "presence_diff").await;
    assert_eq!(both.wait_for(TOPIC, "presence_occupancy").await.payload, counts(2, 2));
    let received = members[0].frames_within(QUIET_PERIOD).await;
    assert!(received.iter().all(|frame| frame.event != "presence_occupancy"), "{received:?}");
}

// docs/protocol/realtime.md, "Occupancy"
#[testkit::test]
async fn a_burst_of_joins_costs_few_messages(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut watcher = counting(&node, SerializerVersion::V2).await;
    expect_counts(&mut watcher, &counts(0, 0)).await;
    let start = Instant::now();
    let mut members = Vec::new();
    for n in 0..40 {
        members.push(tracking(&node, &n.to_string()).await);
    }
    let took = start.elapsed();
    let mut messages = 1;
    while watcher.wait_for(TOPIC, "presence_occupancy").await.payload != counts(40, 40) {
        messages += 1;
    }
    let most = took.as_millis() / 200 + 2;
    assert!(messages <= most, "{messages} messages in {took:?}, expected at most {most}");
}

// docs/protocol/realtime.md, "Occupancy"
#[testkit::test]
async fn counts_of_private_channels_need_the_presence_permission(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let config = json!({"presence": {"occupancy": true}});
    let mut refused = node.channel_client(SerializerVersion::V2).await;
    refused.join_private("realtime:broadcast:1", &user.token, config.clone()).await;
    assert_eq!(refused.frames_within(QUIET_PERIOD * 2).await, []);

    // The right comes with another token of the user.
    let token = |reads_presence: bool| {
        mint_token(&json!({"sub": user.id, "role": "authenticated", "exp": unix_time_in(600),
            "reads_broadcast": true, "reads_presence": reads_presence, "can_write": true}))
    };
    let topic = "realtime:claims:1";
    let mut watcher = node.channel_client(SerializerVersion::V2).await;
    watcher.join_private(topic, &token(false), config.clone()).await;
    let mut member = node.channel_client(SerializerVersion::V2).await;
    member.join_private(topic, &token(true), json!({"presence": {"key": "m", "enabled": true}})).await;
    member.track(topic, json!({})).await;
    assert_eq!(watcher.frames_within(QUIET_PERIOD * 2).await, []);
    watcher.set_token(topic, &token(true)).await;
    expect_counts(&mut watcher, &counts(1, 1)).await;
    // Tracking does not add the list to the counts.
    push(&mut watcher, topic, json!({"event": "track"})).await;
    expect_counts(&mut watcher, &counts(2, 2)).await;

    // Who has the right from the start gets the counts first.
    let mut late = node.channel_client(SerializerVersion::V2).await;
    late.join_private(topic, &token(true), config).await;
    assert_eq!(late.next_frame().await.payload, counts(2, 2));
}

// docs/protocol/presence.md, "Users of a page"
#[testkit::test]
async fn a_socket_follows_the_users_of_a_page(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("PRESENCE_UPDATES_PER_MINUTE", "0")).await;
    let [viewer, here, elsewhere, silent, hiding, blocked, stranger] = [(); 7].map(|()| User::new());
    let move_to = async |user: &User, page: &str| {
        let body = json!({"status": "online", "current_page": page});
        node.post(user, STATUS_PATH, body).await.expect_status(200);
    };
    for user in [&here, &elsewhere, &silent, &hiding, &blocked] {
        db.add_contact(&viewer, user).await;
        move_to(user, if user.id == elsewhere.id { "/docs" } else { "/a?<b>" }).await;
    }
    move_to(&stranger, "/a?<b>").await;
    node.patch(&silent, "/api/presence/settings", json!({"show_activity": false})).await.expect_status(200);
    node.post(&hiding, STATUS_PATH, json!({"status": "invisible"})).await.expect_status(200);
    node.post(&blocked, "/api/blocks", json!({"user_id": viewer.id})).await.expect_status(201);

    let others = [&elsewhere, &silent, &hiding, &blocked, &stranger];
    let hides_others = |socket: &Socket| others.iter().all(|user| socket.hides(user.id));
    let query = format!("&user_ids={}&current_page=/a%3F%3Cb%3E", stranger.id);
    for over_events in [false, true] {
        let mut socket = if over_events {
            node.events_with(&viewer, &query).await
        } else {
            node.socket_with(&viewer, &query).await
        };
        let first = socket.next_message().await;
        let presences = first["data"]["presences"].as_array().expect("a list");
        assert_eq!(presences.len(), 1, "{first}");
        assert_eq!(presences[0]["user_id"], json!(here.id));

        // Somebody comes, whose changes follow, and goes.
        move_to(&elsewhere, "/a?<b>").await;
        socket.wait_until("who came", |socket| socket.shows_online(elsewhere.id)).await;
        let body = json!({"status": "dnd"});
        node.post(&elsewhere, STATUS_PATH, body).await.expect_status(200);
        socket.find_message("a change", |message| message["data"]["availability"] == "dnd").await;
        move_to(&elsewhere, "/docs").await;
        let gone =
            socket.find_message("who went", |message| message["data"]["current_page"] == "/docs").await;
        assert_eq!(gone["data"]["user_id"], json!(elsewhere.id));
        // Nothing more of them, nor of the others.
        move_to(&elsewhere, "/other").await;
        for user in [&silent, &hiding, &blocked, &stranger] {
            let body = json!({"status": if user.id == hiding.id { "invisible" } else { "online" }, "custom_status": "new"});
            node.post(user, STATUS_PATH, body).await.expect_status(200);
        }
        socket.expect_no_message(Duration::from_millis(700)).await;
        move_to(&elsewhere, "/docs").await;
        let change = json!({"custom_status": null, "status": "online"});
        for user in [&silent, &blocked, &stranger] {
            node.post(user, STATUS_PATH, change.clone()).await.expect_status(200);
        }
        // Who hides the page is gone from it; who shows it again is back.
        let shows = |shown: bool| json!({"show_activity": shown});
        node.patch(&here, "/api/presence/settings", shows(false)).await.expect_status(200);
        let gone = socket.find_message("who hid", |message| message["type"] == "presence_update").await;
        assert_eq!((&gone["data"]["user_id"], gone["data"].get("current_page")), (&json!(here.id), None));
        node.patch(&here, "/api/presence/settings", shows(true)).await.expect_status(200);
        let back = socket.find_message("who is back", |message| message["type"] == "presence_update").await;
        assert_eq!(back["data"]["current_page"], "/a?‹b›");
    }

    // Another page, then all users.
    let mut socket = node.socket_with(&viewer, "&current_page=/a%3F%3Cb%3E").await;
    socket.wait_until("the first page", |socket| socket.shows_online(here.id)).await;
    assert!(hides_others(&socket));
    socket.send_message(json!({"type": "subscribe", "data": {"current_page": "/docs"}})).await;
    let gone =
        socket.find_message("the old page", |message| message["data"]["user_id"] == json!(here.id)).await;
    assert_eq!(gone["data"]["current_page"], "/a?‹b›");
    socket.wait_until("the new page", |socket| socket.shows_online(elsewhere.id)).await;
    assert!(socket.hides(silent.id));
    socket.send_message(json!({"type": "subscribe", "data": {"current_page": null}})).await;
    socket.wait_until("all users", |socket| socket.shows_online(silent.id)).await;
    assert!(socket.hides(blocked.id) && socket.hides(stranger.id));
}
