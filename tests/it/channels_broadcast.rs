//! Statements 50 to 66 of the wire contract: broadcasts, from sockets and from the database.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    Case,
    client::send,
    phoenix::{MOMENT, Phoenix, Vsn, anon_key, broadcast},
    world::{Node, PATIENCE, User, World},
};

const POLICIES: &str = include_str!("channel_policies.sql");
const ROOM: &str = "realtime:room";
const PRIVATE: &str = "realtime:open:1";

pub fn cases() -> Vec<Case> {
    crate::cases![
        s050_the_sender_hears_itself_only_if_it_asked_to,
        s051_an_acknowledged_broadcast_is_answered_and_others_are_not,
        s052_an_oversized_broadcast_is_never_delivered,
        s053_public_and_private_rooms_of_one_name_are_apart,
        s054_who_may_not_write_is_told_and_nobody_hears,
        s055_a_thousand_messages_arrive_in_order,
        s055_what_is_done_after_a_message_comes_after_it,
        s056_a_message_from_sql_is_delivered_after_its_commit,
        s057_a_message_from_sql_carries_the_id_of_its_row,
        s058_sending_without_the_right_is_a_warning,
        s059_a_row_trigger_broadcasts_what_changed,
        s060_bytes_from_sql_reach_version_2,
        s061_policies_read_the_topic_without_its_prefix,
        s062_a_replay_is_the_newest_in_order,
        s063_a_replay_that_cannot_be_is_refused,
        s064_replay_and_live_are_one_sequence,
        s065_flooding_ends_the_flooders_channel,
        s066_replication_ready_is_said_once,
    ]
}

async fn joined(node: &Node, vsn: Vsn, config: Value) -> Phoenix {
    let mut socket = node.phoenix(vsn).await;
    socket.join(ROOM, config).await;
    socket
}

/// Somebody in the private room, whom its policies let read and write.
async fn insider(node: &Node, vsn: Vsn, config: Value) -> Phoenix {
    let mut socket = node.phoenix(vsn).await;
    socket.join_private(PRIVATE, &User::new().token, config).await;
    socket
}

async fn s050_the_sender_hears_itself_only_if_it_asked_to(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let user = User::new();
        let mut first = node.phoenix_with(vsn, &user.token).await.expect("a key");
        let mut second = node.phoenix_with(vsn, &user.token).await.expect("a key");
        first.join(ROOM, json!({"broadcast": {"self": false}})).await;
        second.join(ROOM, json!({"broadcast": {"self": true}})).await;
        first.broadcast(ROOM, "one", json!({})).await;
        assert_eq!(second.hear(ROOM).await, broadcast("one", json!({})));
        first.expect_silence().await;
        second.broadcast(ROOM, "two", json!({})).await;
        for socket in [&mut first, &mut second] {
            assert_eq!(socket.hear(ROOM).await, broadcast("two", json!({})));
            socket.expect_silence().await;
        }
        first.leave(ROOM).await;
        second.leave(ROOM).await;
    }
}

async fn s051_an_acknowledged_broadcast_is_answered_and_others_are_not(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        for own in [false, true] {
            let mut quiet = joined(&node, vsn, json!({"broadcast": {"self": own}})).await;
            let mut asking = joined(&node, vsn, json!({"broadcast": {"self": own, "ack": true}})).await;
            let reference = asking.broadcast(ROOM, "e", json!({})).await;
            assert_eq!(asking.reply(&reference).await, json!({"status": "ok", "response": {}}));
            quiet.hear(ROOM).await;
            quiet.broadcast(ROOM, "e", json!({})).await;
            asking.hear(ROOM).await;
            if own {
                quiet.hear(ROOM).await;
                asking.hear(ROOM).await;
            }
            quiet.expect_silence().await;
            asking.expect_silence().await;
            quiet.leave(ROOM).await;
            asking.leave(ROOM).await;
        }
    }
}

async fn s052_an_oversized_broadcast_is_never_delivered(world: Arc<World>) {
    let node = world.node_with(|settings| settings.realtime_max_payload_kb = Some("1".into())).await;
    let mut listener = joined(&node, Vsn::V2, json!({})).await;
    let large = json!({"s": "x".repeat(2_000)});
    for vsn in Vsn::BOTH {
        let mut asking = joined(&node, vsn, json!({"broadcast": {"ack": true, "self": true}})).await;
        let reference = asking.broadcast(ROOM, "large", large.clone()).await;
        let expected = json!({"status": "error", "response": {"reason": "payload_size_exceeded"}});
        assert_eq!(asking.reply(&reference).await, expected);
        let mut quiet = joined(&node, vsn, json!({"broadcast": {"self": true}})).await;
        quiet.broadcast(ROOM, "large", large.clone()).await;
        quiet.expect_silence().await;
        asking.expect_silence().await;
    }
    let body = json!({"messages": [{"topic": "room", "event": "e", "payload": large}]});
    let request = node.request(reqwest::Method::POST, "/api/broadcast").bearer_auth(anon_key());
    let errors = json!({"errors": {"messages": [{"payload": ["Payload size exceeds tenant limit"]}]}});
    assert_eq!(send(request.json(&body)).await.expect(422), errors);
    let request = node.request(reqwest::Method::POST, "/api/broadcast/room/events/e").bearer_auth(anon_key());
    let errors = json!({"errors": {"payload": ["Payload size exceeds tenant limit"]}});
    assert_eq!(send(request.json(&large)).await.expect(422), errors);
    listener.expect_silence().await;
    // The limit is on payloads: 1 kB and some.
    let mut sender = joined(&node, Vsn::V2, json!({})).await;
    sender.broadcast(ROOM, "fits", json!({"s": "x".repeat(1_000)})).await;
    assert_eq!(listener.hear(ROOM).await["event"], "fits");
}

async fn s053_public_and_private_rooms_of_one_name_are_apart(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    let mut public = node.phoenix(Vsn::V2).await;
    public.join(PRIVATE, json!({"presence": {"enabled": true, "key": "public"}})).await;
    let mut private = node.phoenix(Vsn::V2).await;
    private
        .join_private(PRIVATE, &user.token, json!({"presence": {"enabled": true, "key": "private"}}))
        .await;
    for socket in [&mut public, &mut private] {
        socket.find(PRIVATE, "presence_state").await;
    }
    public.broadcast(PRIVATE, "e", json!({"from": "public"})).await;
    private.broadcast(PRIVATE, "e", json!({"from": "private"})).await;
    for socket in [&mut public, &mut private] {
        socket.expect_silence().await;
    }
    public.track(PRIVATE, json!({})).await;
    private.track(PRIVATE, json!({})).await;
    for (socket, key) in [(&mut public, "public"), (&mut private, "private")] {
        let diff = socket.find(PRIVATE, "presence_diff").await;
        assert_eq!(diff.payload["joins"].as_object().expect("joins").keys().collect::<Vec<_>>(), [key]);
        socket.expect_silence().await;
    }

    for is_private in [false, true] {
        let body =
            json!({"messages": [{"topic": "open:1", "event": "rest", "payload": {}, "private": is_private}]});
        let request = node.request(reqwest::Method::POST, "/api/broadcast").bearer_auth(&user.token);
        assert_eq!(send(request.json(&body)).await.status, 202);
        world
            .sql
            .execute("select realtime.send('{}', 'sql', 'open:1', $1)", &[&is_private])
            .await
            .expect("sent");
        let (right, wrong) =
            if is_private { (&mut private, &mut public) } else { (&mut public, &mut private) };
        assert_eq!(right.hear(PRIVATE).await["event"], "rest");
        assert_eq!(right.hear(PRIVATE).await["event"], "sql");
        wrong.expect_silence().await;
    }
}

async fn s054_who_may_not_write_is_told_and_nobody_hears(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let topic = "realtime:readonly:1";
    for vsn in Vsn::BOTH {
        let mut sockets = Vec::new();
        for ack in [true, false] {
            let mut socket = node.phoenix(vsn).await;
            socket
                .join_private(topic, &User::new().token, json!({"broadcast": {"ack": ack, "self": true}}))
                .await;
            sockets.push(socket);
        }
        let reference = sockets[0].broadcast(topic, "e", json!({})).await;
        let reply = sockets[0].reply(&reference).await;
        assert_eq!(reply["status"], "error", "{reply}");
        let reason = reply["response"]["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("Unauthorized: "), "{reason}");
        // Who did not ask for an answer gets none.
        sockets[1].broadcast(topic, "e", json!({})).await;
        for socket in &mut sockets {
            socket.expect_silence().await;
        }
        // Reading goes on.
        world.sql.execute("select realtime.send('{}', 'sql', 'readonly:1')", &[]).await.expect("sent");
        for socket in &mut sockets {
            assert_eq!(socket.hear(topic).await["event"], "sql");
        }
    }
}

async fn s055_a_thousand_messages_arrive_in_order(world: Arc<World>) {
    let node = world.node_with(|settings| settings.realtime_max_events_per_second = Some("0".into())).await;
    let mut listeners = [joined(&node, Vsn::V1, json!({})).await, joined(&node, Vsn::V2, json!({})).await];
    let mut sender = joined(&node, Vsn::V2, json!({})).await;
    for n in 0..1_000 {
        // Both ways of sending keep one order.
        if n % 3 == 0 {
            sender.push(ROOM, "broadcast", broadcast("n", json!({"n": n}))).await;
        } else {
            sender.broadcast(ROOM, "n", json!({"n": n})).await;
        }
    }
    for listener in &mut listeners {
        for n in 0..1_000 {
            assert_eq!(listener.hear(ROOM).await["payload"]["n"], n);
        }
        listener.expect_silence().await;
    }
}

async fn s055_what_is_done_after_a_message_comes_after_it(world: Arc<World>) {
    let node = world.node().await;
    for vsn in Vsn::BOTH {
        let mut other = joined(&node, vsn, json!({})).await;
        let mut sender = joined(&node, vsn, json!({"broadcast": {"self": true}})).await;
        for n in 0..3 {
            sender.broadcast(ROOM, "n", json!({"n": n})).await;
        }
        let track = sender.push(ROOM, "presence", json!({"type": "presence", "event": "track"})).await;
        let leave = sender.push(ROOM, "phx_leave", json!({})).await;
        let mut order = Vec::new();
        while order.last() != Some(&json!(leave)) {
            let frame = sender
                .find_where("anything", |frame| ["broadcast", "phx_reply"].contains(&&*frame.event))
                .await;
            let is_reply = frame.event == "phx_reply";
            order.push(if is_reply { frame.reference } else { frame.payload["payload"]["n"].clone() });
        }
        assert_eq!(order, [json!(0), json!(1), json!(2), json!(track), json!(leave)]);
        for n in 0..3 {
            assert_eq!(other.hear(ROOM).await["payload"]["n"], n);
        }
        other.leave(ROOM).await;
    }
}

async fn s056_a_message_from_sql_is_delivered_after_its_commit(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let mut socket = insider(&node, Vsn::V2, json!({})).await;
    let dba = world.connect().await;
    dba.batch_execute("begin; select realtime.send('{\"n\": 1}', 'e', 'open:1', true)").await.expect("sent");
    socket.expect_silence().await;
    dba.batch_execute("rollback").await.expect("undone");
    socket.expect_silence().await;
    dba.batch_execute("begin; select realtime.send('{\"n\": 2}', 'e', 'open:1', true)").await.expect("sent");
    dba.batch_execute("select realtime.send('{\"n\": 3}', 'e', 'open:1', true); commit").await.expect("sent");
    let began = Instant::now();
    for n in [2, 3] {
        assert_eq!(socket.hear(PRIVATE).await["payload"]["n"], n, "in order");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    socket.expect_silence().await;

    // A direct insert counts too; one without an event does not.
    dba.batch_execute(
        "insert into realtime.messages (topic, extension, event, payload, private)
           values ('open:1', 'broadcast', null, '{}', true), ('open:1', 'broadcast', 'direct', '{\"d\": 1}', true)",
    )
    .await
    .expect("inserted");
    let heard = socket.hear(PRIVATE).await;
    assert_eq!((&heard["event"], &heard["payload"]), (&json!("direct"), &json!({"d": 1})));
    socket.expect_silence().await;
}

async fn s057_a_message_from_sql_carries_the_id_of_its_row(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    for vsn in Vsn::BOTH {
        let mut socket = insider(&node, vsn, json!({})).await;
        world.run("select realtime.send('{\"a\": 1}', 'one', 'open:1')", &[]).await;
        world.run("select realtime.send('{\"id\": \"mine\"}', 'two', 'open:1', true)", &[]).await;
        let heard = socket.hear(PRIVATE).await;
        let row = world
            .row("select id::text from realtime.messages where event = 'one' order by inserted_at desc limit 1", &[])
            .await;
        let id: String = row.get(0);
        let expected =
            json!({"type": "broadcast", "event": "one", "payload": {"a": 1, "id": id}, "meta": {"id": id}});
        assert_eq!(heard, expected);
        let heard = socket.hear(PRIVATE).await;
        assert_eq!(heard["payload"], json!({"id": "mine"}));
        let id = heard["meta"]["id"].as_str().expect("the row's id");
        id.parse::<uuid::Uuid>().expect("a uuid");
    }
}

async fn s058_sending_without_the_right_is_a_warning(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let mut socket = insider(&node, Vsn::V2, json!({})).await;
    let user = User::new();
    let claims = json!({"sub": user.id, "role": "authenticated"}).to_string();
    let as_user = format!("begin; set local role authenticated; set local request.jwt.claims = '{claims}';");
    let dba = world.connect().await;
    dba.batch_execute(&format!("{as_user} select realtime.send('{{}}', 'no', 'readonly:1', true); commit"))
        .await
        .expect("a warning is no error");
    dba.batch_execute(&format!("{as_user} select realtime.send('[1]', 'no', 'open:1', true); commit"))
        .await
        .expect("a payload that is no object is one neither");
    let count = world.row("select count(*) from realtime.messages", &[]).await;
    assert_eq!(count.get::<_, i64>(0), 0);
    dba.batch_execute(&format!("{as_user} select realtime.send('{{}}', 'yes', 'open:1', true); commit"))
        .await
        .expect("this user may");
    assert_eq!(socket.hear(PRIVATE).await["event"], "yes");
    socket.expect_silence().await;
}

async fn s059_a_row_trigger_broadcasts_what_changed(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    world
        .run(
            "create table public.notes (id int primary key, title text);
             create function public.tell_of_notes() returns trigger language plpgsql security definer
               set search_path = '' as $f$
             begin
               perform realtime.broadcast_changes('open:1', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
               return null;
             end $f$;
             create trigger tell after insert or update or delete on public.notes
               for each row execute function public.tell_of_notes();",
            &[],
        )
        .await;
    let mut socket = insider(&node, Vsn::V2, json!({})).await;
    for (statement, operation, record, old) in [
        (
            "insert into public.notes values (1, 'one')",
            "INSERT",
            json!({"id": 1, "title": "one"}),
            Value::Null,
        ),
        (
            "update public.notes set title = 'two'",
            "UPDATE",
            json!({"id": 1, "title": "two"}),
            json!({"id": 1, "title": "one"}),
        ),
        ("delete from public.notes", "DELETE", Value::Null, json!({"id": 1, "title": "two"})),
    ] {
        world.run(statement, &[]).await;
        let heard = socket.hear(PRIVATE).await;
        assert_eq!(heard["event"], operation);
        let mut payload = heard["payload"].clone();
        let id = payload.as_object_mut().expect("an object").remove("id");
        assert_eq!(id, Some(heard["meta"]["id"].clone()));
        let expected = json!({
            "operation": operation, "table": "notes", "schema": "public", "record": record, "old_record": old,
        });
        assert_eq!(payload, expected);
    }
    let odd = "select realtime.broadcast_changes('open:1', 'e', 'TRUNCATE', 'notes', 'public', null::public.notes, null::public.notes)";
    world.sql.batch_execute(odd).await.expect_err("another operation is an error");
    socket.expect_silence().await;
}

async fn s060_bytes_from_sql_reach_version_2(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let mut new = insider(&node, Vsn::V2, json!({})).await;
    let mut old = insider(&node, Vsn::V1, json!({})).await;
    world.run(r"select realtime.send_binary('\x00ff10'::bytea, 'blob', 'open:1', true)", &[]).await;
    let heard = new.find(PRIVATE, "broadcast").await;
    assert_eq!(heard.data, Some(vec![0, 255, 16]));
    assert_eq!(heard.payload["event"], "blob");
    assert!(heard.payload["meta"]["id"].is_string(), "{heard:?}");
    old.expect_silence().await;
    new.expect_silence().await;
}

async fn s061_policies_read_the_topic_without_its_prefix(world: Arc<World>) {
    let node = world.node().await;
    let (user, topic) = (User::new(), "realtime:exactly: thîs");
    let private = json!({"config": {"private": true}, "access_token": user.token});
    let mut socket = node.phoenix(Vsn::V2).await;
    socket.refused_join(topic, private.clone()).await;
    world
        .run(
            "create policy exact on realtime.messages for select to authenticated
               using (realtime.topic() = 'exactly: thîs')",
            &[],
        )
        .await;
    // The change may take a moment to be heard of.
    let began = Instant::now();
    while socket.try_join(topic, private.clone()).await["status"] != "ok" {
        assert!(began.elapsed() < PATIENCE);
        sleep(MOMENT).await;
    }
    let nothing = world.row("select realtime.topic()", &[]).await;
    assert_eq!(nothing.get::<_, Option<String>>(0), None, "outside there is none");
}

fn now_in_milliseconds() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Joins the private room with a replay; returns the numbers in what is replayed.
async fn replayed(socket: &mut Phoenix, user: &User, replay: Value) -> Vec<i64> {
    let reference = socket
        .ask_to_join(
            PRIVATE,
            json!({"config": {"private": true, "broadcast": {"replay": replay}}, "access_token": user.token}),
        )
        .await;
    let frames = socket.all_within(MOMENT * 2).await;
    let mut heard = Vec::new();
    let reply = frames.iter().position(|frame| frame.reference == json!(reference)).expect("a reply");
    assert_eq!(frames[reply].payload["status"], "ok", "{frames:?}");
    for (at, frame) in frames.iter().enumerate().filter(|(_, frame)| frame.event == "broadcast") {
        assert!(at > reply, "nothing precedes the reply: {frames:?}");
        assert_eq!(frame.payload["meta"]["replayed"], true, "{frame:?}");
        assert!(frame.payload["meta"]["id"].is_string(), "{frame:?}");
        heard.push(frame.payload["payload"]["n"].as_i64().expect("a number"));
    }
    socket.leave(PRIVATE).await;
    heard
}

async fn s062_a_replay_is_the_newest_in_order(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let user = User::new();
    let before = now_in_milliseconds() - 1_000;
    // One transaction: the rows share their time, and still come in order.
    world
        .run(
            "select realtime.send(jsonb_build_object('n', n), 'e', 'open:1') from generate_series(1, 20) n",
            &[],
        )
        .await;
    sleep(Duration::from_millis(20)).await;
    let between = now_in_milliseconds();
    sleep(Duration::from_millis(20)).await;
    for n in 21..=30 {
        let message = json!({ "n": n });
        world.sql.execute("select realtime.send($1, 'e', 'open:1')", &[&message]).await.expect("sent");
    }
    world.run("select realtime.send('{\"n\": 99}', 'e', 'open:1', false)", &[]).await;
    world.run("select realtime.send('{\"n\": 98}', 'e', 'open:2')", &[]).await;
    for vsn in Vsn::BOTH {
        let mut socket = node.phoenix(vsn).await;
        for (replay, expected) in [
            (json!({"since": before, "limit": 3}), 28..=30),
            (json!({"since": before}), 6..=30),
            (json!({"since": before, "limit": 1_000}), 6..=30),
            (json!({"since": before, "limit": 0}), 30..=30),
            (json!({"since": between}), 21..=30),
        ] {
            assert_eq!(
                replayed(&mut socket, &user, replay.clone()).await,
                expected.collect::<Vec<_>>(),
                "{replay}"
            );
        }
        let later = now_in_milliseconds() + 60_000;
        assert_eq!(replayed(&mut socket, &user, json!({ "since": later })).await, Vec::<i64>::new());
    }
    // Bytes too, for those who know them.
    world.run(r"select realtime.send_binary('\x0102'::bytea, 'blob', 'open:1')", &[]).await;
    let mut socket = node.phoenix(Vsn::V2).await;
    let config = json!({"broadcast": {"replay": {"since": before, "limit": 1}}});
    socket.join_private(PRIVATE, &user.token, config).await;
    let heard = socket.find(PRIVATE, "broadcast").await;
    assert_eq!((heard.data, &heard.payload["meta"]["replayed"]), (Some(vec![1, 2]), &json!(true)));
}

async fn s063_a_replay_that_cannot_be_is_refused(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let token = User::new().token;
    let mut socket = node.phoenix(Vsn::V2).await;
    let join = |private: bool, replay: Value| json!({"config": {"private": private, "broadcast": {"replay": replay}}, "access_token": token});
    let reason = socket.refused_join(PRIVATE, join(false, json!({"since": 1}))).await;
    assert_eq!(reason, "UnableToReplayMessages: Replay is not allowed for public channels");
    for replay in
        [json!({"limit": 2}), json!({"since": "x"}), json!({"since": "1756684800000"}), json!({"since": 1.5})]
    {
        let reason = socket.refused_join(PRIVATE, join(true, replay.clone())).await;
        assert_eq!(reason, "UnableToReplayMessages: Replay params are not valid", "{replay}");
    }
    // Who hears no broadcasts gets no old ones either.
    let payload = json!({
        "config": {"private": true, "broadcast": {"replay": {"since": 1}}, "presence": {"enabled": true}},
        "access_token": token,
    });
    let reason = socket.refused_join("realtime:presence:1", payload).await;
    assert_eq!(
        reason,
        "Unauthorized: You do not have permissions to read from this Channel topic: presence:1"
    );
    // WebSocket broadcasts are not stored.
    socket.join_private(PRIVATE, &token, json!({})).await;
    socket.broadcast(PRIVATE, "e", json!({})).await;
    socket.leave(PRIVATE).await;
    let stored = world.row("select count(*) from realtime.messages", &[]).await;
    assert_eq!(stored.get::<_, i64>(0), 0);
}

async fn s064_replay_and_live_are_one_sequence(world: Arc<World>) {
    let node = world.node().await;
    world.run(POLICIES, &[]).await;
    let (user, since) = (User::new(), now_in_milliseconds() - 1_000);
    let dba = world.connect().await;
    let writing = tokio::spawn(async move {
        for n in 0_i64..200 {
            let message = json!({ "n": n });
            dba.execute("select realtime.send($1, 'e', 'open:1')", &[&message]).await.expect("sent");
        }
    });
    let mut tasks = Vec::new();
    for round in 0..10_u64 {
        let (node, user) = (node.clone(), user.clone());
        tasks.push(tokio::spawn(async move {
            sleep(Duration::from_millis(round * 30)).await;
            let mut socket = node.phoenix(Vsn::V2).await;
            let config = json!({"broadcast": {"replay": {"since": since, "limit": 25}}});
            socket.join_private(PRIVATE, &user.token, config).await;
            let mut heard = Vec::new();
            while heard.last() != Some(&199) {
                let message = socket.hear(PRIVATE).await;
                heard.push(message["payload"]["n"].as_i64().expect("a number"));
            }
            heard
        }));
    }
    writing.await.expect("all sent");
    for task in tasks {
        let heard = task.await.expect("all heard");
        let expected: Vec<_> = (heard[0]..200).collect();
        assert_eq!(heard, expected, "each once, in order, without a gap");
    }
}

async fn s065_flooding_ends_the_flooders_channel(world: Arc<World>) {
    let node = world.node_with(|settings| settings.realtime_max_events_per_second = Some("5".into())).await;
    let mut listener = joined(&node, Vsn::V2, json!({})).await;
    let mut flooder = joined(&node, Vsn::V2, json!({})).await;
    let began = Instant::now();
    let message = loop {
        for _ in 0..50 {
            flooder.push(ROOM, "broadcast", broadcast("flood", json!({}))).await;
        }
        let frames = flooder.all_within(Duration::from_millis(100)).await;
        if let Some(system) = frames.iter().find(|frame| frame.event == "system") {
            assert!(frames.iter().any(|frame| frame.event == "phx_close"), "{frames:?}");
            break system.payload["message"].clone();
        }
        assert!(began.elapsed() < PATIENCE, "five a second, and nobody minds");
    };
    assert_eq!(message, "Too many messages per second");
    flooder.all_within(MOMENT).await;
    flooder.heartbeat().await;
    // Who only listened stays.
    let heard = listener.all_within(MOMENT).await;
    assert!(heard.iter().all(|frame| frame.event == "broadcast"), "{:?}", heard.last());
    listener.heartbeat().await;
    // Later the flooder may come back and speak.
    let began = Instant::now();
    loop {
        sleep(Duration::from_millis(500)).await;
        let reply = flooder.try_join(ROOM, json!({"config": {"broadcast": {"ack": true}}})).await;
        if reply["status"] == "ok" {
            let reference = flooder.broadcast(ROOM, "back", json!({})).await;
            let frame = flooder.find_where("an answer or the end", |frame| {
                frame.reference == reference.as_str() || frame.event == "phx_close"
            });
            if frame.await.payload["status"] == "ok" {
                break;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(90), "never forgiven");
    }
    listener.find_where("the message after the pause", |frame| frame.payload["event"] == "back").await;
}

async fn s066_replication_ready_is_said_once(world: Arc<World>) {
    let node = world.node().await;
    let mut socket = node.phoenix(Vsn::V2).await;
    socket.join(ROOM, json!({"broadcast": {"replication_ready": true}})).await;
    let ready = socket.find(ROOM, "system").await;
    assert_eq!(ready.payload["message"], "Replication connection established");
    world.run("select realtime.send('{}', 'now', 'room', false)", &[]).await;
    assert_eq!(socket.hear(ROOM).await["event"], "now");
    let more = socket.all_within(Duration::from_secs(2)).await;
    assert!(more.is_empty(), "{more:?}");
    joined(&node, Vsn::V2, json!({})).await.expect_silence().await;
}
