//! A user that is hidden from the caller and a user that does not exist: the answers are equal, and so is the work.

use std::{sync::Arc, time::Instant};

use testkit::{
    client::HttpResponse,
    harness::{TestDatabase, TestServer, User},
};

const REQUESTS: usize = 20;

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
    admin
        .batch_execute(
            "create sequence public.checks;
             create function public.count_check() returns boolean language plpgsql security definer
               as $$ begin perform nextval('public.checks'); return true; end $$;
             create policy counted on rollcall.user_presence as restrictive for select to authenticated
               using (public.count_check())",
        )
        .await
        .expect("are created");
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
