//! Statements 67 to 80 of the wire contract: presence of channels.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    Case,
    phoenix::{MOMENT, Phoenix, Roster, Vsn},
    world::{Node, User, World},
};

const POLICIES: &str = include_str!("channel_policies.sql");
const ROOM: &str = "realtime:room";

pub fn cases() -> Vec<Case> {
    crate::cases![
        s067_an_enabled_join_gets_one_state,
        s068_without_presence_there_are_diffs_but_no_state,
        s069_tracking_is_told_to_everybody,
        s070_only_a_new_payload_is_an_update,
        s071_each_way_to_go_is_one_leave,
        s072_two_sockets_under_one_key_are_two_metas,
        s073_without_a_key_each_channel_gets_one,
        s074_every_meta_has_a_ref_of_its_own,
        s075_odd_presence_pushes_are_answered,
        s076_events_are_known_in_any_case,
        s077_private_presence_follows_its_policies,
        s078_too_many_presence_pushes_end_the_channel,
        s079_a_late_joiner_sees_what_diffs_add_up_to,
        s080_diffs_around_a_join_never_mislead,
    ]
}

fn present(key: &str) -> Value {
    json!({"presence": {"key": key, "enabled": true}})
}

/// Somebody who has joined, tracks nothing yet, and has read the state.
async fn joined(node: &Node, vsn: Vsn, key: &str) -> Phoenix {
    let mut socket = node.phoenix(vsn).await;
    socket.join(ROOM, present(key)).await;
    socket.find(ROOM, "presence_state").await;
    socket
}

async fn diff(socket: &mut Phoenix) -> Value {
    socket.find(ROOM, "presence_diff").await.payload
}

/// A diff with one meta on one side; returns the meta.
fn only<'a>(diff: &'a Value, side: &str, key: &str) -> &'a Value {
    let entries = diff[side].as_object().expect("a side");
    assert_eq!(entries.keys().collect::<Vec<_>>(), [key], "{diff}");
    let metas = entries[key]["metas"].as_array().expect("metas");
    assert_eq!(metas.len(), 1, "{diff}");
    &metas[0]
}

async fn s067_an_enabled_join_gets_one_state(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let mut first = node.phoenix(vsn).await;
        first.join(ROOM, present("first")).await;
        let state = first.next().await;
        assert_eq!((state.event.as_str(), &state.payload), ("presence_state", &json!({})));
        if vsn == Vsn::V2 {
            assert_eq!(state.join_ref, json!(first.join_ref(ROOM)));
        }
        assert_eq!(state.reference, Value::Null);
        first.track(ROOM, json!({"n": 1})).await;
        diff(&mut first).await;
        let mut second = node.phoenix(vsn).await;
        second.join(ROOM, present("second")).await;
        let state = second.next().await;
        assert_eq!(state.event, "presence_state");
        assert_eq!(Roster::of_state(&state.payload).plain(), json!({"first": [{"n": 1}]}));
        second.expect_silence().await;
        first.expect_silence().await;
        first.leave(ROOM).await;
        second.leave(ROOM).await;
    }
}

async fn s068_without_presence_there_are_diffs_but_no_state(world: Arc<World>) {
    let node = world.node().await;
    let mut without = node.phoenix(Vsn::V2).await;
    without.join(ROOM, json!({"presence": {"key": "without", "enabled": false}})).await;
    let mut with = joined(&node, Vsn::V2, "with").await;
    with.track(ROOM, json!({"a": 1})).await;
    for socket in [&mut with, &mut without] {
        only(&diff(socket).await, "joins", "with");
    }
    without.track(ROOM, json!({"b": 1})).await;
    for socket in [&mut with, &mut without] {
        only(&diff(socket).await, "joins", "without");
        socket.expect_silence().await;
    }
}

async fn s069_tracking_is_told_to_everybody(world: Arc<World>) {
    let node = world.node().await;
    let mut one = joined(&node, Vsn::V2, "one").await;
    let mut other = joined(&node, Vsn::V1, "other").await;
    let payload = r#"{"z":1,"a":12345678901234567890123,"name":"Ä"}"#;
    let join_ref = one.join_ref(ROOM).expect("it has joined").to_owned();
    let push = format!(
        r#"["{join_ref}","t","{ROOM}","presence",{{"type":"presence","event":"track","payload":{payload}}}]"#
    );
    one.send_text(&push).await;
    assert_eq!(one.reply("t").await, json!({"status": "ok", "response": {}}));
    for socket in [&mut one, &mut other] {
        let frame = socket.find(ROOM, "presence_diff").await;
        let meta = only(&frame.payload, "joins", "one");
        assert_eq!((&meta["name"], &frame.payload["leaves"]), (&json!("Ä"), &json!({})));
        assert_eq!(meta.get("phx_ref_prev"), None);
        assert!(meta["phx_ref"].is_string());
        // The fields are as they were, in their order.
        assert!(frame.text.contains(&payload[1..payload.len() - 1]), "{}", frame.text);
        socket.expect_silence().await;
    }
}

async fn s070_only_a_new_payload_is_an_update(world: Arc<World>) {
    let node = world.node().await;
    let mut one = joined(&node, Vsn::V2, "one").await;
    let mut other = joined(&node, Vsn::V2, "other").await;
    one.track(ROOM, json!({"n": 1})).await;
    let first = only(&diff(&mut other).await, "joins", "one").clone();
    diff(&mut one).await;
    one.track(ROOM, json!({"n": 1})).await;
    one.expect_silence().await;
    other.expect_silence().await;

    one.track(ROOM, json!({"n": 2})).await;
    for socket in [&mut one, &mut other] {
        let update = diff(socket).await;
        let (new, old) = (only(&update, "joins", "one"), only(&update, "leaves", "one"));
        assert_eq!(old, &first);
        assert_eq!((&new["phx_ref_prev"], &new["n"]), (&first["phx_ref"], &json!(2)));
        assert_ne!(new["phx_ref"], first["phx_ref"]);
        socket.expect_silence().await;
    }
}

async fn s071_each_way_to_go_is_one_leave(world: Arc<World>) {
    let node = world.node().await;
    let mut watcher = joined(&node, Vsn::V2, "watcher").await;
    for way in ["untrack", "leave", "drop", "rejoin"] {
        let mut socket = joined(&node, Vsn::V2, way).await;
        socket.track(ROOM, json!({"way": way})).await;
        let came = diff(&mut watcher).await;
        let meta = only(&came, "joins", way).clone();
        diff(&mut socket).await;
        let socket = match way {
            "untrack" => {
                socket.untrack(ROOM).await;
                only(&diff(&mut socket).await, "leaves", way);
                socket.untrack(ROOM).await;
                Some(socket)
            }
            "leave" => {
                socket.leave(ROOM).await;
                Some(socket)
            }
            "rejoin" => {
                socket.join(ROOM, present(way)).await;
                Some(socket)
            }
            _ => {
                socket.drop_connection();
                None
            }
        };
        let went = diff(&mut watcher).await;
        assert_eq!((only(&went, "leaves", way), &went["joins"]), (&meta, &json!({})));
        watcher.expect_silence().await;
        drop(socket);
        watcher.expect_silence().await;
    }
}

async fn s072_two_sockets_under_one_key_are_two_metas(world: Arc<World>) {
    let node = world.node().await;
    let mut watcher = joined(&node, Vsn::V2, "watcher").await;
    let mut roster = Roster::default();
    let mut tabs = Vec::new();
    for tab in 1..=2 {
        let mut socket = joined(&node, Vsn::V2, "user").await;
        socket.track(ROOM, json!({"tab": tab})).await;
        let came = diff(&mut watcher).await;
        only(&came, "joins", "user");
        roster.apply(&came);
        tabs.push(socket);
    }
    assert_eq!(roster.plain(), json!({"user": [{"tab": 1}, {"tab": 2}]}));
    let mut late = node.phoenix(Vsn::V2).await;
    late.join(ROOM, present("late")).await;
    let state = late.find(ROOM, "presence_state").await;
    assert_eq!(Roster::of_state(&state.payload), roster);

    tabs.remove(0).leave(ROOM).await;
    let went = diff(&mut watcher).await;
    assert_eq!(only(&went, "leaves", "user")["tab"], 1);
    roster.apply(&went);
    assert_eq!(roster.plain(), json!({"user": [{"tab": 2}]}));
    tabs.remove(0).drop_connection();
    roster.apply(&diff(&mut watcher).await);
    assert_eq!(roster, Roster::default());
}

async fn s073_without_a_key_each_channel_gets_one(world: Arc<World>) {
    let node = world.node().await;
    let mut watcher = joined(&node, Vsn::V2, "watcher").await;
    let mut keys = HashSet::new();
    let mut sockets = Vec::new();
    for presence in
        [json!({"key": "", "enabled": true}), json!({"enabled": true}), json!({"key": null, "enabled": true})]
    {
        let mut socket = node.phoenix(Vsn::V2).await;
        socket.join(ROOM, json!({ "presence": presence })).await;
        socket.track(ROOM, json!({})).await;
        let came = diff(&mut watcher).await;
        let key = came["joins"].as_object().expect("joins").keys().next().expect("one").clone();
        key.parse::<uuid::Uuid>().expect("a uuid");
        keys.insert(key);
        sockets.push(socket);
    }
    assert_eq!(keys.len(), 3);
}

async fn s074_every_meta_has_a_ref_of_its_own(world: Arc<World>) {
    let node = world.node_with(|settings| settings.realtime_presence_calls = Some("0".into())).await;
    let mut watcher = joined(&node, Vsn::V2, "watcher").await;
    let mut refs = HashSet::new();
    for key in ["a", "b", "a"] {
        let mut socket = joined(&node, Vsn::V2, key).await;
        for n in 0..20 {
            socket.track(ROOM, json!({ "n": n })).await;
            let came = diff(&mut watcher).await;
            let reference = only(&came, "joins", key)["phx_ref"].as_str().expect("a ref").to_owned();
            assert!(!reference.is_empty());
            assert!(refs.insert(reference), "twice: {came}");
        }
        socket.untrack(ROOM).await;
        diff(&mut watcher).await;
    }
}

async fn s075_odd_presence_pushes_are_answered(world: Arc<World>) {
    let node = world.node_with(|settings| settings.realtime_presence_calls = Some("0".into())).await;
    for vsn in Vsn::BOTH {
        let mut socket = joined(&node, vsn, "me").await;
        for payload in [json!("x"), json!([1]), json!(null), json!(5)] {
            let reply = socket.try_track(ROOM, payload.clone()).await;
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
            let reference = socket.push(ROOM, "presence", push.clone()).await;
            assert_eq!(socket.reply(&reference).await, expected, "{push}");
        }
        for push in [json!("x"), json!([]), json!(null)] {
            socket.push(ROOM, "presence", push).await;
        }
        socket.heartbeat().await;
        socket.all_within(MOMENT).await;
        // Neither `type` nor `payload` has to be there.
        let reference = socket.push(ROOM, "presence", json!({"event": "track"})).await;
        assert_eq!(socket.reply(&reference).await["status"], "ok");
        only(&diff(&mut socket).await, "joins", "me");
        // What the server adds cannot be forged.
        socket.track(ROOM, json!({"phx_ref": "forged", "phx_ref_prev": "forged", "n": 1})).await;
        let forged = diff(&mut socket).await;
        assert_ne!(only(&forged, "joins", "me")["phx_ref"], "forged");
        assert_ne!(only(&forged, "joins", "me")["phx_ref_prev"], "forged");
        socket.leave(ROOM).await;
    }
}

async fn s076_events_are_known_in_any_case(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = joined(&node, Vsn::V2, "me").await;
    let push = json!({"type": "presence", "event": "TRACK", "payload": {"up": 1}});
    let reference = socket.push(ROOM, "presence", push).await;
    assert_eq!(socket.reply(&reference).await["status"], "ok");
    assert_eq!(only(&diff(&mut socket).await, "joins", "me")["up"], 1);
    let reference = socket.push(ROOM, "presence", json!({"event": "UnTrack"})).await;
    assert_eq!(socket.reply(&reference).await["status"], "ok");
    only(&diff(&mut socket).await, "leaves", "me");
}

async fn s077_private_presence_follows_its_policies(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let (user, refused) = (User::new(), json!({"status": "error", "response": {}}));
    let mut socket = node.phoenix(Vsn::V2).await;
    // Broadcasts only.
    socket.join_private("realtime:broadcast:1", &user.token, present("me")).await;
    assert_eq!(socket.try_track("realtime:broadcast:1", json!({})).await, refused);
    socket.expect_silence().await;
    // Reading only.
    socket.join_private("realtime:readonly:1", &user.token, present("me")).await;
    socket.find("realtime:readonly:1", "presence_state").await;
    assert_eq!(socket.try_track("realtime:readonly:1", json!({})).await, refused);
    socket.expect_silence().await;
    // All of it, without having asked: no state, and diffs after the first track.
    let mut other = node.phoenix(Vsn::V2).await;
    other.join_private("realtime:open:1", &User::new().token, present("other")).await;
    socket.join_private("realtime:open:1", &user.token, json!({"presence": {"key": "me"}})).await;
    other.track("realtime:open:1", json!({})).await;
    other.find("realtime:open:1", "presence_diff").await;
    socket.expect_silence().await;
    socket.track("realtime:open:1", json!({})).await;
    for socket in [&mut socket, &mut other] {
        let diff = socket.find("realtime:open:1", "presence_diff").await;
        only(&diff.payload, "joins", "me");
    }
}

async fn s078_too_many_presence_pushes_end_the_channel(world: Arc<World>) {
    let node = world.node().await;
    let mut watcher = joined(&node, Vsn::V2, "watcher").await;
    let mut socket = joined(&node, Vsn::V2, "me").await;
    for n in 0..4 {
        socket.track(ROOM, json!({ "n": n })).await;
    }
    socket.untrack(ROOM).await;
    socket.push(ROOM, "presence", json!({"event": "track", "payload": {}})).await;
    assert_eq!(socket.expect_ended(ROOM).await, "Client presence rate limit exceeded");
    socket.heartbeat().await;
    let seen = watcher.all_within(MOMENT).await;
    assert!(seen.iter().all(|frame| frame.event == "presence_diff"), "others stay: {seen:?}");
    let mut roster = Roster::default();
    seen.iter().for_each(|frame| roster.apply(&frame.payload));
    assert_eq!(roster, Roster::default());

    let node = world
        .node_with(|settings| {
            settings.realtime_presence_calls = Some("1".into());
            settings.realtime_presence_window_ms = Some("300".into());
        })
        .await;
    let mut socket = joined(&node, Vsn::V2, "me").await;
    for n in 0..3 {
        socket.track(ROOM, json!({ "n": n })).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    socket.track(ROOM, json!({"n": 3})).await;
    socket.push(ROOM, "presence", json!({"event": "untrack"})).await;
    assert_eq!(socket.expect_ended(ROOM).await, "Client presence rate limit exceeded");
}

async fn s079_a_late_joiner_sees_what_diffs_add_up_to(world: Arc<World>) {
    let node = world.node_with(|settings| settings.realtime_presence_calls = Some("0".into())).await;
    let mut watcher = joined(&node, Vsn::V2, "watcher").await;
    let mut sockets = Vec::new();
    for n in 0..6 {
        let key = ["ann", "bob", "cy"][n % 3];
        sockets.push(joined(&node, Vsn::BOTH[n % 2], key).await);
    }
    for (n, socket) in sockets.iter_mut().enumerate() {
        socket.track(ROOM, json!({"n": n})).await;
    }
    sockets[1].track(ROOM, json!({"n": "again"})).await;
    sockets[2].untrack(ROOM).await;
    sockets.remove(0).drop_connection();
    let mut roster = Roster::default();
    for frame in watcher.all_within(MOMENT * 2).await {
        roster.apply(&frame.payload);
    }
    let mut late = node.phoenix(Vsn::V2).await;
    late.join(ROOM, present("late")).await;
    let state = late.find(ROOM, "presence_state").await;
    assert_eq!(Roster::of_state(&state.payload), roster);
    let expected = json!({"ann": [{"n": 3}], "bob": [{"n": "again"}, {"n": 4}], "cy": [{"n": 5}]});
    let sorted = roster.plain();
    assert_eq!(sorted["ann"], expected["ann"]);
    assert_eq!(sorted["cy"], expected["cy"]);
    assert_eq!(sorted["bob"].as_array().map(Vec::len), Some(2));
}

async fn s080_diffs_around_a_join_never_mislead(world: Arc<World>) {
    let node = world.node_with(|settings| settings.realtime_presence_calls = Some("0".into())).await;
    let restless = {
        let node = node.clone();
        tokio::spawn(async move {
            let mut sockets = Vec::new();
            for n in 0..3 {
                sockets.push(joined(&node, Vsn::V2, &format!("restless {n}")).await);
            }
            for round in 0..60 {
                for (n, socket) in sockets.iter_mut().enumerate() {
                    if (round + n) % 4 == 3 {
                        socket.untrack(ROOM).await;
                    } else {
                        socket.track(ROOM, json!({"round": round})).await;
                    }
                }
            }
            for socket in &mut sockets {
                socket.track(ROOM, json!({"round": "last"})).await;
            }
            sockets
        })
    };
    let mut joiners = Vec::new();
    for n in 0..20 {
        let node = node.clone();
        joiners.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 15)).await;
            let mut socket = node.phoenix(Vsn::V2).await;
            socket.join(ROOM, present(&format!("joiner {n}"))).await;
            socket
        }));
    }
    let _restless = restless.await.expect("all tracked");
    let expected = json!({
        "restless 0": [{"round": "last"}], "restless 1": [{"round": "last"}], "restless 2": [{"round": "last"}],
    });
    for joiner in joiners {
        let mut socket = joiner.await.expect("joined");
        // As the clients do: what comes before the state waits for it; then a leave names only whom one has.
        let mut roster = Roster::default();
        let mut states = 0;
        let mut waiting = Vec::new();
        for frame in socket.all_within(MOMENT).await {
            match frame.event.as_str() {
                "presence_state" => {
                    states += 1;
                    roster.sync(&frame.payload);
                    std::mem::take(&mut waiting).iter().for_each(|diff| roster.apply(diff));
                }
                "presence_diff" if states == 0 => waiting.push(frame.payload),
                "presence_diff" => roster.apply(&frame.payload),
                _ => panic!("{frame:?}"),
            }
        }
        assert_eq!((states, roster.plain()), (1, expected.clone()));
    }
}
