//! Floods of one user: heartbeats, typing and statuses, over REST, sockets and plain SQL. Other users' writes are as fast
//! as before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::harness::{TestDatabase, TestServer, User};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

const HEARTBEAT_PATH: &str = "/api/presence/heartbeat";

async fn conversation_of(db: &TestDatabase, user: &User) -> Uuid {
    let conversation = Uuid::new_v4();
    db.execute(
        "insert into rollcall.conversations (id, created_by) values ($c, $u);
         insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $u)",
        &[("c", conversation), ("u", user.id)],
    )
    .await;
    conversation
}

fn is_limited(message: &Value) -> bool {
    message["type"] == "error" && message.to_string().contains("RATE_LIMITED")
}

/// One count for REST and all sockets of a user.
#[testkit::test]
async fn heartbeats_and_typing_of_a_user_are_limited(db: Arc<TestDatabase>) {
    let node = db
        .start_server_with(|settings| {
            settings.set("HEARTBEATS_PER_MINUTE", "3");
            settings.set("TYPING_UPDATES_PER_MINUTE", "3");
        })
        .await;
    let users = [User::new(), User::new()];
    for user in &users {
        let conversation = conversation_of(&db, user).await;
        let typing_path = format!("/api/conversations/{conversation}/typing");
        let requests = [
            (HEARTBEAT_PATH, json!({"device_id": "phone"}), json!({"type": "heartbeat"})),
            (
                &typing_path,
                json!({"is_typing": true}),
                json!({"type": "typing", "data": {"conversation_id": conversation, "is_typing": true}}),
            ),
        ];
        for (path, body, frame) in requests {
            let mut sockets = Vec::new();
            for device in ["tab", "laptop"] {
                let mut socket = node.socket_with(user, &format!("&device_id={device}")).await;
                socket.next_message().await;
                sockets.push(socket);
            }
            for remaining in ["2", "1"] {
                let answer = node.post(user, path, body.clone()).await;
                assert_eq!(answer.header("ratelimit-remaining"), Some(remaining), "{answer:?}");
                answer.expect_status(200);
            }
            // One of the four is allowed.
            for socket in &mut sockets {
                socket.send_message(frame.clone()).await;
                socket.send_message(frame.clone()).await;
            }
            for socket in &mut sockets {
                let error = socket.find_message("the error", is_limited).await;
                let retry_after = error.pointer("/retry_after_ms").or(error.pointer("/data/retry_after_ms"));
                let retry_after = retry_after.and_then(Value::as_u64).expect("a time");
                assert!((1..=20_000).contains(&retry_after), "{error}");
            }
            let refused = node.post(user, path, body).await;
            assert!(refused.header("retry-after").is_some(), "{refused:?}");
            refused.expect_error(429, "RATE_LIMITED");
        }
    }
}

struct Flood {
    active: watch::Sender<bool>,
    tasks: JoinSet<()>,
    accepted: Arc<[AtomicU64; 2]>,
    refused: Arc<AtomicU64>,
}

/// Sends heartbeats, typing and statuses as fast as they are answered, while the flood is active.
fn start_flood(node: &Arc<TestServer>, user: &Arc<User>, conversation: Uuid) -> Flood {
    let (active, _) = watch::channel(false);
    let accepted: Arc<[AtomicU64; 2]> = Arc::default();
    let refused: Arc<AtomicU64> = Arc::default();
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (node, user, mut active) = (node.clone(), user.clone(), active.subscribe());
        let (accepted, refused) = (accepted.clone(), refused.clone());
        tasks.spawn(async move {
            let typing = format!("/api/conversations/{conversation}/typing");
            let mut n = 0;
            while active.wait_for(|active| *active).await.is_ok() {
                n += 1;
                let device = format!("device-{task}");
                let status = ["online", "away"][n % 2];
                let requests = [
                    (HEARTBEAT_PATH, json!({"device_id": device, "active": true})),
                    (&*typing, json!({"is_typing": n % 2 == 0})),
                    ("/api/presence/status", json!({"status": status, "device_id": device})),
                ];
                for (kind, (path, body)) in requests.into_iter().enumerate() {
                    let answer = node.post(&user, path, body).await;
                    if answer.status.is_success() {
                        if let Some(count) = accepted.get(kind) {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    } else {
                        answer.expect_error(429, "RATE_LIMITED");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    for device in 0..4 {
        let (node, user, mut active) = (node.clone(), user.clone(), active.subscribe());
        tasks.spawn(async move {
            let mut socket = node.socket_with(&user, &format!("&device_id=socket-{device}")).await;
            socket.next_message().await;
            while active.wait_for(|active| *active).await.is_ok() {
                socket.send_message(json!({"type": "heartbeat", "data": {"active": true}})).await;
                let data = json!({"conversation_id": conversation, "is_typing": true});
                socket.send_message(json!({"type": "typing", "data": data})).await;
                socket.send_message(json!({"type": "status", "data": {"status": "away"}})).await;
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        });
    }
    Flood { active, tasks, accepted, refused }
}

/// The 99th percentile.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// Times below this are noise of a machine with two cores, which the clients of the flood share: on the development machine
/// the 99th percentile is 36 to 75 ms without the flood and 75 to 130 ms in it.
const NOISE: Duration = Duration::from_millis(75);

#[testkit::test(exclusive)]
async fn a_flood_of_one_user_does_not_delay_writes_of_others(db: Arc<TestDatabase>) {
    const PER_MINUTE: u64 = 120;
    let is_fast = |(quiet, during): &(Duration, Duration)| *during < *quiet.max(&NOISE) * 2;
    let node = db
        .start_server_with(|settings| {
            settings.set("PRESENCE_UPDATES_PER_MINUTE", "10");
            settings.set("HEARTBEATS_PER_MINUTE", "120");
            settings.set("TYPING_UPDATES_PER_MINUTE", "120");
        })
        .await;
    let (flooder, innocent) = (Arc::new(User::new()), User::many(10));
    let conversation = conversation_of(&db, &flooder).await;
    let started = Instant::now();
    let mut flood = start_flood(&node, &flooder, conversation);
    // One of six attempts is without noise of other processes.
    let mut attempts = Vec::new();
    while attempts.len() < 6 {
        let (mut quiet, mut during) = (Vec::new(), Vec::new());
        // Interleaved, so that the load of the machine affects both alike.
        for round in 0..20 {
            flood.active.send_replace(round % 2 == 1);
            // One user alone would meet the limit.
            for innocent in &innocent {
                let sent = Instant::now();
                let body = json!({"device_id": "phone", "active": true});
                node.post(innocent, HEARTBEAT_PATH, body).await.expect_status(200);
                // The first round warms connections and caches.
                if round > 0 {
                    let times = if round % 2 == 1 { &mut during } else { &mut quiet };
                    times.push(sent.elapsed());
                }
            }
        }
        attempts.push((p99(quiet), p99(during)));
        if attempts.last().is_some_and(is_fast) {
            break;
        }
    }
    println!("p99 without and in the flood: {attempts:?}");
    // The flood has met the limit before it ends, however fast the samples were.
    flood.active.send_replace(true);
    testkit::harness::wait_until("the limit is met", || flood.refused.load(Ordering::Relaxed) > 300).await;
    flood.active.send_replace(false);
    drop(flood.active);
    while let Some(ended) = flood.tasks.join_next().await {
        ended.expect("the flood was answered");
    }
    let allowed = PER_MINUTE + started.elapsed().as_secs() * PER_MINUTE / 60 + 2;
    for accepted in flood.accepted.iter() {
        let accepted = accepted.load(Ordering::Relaxed);
        assert!(accepted <= allowed, "{accepted} writes were accepted, {allowed} are allowed");
    }
    assert!(attempts.iter().any(is_fast), "p99 without and in the flood: {attempts:?}");
}

/// As over PostgREST: each statement is a transaction with the caller's role. What the quotas refuse writes nothing, and
/// watchers get no more messages than there were writes.
#[testkit::test]
async fn a_flood_in_sql_does_not_wake_watchers(db: Arc<TestDatabase>) {
    const PER_MINUTE: u64 = 6;
    const TURNS: u64 = 100;
    let node = db.start_server().await;
    let (flooder, watcher) = (User::new(), User::new());
    db.set_status(&flooder, "online").await;
    db.add_contact(&flooder, &watcher).await;
    let conversation = conversation_of(&db, &flooder).await;
    db.execute(
        "insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $w)",
        &[("c", conversation), ("w", watcher.id)],
    )
    .await;
    db.execute("update rollcall.limits set per_minute = 6 where key <> 'status_updates'", &[]).await;

    let mut socket = node.socket(&watcher).await;
    let session = db.connect().await;
    let claims = json!({"sub": flooder.id, "role": "authenticated"});
    let act = format!("select set_config('request.jwt.claims', '{claims}', false); set role authenticated");
    session.batch_execute(&act).await.expect("the role is set");

    let started = Instant::now();
    let statements = [
        (
            "presence",
            "update rollcall.presence_devices
             set status = case status when 'away' then 'online' else 'away' end::rollcall.presence_status",
        ),
        (
            "presence",
            "insert into rollcall.presence_choices as c (user_id, chosen) values (auth.uid(), 'busy')
             on conflict (user_id) do update set
               chosen = case c.chosen when 'busy' then 'dnd' else 'busy' end::rollcall.presence_status",
        ),
        (
            "typing",
            "insert into rollcall.typing_indicators (conversation_id, user_id) values ('$c', auth.uid())
             on conflict (conversation_id, user_id) do update set
               updated_at = clock_timestamp(), expires_at = now() + interval '5 s'",
        ),
        ("typing", "delete from rollcall.typing_indicators"),
        ("heartbeat", "select rollcall.heartbeat_mine('phone', true)"),
    ];
    let mut accepted = std::collections::HashMap::from([("presence", 0), ("typing", 0), ("heartbeat", 0)]);
    for _ in 0..TURNS {
        for (kind, statement) in statements {
            match session.batch_execute(&statement.replace("$c", &conversation.to_string())).await {
                Ok(()) => *accepted.get_mut(kind).expect("a kind") += 1,
                Err(error) => {
                    let error = error.as_db_error().expect("an answer");
                    assert_eq!(error.code().code(), "PT429", "{error}");
                }
            }
        }
    }
    let allowed = PER_MINUTE + 1 + started.elapsed().as_secs() * PER_MINUTE / 60;
    assert!(accepted["presence"] <= allowed, "{accepted:?}");
    // Deletes are not counted; only those of started typing have an effect.
    assert!(accepted["typing"] <= TURNS + allowed, "{accepted:?}");
    assert_eq!(accepted["heartbeat"], TURNS, "a heartbeat is no error");

    db.set_status(&flooder, "offline").await;
    socket.wait_until("the last state", |socket| socket.shows_offline(flooder.id)).await;
    let told = u64::try_from(socket.frames).expect("is small");
    // The initial state, the last one, and both ends of typing.
    assert!(told <= 2 + 3 * allowed, "{told} messages; {allowed} writes of each kind are allowed");
}
