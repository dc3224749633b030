//! Initial states of members of a large team that connect at once.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use testkit::harness::User;
use tokio::time::sleep;

use crate::{
    Plan,
    cluster::{Cluster, STATISTICS_DELAY, active_time},
    presence_socket::PresenceSocket,
    report::{Report, ms, row},
    server::Server,
};

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let members = plan.pick(10_000_i32, 1_000);
    let viewers = User::many(plan.pick(100, 10));
    let rounds = plan.pick(3, 1);
    let database = cluster.database("bench_teams").await?;
    let client = database.admin().await;
    let ids: Vec<_> = viewers.iter().map(|viewer| viewer.id).collect();
    client.execute(include_str!("sql/team.sql"), &[&members, &ids]).await?;
    client.batch_execute(include_str!("sql/vacuum_analyze.sql")).await?;
    let mut rows = vec![row([
        "members that connect at once",
        "until all have their state",
        "database, time of statements, per member",
        "server CPU per member",
        "bytes per member",
    ])];
    for count in [1, viewers.len()] {
        let mut costs = Vec::new();
        for _ in 0..rounds {
            // Of each round its own server, so that no edges are known.
            let server = Server::start(&database).await?;
            sleep(STATISTICS_DELAY).await;
            let (before, cpu) = (active_time(&client).await?, server.cpu()?);
            let started = Instant::now();
            let opened = viewers[..count].iter().enumerate();
            let opened = opened.map(|(index, user)| PresenceSocket::open(server.address, user, index));
            let sockets: Vec<_> = stream::iter(opened).buffered(count).try_collect().await?;
            let (elapsed, cpu) = (started.elapsed(), server.cpu()? - cpu);
            sleep(STATISTICS_DELAY).await;
            costs.push((elapsed, active_time(&client).await? - before, cpu, sockets[0].first_bytes));
            drop(sockets);
            server.stop().await?;
        }
        costs.sort_unstable();
        let (elapsed, active, cpu, bytes) = costs.get(costs.len() / 2).copied().context("a round")?;
        let share = u32::try_from(count)?;
        rows.push(row([
            &count.to_string(),
            &ms(elapsed),
            &ms(active / share),
            &ms(cpu / share),
            &bytes.to_string(),
        ]));
    }
    report.heading("Initial states of a large team");
    report.note(&format!(
        "Presence sockets of members of one team of {members} who show their presence to it. Medians of {rounds} rounds. \
         The time of statements includes waiting for a core, and all else that the server does meanwhile."
    ));
    report.table(&rows);
    cluster.drop_database("bench_teams").await;
    Ok(())
}
