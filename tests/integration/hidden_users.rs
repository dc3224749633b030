//! A user that is hidden from the caller and a user that does not exist: the answers are equal, and so is the work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use testkit::{
    client::{HttpResponse, Socket},
    harness::{TestDatabase, TestServer, User},
};

const REQUESTS: usize = 20;
/// A policy of a DBA that counts for how many rows policies are evaluated.
const COUNTED: &str = "create sequence public.checks;
     create function public.count_check() returns boolean language plpgsql security definer
       as $$ begin perform nextval('public.checks'); return true; end $$;
     create policy counted on rollcall.user_presence as restrictive for select to authenticated
       using (public.count_check())";

/// Users hidden from the caller: strangers, and one who blocked the caller.
async fn hidden_users(db: &TestDatabase, caller: &User) -> Vec<User> {
    let hidden = User::many(4);
    for user in &hidden {
        db.set_status(user, "online").await;
    }
    db.set_status(caller, "online").await;
    db.execute(
        "insert into rollcall.blocks (blocker_id, blocked_id) values ($a, $b)",
        &[("a", hidden[0].id), ("b", caller.id)],
    )
    .await;
    hidden
}

async fn ask(node: &TestServer, caller: &User, subject: &User, path: &str) -> HttpResponse {
    let answer = node.get(caller, &path.replace("{id}", &subject.id.to_string())).await;
    assert!(answer.status.as_u16() == 404 || answer.body == serde_json::json!([]), "{answer:?}");
    answer
}

/// Policies are evaluated for as many rows whether a user is hidden or unknown. A policy of a DBA counts them: the answer
/// is not faster because there is nothing to evaluate.
#[testkit::test]
async fn unknown_users_cost_as_many_policy_checks_as_hidden_ones(db: Arc<TestDatabase>) {
    let admin = testkit::cluster::connect(&db.admin_url()).await;
    admin.batch_execute(COUNTED).await.expect("are created");
    let caller = User::new();
    let hidden = hidden_users(&db, &caller).await;
    let node = db.start_server().await;
    for path in ["/api/presence/users/{id}", "/api/presence/users?user_ids={id}", "/{id}"] {
        let mut checks = Vec::new();
        for is_hidden in [true, false] {
            let reset = "select setval('public.checks', 1)";
            admin.execute(reset, &[]).await.expect("is reset");
            for n in 0..REQUESTS {
                let unknown = User::new();
                let subject = if is_hidden { &hidden[n % hidden.len()] } else { &unknown };
                ask(&node, &caller, subject, path).await;
            }
            let row =
                admin.query_one("select last_value - 1 from public.checks", &[]).await.expect("a count");
            checks.push(row.get::<_, i64>(0));
        }
        let rows = i64::try_from(2 * REQUESTS).expect("is small");
        assert_eq!(checks, [rows, rows], "{path}: both faces of a hidden and of an unknown user");
    }
}

/// Makes a user that everybody sees.
async fn visible_user(db: &TestDatabase) -> User {
    let user = User::new();
    db.set_status(&user, "online").await;
    db.execute(
        "insert into rollcall.presence_settings (user_id, visibility) values ($u, 'everyone')",
        &[("u", user.id)],
    )
    .await;
    user
}

/// Subscribes to a user and to a visible one. Nothing is sent about the first, but the presence of the second comes after
/// both were looked up.
async fn subscribe(socket: &mut Socket, subject: &User, visible: &User) {
    let data = json!({"user_ids": [subject.id, visible.id]});
    socket.send_message(json!({"type": "subscribe", "data": data})).await;
    socket.wait_until("the visible user", |socket| socket.shows_online(visible.id)).await;
}

/// The same for `subscribe`: the number of rows for which policies are evaluated.
#[testkit::test]
async fn subscribing_to_unknown_users_costs_as_many_policy_checks(db: Arc<TestDatabase>) {
    let admin = testkit::cluster::connect(&db.admin_url()).await;
    admin.batch_execute(COUNTED).await.expect("are created");
    let caller = User::new();
    let hidden = hidden_users(&db, &caller).await;
    // Many strangers, so that a user who stands in for an unknown one is seldom chosen twice.
    for user in User::many(30) {
        db.set_status(&user, "online").await;
    }
    let mut visible = Vec::new();
    for _ in 0..2 * hidden.len() {
        visible.push(visible_user(&db).await);
    }
    // As in a large table, where other plans would evaluate the policies for every row.
    admin
        .batch_execute(
            "do $$ begin
               execute format('alter database %I set enable_seqscan = off', current_database());
               execute format('alter database %I set enable_hashjoin = off', current_database());
               execute format('alter database %I set enable_mergejoin = off', current_database());
             end $$",
        )
        .await
        .expect("are set");
    let node = db.start_server().await;
    let mut checks = Vec::new();
    for is_hidden in [true, false] {
        let mut socket = node.socket(&caller).await;
        socket.next_message().await;
        let mut counts = Vec::new();
        for subject in hidden.iter() {
            let (unknown, visible) = (User::new(), visible.pop().expect("enough"));
            admin.execute("select setval('public.checks', 1)", &[]).await.expect("is reset");
            subscribe(&mut socket, if is_hidden { subject } else { &unknown }, &visible).await;
            let row =
                admin.query_one("select last_value - 1 from public.checks", &[]).await.expect("a count");
            counts.push(row.get::<_, i64>(0));
        }
        checks.push(counts);
    }
    assert_eq!(checks[0], checks[1], "of hidden and of unknown users");
    assert!(checks[0].iter().all(|count| *count == 4), "both faces of two users: {checks:?}");
}

/// The share of pairs as below.
#[testkit::test(exclusive)]
async fn the_time_of_a_subscription_does_not_tell_hidden_from_unknown_users(db: Arc<TestDatabase>) {
    const PAIRS: usize = 200;
    let caller = User::new();
    let mut hidden = hidden_users(&db, &caller).await;
    for user in User::many(PAIRS) {
        db.set_status(&user, "online").await;
        hidden.push(user);
    }
    let mut visible = Vec::new();
    for _ in 0..2 * (PAIRS + 4) {
        visible.push(visible_user(&db).await);
    }
    let node = db.start_server().await;
    let mut socket = node.socket(&caller).await;
    socket.next_message().await;
    let mut slower = 0;
    for (n, subject) in hidden.iter().enumerate() {
        let unknown = User::new();
        let hidden_first = rand::random::<bool>();
        let mut times = [Duration::ZERO; 2];
        for (place, visible) in visible[2 * n..][..2].iter().enumerate() {
            let is_hidden = hidden_first == (place == 0);
            let started = Instant::now();
            subscribe(&mut socket, if is_hidden { subject } else { &unknown }, visible).await;
            times[usize::from(is_hidden)] = started.elapsed();
        }
        // The first pairs warm caches.
        slower += usize::from(n >= 4 && times[1] > times[0]);
    }
    let share = slower as f64 / PAIRS as f64;
    // Five standard deviations of 3.5 %.
    assert!((0.32..=0.68).contains(&share), "hidden users take longer in {share} of the pairs");
}

/// A user whose row is read in place of an unknown one is not shown.
#[testkit::test]
async fn a_subscription_to_unknown_users_shows_nobody_else(db: Arc<TestDatabase>) {
    let (caller, contact) = (User::new(), User::new());
    db.set_status(&contact, "online").await;
    db.add_contact(&caller, &contact).await;
    let visible = visible_user(&db).await;
    let node = db.start_server().await;
    let mut socket = node.socket(&caller).await;
    socket.wait_until("the contact", |socket| socket.shows_online(contact.id)).await;
    let unknown = User::many(3);
    let user_ids: Vec<_> = unknown.iter().map(|user| user.id).collect();
    socket.send_message(json!({"type": "subscribe", "data": {"user_ids": user_ids}})).await;
    let last = visible_user(&db).await;
    subscribe(&mut socket, &unknown[0], &last).await;
    assert!(socket.hides(visible.id) && !socket.shows_online(visible.id));
    // Unknown users appear once they exist and may be seen.
    db.set_status(&unknown[1], "online").await;
    db.add_contact(&caller, &unknown[1]).await;
    socket.wait_until("the new contact", |socket| socket.shows_online(unknown[1].id)).await;
    db.set_status(&contact, "offline").await;
    socket.wait_until("the contact", |socket| socket.shows_offline(contact.id)).await;
}

/// Interleaved pairs. If both answers take equally long, the hidden user's is slower in half of the pairs, with a
/// standard deviation of 2.9 %: 35 to 65 % are five of them, so a false alarm has a probability below one in a million.
#[testkit::test(exclusive)]
async fn the_time_of_a_404_does_not_tell_hidden_from_unknown_users(db: Arc<TestDatabase>) {
    const PAIRS: usize = 300;
    let caller = User::new();
    let hidden = hidden_users(&db, &caller).await;
    let node = db.start_server().await;
    let path = "/api/presence/users/{id}";
    let time = async |subject: &User| {
        let started = Instant::now();
        ask(&node, &caller, subject, path).await;
        started.elapsed()
    };
    let mut slower = 0;
    for n in 0..PAIRS + 20 {
        let (subject, unknown) = (&hidden[n % 4], User::new());
        let hidden_first = rand::random::<bool>();
        let (of_hidden, of_unknown) = if hidden_first {
            let first = time(subject).await;
            (first, time(&unknown).await)
        } else {
            let first = time(&unknown).await;
            (time(subject).await, first)
        };
        // The first pairs warm caches.
        slower += usize::from(n >= 20 && of_hidden > of_unknown);
    }
    let share = slower as f64 / PAIRS as f64;
    assert!((0.35..=0.65).contains(&share), "hidden users take longer in {share} of the pairs");
}
