//! Throughput of joins.

use anyhow::Result;
use testkit::harness::User;
use tokio_postgres::Client;
use uuid::Uuid;

use super::ws_client::{JoinOptions, WsClient};
use crate::{Plan, cluster::Cluster, report::Report, server::Server};

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let user_count = plan.pick(3_000, 1_000);
    let database = cluster.database("bench_joins").await?;
    let sql = database.connect().await;
    sql.batch_execute(include_str!("../sql/private_channels.sql")).await?;
    let server = Server::start(&database).await?;
    let warm = User::many(200);
    for private in [false, true] {
        add_members(&sql, &warm).await?;
        drop(join_all(&server, &warm, private)?);
    }
    let mut costs = Vec::new();
    for private in [false, true] {
        let users = User::many(user_count);
        add_members(&sql, &users).await?;
        let before = server.cpu()?;
        let joined = join_all(&server, &users, private)?;
        costs.push((server.cpu()? - before).as_secs_f64() * 1e6 / user_count as f64);
        drop(joined);
    }
    server.stop().await?;
    report.heading("Channels: joins");
    report.note(&format!(
        "{user_count} users with their own tokens, sequentially: connecting, upgrading, verifying the token and joining a \
         channel takes **{:.0} µs** of server CPU for a public channel, **{:.0} µs** for a private one whose policy reads \
         a membership table.",
        costs[0], costs[1]
    ));
    cluster.drop_database("bench_joins").await;
    Ok(())
}

/// Adds the users to every room.
async fn add_members(sql: &Client, users: &[User]) -> Result<()> {
    let ids: Vec<Uuid> = users.iter().map(|user| user.id).collect();
    sql.execute(include_str!("../sql/add_members.sql"), &[&ids]).await?;
    Ok(())
}

fn join_all(server: &Server, users: &[User], private: bool) -> Result<Vec<WsClient>> {
    let join = |(index, user): (usize, &User)| {
        let mut client = WsClient::open(server.address, index, &user.token)?;
        client.join(&format!("room{}", index % 100), JoinOptions { private, ..JoinOptions::default() })?;
        Ok(client)
    };
    users.iter().enumerate().map(join).collect()
}
