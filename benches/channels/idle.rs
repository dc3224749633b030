//! Memory of an idle channel member.

use std::time::Duration;

use anyhow::Result;
use testkit::harness::User;

use super::{
    load_clients::{LoadClients, Pace, payload},
    ws_client::{JoinOptions, WsClient, broadcast_frame, delivered_frame},
};
use crate::{
    Plan,
    cluster::Cluster,
    report::{Report, row},
    server::Server,
};

const MEMBERS_PER_CHANNEL: usize = 10;
/// Time after the load at which memory is measured again. Below one minute, after which idle sockets are closed.
const SETTLE_TIME: Duration = Duration::from_secs(45);

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let mut lines = vec![row(["connections", "resident, each"])];
    for load in plan.pick([5_000, 19_000], [1_000, 2_000]) {
        let database = cluster.database("bench_idle").await?;
        let server = Server::start(&database).await?;
        // The first sockets load code, pools and buffers that all sockets share.
        let first = join_all(&server, 0, load / 10)?;
        let before = server.resident_bytes()?;
        let rest = join_all(&server, load / 10, load)?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let each = (server.resident_bytes()? - before) as f64 / rest.len() as f64;
        lines.push(row([&load.to_string(), &format!("{:.2} kB", each / 1e3)]));
        drop((first, rest));
        server.stop().await?;
        cluster.drop_database("bench_idle").await;
    }
    report.heading("Channels: memory");
    report.note(&format!(
        "Each connection belongs to a separate user, joined to a channel of {MEMBERS_PER_CHANNEL} members, with tracked \
         presence. Kernel memory is not included."
    ));
    report.table(&lines);
    after_load(plan, cluster, report).await
}

async fn after_load(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let members = 1_000;
    let database = cluster.database("bench_idle").await?;
    let server = Server::start(&database).await?;
    let fresh = server.resident_bytes()?;
    let user = User::new();
    let open = |index| {
        let mut client = WsClient::open(server.address, index, &user.token)?;
        client.join("bench01000", JoinOptions::default())?;
        Ok(client)
    };
    let clients = (0..members).map(open).collect::<Result<Vec<_>>>()?;
    let mut sender = open(members)?.stream;
    let idle = server.resident_bytes()?;
    let mut load = LoadClients::new(clients, delivered_frame("bench01000", "m", &payload(128, 0)).len())?;
    let pace = Pace::Window(64, Duration::from_secs(plan.pick(5, 2)));
    load.run(&mut sender, pace, |nanos| broadcast_frame("bench01000", "m", &payload(128, nanos)))?;
    let loaded = server.resident_bytes()?;
    tokio::time::sleep(SETTLE_TIME).await;
    let calm = server.resident_bytes()?;
    let each = |bytes: u64| (bytes.saturating_sub(fresh)) as f64 / members as f64 / 1e3;
    report.note(&format!(
        "{members} members: {:.1} kB each before load, **{:.1} kB** right after a closed loop with 64 messages in flight, \
         {:.1} kB after {} s without load (memory above the level before the first connection, divided by the number of \
         connections).",
        each(idle),
        each(loaded),
        each(calm),
        SETTLE_TIME.as_secs()
    ));
    drop(load);
    server.stop().await?;
    cluster.drop_database("bench_idle").await;
    Ok(())
}

fn join_all(server: &Server, from: usize, to: usize) -> Result<Vec<WsClient>> {
    let join = |index| {
        let user = User::new();
        let mut client = WsClient::open(server.address, index, &user.token)?;
        let topic = format!("room{}", index / MEMBERS_PER_CHANNEL);
        client
            .join(&topic, JoinOptions { presence: Some(&user.id.to_string()), ..JoinOptions::default() })?;
        client.track(&topic, "2")?;
        Ok(client)
    };
    (from..to).map(join).collect()
}
