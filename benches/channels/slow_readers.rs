//! Members that never read, in a topic with members that do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::harness::User;

use super::{
    load_clients::{LoadClients, Pace, payload},
    ws_client::{JoinOptions, WsClient, broadcast_frame, delivered_frame},
};
use crate::{
    Plan,
    cluster::Cluster,
    load::quantile,
    report::{Report, ms},
    server::Server,
};

const TOPIC: &str = "stalled";
const READERS: usize = 500;
const STALLED: usize = 50;
const PAYLOAD: usize = 1_024;
const PAGE_SIZE: u64 = 4_096;

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let database = cluster.database("bench_stalled").await?;
    let server = Server::start(&database).await?;
    let user = User::new();
    let open = |index| {
        let mut client = WsClient::open(server.address, index, &user.token)?;
        client.join(TOPIC, JoinOptions::default())?;
        Ok(client)
    };
    let clients = (0..READERS).map(open).collect::<Result<Vec<_>>>()?;
    let mut sender = open(READERS)?.stream;
    let mut load = LoadClients::new(clients, delivered_frame(TOPIC, "m", &payload(PAYLOAD, 0)).len())?;
    let pace = Pace::Rate(200, Duration::from_secs(plan.pick(5, 3)));
    let mut round =
        || load.run(&mut sender, pace, |nanos| broadcast_frame(TOPIC, "m", &payload(PAYLOAD, nanos)));
    round()?;
    let alone = round()?;
    let before = server.resident_bytes()? + kernel_socket_bytes()?;
    // These clients join and then never read.
    let stalled = (0..STALLED).map(|index| open(READERS + 1 + index)).collect::<Result<Vec<_>>>()?;
    let among = round()?;
    let after = server.resident_bytes()? + kernel_socket_bytes()?;
    report.heading("Channels: slow readers");
    report.note(&format!(
        "{READERS} members, 200 messages of {PAYLOAD} bytes per second. With {STALLED} further members that never read, each of \
         them costs **{:.0} kB** (memory of the server and of the kernel for all sockets of the machine, both ends). The \
         p99 of the other members is {} instead of {}.",
        after.saturating_sub(before) as f64 / STALLED as f64 / 1e3,
        ms(quantile(&among.times, 0.99)),
        ms(quantile(&alone.times, 0.99)),
    ));
    drop(stalled);
    server.stop().await?;
    cluster.drop_database("bench_stalled").await;
    Ok(())
}

/// Returns the memory of all TCP sockets in the kernel, in bytes.
fn kernel_socket_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context("a line on TCP")?;
    let pages = line.split(' ').skip_while(|word| *word != "mem").nth(1).context("its memory")?;
    Ok(pages.parse::<u64>()? * PAGE_SIZE)
}
