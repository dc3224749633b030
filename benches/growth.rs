//! What growing tables cost: the same operations with 1, 10 and 100 times as many users and contacts, and the size of the
//! internal tables after the status changes of an hour.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use testkit::harness::User;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::{
    Plan,
    cluster::Cluster,
    http::{Http, request, status_request},
    load::{closed_loop, quantile},
    presence_socket::PresenceSocket,
    reads,
    report::{Report, ms, row},
    server::Server,
    writes::rest_writers,
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
/// Tables that grow by less are not reported.
const MIN_GROWTH_BYTES: i64 = 1_000_000;

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let sizes = plan.pick([10_000, 100_000, 1_000_000], [1_000, 10_000, 100_000]);
    let operations = plan.pick(500, 100);
    let time = Duration::from_secs(plan.pick(60, 5));
    let (mut costs, mut bytes, mut load) = (Vec::new(), Vec::new(), None);
    for (place, users) in sizes.into_iter().enumerate() {
        let database = cluster.database("bench_growth").await?;
        let accounts = reads::load(&database, users).await?;
        let admin = database.admin().await;
        let server = Server::start(&database).await?;
        costs.push(measure(cluster, &server, &admin, &accounts, operations).await?);
        bytes.push(admin.query_one(include_str!("sql/growth_size.sql"), &[]).await?.get::<_, i64>(0));
        if place == 1 {
            load = Some(change_statuses(&admin, &server, time).await?);
        }
        server.stop().await?;
        cluster.drop_database("bench_growth").await;
    }

    let cells = |name: &str, cell: &dyn Fn(usize) -> String| row([name, &cell(0), &cell(1), &cell(2)]);
    let mut rows = vec![cells("", &|size| format!("{} users", sizes[size]))];
    rows.extend(
        OPERATIONS.iter().enumerate().map(|(kind, name)| cells(name, &|size| costs[size][kind].clone())),
    );
    rows.push(cells("size of the database", &|size| megabytes(bytes[size])));
    report.heading("Growth by rows");
    report.note(&format!(
        "Median of {operations} operations of one client, and CPU time of PostgreSQL for each, among users who have 50 \
         accepted contacts each; the operations concern 50 of them."
    ));
    report.table(&rows);
    if let Some((changes, tables)) = load {
        report.note(&format!(
            "Then {WRITERS} of the users of the second column changed their status {changes} times in {} s. Tables with \
             indexes that grew by more than {}:",
            time.as_secs(),
            megabytes(MIN_GROWTH_BYTES)
        ));
        report.table(&tables);
    }
    Ok(())
}

fn megabytes(bytes: i64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Returns the time and the CPU time of PostgreSQL of each of the [`OPERATIONS`].
async fn measure(
    cluster: &Cluster,
    server: &Server,
    admin: &Client,
    accounts: &[(User, Vec<Uuid>)],
    operations: usize,
) -> Result<Vec<String>> {
    let mut http = Http::connect(server.address).await?;
    let block = (
        admin.prepare(include_str!("sql/block.sql")).await?,
        admin.prepare(include_str!("sql/unblock.sql")).await?,
    );
    let mut costs = Vec::new();
    for kind in 0..OPERATIONS.len() {
        let (mut times, mut cpu_before) = (Vec::new(), Duration::ZERO);
        // The first operation of each account warms caches and plans.
        for n in 0..accounts.len() + operations {
            if n == accounts.len() {
                times.clear();
                cpu_before = cluster.cpu()?;
            }
            let started = Instant::now();
            let account = &accounts[n % accounts.len()];
            run_once(kind, n / accounts.len(), account, server, &mut http, (admin, &block)).await?;
            times.push(started.elapsed());
        }
        let cpu = (cluster.cpu()? - cpu_before) / u32::try_from(operations)?;
        times.sort_unstable();
        costs.push(format!("{}, {}", ms(quantile(&times, 0.5)), ms(cpu)));
    }
    Ok(costs)
}

/// Runs one of the [`OPERATIONS`] for an account, for the time `repetition`.
async fn run_once(
    kind: usize,
    repetition: usize,
    (user, contacts): &(User, Vec<Uuid>),
    server: &Server,
    http: &mut Http,
    (admin, (block, unblock)): (&Client, &(Statement, Statement)),
) -> Result<()> {
    match kind {
        0 => {
            let status = STATUSES[repetition % STATUSES.len()];
            http.call(&status_request(&user.token, status)).await?;
        }
        1 => {
            http.call(&request("GET", "/api/presence/users", &user.token, None)).await?;
        }
        2 => drop(PresenceSocket::open(server.address, user, repetition).await?),
        _ => {
            admin.execute(block, &[&contacts[0], &user.id]).await?;
            admin.execute(unblock, &[&contacts[0], &user.id]).await?;
        }
    }
    Ok(())
}

/// Changes statuses as fast as the server answers. Returns how many changed, and the tables that grew.
async fn change_statuses(
    admin: &Client,
    server: &Server,
    time: Duration,
) -> Result<(usize, Vec<[String; 4]>)> {
    let users: Vec<User> = reads::sample(admin, WRITERS).await?.into_iter().map(|(user, _)| user).collect();
    let writers = rest_writers(server.address, &users).await?;
    let sizes = async || -> Result<BTreeMap<String, (i64, i64)>> {
        let rows = admin.query(include_str!("sql/growth_tables.sql"), &[]).await?;
        Ok(rows.iter().map(|row| (row.get("name"), (row.get("bytes"), row.get("dead")))).collect())
    };
    let before = sizes().await?;
    let (_, measured) = closed_loop(writers, time).await?;
    let mut rows = vec![row(["table", "before", "after", "dead rows after"])];
    for (name, (bytes, dead)) in sizes().await? {
        let (old, _) = before.get(&name).copied().unwrap_or_default();
        if bytes - old > MIN_GROWTH_BYTES {
            rows.push(row([&format!("`{name}`"), &megabytes(old), &megabytes(bytes), &dead.to_string()]));
        }
    }
    Ok((measured.times.len(), rows))
}
