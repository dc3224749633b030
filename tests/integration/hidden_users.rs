//! A user that is hidden from the caller and a user that does not exist: the answers are equal, and so is the work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{
    client::HttpResponse,
    harness::{TestDatabase, TestServer, User},
};
use tokio_postgres::Client;

const REQUESTS: usize = 20;
/// Functions of the policies of `user_presence`; one more that a DBA's policy calls.
const CALLS: &str = "select jsonb_object_agg(f.funcname, f.calls)::text from pg_stat_user_functions f
    where f.funcname in ('my_visible_users', 'can_see_user', 'blocked_with', 'contacts_of', 'team_mates_of', 'extra_policy')";

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

/// Calls of the functions of policies since the start. The server's connections report them with a delay.
async fn calls(admin: &Client) -> Value {
    admin.execute("select pg_stat_clear_snapshot()", &[]).await.expect("is done");
    let row = admin.query_one(CALLS, &[]).await.expect("an answer");
    row.get::<_, Option<&str>>(0).map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"))
}

fn difference(after: &Value, before: &Value) -> Vec<(String, i64)> {
    let count = |value: &Value, name: &str| value.get(name).and_then(Value::as_i64).unwrap_or(0);
    let names = after.as_object().into_iter().flatten().map(|(name, _)| name.clone());
    names.map(|name| (name.clone(), count(after, &name) - count(before, &name))).collect()
}

/// Row-level security is evaluated as often for an unknown user as for a hidden one, also the policies of a DBA.
#[testkit::test(exclusive)]
async fn unknown_users_cost_the_same_policies_as_hidden_ones(db: Arc<TestDatabase>) {
    let admin = db.connect().await;
    admin
        .batch_execute(
            "do $$ begin execute format('alter database %I set track_functions = ''all''', current_database()); end $$;
             create function public.extra_policy() returns boolean language plpgsql stable as $$ begin return true; end $$;
             create policy extra on rollcall.user_presence as restrictive for select to authenticated
               using (public.extra_policy())",
        )
        .await
        .expect("are set");
    let caller = User::new();
    let hidden = hidden_users(&db, &caller).await;
    let node = db.start_server().await;
    for path in ["/api/presence/users/{id}", "/api/presence/users?user_ids={id}", "/{id}"] {
        let mut counts = Vec::new();
        for is_hidden in [true, false] {
            // What was reported late belongs to what was before.
            let mut before = calls(&admin).await;
            loop {
                tokio::time::sleep(Duration::from_millis(1_200)).await;
                let now = calls(&admin).await;
                if now == before {
                    break;
                }
                before = now;
            }
            for n in 0..REQUESTS {
                let unknown = User::new();
                let subject = if is_hidden { &hidden[1 + n % 3] } else { &unknown };
                ask(&node, &caller, subject, path).await;
            }
            let deadline = Instant::now() + Duration::from_secs(20);
            let expected = i64::try_from(REQUESTS).expect("is small");
            let counted = loop {
                let counted = difference(&calls(&admin).await, &before);
                let is_complete =
                    |name: &str| counted.iter().any(|(n, calls)| n == name && *calls >= expected);
                if is_complete("my_visible_users") && is_complete("extra_policy") || Instant::now() > deadline
                {
                    break counted;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            assert!(!counted.is_empty(), "{path}: no function was called");
            for (name, calls) in &counted {
                assert!(
                    *calls >= expected,
                    "{path}, hidden: {is_hidden}: {name} was called {calls} times in {REQUESTS} requests"
                );
            }
            counts.push(counted);
        }
        assert_eq!(counts[0], counts[1], "{path}: calls for hidden and for unknown users");
    }
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
