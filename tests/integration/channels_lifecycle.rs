//! Joins, tokens, leaves and the end of channels and sockets (docs/protocol/realtime.md, "Join" to "Server shutdown").

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, mint_token, unix_time_in},
    phoenix::{PhoenixClient, QUIET_PERIOD, SerializerVersion, anon_key, broadcast},
};
use tokio::time::{Instant, sleep};

const POLICIES: &str = include_str!("channel_policies.sql");
const TOPIC: &str = "realtime:room";

// docs/protocol/realtime.md, "Join"
#[testkit::test]
async fn a_join_reply_lists_its_postgres_changes(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        for (topic, config) in [
            (TOPIC, json!({})),
            ("realtime:b", json!({"postgres_changes": []})),
            (
                "realtime:with spaces:and:colons",
                json!({"broadcast": {"ack": false, "self": false}, "presence": {"key": "", "enabled": false},
                       "postgres_changes": [], "private": false}),
            ),
        ] {
            assert_eq!(socket.join(topic, config).await, json!({"postgres_changes": []}));
        }
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Lenient join values"
#[testkit::test]
async fn loosely_typed_join_values_are_accepted(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for (topic, config) in [
        ("realtime:a", json!({"postgres_changes": null})),
        ("realtime:b", json!({"postgres_changes": [null, null]})),
        ("realtime:c", json!({"unknown": 1, "broadcast": {"else": []}, "presence": {"what": null}})),
    ] {
        assert_eq!(socket.join(topic, config).await, json!({"postgres_changes": []}));
    }
    let payload = json!({"config": {}, "version": "realtime-js/2", "more": true});
    assert_eq!(socket.try_join("realtime:d", payload).await["status"], "ok");

    // Booleans as text.
    let config = json!({
        "broadcast": {"ack": "true", "self": "TRUE"}, "presence": {"enabled": "True"}, "private": "false",
    });
    socket.join(TOPIC, config).await;
    socket.wait_for(TOPIC, "presence_state").await;
    let reference = socket.broadcast(TOPIC, "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await, json!({"status": "ok", "response": {}}));
    assert_eq!(socket.next_broadcast(TOPIC).await, broadcast("e", json!({})));
    let config = json!({"broadcast": {"ack": "false", "self": "False"}, "presence": {"enabled": "FALSE"}});
    socket.join("realtime:e", config).await;
    socket.broadcast("realtime:e", "e", json!({})).await;
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Wrong types in a join"
#[testkit::test]
async fn wrong_types_fall_back_and_keep_the_socket_open(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
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
        // The defaults: no ack, no self, no presence state.
        socket.broadcast(&topic, "e", json!({})).await;
    }
    socket.expect_no_frame().await;

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
        let reason = socket.join_error(&format!("realtime:refused {n}"), payload.clone()).await;
        assert!(reason.starts_with("UnknownErrorOnChannel: "), "{payload}: {reason}");
        socket.heartbeat().await;
    }
}

// docs/protocol/realtime.md, "Wrong types in a join"
#[testkit::test]
async fn private_of_a_wrong_type_is_not_public(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let mut public = node.channel_client(SerializerVersion::V2).await;
    public.join(TOPIC, json!({})).await;
    for private in [json!("yes"), json!(1), json!([]), json!({}), json!("1")] {
        let payload = json!({"config": {"private": private}});
        let reason = socket.join_error(TOPIC, payload).await;
        assert!(reason.contains(": "), "{private}: {reason}");
        public.broadcast(TOPIC, "secret", json!({})).await;
    }
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Topic names"
#[testkit::test]
async fn topics_without_a_name_or_prefix_are_rejected(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        let reason = socket.join_error("realtime:", json!({"config": {}})).await;
        assert_eq!(reason, "TopicNameRequired: You must provide a topic name");
        for topic in ["room", "realtime", "Realtime:room", "", "phoenix"] {
            let reason = socket.join_error(topic, json!({"config": {}})).await;
            assert_eq!(reason, "unmatched topic", "{topic}");
        }
    }
}

// docs/protocol/realtime.md, "Pushes to unjoined topics"
#[testkit::test]
async fn pushes_to_unjoined_topics_get_unmatched_topic(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for (event, payload) in [
        ("broadcast", broadcast("e", json!({}))),
        ("presence", json!({"event": "track", "payload": {}})),
        ("access_token", json!({"access_token": anon_key()})),
        ("anything", json!({})),
    ] {
        let reference = socket.new_ref();
        socket.push_as(json!("7"), json!(reference), TOPIC, event, payload).await;
        let frame = socket.wait_for(TOPIC, "phx_reply").await;
        let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
        assert_eq!((frame.join_ref, frame.reference), (Value::Null, json!(reference)), "{event}");
        assert_eq!(frame.payload, unmatched);
    }
    let binary = socket.broadcast(TOPIC, "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&binary).await["response"]["reason"], "unmatched topic");
    let leave = socket.push(TOPIC, "phx_leave", json!({})).await;
    assert_eq!(socket.wait_for_reply(&leave).await, json!({"status": "ok", "response": {}}));
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Join errors"
#[testkit::test]
async fn a_join_error_starts_with_its_code(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let foreign = rollcall::auth::token::mint(
        "another-secret-of-more-than-32-characters",
        &json!({"role": "authenticated", "exp": unix_time_in(60)}),
    )
    .expect("claims serialize");
    let required = "InvalidJWTToken: Fields `role` and `exp` are required in JWT";
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for (token, expected) in [
        ("garbage".into(), "MalformedJWT: The token provided is not a valid JWT"),
        (String::new(), "MalformedJWT: The token provided is not a valid JWT"),
        (foreign, "JwtSignatureError: Failed to validate JWT signature"),
        (mint_token(&json!({"role": "authenticated"})), required),
        (mint_token(&json!({"exp": unix_time_in(60)})), required),
    ] {
        let reason = socket.join_error(TOPIC, json!({"config": {}, "access_token": token})).await;
        assert_eq!(reason, expected, "{token}");
    }
    let private = json!({"config": {"private": true}});
    let reason = socket.join_error(TOPIC, private).await;
    assert_eq!(reason, "Unauthorized: You do not have permissions to read from this Channel topic: room");
    // The older field name is accepted too.
    let reason = socket.join_error(TOPIC, json!({"config": {}, "user_token": "garbage"})).await;
    assert!(reason.starts_with("MalformedJWT: "), "{reason}");
}

// docs/protocol/realtime.md, "Expired token at a join"
#[testkit::test]
async fn a_join_with_an_expired_token_is_rejected(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for seconds in [2, 110] {
        let token = User::new().token_for(-seconds);
        let reason = socket.join_error(TOPIC, json!({"config": {}, "access_token": token})).await;
        let ago = reason
            .strip_prefix("InvalidJWTToken: Token has expired ")
            .and_then(|rest| rest.strip_suffix(" seconds ago"));
        let ago: i64 = ago.and_then(|ago| ago.parse().ok()).unwrap_or_else(|| panic!("{reason}"));
        assert!((seconds..seconds + 5).contains(&ago), "{reason}");
    }
}

// docs/protocol/realtime.md, "Token of a channel"
#[testkit::test]
async fn a_channel_without_a_token_uses_the_socket_token(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let topic = format!("realtime:user:{}", user.id);
    let mut own = node
        .channel_client_with_key(SerializerVersion::V2, &user.token)
        .await
        .expect("a user token is a valid API key");
    let mut anonymous = node.channel_client(SerializerVersion::V2).await;
    for payload in [
        json!({"config": {"private": true}}),
        json!({"config": {"private": true}, "access_token": "sb_publishable_x"}),
        json!({"config": {"private": true}, "access_token": null}),
    ] {
        assert_eq!(own.try_join(&topic, payload.clone()).await["status"], "ok", "{payload}");
        let reason = anonymous.join_error(&topic, payload).await;
        assert!(reason.starts_with("Unauthorized: "), "{reason}");
    }
    // A channel token overrides the socket token.
    let payload = json!({"config": {"private": true}, "access_token": user.token});
    assert_eq!(anonymous.try_join(&topic, payload).await["status"], "ok");
    let payload = json!({"config": {"private": true}, "access_token": anon_key()});
    own.join_error(&topic, payload).await;
}

// docs/protocol/realtime.md, "Channel limit"
#[testkit::test]
async fn channels_per_socket_are_limited(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let mut refs = Vec::new();
    for n in 0..100 {
        refs.push(socket.send_join(&format!("realtime:{n}"), json!({"config": {}})).await);
    }
    for reference in refs {
        assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    }
    let reason = socket.join_error("realtime:100", json!({"config": {}})).await;
    assert_eq!(reason, "ChannelRateLimitReached: Too many channels");
    // Joining a joined topic again does not count; leaving frees one channel.
    socket.join("realtime:99", json!({})).await;
    socket.leave("realtime:0").await;
    socket.join("realtime:100", json!({})).await;
    // The limit applies per socket.
    node.channel_client(SerializerVersion::V1).await.join("realtime:101", json!({})).await;

    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_CHANNELS_PER_CLIENT", "2")).await;
    let mut socket = node.channel_client(SerializerVersion::V1).await;
    socket.join("realtime:a", json!({})).await;
    socket.join("realtime:b", json!({})).await;
    socket.join_error("realtime:c", json!({"config": {}})).await;
}

// docs/protocol/realtime.md, "Heartbeat"
#[testkit::test]
async fn heartbeats_and_other_channels_do_not_wait_for_a_join(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join(TOPIC, json!({"broadcast": {"ack": true}})).await;
    // Policy checks block from here on.
    let dba = db.connect().await;
    dba.batch_execute("begin; lock table realtime.messages in access exclusive mode").await.expect("a lock");
    let payload = json!({"config": {"private": true}, "access_token": user.token});
    let pending = socket.send_join("realtime:open:1", payload).await;
    sleep(QUIET_PERIOD).await;
    let took = socket.heartbeat().await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    let started = Instant::now();
    let reference = socket.broadcast(TOPIC, "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    socket.join("realtime:another", json!({})).await;
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    // A null ref is returned as null.
    socket.push_as(Value::Null, Value::Null, "phoenix", "heartbeat", json!({})).await;
    let frame = socket.wait_for("phoenix", "phx_reply").await;
    assert_eq!((frame.reference, &frame.payload["status"]), (Value::Null, &json!("ok")));
    socket.expect_no_frame().await;

    dba.batch_execute("rollback").await.expect("unlocked");
    assert_eq!(socket.wait_for_reply(&pending).await["status"], "ok");
    // A rejected join delays no other channel, however long the reply takes.
    let started = Instant::now();
    let pending = socket.send_join("realtime:restricted", json!({"config": {"private": true}})).await;
    let took = socket.heartbeat().await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert_eq!(socket.wait_for_reply(&pending).await["status"], "error");
    assert!(started.elapsed() < WAIT_TIMEOUT);
}

// docs/protocol/realtime.md, "Leave"
#[testkit::test]
async fn a_leave_gets_a_reply_and_a_close(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        socket.join(TOPIC, json!({"broadcast": {"self": true}})).await;
        let join_ref = socket.join_ref(TOPIC).expect("it has joined").to_owned();
        let reference = socket.push(TOPIC, "phx_leave", json!({})).await;
        let reply = socket.next_frame().await;
        assert_eq!((reply.event.as_str(), &reply.reference), ("phx_reply", &json!(reference)));
        assert_eq!(reply.payload, json!({"status": "ok", "response": {}}));
        let close = socket.next_frame().await;
        assert_eq!((close.event.as_str(), &close.payload), ("phx_close", &json!({})));
        assert_eq!(close.reference, json!(join_ref), "ref equals the join's ref");
        if vsn == SerializerVersion::V2 {
            assert_eq!(close.join_ref, json!(join_ref));
        }
        let reference = socket.broadcast(TOPIC, "e", json!({})).await;
        assert_eq!(socket.wait_for_reply(&reference).await["response"]["reason"], "unmatched topic");
        socket.expect_no_frame().await;
        socket.join(TOPIC, json!({"broadcast": {"ack": true}})).await;
        let reference = socket.broadcast(TOPIC, "e", json!({})).await;
        assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    }
}

// docs/protocol/realtime.md, "Leave"
#[testkit::test]
async fn a_leave_without_a_join_ref_works(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        socket.join(TOPIC, json!({})).await;
        socket.push_as(Value::Null, json!("leave"), TOPIC, "phx_leave", json!({})).await;
        assert_eq!(socket.wait_for_reply("leave").await, json!({"status": "ok", "response": {}}));
        socket.wait_for(TOPIC, "phx_close").await;
        // A leave of an older join does not affect the newer one.
        socket.join(TOPIC, json!({"broadcast": {"ack": true}})).await;
        socket.push_as(json!("1"), json!("late"), TOPIC, "phx_leave", json!({})).await;
        let reference = socket.broadcast(TOPIC, "e", json!({})).await;
        assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    }
}

// docs/protocol/realtime.md, "Duplicate join"
#[testkit::test]
async fn a_second_join_of_a_topic_replaces_the_first(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        let mut other = node.channel_client(vsn).await;
        other.join(TOPIC, json!({"presence": {"enabled": true}})).await;
        other.wait_for(TOPIC, "presence_state").await;
        socket.join(TOPIC, json!({"presence": {"enabled": true, "key": "first"}})).await;
        socket.track(TOPIC, json!({"n": 1})).await;
        let old = socket.join_ref(TOPIC).expect("it has joined").to_owned();
        socket.frames_within(QUIET_PERIOD).await;

        let new = socket
            .send_join(TOPIC, json!({"config": {"presence": {"enabled": true, "key": "second"}}}))
            .await;
        let frames = socket.frames_within(QUIET_PERIOD).await;
        let closes: Vec<_> = frames.iter().filter(|frame| frame.event == "phx_close").collect();
        assert!(closes.iter().all(|close| close.reference == json!(old)), "{closes:?}");
        let at = |event: &str| frames.iter().position(|frame| frame.event == event);
        let reply = frames.iter().position(|frame| frame.reference == json!(new)).expect("a reply");
        assert_eq!(frames[reply].payload["status"], "ok");
        // Clients that ignore the ref would close the new channel.
        assert!(at("phx_close").is_none_or(|close| close < reply), "{frames:?}");
        let state = &frames[at("presence_state").expect("a state")];
        assert_eq!(state.payload, json!({}), "the first has left before the second joins");

        // There is one channel: the other socket gets one leave, and the broadcast arrives once.
        other.wait_for_match("the first's track", |frame| frame.payload["joins"]["first"].is_object()).await;
        let diff = other.wait_for(TOPIC, "presence_diff").await;
        assert_eq!(diff.payload["joins"], json!({}));
        assert!(diff.payload["leaves"]["first"].is_object());
        other.broadcast(TOPIC, "once", json!({})).await;
        assert_eq!(socket.next_broadcast(TOPIC).await, broadcast("once", json!({})));
        socket.expect_no_frame().await;
        other.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Token expiry"
#[testkit::test]
async fn an_expired_token_closes_only_its_channel(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join("realtime:lasting", json!({"broadcast": {"ack": true}})).await;
    let short = user.token_for(3);
    let ends = unix_time_in(3);
    socket.join_private("realtime:open:1", &short, json!({})).await;
    let reply = socket.try_join(TOPIC, json!({"config": {}, "access_token": short})).await;
    assert_eq!(reply["status"], "ok");
    for topic in [TOPIC, "realtime:open:1"] {
        let message = socket.expect_channel_error(topic).await;
        assert!(message.starts_with("Token has expired ") && message.ends_with(" seconds ago"), "{message}");
    }
    let late = unix_time_in(0) - ends;
    assert!((0..=1).contains(&late), "the expiry takes effect within about a second, not {late} s");
    let reference = socket.broadcast("realtime:lasting", "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    let reference = socket.broadcast(TOPIC, "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["response"]["reason"], "unmatched topic");
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Token refresh"
#[testkit::test]
async fn a_refreshed_token_keeps_the_channel_open(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        let short = user.token_for(3);
        let config = json!({"broadcast": {"ack": true}});
        socket.join_private("realtime:open:1", &short, config.clone()).await;
        let reply = socket.try_join(TOPIC, json!({"config": config, "access_token": short})).await;
        assert_eq!(reply["status"], "ok");
        for topic in [TOPIC, "realtime:open:1"] {
            socket.set_token(topic, &user.token).await;
        }
        let frames = socket.frames_within(Duration::from_secs(5)).await;
        assert!(frames.is_empty(), "neither a reply nor a close: {frames:?}");
        for topic in [TOPIC, "realtime:open:1"] {
            let reference = socket.broadcast(topic, "e", json!({})).await;
            assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
        }
    }
}

// docs/protocol/realtime.md, "Token refresh without a new token"
#[testkit::test]
async fn refreshing_with_the_same_token_changes_nothing(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let mut socket = node.channel_client(SerializerVersion::V2).await;
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
    socket.expect_no_frame().await;
    let reference = socket.broadcast("realtime:open:1", "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
}

// docs/protocol/realtime.md, "Token refresh that loses read permission"
#[testkit::test]
async fn a_refresh_without_read_access_closes_the_channel(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let token = |reads_broadcast: bool, reads_presence: bool| {
        mint_token(&json!({
            "sub": user.id, "role": "authenticated", "exp": unix_time_in(600), "reads_broadcast": reads_broadcast, "reads_presence": reads_presence,
        }))
    };
    let config = json!({"presence": {"enabled": true}});
    for (new, text) in [
        (token(false, false), "You do not have permissions to read from this Channel topic: claims:1"),
        (token(true, false), "You no longer have permission to read from this Channel topic: claims:1"),
        (token(false, true), "You no longer have permission to read from this Channel topic: claims:1"),
        (anon_key(), "You do not have permissions to read from this Channel topic: claims:1"),
    ] {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        socket.join(TOPIC, json!({})).await;
        socket.join_private("realtime:claims:1", &token(true, true), config.clone()).await;
        socket.wait_for("realtime:claims:1", "presence_state").await;
        socket.set_token("realtime:claims:1", &new).await;
        assert_eq!(socket.expect_channel_error("realtime:claims:1").await, text);
        // A public topic needs no read permission.
        socket.set_token(TOPIC, &new).await;
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Token refresh with an invalid token"
#[testkit::test]
async fn a_refresh_with_an_invalid_token_closes_the_channel(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let foreign = rollcall::auth::token::mint(
        "another-secret-of-more-than-32-characters",
        &json!({"role": "authenticated", "exp": unix_time_in(60)}),
    )
    .expect("claims serialize");
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for (token, text) in [
        ("garbage".into(), "The token provided is not a valid JWT"),
        (foreign, "Failed to validate JWT signature"),
        (mint_token(&json!({"exp": unix_time_in(60)})), "Fields `role` and `exp` are required in JWT"),
        (User::new().token_for(-20), "Token has expired 2"),
    ] {
        socket.join(TOPIC, json!({})).await;
        socket.set_token(TOPIC, &token).await;
        let message = socket.expect_channel_error(TOPIC).await;
        assert!(message.starts_with(text), "{message}");
        socket.heartbeat().await;
    }
}

// docs/protocol/realtime.md, "System messages"
#[testkit::test]
async fn system_messages_have_exactly_four_fields(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        socket.join("realtime:a:b", json!({"broadcast": {"replication_ready": true}})).await;
        let join_ref = socket.join_ref("realtime:a:b").expect("it has joined").to_owned();
        let ready = socket.wait_for("realtime:a:b", "system").await;
        let expected = json!({
            "message": "Replication connection established", "status": "ok", "extension": "system", "channel": "a:b",
        });
        assert_eq!(ready.payload, expected);
        assert_eq!(ready.reference, Value::Null);
        socket.set_token("realtime:a:b", "garbage").await;
        let error = socket.wait_for("realtime:a:b", "system").await;
        let expected = json!({
            "message": "The token provided is not a valid JWT", "status": "error", "extension": "system", "channel": "a:b",
        });
        assert_eq!(error.payload, expected);
        let close = socket.wait_for("realtime:a:b", "phx_close").await;
        assert_eq!(close.reference, json!(join_ref));
        if vsn == SerializerVersion::V2 {
            assert_eq!([error.join_ref, ready.join_ref, close.join_ref], [(); 3].map(|()| json!(join_ref)));
        }
    }
}

// docs/protocol/realtime.md, "Unknown events"
#[testkit::test]
async fn unknown_events_are_ignored(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join(TOPIC, json!({"broadcast": {"ack": true, "self": true}})).await;
    for event in
        ["my_event", "postgres_changes", "system", "presence_state", "phx_reply", "phx_close", "phx_error"]
    {
        socket.push(TOPIC, event, json!({"x": 1})).await;
    }
    socket.expect_no_frame().await;
    let reference = socket.broadcast(TOPIC, "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
}

// docs/protocol/realtime.md, "Socket loss"
#[testkit::test]
async fn a_lost_socket_ends_its_channels(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut watcher = node.channel_client(SerializerVersion::V2).await;
    watcher.join(TOPIC, json!({"presence": {"enabled": true}})).await;
    watcher.wait_for(TOPIC, "presence_state").await;
    let joined = async |key: &str| -> PhoenixClient {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        socket.join(TOPIC, json!({"presence": {"key": key, "enabled": true}})).await;
        socket.track(TOPIC, json!({})).await;
        socket
    };
    for way in ["lost", "closed"] {
        let mut socket = joined(way).await;
        let joins = watcher.wait_for(TOPIC, "presence_diff").await;
        assert!(joins.payload["joins"][way].is_object(), "{joins:?}");
        if way == "closed" {
            socket.send(tokio_tungstenite::tungstenite::Message::Close(None)).await;
        }
        let started = Instant::now();
        socket.abort();
        let leaves = watcher.wait_for(TOPIC, "presence_diff").await;
        assert!(leaves.payload["leaves"][way].is_object(), "{leaves:?}");
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    watcher.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Idle timeout"
#[testkit::test]
async fn an_idle_socket_is_closed_after_a_minute(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let started = Instant::now();
    let mut silent = node.channel_client(SerializerVersion::V2).await;
    let mut beating = node.channel_client(SerializerVersion::V2).await;
    beating.join(TOPIC, json!({})).await;
    let beats = async {
        for _ in 0..3 {
            sleep(Duration::from_secs(24)).await;
            beating.heartbeat().await;
        }
    };
    let (closed, ()) = tokio::join!(silent.expect_close_within(Duration::from_secs(80)), beats);
    assert_eq!(closed.0, 1000, "{closed:?}");
    assert!(started.elapsed() >= Duration::from_secs(58), "not before its expiry");
    beating.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Server shutdown"
#[testkit::test]
async fn a_stopping_server_closes_with_1012(db: Arc<TestDatabase>) {
    let node: Arc<TestServer> = db.start_server().await;
    let mut sockets = [
        node.channel_client(SerializerVersion::V1).await,
        node.channel_client(SerializerVersion::V2).await,
        node.channel_client(SerializerVersion::V2).await,
    ];
    for socket in &mut sockets[..2] {
        socket.join(TOPIC, json!({})).await;
    }
    node.stop().await.expect("it stops in order");
    for mut socket in sockets {
        assert_eq!(socket.expect_close().await.0, 1012);
    }
    // tests/clients checks that official clients reconnect.
}

#[testkit::test]
async fn public_channels_stay_open_without_the_database(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let mut other = node.channel_client(SerializerVersion::V1).await;
    other.join(TOPIC, json!({"presence": {"enabled": true}})).await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join(TOPIC, json!({"broadcast": {"ack": true}, "presence": {"key": "me"}})).await;
    socket.join_private("realtime:open:1", &user.token, json!({})).await;
    other.wait_for(TOPIC, "presence_state").await;

    db.disconnect_clients().await;
    let started = Instant::now();
    let reference = socket.broadcast(TOPIC, "down", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    assert_eq!(other.next_broadcast(TOPIC).await["event"], "down");
    socket.track(TOPIC, json!({"still": "here"})).await;
    other.wait_for(TOPIC, "presence_diff").await;
    socket.join("realtime:another", json!({})).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let private = json!({"config": {"private": true}, "access_token": User::new().token});
    let pending = socket.send_join("realtime:open:2", private.clone()).await;
    assert!(socket.heartbeat().await < Duration::from_millis(500));
    let refused = socket.wait_for_reply(&pending).await;
    assert_eq!(refused["status"], "error", "access cannot be checked: {refused}");

    db.allow_connections().await;
    let started = Instant::now();
    while socket.try_join("realtime:open:2", private.clone()).await["status"] != "ok" {
        assert!(started.elapsed() < WAIT_TIMEOUT * 2, "private channels did not recover");
        sleep(QUIET_PERIOD).await;
    }
    socket.heartbeat().await;
}
