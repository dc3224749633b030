//! Faults that one viewer causes affect only that viewer.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use serde_json::json;
use testkit::{
    client::Socket,
    harness::{TestDatabase, TestServer, User, wait_until},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

const STATUS_PATH: &str = "/api/presence/status";

/// Creates a restrictive policy with an effect on one viewer; `$victim` is its ID.
async fn add_policy_trap(db: &TestDatabase, victim: &User, does: &str) {
    db.execute(
        &format!(
            "create function public.trap() returns boolean language plpgsql stable as
                   $$begin if auth.uid() = $victim then {does} end if; return true; end$$;
                 create policy trap on rollcall.user_presence as restrictive for select to authenticated
                   using ((select public.trap()))"
        ),
        &[("victim", victim.id)],
    )
    .await;
}

/// Connects `size` viewers of one online user.
async fn connect_viewers(db: &TestDatabase, node: &TestServer, size: usize) -> (Vec<(User, Socket)>, User) {
    let subject = User::new();
    db.set_status(&subject, "online").await;
    let mut viewers = Vec::new();
    for _ in 0..size {
        let viewer = User::new();
        db.add_contact(&viewer, &subject).await;
        let mut socket = node.socket(&viewer).await;
        socket.next_message().await;
        assert!(socket.shows_online(subject.id));
        viewers.push((viewer, socket));
    }
    (viewers, subject)
}

#[testkit::test]
async fn a_policy_error_affects_only_its_viewer(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (mut viewers, subject) = connect_viewers(&db, &node, 4).await;
    let (victim, mut broken) = viewers.remove(0);
    add_policy_trap(&db, &victim, "raise exception 'secret of the policy';").await;
    broken.wait_until("no user is visible", |socket| socket.hides(subject.id)).await;
    let error = broken.find_message("an error", |frame| frame["type"] == "error").await;
    assert_eq!(error["code"], "VISIBILITY_FAILED");
    assert!(!error.to_string().contains("secret"), "{error}");
    // A viewer that connects now is notified too, after the first frame.
    let mut fresh = node.socket(&victim).await;
    fresh.expect_message(json!({"type": "initial_state", "data": {"presences": []}})).await;
    assert_eq!(fresh.next_message().await["code"], "VISIBILITY_FAILED");
    let rest = node.get(&victim, &format!("/api/presence/users/{}", subject.id)).await;
    let rest = rest.expect_error(500, "POLICY_ERROR");
    assert!(!rest.to_string().contains("secret"), "{rest}");

    db.set_status(&subject, "dnd").await;
    for (_, socket) in &mut viewers {
        socket.wait_until("dnd", |socket| socket.shows(subject.id, "online", "dnd")).await;
        assert_eq!(socket.frames, 2, "the others are not affected");
    }
    assert!(broken.hides(subject.id));

    db.execute("drop policy trap on rollcall.user_presence", &[]).await;
    for socket in [&mut broken, &mut fresh] {
        socket.wait_until("all checks pass again", |socket| socket.shows(subject.id, "online", "dnd")).await;
    }
}

#[testkit::test]
async fn a_slow_policy_delays_only_its_viewer(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (mut viewers, subject) = connect_viewers(&db, &node, 4).await;
    let (victim, mut slow) = viewers.remove(0);
    add_policy_trap(&db, &victim, "perform pg_sleep(60);").await;
    slow.find_message("an error", |frame| frame["code"] == "VISIBILITY_FAILED").await;
    let mut slowest = Duration::ZERO;
    for availability in ["busy", "dnd", "busy", "dnd"] {
        let changed = Instant::now();
        db.set_status(&subject, availability).await;
        for (_, socket) in &mut viewers {
            socket.wait_until(availability, |socket| socket.shows(subject.id, "online", availability)).await;
        }
        slowest = slowest.max(changed.elapsed());
        // Contacts change too; they are checked next to the slow viewer.
        let newcomer = User::new();
        db.add_contact(&viewers[0].0, &newcomer).await;
        db.set_status(&newcomer, "online").await;
        let changed = Instant::now();
        viewers[0].1.wait_until("a newcomer", |socket| socket.shows_online(newcomer.id)).await;
        slowest = slowest.max(changed.elapsed());
    }
    println!("with one viewer whose policy sleeps, others waited at most {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");

    let query = Instant::now();
    let response = node.get(&victim, &format!("/api/presence/users/{}", subject.id)).await;
    response.expect_error(503, "SERVICE_UNAVAILABLE");
    assert!(query.elapsed() < Duration::from_secs(9), "{:?}", query.elapsed());
    db.execute("drop policy trap on rollcall.user_presence", &[]).await;
    slow.wait_until("all checks pass again", |socket| socket.shows(subject.id, "online", "dnd")).await;
}

#[testkit::test]
async fn revoking_and_granting_read_access_for_all_takes_effect(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (mut viewers, subject) = connect_viewers(&db, &node, 3).await;
    db.execute("revoke select on rollcall.user_presence from authenticated", &[]).await;
    for (_, socket) in &mut viewers {
        socket.wait_until("no user is visible", |socket| socket.hides(subject.id)).await;
        socket.find_message("an error", |frame| frame["code"] == "VISIBILITY_FAILED").await;
    }
    db.execute("grant select on rollcall.user_presence to authenticated", &[]).await;
    for (_, socket) in &mut viewers {
        socket.wait_until("visible again", |socket| socket.shows_online(subject.id)).await;
    }
}

#[testkit::test]
async fn unusual_claims_reach_policies_unchanged(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let subject = User::new();
    db.set_status(&subject, "online").await;
    db.execute(
        "create policy passed on rollcall.user_presence for select to authenticated using
               (face = 'public' and (select auth.jwt() ->> 'pass') = 'ok''; \"quoted\" é 🎈 \\ $1')",
        &[],
    )
    .await;
    let pass = "ok'; \"quoted\" é 🎈 \\ $1";
    let path = format!("/api/presence/users/{}", subject.id);
    for (claims, allowed) in [
        (json!({"pass": pass}), true),
        (json!({"pass": pass, "deep": {"a": [[[[{"b": null}]]]]}, "big": 1e300, "n": -0.0}), true),
        (json!({"pass": pass, "aud": ["a", "b"], "iss": null, "session_id": "x".repeat(2_000)}), true),
        (json!({"pass": [pass]}), false),
        (json!({"pass": "ok"}), false),
        (json!({"request.jwt.claims": pass}), false),
    ] {
        let viewer = User::with_claims(claims.clone());
        let response = node.get(&viewer, &path).await;
        assert_eq!(response.status == 200, allowed, "{claims}: {response:?}");
        let mut socket = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
        socket.next_message().await;
        assert_eq!(socket.shows_online(subject.id), allowed, "{claims}");
    }
}

#[testkit::test]
async fn claims_that_fail_a_policy_cast_affect_only_their_owner(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (mut viewers, subject) = connect_viewers(&db, &node, 2).await;
    db.execute(
        "create policy level on rollcall.user_presence as restrictive for select to authenticated
               using (coalesce((select (auth.jwt() ->> 'level')::int), 1) > 0)",
        &[],
    )
    .await;
    let odd = User::with_claims(json!({"level": "high"}));
    db.add_contact(&odd, &subject).await;
    let mut broken = node.socket(&odd).await;
    broken.expect_message(json!({"type": "initial_state", "data": {"presences": []}})).await;
    assert_eq!(broken.next_message().await["code"], "VISIBILITY_FAILED");
    db.set_status(&subject, "busy").await;
    for (_, socket) in &mut viewers {
        socket.wait_until("busy", |socket| socket.shows(subject.id, "online", "busy")).await;
    }
    // A corrected token works again.
    let level = json!({"sub": odd.id, "level": "7", "exp": testkit::harness::unix_time_in(600)});
    broken.send_message(json!({"type": "auth", "token": testkit::harness::mint_token(&level)})).await;
    broken.wait_until("busy", |socket| socket.shows(subject.id, "online", "busy")).await;
}

#[testkit::test]
async fn pooled_connections_never_leak_claims(db: Arc<TestDatabase>) {
    const USERS: usize = 12;
    const ROUNDS: usize = 25;
    let node = db.start_server_with(|settings| settings.set("DATABASE_POOL_SIZE", "2")).await;
    let users: Vec<User> = (0..USERS).map(|_| User::new()).collect();
    for user in &users {
        node.post(user, STATUS_PATH, json!({"status": "online"})).await.expect_status(200);
    }
    // A policy slow enough that requests can be dropped in the middle of a statement.
    db
        .execute(
            "create function public.dawdle() returns boolean language plpgsql volatile as
               $$begin perform pg_sleep(0.004); return true; end$$;
             create policy dawdle on rollcall.user_presence as restrictive for select to authenticated using ((select public.dawdle()))",
            &[],
        )
        .await;
    let all_ids = users.iter().map(|user| user.id.to_string()).collect::<Vec<_>>().join(",");
    let path = format!("/api/presence/users?user_ids={all_ids}");
    let asking = users.iter().enumerate().map(|(n, user)| {
        let (node, path) = (&node, &path);
        async move {
            for round in 0..ROUNDS {
                if (n + round) % 3 == 0 {
                    // Disconnects at some point of the request.
                    let timeout_after = Duration::from_millis(1 + ((n * 7 + round * 3) % 12) as u64);
                    drop(timeout(timeout_after, node.get(user, path)).await);
                    continue;
                }
                let response = node.get(user, path).await;
                // A pool of two may be exhausted for a moment, but must not return wrong data.
                if response.status == 503 {
                    continue;
                }
                let seen = response.expect_status(200);
                let ids: Vec<Uuid> = seen
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|one| one["user_id"].as_str().and_then(|id| id.parse().ok()).expect("an id"))
                    .collect();
                assert_eq!(ids, [user.id], "each sees only itself");
            }
        }
    });
    join_all(asking).await;
    // No connection is left in a transaction, with a role or with claims.
    db.wait_until(
        "idle connections",
        "select not exists (select from pg_stat_activity where datname = current_database()
               and application_name like 'rollcall-%' and state like 'idle in transaction%')",
        &[],
    )
    .await;
}

#[testkit::test]
async fn an_abandoned_connection_is_not_reused(db: Arc<TestDatabase>) {
    const OWN_CONNECTIONS: usize = 6;
    let database = rollcall::pg::Database::new(&db.url, None, 2).expect("a pool");
    let act_as = "select set_config('role', 'authenticated', true),
        set_config('request.jwt.claims', '{\"sub\":\"x\"}', true), pg_sleep($1)";
    for round in 0..30_u64 {
        let seconds = if round % 2 == 0 { 0.0 } else { 1.0 };
        let limit = Duration::from_millis(50);
        let params: [&(dyn ToSql + Sync); 1] = [&seconds];
        let query = database.query_with_timeout(limit, act_as, &params);
        // Some requests finish, some are cancelled by the database, some are dropped.
        drop(timeout(Duration::from_millis(round * 3), query).await);
    }
    let mut held = Vec::new();
    for _ in 0..OWN_CONNECTIONS {
        let connection = database.server_connection().await.expect("a connection");
        let identity = "select current_user::text, coalesce(current_setting('request.jwt.claims', true), ''),
            current_setting('statement_timeout')";
        let row = connection.query_one(identity, &[]).await.expect("not in a failed transaction");
        assert_eq!(
            (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)),
            ("postgres", "", "15s")
        );
        held.push(connection);
    }
}

/// Returns the resident memory of this process, in bytes.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
}

#[testkit::test(exclusive)]
async fn a_client_that_never_reads_delays_none_and_uses_little_memory(db: Arc<TestDatabase>) {
    const SUBJECTS: usize = 300;
    const ROUNDS: usize = 40;
    let node = db.start_server().await;
    let (stalled, fine) = (User::new(), User::new());
    db
        .execute(
            &format!(
                "create temporary table subjects as select gen_random_uuid() as id from generate_series(1, {SUBJECTS});
                 insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
                   select viewer, id, now() from subjects, unnest(array[$deaf, $fine]::uuid[]) as viewer;
                 insert into rollcall.presence_devices (user_id, device_id, activity) select id, 'd', repeat('x', 255) from subjects"
            ),
            &[("deaf", stalled.id), ("fine", fine.id)],
        )
        .await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(node.stalled_socket(&stalled).await);
    }
    let mut socket = node.socket(&fine).await;
    socket.next_message().await;
    assert_eq!(socket.presences.len(), SUBJECTS);

    let before = resident_memory();
    let mut latencies = Histogram::<u64>::new(3).expect("a histogram");
    for round in 0..ROUNDS {
        let mark = format!("{round:0>200}");
        let changed = Instant::now();
        db.execute(
            &format!("update rollcall.presence_devices set activity = '{mark}' where device_id = 'd'"),
            &[],
        )
        .await;
        socket
            .wait_until("the round", |socket| socket.presences.values().all(|face| face["activity"] == *mark))
            .await;
        latencies.record(u64::try_from(changed.elapsed().as_millis()).expect("short")).expect("in range");
    }
    let grown = resident_memory().saturating_sub(before);
    println!(
        "{SUBJECTS} concurrent changes next to 20 stalled sockets took p50 {} ms, max {} ms; memory grew by {} KiB",
        latencies.value_at_quantile(0.5),
        latencies.max(),
        grown / 1_024
    );
    assert!(latencies.max() < 3_000, "{} ms", latencies.max());
    // 20 sockets × 300 users × 40 rounds of 400 bytes would be 96 MB. At most the latest state of each user is kept.
    assert!(grown < 40 * 1024 * 1024, "{grown} bytes");
    drop(held);
}

#[testkit::test]
async fn rest_says_that_a_policy_raised_and_the_log_names_it(db: Arc<TestDatabase>) {
    let node = db.start_server_process().await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    db.set_status(&subject, "online").await;
    let paths = ["/api/presence/users", "/api/contacts"];
    let faults = [
        ("begin raise 'out of order'; end", "P0001"),
        ("begin return exists (select from public.nowhere); end", "42P01"),
        // The role of the API may not execute it: no denial by a policy.
        ("begin return public.secret(); end", "42501"),
    ];
    db.execute(
        "create function public.secret() returns boolean language sql as 'select true';
         revoke execute on function public.secret() from public",
        &[],
    )
    .await;
    for (number, (body, state)) in faults.into_iter().enumerate() {
        let (table, path) = [("user_presence", paths[0]), ("contacts", paths[1])][number % 2];
        db.execute(
            &format!(
                "create function public.check_{number}() returns boolean language plpgsql as $${body}$$;
                 create policy broken_{number} on rollcall.{table} as restrictive to authenticated
                   using (public.check_{number}())"
            ),
            &[],
        )
        .await;
        node.get(&viewer, path).await.expect_error(500, "POLICY_ERROR");
        let policy = format!("broken_{number}");
        let parts = ["a policy raises an error", &policy, state, table, "authenticated"];
        let is_named = || node.log().iter().any(|line| parts.iter().all(|part| line.contains(part)));
        wait_until("the log names the policy", is_named).await;
        db.execute(&format!("drop policy broken_{number} on rollcall.{table}"), &[]).await;
        node.get(&viewer, path).await.expect_status(200);
        // The policies are evaluated at most once in this time.
        sleep(Duration::from_secs(5)).await;
    }
}
