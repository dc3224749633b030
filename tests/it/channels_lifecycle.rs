//! Statements 26 to 48 of the wire contract: joining, tokens, leaving, and how things end.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    Case,
    phoenix::{MOMENT, Phoenix, Vsn, anon_key, broadcast},
    world::{Node, PATIENCE, User, World, in_seconds, mint},
};

const POLICIES: &str = include_str!("channel_policies.sql");
const ROOM: &str = "realtime:room";

pub fn cases() -> Vec<Case> {
    crate::cases![
        s026_a_join_is_answered_with_its_postgres_changes,
        s028_loose_values_in_a_join_are_accepted,
        s029_wrong_types_fall_back_and_never_end_the_socket,
        s029_private_of_another_type_never_means_public,
        s030_topics_without_a_name_or_prefix_are_refused,
        s031_pushes_to_unjoined_topics_are_unmatched,
        s032_refused_joins_give_a_reason_that_starts_with_its_code,
        s033_an_expired_token_is_refused_at_the_join,
        s034_without_a_token_of_its_own_a_channel_uses_the_sockets,
        s035_a_socket_has_a_limit_of_channels,
        s036_heartbeats_and_other_channels_never_wait_for_a_join,
        s037_leaving_is_answered_and_closed,
        s037_leaving_without_a_join_ref_works,
        s038_a_second_join_of_a_topic_replaces_the_first,
        s039_an_expired_token_ends_its_channel_alone,
        s040_a_refreshed_token_keeps_the_channel_open,
        s041_a_refresh_with_nothing_new_changes_nothing,
        s042_a_refresh_that_loses_the_right_to_read_ends_the_channel,
        s043_a_refresh_with_a_bad_token_ends_the_channel,
        s044_system_messages_have_exactly_four_fields,
        s045_unknown_events_are_ignored,
        s046_a_lost_socket_ends_its_channels,
        s047_a_silent_socket_is_closed_after_a_minute,
        s048_a_stopping_server_closes_with_1012,
        beyond_the_contract_public_channels_live_on_while_the_database_is_down,
    ]
}

async fn s026_a_join_is_answered_with_its_postgres_changes(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let mut socket = node.phoenix(vsn).await;
        for (topic, config) in [
            (ROOM, json!({})),
            ("realtime:b", json!({"postgres_changes": []})),
            (
                "realtime:with spaces:and:colons",
                json!({"broadcast": {"ack": false, "self": false}, "presence": {"key": "", "enabled": false},
                       "postgres_changes": [], "private": false}),
            ),
        ] {
            assert_eq!(socket.join(topic, config).await, json!({"postgres_changes": []}));
        }
        socket.expect_silence().await;
    }
}

async fn s028_loose_values_in_a_join_are_accepted(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = node.phoenix(Vsn::V2).await;
    for (topic, config) in [
        ("realtime:a", json!({"postgres_changes": null})),
        ("realtime:b", json!({"postgres_changes": [null, null]})),
        ("realtime:c", json!({"unknown": 1, "broadcast": {"else": []}, "presence": {"what": null}})),
    ] {
        assert_eq!(socket.join(topic, config).await, json!({"postgres_changes": []}));
    }
    let payload = json!({"config": {}, "version": "realtime-js/2", "more": true});
    assert_eq!(socket.try_join("realtime:d", payload).await["status"], "ok");

    // Booleans in words.
    let config = json!({
        "broadcast": {"ack": "true", "self": "TRUE"}, "presence": {"enabled": "True"}, "private": "false",
    });
    socket.join(ROOM, config).await;
    socket.find(ROOM, "presence_state").await;
    let reference = socket.broadcast(ROOM, "e", json!({})).await;
    assert_eq!(socket.reply(&reference).await, json!({"status": "ok", "response": {}}));
    assert_eq!(socket.hear(ROOM).await, broadcast("e", json!({})));
    let config = json!({"broadcast": {"ack": "false", "self": "False"}, "presence": {"enabled": "FALSE"}});
    socket.join("realtime:e", config).await;
    socket.broadcast("realtime:e", "e", json!({})).await;
    socket.expect_silence().await;
}

async fn s029_wrong_types_fall_back_and_never_end_the_socket(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = node.phoenix(Vsn::V2).await;
    let accepted = [
        json!({"config": {"broadcast": {"ack": 5, "self": []}}}),
        json!({"config": {"presence": {"enabled": [], "key": 42}}}),
        json!({"config": {"presence": {"key": {"a": 1}}}}),
        json!({"config": {"presence": "x"}}),
        json!({"config": {"postgres_changes": "x"}}),
        json!({"config": {"postgres_changes": {}}}),
        json!({"config": null}),
        json!({"config": {}, "access_token": 5}),
        json!({"config": {}, "access_token": null}),
    ];
    for (n, payload) in accepted.into_iter().enumerate() {
        let topic = format!("realtime:accepted {n}");
        let reply = socket.try_join(&topic, payload.clone()).await;
        let expected = json!({"status": "ok", "response": {"postgres_changes": []}});
        assert_eq!(reply, expected, "{payload}");
        // The defaults: no ack, no echo, no presence state.
        socket.broadcast(&topic, "e", json!({})).await;
    }
    socket.expect_silence().await;

    for (n, payload) in [
        json!({"config": "x"}),
        json!({"config": []}),
        json!({"config": {"broadcast": "x"}}),
        json!({"config": {"broadcast": []}}),
        json!([]),
        json!("x"),
    ]
    .into_iter()
    .enumerate()
    {
        let reason = socket.refused_join(&format!("realtime:refused {n}"), payload.clone()).await;
        assert!(reason.starts_with("UnknownErrorOnChannel: "), "{payload}: {reason}");
        socket.heartbeat().await;
    }
}

async fn s029_private_of_another_type_never_means_public(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = node.phoenix(Vsn::V2).await;
    let mut public = node.phoenix(Vsn::V2).await;
    public.join(ROOM, json!({})).await;
    for private in [json!("yes"), json!(1), json!([]), json!({}), json!("1")] {
        let payload = json!({"config": {"private": private}});
        let reason = socket.refused_join(ROOM, payload).await;
        assert!(reason.contains(": "), "{private}: {reason}");
        public.broadcast(ROOM, "secret", json!({})).await;
    }
    socket.expect_silence().await;
}

async fn s030_topics_without_a_name_or_prefix_are_refused(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let mut socket = node.phoenix(vsn).await;
        let reason = socket.refused_join("realtime:", json!({"config": {}})).await;
        assert_eq!(reason, "TopicNameRequired: You must provide a topic name");
        for topic in ["room", "realtime", "Realtime:room", "", "phoenix"] {
            let reason = socket.refused_join(topic, json!({"config": {}})).await;
            assert_eq!(reason, "unmatched topic", "{topic}");
        }
    }
}

async fn s031_pushes_to_unjoined_topics_are_unmatched(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = node.phoenix(Vsn::V2).await;
    for (event, payload) in [
        ("broadcast", broadcast("e", json!({}))),
        ("presence", json!({"event": "track", "payload": {}})),
        ("access_token", json!({"access_token": anon_key()})),
        ("anything", json!({})),
    ] {
        let reference = socket.new_ref();
        socket.push_as(json!("7"), json!(reference), ROOM, event, payload).await;
        let frame = socket.find(ROOM, "phx_reply").await;
        let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
        assert_eq!((frame.join_ref, frame.reference), (Value::Null, json!(reference)), "{event}");
        assert_eq!(frame.payload, unmatched);
    }
    let binary = socket.broadcast(ROOM, "e", json!({})).await;
    assert_eq!(socket.reply(&binary).await["response"]["reason"], "unmatched topic");
    let leave = socket.push(ROOM, "phx_leave", json!({})).await;
    assert_eq!(socket.reply(&leave).await, json!({"status": "ok", "response": {}}));
    socket.expect_silence().await;
}

async fn s032_refused_joins_give_a_reason_that_starts_with_its_code(world: Arc<World>) {
    let node = world.node().await;
    let foreign = rollcall::auth::token::mint(
        "another-secret-of-more-than-32-characters",
        &json!({"role": "authenticated", "exp": in_seconds(60)}),
    )
    .expect("claims serialize");
    let required = "InvalidJWTToken: Fields `role` and `exp` are required in JWT";
    let mut socket = node.phoenix(Vsn::V2).await;
    for (token, expected) in [
        ("garbage".into(), "MalformedJWT: The token provided is not a valid JWT"),
        (String::new(), "MalformedJWT: The token provided is not a valid JWT"),
        (foreign, "JwtSignatureError: Failed to validate JWT signature"),
        (mint(&json!({"role": "authenticated"})), required),
        (mint(&json!({"exp": in_seconds(60)})), required),
    ] {
        let reason = socket.refused_join(ROOM, json!({"config": {}, "access_token": token})).await;
        assert_eq!(reason, expected, "{token}");
    }
    let private = json!({"config": {"private": true}});
    let reason = socket.refused_join(ROOM, private).await;
    assert_eq!(reason, "Unauthorized: You do not have permissions to read from this Channel topic: room");
    // The older name of the field counts too.
    let reason = socket.refused_join(ROOM, json!({"config": {}, "user_token": "garbage"})).await;
    assert!(reason.starts_with("MalformedJWT: "), "{reason}");
}

async fn s033_an_expired_token_is_refused_at_the_join(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = node.phoenix(Vsn::V2).await;
    for seconds in [2, 110] {
        let token = User::new().token_for(-seconds);
        let reason = socket.refused_join(ROOM, json!({"config": {}, "access_token": token})).await;
        let ago = reason
            .strip_prefix("InvalidJWTToken: Token has expired ")
            .and_then(|rest| rest.strip_suffix(" seconds ago"));
        let ago: i64 = ago.and_then(|ago| ago.parse().ok()).unwrap_or_else(|| panic!("{reason}"));
        assert!((seconds..seconds + 5).contains(&ago), "{reason}");
    }
}

async fn s034_without_a_token_of_its_own_a_channel_uses_the_sockets(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    let topic = format!("realtime:user:{}", user.id);
    let mut own = node.phoenix_with(Vsn::V2, &user.token).await.expect("a user's token is a key");
    let mut anonymous = node.phoenix(Vsn::V2).await;
    for payload in [
        json!({"config": {"private": true}}),
        json!({"config": {"private": true}, "access_token": "sb_publishable_x"}),
        json!({"config": {"private": true}, "access_token": null}),
    ] {
        assert_eq!(own.try_join(&topic, payload.clone()).await["status"], "ok", "{payload}");
        let reason = anonymous.refused_join(&topic, payload).await;
        assert!(reason.starts_with("Unauthorized: "), "{reason}");
    }
    // A token of its own counts more than the socket's.
    let payload = json!({"config": {"private": true}, "access_token": user.token});
    assert_eq!(anonymous.try_join(&topic, payload).await["status"], "ok");
    let payload = json!({"config": {"private": true}, "access_token": anon_key()});
    own.refused_join(&topic, payload).await;
}

async fn s035_a_socket_has_a_limit_of_channels(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = node.phoenix(Vsn::V2).await;
    let mut refs = Vec::new();
    for n in 0..100 {
        refs.push(socket.ask_to_join(&format!("realtime:{n}"), json!({"config": {}})).await);
    }
    for reference in refs {
        assert_eq!(socket.reply(&reference).await["status"], "ok");
    }
    let reason = socket.refused_join("realtime:100", json!({"config": {}})).await;
    assert_eq!(reason, "ChannelRateLimitReached: Too many channels");
    // Joining again what is joined needs no further place; leaving makes one.
    socket.join("realtime:99", json!({})).await;
    socket.leave("realtime:0").await;
    socket.join("realtime:100", json!({})).await;
    // Another socket is another.
    node.phoenix(Vsn::V1).await.join("realtime:101", json!({})).await;

    let node = world.node_with(|settings| settings.realtime_max_channels_per_client = Some("2".into())).await;
    let mut socket = node.phoenix(Vsn::V1).await;
    socket.join("realtime:a", json!({})).await;
    socket.join("realtime:b", json!({})).await;
    socket.refused_join("realtime:c", json!({"config": {}})).await;
}

async fn s036_heartbeats_and_other_channels_never_wait_for_a_join(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    let mut socket = node.phoenix(Vsn::V2).await;
    socket.join(ROOM, json!({"broadcast": {"ack": true}})).await;
    // Whoever asks the policies now waits.
    let dba = world.connect().await;
    dba.batch_execute("begin; lock table realtime.messages in access exclusive mode").await.expect("a lock");
    let payload = json!({"config": {"private": true}, "access_token": user.token});
    let pending = socket.ask_to_join("realtime:open:1", payload).await;
    sleep(MOMENT).await;
    let took = socket.heartbeat().await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    let began = Instant::now();
    let reference = socket.broadcast(ROOM, "e", json!({})).await;
    assert_eq!(socket.reply(&reference).await["status"], "ok");
    socket.join("realtime:another", json!({})).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    // A null number comes back as null.
    socket.push_as(Value::Null, Value::Null, "phoenix", "heartbeat", json!({})).await;
    let frame = socket.find("phoenix", "phx_reply").await;
    assert_eq!((frame.reference, &frame.payload["status"]), (Value::Null, &json!("ok")));
    socket.expect_silence().await;

    dba.batch_execute("rollback").await.expect("unlocked");
    assert_eq!(socket.reply(&pending).await["status"], "ok");
    // A refused join keeps nobody waiting either, however long the server takes to say so.
    let began = Instant::now();
    let pending = socket.ask_to_join("realtime:nobody", json!({"config": {"private": true}})).await;
    let took = socket.heartbeat().await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert_eq!(socket.reply(&pending).await["status"], "error");
    assert!(began.elapsed() < PATIENCE);
}

async fn s037_leaving_is_answered_and_closed(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let mut socket = node.phoenix(vsn).await;
        socket.join(ROOM, json!({"broadcast": {"self": true}})).await;
        let join_ref = socket.join_ref(ROOM).expect("it has joined").to_owned();
        let reference = socket.push(ROOM, "phx_leave", json!({})).await;
        let reply = socket.next().await;
        assert_eq!((reply.event.as_str(), &reply.reference), ("phx_reply", &json!(reference)));
        assert_eq!(reply.payload, json!({"status": "ok", "response": {}}));
        let close = socket.next().await;
        assert_eq!((close.event.as_str(), &close.payload), ("phx_close", &json!({})));
        assert_eq!(close.reference, json!(join_ref), "ref is the join's");
        if vsn == Vsn::V2 {
            assert_eq!(close.join_ref, json!(join_ref));
        }
        let reference = socket.broadcast(ROOM, "e", json!({})).await;
        assert_eq!(socket.reply(&reference).await["response"]["reason"], "unmatched topic");
        socket.expect_silence().await;
        socket.join(ROOM, json!({"broadcast": {"ack": true}})).await;
        let reference = socket.broadcast(ROOM, "e", json!({})).await;
        assert_eq!(socket.reply(&reference).await["status"], "ok");
    }
}

async fn s037_leaving_without_a_join_ref_works(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let mut socket = node.phoenix(vsn).await;
        socket.join(ROOM, json!({})).await;
        socket.push_as(Value::Null, json!("leave"), ROOM, "phx_leave", json!({})).await;
        assert_eq!(socket.reply("leave").await, json!({"status": "ok", "response": {}}));
        socket.find(ROOM, "phx_close").await;
        // A leave of an older join is no leave of the newer one.
        socket.join(ROOM, json!({"broadcast": {"ack": true}})).await;
        socket.push_as(json!("1"), json!("late"), ROOM, "phx_leave", json!({})).await;
        let reference = socket.broadcast(ROOM, "e", json!({})).await;
        assert_eq!(socket.reply(&reference).await["status"], "ok");
    }
}

async fn s038_a_second_join_of_a_topic_replaces_the_first(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let mut socket = node.phoenix(vsn).await;
        let mut other = node.phoenix(vsn).await;
        other.join(ROOM, json!({"presence": {"enabled": true}})).await;
        other.find(ROOM, "presence_state").await;
        socket.join(ROOM, json!({"presence": {"enabled": true, "key": "first"}})).await;
        socket.track(ROOM, json!({"n": 1})).await;
        let old = socket.join_ref(ROOM).expect("it has joined").to_owned();
        socket.all_within(MOMENT).await;

        let new = socket
            .ask_to_join(ROOM, json!({"config": {"presence": {"enabled": true, "key": "second"}}}))
            .await;
        let frames = socket.all_within(MOMENT).await;
        let closes: Vec<_> = frames.iter().filter(|frame| frame.event == "phx_close").collect();
        assert!(closes.iter().all(|close| close.reference == json!(old)), "{closes:?}");
        let at = |event: &str| frames.iter().position(|frame| frame.event == event);
        let reply = frames.iter().position(|frame| frame.reference == json!(new)).expect("a reply");
        assert_eq!(frames[reply].payload["status"], "ok");
        // Clients that do not look at numbers would drop the fresh channel.
        assert!(at("phx_close").is_none_or(|close| close < reply), "{frames:?}");
        let state = &frames[at("presence_state").expect("a state")];
        assert_eq!(state.payload, json!({}), "the first is gone before the second arrives");

        // One channel is there: the other hears of one leave, and its broadcast comes once.
        other.find_where("the first's track", |frame| frame.payload["joins"]["first"].is_object()).await;
        let diff = other.find(ROOM, "presence_diff").await;
        assert_eq!(diff.payload["joins"], json!({}));
        assert!(diff.payload["leaves"]["first"].is_object());
        other.broadcast(ROOM, "once", json!({})).await;
        assert_eq!(socket.hear(ROOM).await, broadcast("once", json!({})));
        socket.expect_silence().await;
        other.expect_silence().await;
    }
}

async fn s039_an_expired_token_ends_its_channel_alone(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    let mut socket = node.phoenix(Vsn::V2).await;
    socket.join("realtime:lasting", json!({"broadcast": {"ack": true}})).await;
    let short = user.token_for(3);
    let ends = in_seconds(3);
    socket.join_private("realtime:open:1", &short, json!({})).await;
    let reply = socket.try_join(ROOM, json!({"config": {}, "access_token": short})).await;
    assert_eq!(reply["status"], "ok");
    for topic in [ROOM, "realtime:open:1"] {
        let message = socket.expect_ended(topic).await;
        assert!(message.starts_with("Token has expired ") && message.ends_with(" seconds ago"), "{message}");
    }
    let late = in_seconds(0) - ends;
    assert!((0..=1).contains(&late), "noticed within a second or so, not {late} s");
    let reference = socket.broadcast("realtime:lasting", "e", json!({})).await;
    assert_eq!(socket.reply(&reference).await["status"], "ok");
    let reference = socket.broadcast(ROOM, "e", json!({})).await;
    assert_eq!(socket.reply(&reference).await["response"]["reason"], "unmatched topic");
    socket.expect_silence().await;
}

async fn s040_a_refreshed_token_keeps_the_channel_open(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    for vsn in Vsn::BOTH {
        let mut socket = node.phoenix(vsn).await;
        let short = user.token_for(3);
        let config = json!({"broadcast": {"ack": true}});
        socket.join_private("realtime:open:1", &short, config.clone()).await;
        let reply = socket.try_join(ROOM, json!({"config": config, "access_token": short})).await;
        assert_eq!(reply["status"], "ok");
        for topic in [ROOM, "realtime:open:1"] {
            socket.set_token(topic, &user.token).await;
        }
        let frames = socket.all_within(Duration::from_secs(5)).await;
        assert!(frames.is_empty(), "neither an answer nor an end: {frames:?}");
        for topic in [ROOM, "realtime:open:1"] {
            let reference = socket.broadcast(topic, "e", json!({})).await;
            assert_eq!(socket.reply(&reference).await["status"], "ok");
        }
    }
}

async fn s041_a_refresh_with_nothing_new_changes_nothing(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    let mut socket = node.phoenix(Vsn::V2).await;
    socket.join_private("realtime:open:1", &user.token, json!({"broadcast": {"ack": true}})).await;
    for payload in [
        json!({"access_token": user.token}),
        json!({"access_token": null}),
        json!({"access_token": 5}),
        json!({"access_token": "sb_publishable_x"}),
        json!({"access_token": "sb_secret_x"}),
        json!({}),
        json!([]),
        json!("x"),
    ] {
        socket.push("realtime:open:1", "access_token", payload).await;
    }
    socket.expect_silence().await;
    let reference = socket.broadcast("realtime:open:1", "e", json!({})).await;
    assert_eq!(socket.reply(&reference).await["status"], "ok");
}

async fn s042_a_refresh_that_loses_the_right_to_read_ends_the_channel(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    let token = |hears: bool, sees: bool| {
        mint(&json!({
            "sub": user.id, "role": "authenticated", "exp": in_seconds(600), "hears": hears, "sees": sees,
        }))
    };
    let config = json!({"presence": {"enabled": true}});
    for (new, text) in [
        (token(false, false), "You do not have permissions to read from this Channel topic: claims:1"),
        (token(true, false), "You no longer have permission to read from this Channel topic: claims:1"),
        (token(false, true), "You no longer have permission to read from this Channel topic: claims:1"),
        (anon_key(), "You do not have permissions to read from this Channel topic: claims:1"),
    ] {
        let mut socket = node.phoenix(Vsn::V2).await;
        socket.join(ROOM, json!({})).await;
        socket.join_private("realtime:claims:1", &token(true, true), config.clone()).await;
        socket.find("realtime:claims:1", "presence_state").await;
        socket.set_token("realtime:claims:1", &new).await;
        assert_eq!(socket.expect_ended("realtime:claims:1").await, text);
        // Nothing is read in a public room.
        socket.set_token(ROOM, &new).await;
        socket.expect_silence().await;
    }
}

async fn s043_a_refresh_with_a_bad_token_ends_the_channel(world: Arc<World>) {
    let node = world.node().await;
    let foreign = rollcall::auth::token::mint(
        "another-secret-of-more-than-32-characters",
        &json!({"role": "authenticated", "exp": in_seconds(60)}),
    )
    .expect("claims serialize");
    let mut socket = node.phoenix(Vsn::V2).await;
    for (token, text) in [
        ("garbage".into(), "The token provided is not a valid JWT"),
        (foreign, "Failed to validate JWT signature"),
        (mint(&json!({"exp": in_seconds(60)})), "Fields `role` and `exp` are required in JWT"),
        (User::new().token_for(-20), "Token has expired 2"),
    ] {
        socket.join(ROOM, json!({})).await;
        socket.set_token(ROOM, &token).await;
        let message = socket.expect_ended(ROOM).await;
        assert!(message.starts_with(text), "{message}");
        socket.heartbeat().await;
    }
}

async fn s044_system_messages_have_exactly_four_fields(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let mut socket = node.phoenix(vsn).await;
        socket.join("realtime:a:b", json!({"broadcast": {"replication_ready": true}})).await;
        let join_ref = socket.join_ref("realtime:a:b").expect("it has joined").to_owned();
        let ready = socket.find("realtime:a:b", "system").await;
        let expected = json!({
            "message": "Replication connection established", "status": "ok", "extension": "system", "channel": "a:b",
        });
        assert_eq!(ready.payload, expected);
        assert_eq!(ready.reference, Value::Null);
        socket.set_token("realtime:a:b", "garbage").await;
        let error = socket.find("realtime:a:b", "system").await;
        let expected = json!({
            "message": "The token provided is not a valid JWT", "status": "error", "extension": "system", "channel": "a:b",
        });
        assert_eq!(error.payload, expected);
        let close = socket.find("realtime:a:b", "phx_close").await;
        assert_eq!(close.reference, json!(join_ref));
        if vsn == Vsn::V2 {
            assert_eq!([error.join_ref, ready.join_ref, close.join_ref], [(); 3].map(|()| json!(join_ref)));
        }
    }
}

async fn s045_unknown_events_are_ignored(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = node.phoenix(Vsn::V2).await;
    socket.join(ROOM, json!({"broadcast": {"ack": true, "self": true}})).await;
    for event in
        ["my_event", "postgres_changes", "system", "presence_state", "phx_reply", "phx_close", "phx_error"]
    {
        socket.push(ROOM, event, json!({"x": 1})).await;
    }
    socket.expect_silence().await;
    let reference = socket.broadcast(ROOM, "e", json!({})).await;
    assert_eq!(socket.reply(&reference).await["status"], "ok");
}

async fn s046_a_lost_socket_ends_its_channels(world: Arc<World>) {
    let node = world.node().await;
    let mut watcher = node.phoenix(Vsn::V2).await;
    watcher.join(ROOM, json!({"presence": {"enabled": true}})).await;
    watcher.find(ROOM, "presence_state").await;
    let joined = async |key: &str| -> Phoenix {
        let mut socket = node.phoenix(Vsn::V2).await;
        socket.join(ROOM, json!({"presence": {"key": key, "enabled": true}})).await;
        socket.track(ROOM, json!({})).await;
        socket
    };
    for way in ["lost", "closed"] {
        let mut socket = joined(way).await;
        let joins = watcher.find(ROOM, "presence_diff").await;
        assert!(joins.payload["joins"][way].is_object(), "{joins:?}");
        if way == "closed" {
            socket.send(tokio_tungstenite::tungstenite::Message::Close(None)).await;
        }
        let began = Instant::now();
        socket.drop_connection();
        let leaves = watcher.find(ROOM, "presence_diff").await;
        assert!(leaves.payload["leaves"][way].is_object(), "{leaves:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    watcher.expect_silence().await;
}

async fn s047_a_silent_socket_is_closed_after_a_minute(world: Arc<World>) {
    let node = world.node().await;
    let began = Instant::now();
    let mut silent = node.phoenix(Vsn::V2).await;
    let mut beating = node.phoenix(Vsn::V2).await;
    beating.join(ROOM, json!({})).await;
    let beats = async {
        for _ in 0..3 {
            sleep(Duration::from_secs(24)).await;
            beating.heartbeat().await;
        }
    };
    let (closed, ()) = tokio::join!(silent.expect_close_within(Duration::from_secs(80)), beats);
    assert_eq!(closed.0, 1000, "{closed:?}");
    assert!(began.elapsed() >= Duration::from_secs(58), "not before its time");
    beating.expect_silence().await;
}

async fn s048_a_stopping_server_closes_with_1012(world: Arc<World>) {
    let node: Arc<Node> = world.node().await;
    let mut sockets = [node.phoenix(Vsn::V1).await, node.phoenix(Vsn::V2).await, node.phoenix(Vsn::V2).await];
    for socket in &mut sockets[..2] {
        socket.join(ROOM, json!({})).await;
    }
    node.stop().await.expect("it stops in order");
    for mut socket in sockets {
        assert_eq!(socket.expect_close().await.0, 1012);
    }
    // That clients come back is for them to show: tests/clients.
}

async fn beyond_the_contract_public_channels_live_on_while_the_database_is_down(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    let mut other = node.phoenix(Vsn::V1).await;
    other.join(ROOM, json!({"presence": {"enabled": true}})).await;
    let mut socket = node.phoenix(Vsn::V2).await;
    socket.join(ROOM, json!({"broadcast": {"ack": true}, "presence": {"key": "me"}})).await;
    socket.join_private("realtime:open:1", &user.token, json!({})).await;
    other.find(ROOM, "presence_state").await;

    world.database_goes().await;
    let began = Instant::now();
    let reference = socket.broadcast(ROOM, "down", json!({})).await;
    assert_eq!(socket.reply(&reference).await["status"], "ok");
    assert_eq!(other.hear(ROOM).await["event"], "down");
    socket.track(ROOM, json!({"still": "here"})).await;
    other.find(ROOM, "presence_diff").await;
    socket.join("realtime:another", json!({})).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let private = json!({"config": {"private": true}, "access_token": User::new().token});
    let pending = socket.ask_to_join("realtime:open:2", private.clone()).await;
    assert!(socket.heartbeat().await < Duration::from_millis(500));
    let refused = socket.reply(&pending).await;
    assert_eq!(refused["status"], "error", "nobody can be asked: {refused}");

    world.database_comes_back().await;
    let began = Instant::now();
    while socket.try_join("realtime:open:2", private.clone()).await["status"] != "ok" {
        assert!(began.elapsed() < PATIENCE * 2, "private channels never come back");
        sleep(MOMENT).await;
    }
    socket.heartbeat().await;
}
