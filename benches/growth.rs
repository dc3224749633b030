//! What growing tables cost: the same operations with 1, 10 and 100 times as many users and contacts, and the size of the
//! internal tables after the status changes of an hour.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::future::try_join_all;
use testkit::harness::User;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    Plan,
    cluster::{Cluster, Database},
    http::{Http, request, status_request},
    load::{LoadClient, closed_loop, quantile},
    presence_socket::PresenceSocket,
    reads,
    report::{Report, ms, row},
    server::Server,
};

const STATUSES: [&str; 2] = ["online", "busy"];
const OPERATIONS: [&str; 4] = [
    "status by REST",
    "`GET /api/presence/users` (50 contacts)",
    "socket until its initial state (50 contacts)",
    "block and unblock of a contact",
];
/// Clients that change their status as fast as they can.
const WRITERS: usize = 1_000;

/// Duration of an operation and CPU time of PostgreSQL for it.
struct Cost {
    time: Duration,
    cpu: Duration,
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let sizes = plan.pick([10_000, 100_000, 1_000_000], [1_000, 10_000, 100_000]);
    let operations = plan.pick(500, 100);
    let load_time = Duration::from_secs(plan.pick(60, 5));
    let mut rows: Vec<Vec<String>> = OPERATIONS.iter().map(|name| vec![(*name).to_owned()]).collect();
    rows.push(vec!["size of the database".to_owned()]);
    let mut after_load = String::new();
    for (place, users) in sizes.into_iter().enumerate() {
        let database = cluster.database("bench_growth").await?;
        let accounts = reads::load(&database, users).await?;
        let admin = database.admin().await;
        let server = Server::start(&database).await?;
        for (cells, cost) in
            rows.iter_mut().zip(measure(cluster, &server, &admin, &accounts, operations).await?)
        {
            cells.push(format!("{}, {}", ms(cost.time), ms(cost.cpu)));
        }
        let size: i64 = admin.query_one(include_str!("sql/growth_size.sql"), &[]).await?.get(0);
        rows[OPERATIONS.len()].push(format!("{:.1} GB", size as f64 / 1e9));
        if place == 1 {
            after_load = load(&database, &server, load_time).await?;
        }
        server.stop().await?;
        cluster.drop_database("bench_growth").await;
    }

    let [small, medium, large] = sizes;
    report.heading("Growth by rows");
    report.note(&format!(
        "Median of {operations} operations of one client, and CPU time of PostgreSQL for each, among users who have 50 \
         accepted contacts each; the operations concern 50 of them."
    ));
    let mut table =
        vec![row(["", &format!("{small} users"), &format!("{medium} users"), &format!("{large} users")])];
    table.extend(rows.iter().map(|cells| row([&cells[0], &cells[1], &cells[2], &cells[3]])));
    report.table(&table);
    report.note(&after_load);
    Ok(())
}

async fn measure(
    cluster: &Cluster,
    server: &Server,
    admin: &Client,
    accounts: &[(User, Vec<Uuid>)],
    operations: usize,
) -> Result<[Cost; OPERATIONS.len()]> {
    let mut http = Http::connect(server.address).await?;
    let (mut status, mut read, mut join, mut block) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut cpu = [Duration::ZERO; OPERATIONS.len()];
    let (add, remove) = (
        admin.prepare(include_str!("sql/block.sql")).await?,
        admin.prepare(include_str!("sql/unblock.sql")).await?,
    );
    // The first round warms caches and plans.
    for is_warm in [false, true] {
        let count = if is_warm { operations } else { accounts.len() };
        let kinds = [&mut status, &mut read, &mut join, &mut block];
        for (kind, times) in kinds.into_iter().enumerate() {
            times.clear();
            let before = cluster.cpu()?;
            for n in 0..count {
                let (user, contacts) = &accounts[n % accounts.len()];
                let started = Instant::now();
                match kind {
                    0 => {
                        let status = STATUSES[n / accounts.len() % STATUSES.len()];
                        http.call(&status_request(&user.token, status)).await?;
                    }
                    1 => {
                        http.call(&request("GET", "/api/presence/users", &user.token, None)).await?;
                    }
                    2 => drop(PresenceSocket::open(server.address, user, n).await?),
                    _ => {
                        admin.execute(&add, &[&contacts[0], &user.id]).await?;
                        admin.execute(&remove, &[&contacts[0], &user.id]).await?;
                    }
                }
                times.push(started.elapsed());
            }
            cpu[kind] = (cluster.cpu()? - before) / u32::try_from(count)?;
        }
    }
    let mut cpu = cpu.into_iter();
    Ok([status, read, join, block].map(|mut times| {
        times.sort_unstable();
        Cost { time: quantile(&times, 0.5), cpu: cpu.next().unwrap_or_default() }
    }))
}

/// Changes the status of one user as fast as the server answers.
struct Writer {
    http: Http,
    requests: [Vec<u8>; STATUSES.len()],
    calls: usize,
}

impl LoadClient for Writer {
    async fn run_once(&mut self) -> Result<()> {
        self.calls += 1;
        self.http.call(&self.requests[self.calls % STATUSES.len()]).await?;
        Ok(())
    }
}

/// Changes statuses, and reports the growth of the tables, as text.
async fn load(database: &Database, server: &Server, time: Duration) -> Result<String> {
    let admin = database.admin().await;
    let rows = admin.query(include_str!("sql/growth_users.sql"), &[&i64::try_from(WRITERS)?]).await?;
    let users: Vec<User> = rows.iter().map(|row| User::with_id(row.get(0))).collect();
    let writers = try_join_all(users.iter().map(|user| async {
        let requests = STATUSES.map(|status| status_request(&user.token, status));
        Ok::<_, anyhow::Error>(Writer { http: Http::connect(server.address).await?, requests, calls: 0 })
    }))
    .await?;
    let sizes = async || -> Result<BTreeMap<String, (i64, i64)>> {
        let rows = admin.query(include_str!("sql/growth_tables.sql"), &[]).await?;
        Ok(rows.iter().map(|row| (row.get("name"), (row.get("bytes"), row.get("dead")))).collect())
    };
    let before = sizes().await?;
    let (_, measured) = closed_loop(writers, time).await?;
    let after = sizes().await?;
    let changes = measured.times.len();
    let mut text = format!(
        "Then {WRITERS} of the users of the second column changed their status {changes} times in {} s, with the \
         autovacuum of Rollcall's tables. Tables that grew by more than 1 MB, with indexes:\n\n\
         | table | before | after | dead rows after |\n| --- | --- | --- | --- |\n",
        time.as_secs()
    );
    let mb = |bytes: i64| format!("{:.1} MB", bytes as f64 / 1e6);
    for (name, (bytes, dead)) in &after {
        let (old, _) = before.get(name).copied().unwrap_or_default();
        if bytes - old > 1_000_000 {
            text += &format!("| `{name}` | {} | {} | {dead} |\n", mb(old), mb(*bytes));
        }
    }
    Ok(text)
}
