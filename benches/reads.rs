//! Presence reads under row-level security in a large database.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use testkit::harness::User;
use tokio_postgres::Client as Sql;
use uuid::Uuid;

use crate::{
    Plan,
    cluster::{Cluster, Database},
    explain,
    http::{Http, request},
    load::{LoadClient, LoadResult, closed_loop, median, quantile},
    report::{Report, ms, row},
    server::Server,
};

const CLIENTS: usize = 50;
const KINDS: [&str; 4] = [
    "`GET /api/presence/users` (50 contacts)",
    "`GET /api/presence/users?user_ids=` (10)",
    "`GET /api/presence/users/{user_id}`",
    "`POST /api/presence/heartbeat`",
];

/// A user with contacts that repeats one of the [`KINDS`] of requests.
struct Reader {
    http: Http,
    requests: [Vec<u8>; KINDS.len()],
    kind: usize,
    /// Text that each response must contain.
    expected: String,
}

impl Reader {
    async fn new(server: &Server, user: &User, contacts: &[Uuid]) -> Result<Self> {
        let list = contacts.iter().map(Uuid::to_string).collect::<Vec<_>>().join(",");
        let expected = contacts.first().map(Uuid::to_string).unwrap_or_default();
        let get = |path: &str| request("GET", path, &user.token, None);
        let requests = [
            get("/api/presence/users"),
            get(&format!("/api/presence/users?user_ids={list}")),
            get(&format!("/api/presence/users/{expected}")),
            request(
                "POST",
                "/api/presence/heartbeat",
                &user.token,
                Some(r#"{"device_id":"rest","active":true}"#),
            ),
        ];
        Ok(Self { http: Http::connect(server.address).await?, requests, kind: 0, expected })
    }

    /// Sends each request once and checks the responses.
    async fn check(&mut self) -> Result<()> {
        for (kind, count) in [(0, 50), (1, 10), (2, 1)] {
            let response = String::from_utf8_lossy(self.http.call(&self.requests[kind]).await?).into_owned();
            let shown = response.matches("\"user_id\"").count();
            anyhow::ensure!(
                shown == count && response.contains(&self.expected),
                "{}: {response}",
                KINDS[kind]
            );
        }
        Ok(())
    }
}

impl LoadClient for Reader {
    async fn run_once(&mut self) -> Result<()> {
        self.http.call(&self.requests[self.kind]).await?;
        Ok(())
    }
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let (users, rounds) = plan.pick((100_000, 3), (20_000, 1));
    let time = Duration::from_secs(2);
    let database = cluster.database("bench_reads").await?;
    let accounts = load(&database, users).await?;
    let server = Server::start(&database).await?;
    let (viewer, contacts) = &accounts[0];
    let plans = explain::explain(&database, viewer.id, contacts).await?;

    let mut readers =
        try_join_all(accounts.iter().map(|(user, contacts)| Reader::new(&server, user, contacts))).await?;
    for reader in &mut readers {
        reader.check().await?;
    }
    let mut series: [Vec<LoadResult>; KINDS.len()] = Default::default();
    for round in 0..=rounds {
        for (kind, series) in series.iter_mut().enumerate() {
            readers.iter_mut().for_each(|reader| reader.kind = kind);
            let (back, measured) = closed_loop(readers, if round == 0 { time / 3 } else { time }).await?;
            readers = back;
            // The first round warms caches and plans.
            if round > 0 {
                series.push(measured);
            }
        }
    }
    server.stop().await?;

    let mut rows = vec![row(["", "per second", "median", "p99"])];
    for (kind, rounds) in KINDS.iter().zip(series) {
        let rate = median(&rounds.iter().map(|round| round.rate).collect::<Vec<_>>());
        let mut all: Vec<Duration> = rounds.into_iter().flat_map(|round| round.times).collect();
        all.sort_unstable();
        rows.push(row([kind, &format!("{rate:.0}"), &ms(quantile(&all, 0.5)), &ms(quantile(&all, 0.99))]));
    }
    report.heading("Reads");
    report.note(&format!(
        "{users} users with 50 accepted contacts each; {CLIENTS} clients in closed loops, so a request mostly waits \
         for the {CLIENTS} before it. {rounds} rounds of {} s each.",
        time.as_secs()
    ));
    report.table(&rows);
    report.note(&plans);
    cluster.drop_database("bench_reads").await;
    Ok(())
}

/// Loads users with contacts. Returns [`CLIENTS`] of them as [`sample`].
pub async fn load(database: &Database, users: i32) -> Result<Vec<(User, Vec<Uuid>)>> {
    let admin: Sql = database.admin().await;
    let settings = format!("set bench.users = {users};");
    admin.batch_execute(&(settings + include_str!("sql/users.sql"))).await?;
    admin.batch_execute(include_str!("sql/vacuum_analyze.sql")).await?;
    sample(&admin, CLIENTS).await
}

/// Some of the loaded users, each with some of their contacts.
pub async fn sample(admin: &Sql, users: usize) -> Result<Vec<(User, Vec<Uuid>)>> {
    let rows = admin.query(include_str!("sql/sample_users.sql"), &[&i64::try_from(users)?]).await?;
    rows.iter().map(|row| Ok((User::with_id(row.get("id")), row.get("contacts")))).collect()
}
