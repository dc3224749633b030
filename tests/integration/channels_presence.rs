//! Channel presence (docs/protocol/realtime.md, "Presence state" to "Diffs around a join").

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT},
    phoenix::{PhoenixClient, QUIET_PERIOD, SerializerVersion},
    presence_client_state::PresenceClientState,
};
use tokio::time::Instant;

const POLICIES: &str = include_str!("channel_policies.sql");
const TOPIC: &str = "realtime:room";

fn presence_config(key: &str) -> Value {
    json!({"presence": {"key": key, "enabled": true}})
}

/// Joins with a presence key and reads the initial state. Tracks nothing.
async fn join_with_key(node: &TestServer, vsn: SerializerVersion, key: &str) -> PhoenixClient {
    let mut socket = node.channel_client(vsn).await;
    socket.join(TOPIC, presence_config(key)).await;
    socket.wait_for(TOPIC, "presence_state").await;
    socket
}

// docs/protocol/realtime.md, "Presence state"
#[testkit::test]
async fn a_join_without_the_field_has_the_default_of_the_server(db: Arc<TestDatabase>) {
    // Joins of clients from before July 2025, and joins that refuse presence.
    let without = [
        json!({"config": {"broadcast": {"self": true}, "presence": {"key": ""}, "postgres_changes": []}}),
        json!({"config": {}}),
        json!({}),
    ];
    let refusing = json!({"config": {"presence": {"key": "", "enabled": false}}});
    for presence_by_default in [true, false] {
        let node = db
            .start_server_with(|all| all.set("REALTIME_PRESENCE_DEFAULT", presence_by_default.to_string()))
            .await;
        for vsn in SerializerVersion::BOTH {
            for join in without.iter().chain([&refusing]) {
                let mut socket = node.channel_client(vsn).await;
                assert_eq!(socket.try_join(TOPIC, join.clone()).await["status"], "ok", "{join}");
                if presence_by_default && *join != refusing {
                    socket.wait_for(TOPIC, "presence_state").await;
                    socket.track(TOPIC, json!({"n": 1})).await;
                    next_diff(&mut socket).await;
                } else {
                    let received = socket.frames_within(QUIET_PERIOD).await;
                    assert!(received.iter().all(|frame| frame.event != "presence_state"), "{join}");
                }
            }
        }
    }
}

async fn next_diff(socket: &mut PhoenixClient) -> Value {
    socket.wait_for(TOPIC, "presence_diff").await.payload
}

/// Returns the only meta of a diff, which must be on the given side.
fn only_entry<'a>(diff: &'a Value, side: &str, key: &str) -> &'a Value {
    let entries = diff[side].as_object().expect("a side");
    assert_eq!(entries.keys().collect::<Vec<_>>(), [key], "{diff}");
    let metas = entries[key]["metas"].as_array().expect("metas");
    assert_eq!(metas.len(), 1, "{diff}");
    &metas[0]
}

// docs/protocol/realtime.md, "Presence state"
#[testkit::test]
async fn a_join_with_presence_gets_one_state(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut first = node.channel_client(vsn).await;
        first.join(TOPIC, presence_config("first")).await;
        let state = first.next_frame().await;
        assert_eq!((state.event.as_str(), &state.payload), ("presence_state", &json!({})));
        if vsn == SerializerVersion::V2 {
            assert_eq!(state.join_ref, json!(first.join_ref(TOPIC)));
        }
        assert_eq!(state.reference, Value::Null);
        first.track(TOPIC, json!({"n": 1})).await;
        next_diff(&mut first).await;
        let mut second = node.channel_client(vsn).await;
        second.join(TOPIC, presence_config("second")).await;
        let state = second.next_frame().await;
        assert_eq!(state.event, "presence_state");
        assert_eq!(
            json!(PresenceClientState::of_state(&state.payload).payloads()),
            json!({"first": [{"n": 1}]})
        );
        second.expect_no_frame().await;
        first.expect_no_frame().await;
        first.leave(TOPIC).await;
        second.leave(TOPIC).await;
    }
}

// docs/protocol/realtime.md, "Presence without a listener"
#[testkit::test]
async fn a_join_without_presence_gets_diffs_but_no_state(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut without = node.channel_client(SerializerVersion::V2).await;
    without.join(TOPIC, json!({"presence": {"key": "without", "enabled": false}})).await;
    let mut with = join_with_key(&node, SerializerVersion::V2, "with").await;
    with.track(TOPIC, json!({"a": 1})).await;
    for socket in [&mut with, &mut without] {
        only_entry(&next_diff(socket).await, "joins", "with");
    }
    without.track(TOPIC, json!({"b": 1})).await;
    for socket in [&mut with, &mut without] {
        only_entry(&next_diff(socket).await, "joins", "without");
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Track"
#[testkit::test]
async fn a_track_reaches_every_member(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = join_with_key(&node, SerializerVersion::V2, "one").await;
    let mut other = join_with_key(&node, SerializerVersion::V1, "other").await;
    let payload = r#"{"z":1,"a":12345678901234567890123,"name":"Ä"}"#;
    let join_ref = one.join_ref(TOPIC).expect("it has joined").to_owned();
    let push = format!(
        r#"["{join_ref}","t","{TOPIC}","presence",{{"type":"presence","event":"track","payload":{payload}}}]"#
    );
    one.send_text(&push).await;
    assert_eq!(one.wait_for_reply("t").await, json!({"status": "ok", "response": {}}));
    for socket in [&mut one, &mut other] {
        let frame = socket.wait_for(TOPIC, "presence_diff").await;
        let meta = only_entry(&frame.payload, "joins", "one");
        assert_eq!((&meta["name"], &frame.payload["leaves"]), (&json!("Ä"), &json!({})));
        assert_eq!(meta.get("phx_ref_prev"), None);
        assert!(meta["phx_ref"].is_string());
        // The fields keep their order.
        assert!(frame.text.contains(&payload[1..payload.len() - 1]), "{}", frame.text);
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Track with a new payload"
#[testkit::test]
async fn only_a_changed_payload_sends_an_update(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = join_with_key(&node, SerializerVersion::V2, "one").await;
    let mut other = join_with_key(&node, SerializerVersion::V2, "other").await;
    one.track(TOPIC, json!({"n": 1})).await;
    let first = only_entry(&next_diff(&mut other).await, "joins", "one").clone();
    next_diff(&mut one).await;
    one.track(TOPIC, json!({"n": 1})).await;
    one.expect_no_frame().await;
    other.expect_no_frame().await;

    one.track(TOPIC, json!({"n": 2})).await;
    for socket in [&mut one, &mut other] {
        let update = next_diff(socket).await;
        let (new, old) = (only_entry(&update, "joins", "one"), only_entry(&update, "leaves", "one"));
        assert_eq!(old, &first);
        assert_eq!((&new["phx_ref_prev"], &new["n"]), (&first["phx_ref"], &json!(2)));
        assert_ne!(new["phx_ref"], first["phx_ref"]);
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Presence leave"
#[testkit::test]
async fn every_way_to_leave_sends_one_leave(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut watcher = join_with_key(&node, SerializerVersion::V2, "watcher").await;
    for way in ["untrack", "leave", "drop", "rejoin"] {
        let mut socket = join_with_key(&node, SerializerVersion::V2, way).await;
        socket.track(TOPIC, json!({"way": way})).await;
        let came = next_diff(&mut watcher).await;
        let meta = only_entry(&came, "joins", way).clone();
        next_diff(&mut socket).await;
        let socket = match way {
            "untrack" => {
                socket.untrack(TOPIC).await;
                only_entry(&next_diff(&mut socket).await, "leaves", way);
                socket.untrack(TOPIC).await;
                Some(socket)
            }
            "leave" => {
                socket.leave(TOPIC).await;
                Some(socket)
            }
            "rejoin" => {
                socket.join(TOPIC, presence_config(way)).await;
                Some(socket)
            }
            _ => {
                socket.abort();
                None
            }
        };
        let went = next_diff(&mut watcher).await;
        assert_eq!((only_entry(&went, "leaves", way), &went["joins"]), (&meta, &json!({})));
        watcher.expect_no_frame().await;
        drop(socket);
        watcher.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Several metas under one key"
#[testkit::test]
async fn two_sockets_with_one_key_have_two_metas(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut watcher = join_with_key(&node, SerializerVersion::V2, "watcher").await;
    let mut reduced = PresenceClientState::empty();
    let mut tabs = Vec::new();
    for tab in 1..=2 {
        let mut socket = join_with_key(&node, SerializerVersion::V2, "user").await;
        socket.track(TOPIC, json!({"tab": tab})).await;
        let came = next_diff(&mut watcher).await;
        only_entry(&came, "joins", "user");
        reduced.apply_diff(&came);
        tabs.push(socket);
    }
    assert_eq!(json!(reduced.payloads()), json!({"user": [{"tab": 1}, {"tab": 2}]}));
    let mut late = node.channel_client(SerializerVersion::V2).await;
    late.join(TOPIC, presence_config("late")).await;
    let state = late.wait_for(TOPIC, "presence_state").await;
    assert_eq!(PresenceClientState::of_state(&state.payload).metas(), reduced.metas());

    tabs.remove(0).leave(TOPIC).await;
    let went = next_diff(&mut watcher).await;
    assert_eq!(only_entry(&went, "leaves", "user")["tab"], 1);
    reduced.apply_diff(&went);
    assert_eq!(json!(reduced.payloads()), json!({"user": [{"tab": 2}]}));
    tabs.remove(0).abort();
    reduced.apply_diff(&next_diff(&mut watcher).await);
    assert!(reduced.metas().is_empty() && reduced.unknown_leaves.is_empty(), "{reduced:?}");
}

// docs/protocol/realtime.md, "Channel occupancy over HTTP"
#[testkit::test]
async fn occupancy_counts_keys_and_metas_on_all_nodes(db: Arc<TestDatabase>) {
    let nodes = [db.start_server().await, db.start_server().await];
    db.execute(POLICIES, &[]).await;
    let (user, path) = (User::new(), "/realtime/v1/api/occupancy/room");
    let mut sockets = Vec::new();
    for (node, key) in [(0, "a"), (0, "a"), (0, "a:"), (1, "a"), (1, "b"), (1, "watcher")] {
        let mut socket = join_with_key(&nodes[node], SerializerVersion::V2, key).await;
        if key != "watcher" {
            socket.track(TOPIC, json!({"secret": key})).await;
        }
        sockets.push(socket);
    }
    let counts =
        |keys: usize, metas: usize| json!({"topic": "room", "private": false, "keys": keys, "metas": metas});
    let expect = async |expected: Value| {
        for node in &nodes {
            let deadline = Instant::now() + WAIT_TIMEOUT;
            loop {
                let answer = node.get(&user, path).await.expect_status(200);
                if answer == expected {
                    break;
                }
                assert!(Instant::now() < deadline, "{answer}");
            }
        }
    };
    expect(counts(3, 5)).await;
    let view =
        "select keys = 3 and metas = 5 from rollcall.channel_occupancy where topic = 'room' and not private";
    db.wait_until("the rows are written", view, &[]).await;
    // One of several of a key, and the only one of a key.
    sockets.remove(0).abort();
    sockets.remove(3).abort();
    expect(counts(2, 3)).await;

    // Of a private channel as far as the policies let its presence be read.
    for (topic, status) in [("readonly:1", 200), ("broadcast:1", 403), ("closed:1", 403)] {
        let path = format!("/realtime/v1/api/occupancy/{topic}?private=true");
        nodes[0].get(&user, &path).await.expect_status(status);
    }
    nodes[0].get(&user, &format!("{path}?private=x")).await.expect_status(422);
}

// docs/protocol/realtime.md, "Presence key"
#[testkit::test]
async fn a_channel_without_a_key_gets_a_generated_key(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut watcher = join_with_key(&node, SerializerVersion::V2, "watcher").await;
    let mut keys = HashSet::new();
    let mut sockets = Vec::new();
    for presence in
        [json!({"key": "", "enabled": true}), json!({"enabled": true}), json!({"key": null, "enabled": true})]
    {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        socket.join(TOPIC, json!({ "presence": presence })).await;
        socket.track(TOPIC, json!({})).await;
        let came = next_diff(&mut watcher).await;
        let key = came["joins"].as_object().expect("joins").keys().next().expect("one").clone();
        key.parse::<uuid::Uuid>().expect("a uuid");
        keys.insert(key);
        sockets.push(socket);
    }
    assert_eq!(keys.len(), 3);
}

// docs/protocol/realtime.md, "Presence refs"
#[testkit::test]
async fn every_meta_has_a_unique_ref(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_PRESENCE_CALLS", "0")).await;
    let mut watcher = join_with_key(&node, SerializerVersion::V2, "watcher").await;
    let mut refs = HashSet::new();
    for key in ["a", "b", "a"] {
        let mut socket = join_with_key(&node, SerializerVersion::V2, key).await;
        for n in 0..20 {
            socket.track(TOPIC, json!({ "n": n })).await;
            let came = next_diff(&mut watcher).await;
            let reference = only_entry(&came, "joins", key)["phx_ref"].as_str().expect("a ref").to_owned();
            assert!(!reference.is_empty());
            assert!(refs.insert(reference), "duplicate ref: {came}");
        }
        socket.untrack(TOPIC).await;
        next_diff(&mut watcher).await;
    }
}

// docs/protocol/realtime.md, "Invalid presence pushes"
#[testkit::test]
async fn unusual_presence_pushes_get_replies(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_PRESENCE_CALLS", "0")).await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = join_with_key(&node, vsn, "me").await;
        for payload in [json!("x"), json!([1]), json!(null), json!(5)] {
            let reply = socket.try_track(TOPIC, payload.clone()).await;
            let expected =
                json!({"status": "error", "response": {"reason": "Presence track payload must be a map"}});
            assert_eq!(reply, expected, "{payload}");
        }
        for (push, expected) in [
            (
                json!({"type": "presence", "event": "dance", "payload": {}}),
                json!({"status": "error", "response": {}}),
            ),
            (json!({"type": "presence", "payload": {}}), json!({"status": "ok", "response": {}})),
            (json!({}), json!({"status": "ok", "response": {}})),
        ] {
            let reference = socket.push(TOPIC, "presence", push.clone()).await;
            assert_eq!(socket.wait_for_reply(&reference).await, expected, "{push}");
        }
        for push in [json!("x"), json!([]), json!(null)] {
            socket.push(TOPIC, "presence", push).await;
        }
        socket.heartbeat().await;
        socket.frames_within(QUIET_PERIOD).await;
        // `type` and `payload` are optional.
        let reference = socket.push(TOPIC, "presence", json!({"event": "track"})).await;
        assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
        only_entry(&next_diff(&mut socket).await, "joins", "me");
        // Clients cannot set the fields that the server adds.
        socket.track(TOPIC, json!({"phx_ref": "forged", "phx_ref_prev": "forged", "n": 1})).await;
        let forged = next_diff(&mut socket).await;
        assert_ne!(only_entry(&forged, "joins", "me")["phx_ref"], "forged");
        assert_ne!(only_entry(&forged, "joins", "me")["phx_ref_prev"], "forged");
        socket.leave(TOPIC).await;
    }
}

// docs/protocol/realtime.md, "Presence event names"
#[testkit::test]
async fn presence_event_names_are_case_insensitive(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = join_with_key(&node, SerializerVersion::V2, "me").await;
    let push = json!({"type": "presence", "event": "TRACK", "payload": {"up": 1}});
    let reference = socket.push(TOPIC, "presence", push).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    assert_eq!(only_entry(&next_diff(&mut socket).await, "joins", "me")["up"], 1);
    let reference = socket.push(TOPIC, "presence", json!({"event": "UnTrack"})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    only_entry(&next_diff(&mut socket).await, "leaves", "me");
}

// docs/protocol/realtime.md, "Private presence"
#[testkit::test]
async fn private_presence_follows_its_policies(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let (user, refused) = (User::new(), json!({"status": "error", "response": {}}));
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    // Broadcast access only.
    socket.join_private("realtime:broadcast:1", &user.token, presence_config("me")).await;
    assert_eq!(socket.try_track("realtime:broadcast:1", json!({})).await, refused);
    socket.expect_no_frame().await;
    // Read access only.
    socket.join_private("realtime:readonly:1", &user.token, presence_config("me")).await;
    socket.wait_for("realtime:readonly:1", "presence_state").await;
    assert_eq!(socket.try_track("realtime:readonly:1", json!({})).await, refused);
    socket.expect_no_frame().await;
    // Full access without presence enabled: no state, and diffs after the first track.
    let mut other = node.channel_client(SerializerVersion::V2).await;
    other.join_private("realtime:open:1", &User::new().token, presence_config("other")).await;
    socket.join_private("realtime:open:1", &user.token, json!({"presence": {"key": "me"}})).await;
    other.track("realtime:open:1", json!({})).await;
    other.wait_for("realtime:open:1", "presence_diff").await;
    socket.expect_no_frame().await;
    socket.track("realtime:open:1", json!({})).await;
    for socket in [&mut socket, &mut other] {
        let diff = socket.wait_for("realtime:open:1", "presence_diff").await;
        only_entry(&diff.payload, "joins", "me");
    }
}

// docs/protocol/realtime.md, "Presence rate limit"
#[testkit::test]
async fn presence_pushes_over_the_limit_close_the_channel(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut watcher = join_with_key(&node, SerializerVersion::V2, "watcher").await;
    let mut socket = join_with_key(&node, SerializerVersion::V2, "me").await;
    for n in 0..4 {
        socket.track(TOPIC, json!({ "n": n })).await;
    }
    socket.untrack(TOPIC).await;
    socket.push(TOPIC, "presence", json!({"event": "track", "payload": {}})).await;
    assert_eq!(socket.expect_channel_error(TOPIC).await, "Client presence rate limit exceeded");
    socket.heartbeat().await;
    let seen = watcher.frames_within(QUIET_PERIOD).await;
    assert!(seen.iter().all(|frame| frame.event == "presence_diff"), "others stay: {seen:?}");
    let mut state = PresenceClientState::empty();
    seen.iter().for_each(|frame| state.apply_diff(&frame.payload));
    assert!(state.metas().is_empty() && state.unknown_leaves.is_empty(), "{state:?}");

    let node = db
        .start_server_with(|settings| {
            settings.set("REALTIME_PRESENCE_CALLS", "1");
            settings.set("REALTIME_PRESENCE_WINDOW_MS", "300");
        })
        .await;
    let mut socket = join_with_key(&node, SerializerVersion::V2, "me").await;
    for n in 0..3 {
        socket.track(TOPIC, json!({ "n": n })).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    socket.track(TOPIC, json!({"n": 3})).await;
    socket.push(TOPIC, "presence", json!({"event": "untrack"})).await;
    assert_eq!(socket.expect_channel_error(TOPIC).await, "Client presence rate limit exceeded");
}

// docs/protocol/realtime.md, "Late joiner"
#[testkit::test]
async fn a_late_joiner_gets_the_sum_of_all_diffs(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_PRESENCE_CALLS", "0")).await;
    let mut watcher = join_with_key(&node, SerializerVersion::V2, "watcher").await;
    let mut sockets = Vec::new();
    for n in 0..6 {
        let key = ["ann", "bob", "cy"][n % 3];
        sockets.push(join_with_key(&node, SerializerVersion::BOTH[n % 2], key).await);
    }
    for (n, socket) in sockets.iter_mut().enumerate() {
        socket.track(TOPIC, json!({"n": n})).await;
    }
    sockets[1].track(TOPIC, json!({"n": "again"})).await;
    sockets[2].untrack(TOPIC).await;
    sockets.remove(0).abort();
    let mut reduced = PresenceClientState::empty();
    for frame in watcher.frames_within(QUIET_PERIOD * 2).await {
        reduced.apply_diff(&frame.payload);
    }
    let mut late = node.channel_client(SerializerVersion::V2).await;
    late.join(TOPIC, presence_config("late")).await;
    let state = late.wait_for(TOPIC, "presence_state").await;
    assert_eq!(PresenceClientState::of_state(&state.payload).metas(), reduced.metas());
    let expected = json!({"ann": [{"n": 3}], "bob": [{"n": "again"}, {"n": 4}], "cy": [{"n": 5}]});
    let sorted = json!(reduced.payloads());
    assert!(reduced.unknown_leaves.is_empty(), "{reduced:?}");
    assert_eq!(sorted["ann"], expected["ann"]);
    assert_eq!(sorted["cy"], expected["cy"]);
    assert_eq!(sorted["bob"].as_array().map(Vec::len), Some(2));
}

// docs/protocol/realtime.md, "Diffs around a join"
#[testkit::test]
async fn diffs_around_a_join_stay_consistent(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_PRESENCE_CALLS", "0")).await;
    let restless = {
        let node = node.clone();
        tokio::spawn(async move {
            let mut sockets = Vec::new();
            for n in 0..3 {
                sockets.push(join_with_key(&node, SerializerVersion::V2, &format!("restless {n}")).await);
            }
            for round in 0..60 {
                for (n, socket) in sockets.iter_mut().enumerate() {
                    if (round + n) % 4 == 3 {
                        socket.untrack(TOPIC).await;
                    } else {
                        socket.track(TOPIC, json!({"round": round})).await;
                    }
                }
            }
            for socket in &mut sockets {
                socket.track(TOPIC, json!({"round": "last"})).await;
            }
            sockets
        })
    };
    let mut joiners = Vec::new();
    for n in 0..20 {
        let node = node.clone();
        joiners.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 15)).await;
            let mut socket = node.channel_client(SerializerVersion::V2).await;
            socket.join(TOPIC, presence_config(&format!("joiner {n}"))).await;
            socket
        }));
    }
    let _restless = restless.await.expect("all tracked");
    let expected = json!({
        "restless 0": [{"round": "last"}], "restless 1": [{"round": "last"}], "restless 2": [{"round": "last"}],
    });
    for joiner in joiners {
        let mut socket = joiner.await.expect("joined");
        // Like the clients: diffs before the state wait for it; afterwards a leave names only known metas.
        let mut state = PresenceClientState::default();
        let mut states = 0;
        for frame in socket.frames_within(QUIET_PERIOD).await {
            match frame.event.as_str() {
                "presence_state" => {
                    states += 1;
                    state.apply_state(&frame.payload);
                }
                "presence_diff" => state.apply_diff(&frame.payload),
                _ => panic!("{frame:?}"),
            }
        }
        assert_eq!((states, json!(state.payloads())), (1, expected.clone()));
        assert!(state.unknown_leaves.is_empty(), "{state:?}");
    }
}
