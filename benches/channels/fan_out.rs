//! Broadcasts from one sender to many members at several rates.

use std::{net::TcpStream, time::Duration};

use anyhow::{Result, ensure};
use testkit::harness::User;

use super::{
    load_clients::{DeliveryStats, LoadClients, Pace, payload},
    raw_relay::RawRelay,
    ws_client::{JoinOptions, WsClient, broadcast_frame, delivered_frame},
};
use crate::{
    Plan,
    cluster::Cluster,
    load::{median, quantile},
    report::{Report, ms, ratio, row},
    server::{Server, cpu_of},
};

const TOPIC: &str = "bench";
const EVENT: &str = "m";
const PAYLOAD: usize = 128;

/// A relay (Rollcall or raw) with its connected members.
struct RelayUnderTest {
    clients: LoadClients,
    sender: TcpStream,
    pid: u32,
    /// Encodes a payload as the sender's frame.
    encode: fn(&[u8]) -> Vec<u8>,
}

/// Results of several runs of one relay at one pace.
#[derive(Default)]
struct Runs {
    /// Deliveries per second of the relay's CPU time.
    per_cpu: Vec<f64>,
    per_second: Vec<f64>,
    p50: Vec<Duration>,
    p99: Vec<Duration>,
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let rounds = plan.pick(5, 2);
    let time = Duration::from_secs(plan.pick(4, 2));
    let database = cluster.database("bench_channels").await?;
    let server = Server::start(&database).await?;
    let user = User::new();
    report.heading("Channels: broadcast");
    report.note(&format!(
        "One sender, {PAYLOAD}-byte payloads, frames of serializer 2 as supabase-js sends and reads them. The \
         baseline, in alternating rounds ({rounds} of {} s each; medians), is a relay of the same bytes: one thread with \
         epoll and plain `send`, in its own process. Deliveries are counted per second of CPU time of the relaying \
         process. Every round delivered all messages.",
        time.as_secs()
    ));
    let mut lines = vec![row(["", "deliveries / CPU s", "÷ raw", "deliveries / s", "p50", "p99"])];
    let members = 1_000;
    for (pace, batches) in
        [(Pace::Rate(50, time), false), (Pace::Rate(200, time), false), (Pace::Window(64, time), true)]
    {
        // Connects again for each pace: idle sockets are closed after a minute.
        let mut ours = start_rollcall(&server, &user, members)?;
        let mut raw = start_raw_relay(members, batches)?;
        let (mut of_ours, mut of_raw) = (Runs::default(), Runs::default());
        for _ in 0..rounds {
            of_raw.add(raw.relay.run(pace)?);
            of_ours.add(ours.run(pace)?);
        }
        lines.extend(table_rows(members, pace, batches, &of_raw, &of_ours));
    }
    let members = plan.pick(10_000, 2_000);
    let pace = Pace::Rate(10, time);
    let (mut of_ours, mut of_raw) = (Runs::default(), Runs::default());
    for _ in 0..rounds.min(3) {
        // Runs one relay after the other: the file descriptor limit does not allow the sockets of both.
        of_raw.add(start_raw_relay(members, false)?.relay.run(pace)?);
        wait_until_idle(&server).await?;
        of_ours.add(start_rollcall(&server, &user, members)?.run(pace)?);
        wait_until_idle(&server).await?;
    }
    lines.extend(table_rows(members, pace, false, &of_raw, &of_ours));
    report.table(&lines);
    server.stop().await?;
    cluster.drop_database("bench_channels").await;
    Ok(())
}

/// Returns the two table rows of one pace.
fn table_rows(members: usize, pace: Pace, batches: bool, of_raw: &Runs, of_ours: &Runs) -> [[String; 6]; 2] {
    let what = match pace {
        Pace::Rate(rate, _) => format!("{members} members, {rate} per second"),
        Pace::Window(window, _) => format!("{members} members, {window} in flight"),
    };
    let name = if batches { "raw relay that batches" } else { "raw relay" };
    [
        of_raw.table_row(&format!("{what}: {name}"), of_raw),
        of_ours.table_row(&format!("{what}: **Rollcall**"), of_raw),
    ]
}

/// Waits until the server uses no CPU, that is, until it has removed the closed connections.
async fn wait_until_idle(server: &Server) -> Result<()> {
    loop {
        let before = server.cpu()?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        if server.cpu()? - before <= Duration::from_millis(10) {
            return Ok(());
        }
    }
}

/// Connects `members` members and a sender to one topic of the server.
fn start_rollcall(server: &Server, user: &User, members: usize) -> Result<RelayUnderTest> {
    let topic = format!("{TOPIC}{members:05}");
    let open = |index| {
        let mut client = WsClient::open(server.address, index, &user.token)?;
        client.join(&topic, JoinOptions::default())?;
        Ok(client)
    };
    let clients = (0..members).map(open).collect::<Result<Vec<_>>>()?;
    let sender = open(members)?.stream;
    let said: fn(&[u8]) -> Vec<u8> = match members {
        1_000 => |payload| broadcast_frame("bench01000", EVENT, payload),
        2_000 => |payload| broadcast_frame("bench02000", EVENT, payload),
        _ => |payload| broadcast_frame("bench10000", EVENT, payload),
    };
    Ok(RelayUnderTest {
        clients: LoadClients::new(clients, frame_bytes())?,
        sender,
        pid: server.pid(),
        encode: said,
    })
}

struct RawRelayUnderTest {
    relay: RelayUnderTest,
    /// Stops the relay when dropped.
    _relay: RawRelay,
}

/// Connects the same number of members and a sender to a raw relay.
fn start_raw_relay(members: usize, batch: bool) -> Result<RawRelayUnderTest> {
    let relay = RawRelay::start(members, frame_bytes(), batch)?;
    let clients =
        (0..members).map(|index| WsClient::connect(relay.address, index)).collect::<Result<Vec<_>>>()?;
    let sender = WsClient::connect(relay.address, members)?.stream;
    let relaying = RelayUnderTest {
        clients: LoadClients::new(clients, frame_bytes())?,
        sender,
        pid: relay.pid(),
        encode: |payload| delivered_frame("bench00000", EVENT, payload),
    };
    Ok(RawRelayUnderTest { relay: relaying, _relay: relay })
}

/// Returns the frame length in bytes. All topics have the same length.
fn frame_bytes() -> usize {
    delivered_frame("bench00000", EVENT, &payload(PAYLOAD, 0)).len()
}

impl RelayUnderTest {
    /// Runs one round; returns the deliveries and the CPU time used.
    fn run(&mut self, pace: Pace) -> Result<(DeliveryStats, Duration)> {
        let before = cpu_of(self.pid)?;
        let said = self.encode;
        let received = self.clients.run(&mut self.sender, pace, |nanos| said(&payload(PAYLOAD, nanos)))?;
        let cpu = cpu_of(self.pid)?.saturating_sub(before);
        ensure!(received.deliveries == received.sent * self.clients.len(), "some deliveries are missing");
        Ok((received, cpu))
    }
}

impl Runs {
    fn add(&mut self, (received, cpu): (DeliveryStats, Duration)) {
        self.per_cpu.push(received.deliveries as f64 / cpu.as_secs_f64());
        self.per_second.push(received.deliveries as f64 / received.elapsed.as_secs_f64());
        self.p50.push(quantile(&received.times, 0.5));
        self.p99.push(quantile(&received.times, 0.99));
    }

    fn table_row(&self, name: &str, raw: &Self) -> [String; 6] {
        let middle = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            ms(quantile(&times, 0.5))
        };
        row([
            name,
            &thousands(median(&self.per_cpu)),
            &ratio(median(&self.per_cpu), median(&raw.per_cpu)),
            &thousands(median(&self.per_second)),
            &middle(&self.p50),
            &middle(&self.p99),
        ])
    }
}

/// Formats a number in thousands.
fn thousands(number: f64) -> String {
    format!("{:.0} k", number / 1e3)
}
