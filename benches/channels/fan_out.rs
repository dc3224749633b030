//! One sender, many members, at several paces.

use std::{net::TcpStream, time::Duration};

use anyhow::{Result, ensure};

use super::{
    crowd::{Crowd, Heard, Pace, payload},
    raw::Relay,
    wire::{Joining, Wire, broadcast, delivered},
};
use crate::{
    Plan,
    cluster::Cluster,
    load::{median, quantile},
    people::Person,
    report::{Report, ms, row, times},
    server::{Server, cpu_of},
};

const TOPIC: &str = "bench";
const EVENT: &str = "m";
const PAYLOAD: usize = 128;

/// One that relays, with the members that hang on it.
struct Relaying {
    crowd: Crowd,
    sender: TcpStream,
    pid: u32,
    /// What the sender says of a payload.
    said: fn(&[u8]) -> Vec<u8>,
}

/// Some runs of one at one pace.
#[derive(Default)]
struct Runs {
    /// Deliveries for each second of the relay's processor time.
    per_cpu: Vec<f64>,
    per_second: Vec<f64>,
    p50: Vec<Duration>,
    p99: Vec<Duration>,
}

/// Measures.
pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let rounds = plan.pick(5, 2);
    let time = Duration::from_secs(plan.pick(4, 2));
    let database = cluster.database("bench_channels").await?;
    let server = Server::start(&database).await?;
    let person = Person::new()?;
    report.heading("Channels: broadcast");
    report.note(&format!(
        "One sender, {PAYLOAD}-byte payloads, frames of serializer 2 as supabase-js sends and reads them. Beside it, in \
         alternating rounds ({rounds} of {} s each; medians), a relay of the same bytes that is one thread with epoll and \
         plain `send`, in a process of its own. Deliveries are counted for each second of the relaying process's \
         processor time; every round delivered everything.",
        time.as_secs()
    ));
    let mut lines = vec![row(["", "deliveries / CPU s", "÷ raw", "deliveries / s", "p50", "p99"])];
    let members = 1_000;
    for (pace, batches) in
        [(Pace::Rate(50, time), false), (Pace::Rate(200, time), false), (Pace::Window(64, time), true)]
    {
        // Anew for each pace: whoever says nothing for a minute is cut off.
        let mut ours = rollcall(&server, &person, members)?;
        let mut raw = relay(members, batches)?;
        let (mut of_ours, mut of_raw) = (Runs::default(), Runs::default());
        for _ in 0..rounds {
            of_raw.add(raw.relaying.run(pace)?);
            of_ours.add(ours.run(pace)?);
        }
        lines.extend(both(members, pace, batches, &of_raw, &of_ours));
    }
    let members = plan.pick(10_000, 2_000);
    let pace = Pace::Rate(10, time);
    let (mut of_ours, mut of_raw) = (Runs::default(), Runs::default());
    for _ in 0..rounds.min(3) {
        // One after the other: this process may not have as many sockets as both need.
        of_raw.add(relay(members, false)?.relaying.run(pace)?);
        calm(&server).await?;
        of_ours.add(rollcall(&server, &person, members)?.run(pace)?);
        calm(&server).await?;
    }
    lines.extend(both(members, pace, false, &of_raw, &of_ours));
    report.table(&lines);
    server.stop().await?;
    cluster.drop_database("bench_channels").await
}

/// The lines of one pace.
fn both(members: usize, pace: Pace, batches: bool, of_raw: &Runs, of_ours: &Runs) -> [[String; 6]; 2] {
    let what = match pace {
        Pace::Rate(rate, _) => format!("{members} members, {rate} a second"),
        Pace::Window(window, _) => format!("{members} members, {window} under way"),
    };
    let name = if batches { "raw relay that batches" } else { "raw relay" };
    [of_raw.line(&format!("{what}: {name}"), of_raw), of_ours.line(&format!("{what}: **Rollcall**"), of_raw)]
}

/// Waits until the server is at rest: those who have left are gone.
async fn calm(server: &Server) -> Result<()> {
    loop {
        let before = server.cpu()?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        if server.cpu()? - before <= Duration::from_millis(10) {
            return Ok(());
        }
    }
}

/// So many members and a sender on a topic of the server.
fn rollcall(server: &Server, person: &Person, members: usize) -> Result<Relaying> {
    let topic = format!("{TOPIC}{members:05}");
    let open = |seat| {
        let mut wire = Wire::open(server.address, seat, &person.token)?;
        wire.join(&topic, Joining::default())?;
        Ok(wire)
    };
    let wires = (0..members).map(open).collect::<Result<Vec<_>>>()?;
    let sender = open(members)?.stream;
    let said: fn(&[u8]) -> Vec<u8> = match members {
        1_000 => |payload| broadcast("bench01000", EVENT, payload),
        2_000 => |payload| broadcast("bench02000", EVENT, payload),
        _ => |payload| broadcast("bench10000", EVENT, payload),
    };
    Ok(Relaying { crowd: Crowd::new(wires, frame_bytes())?, sender, pid: server.pid(), said })
}

struct RawRelaying {
    relaying: Relaying,
    /// Ends when dropped.
    _relay: Relay,
}

/// The same on a raw relay.
fn relay(members: usize, batch: bool) -> Result<RawRelaying> {
    let relay = Relay::start(members, frame_bytes(), batch)?;
    let wires = (0..members).map(|seat| Wire::connect(relay.address, seat)).collect::<Result<Vec<_>>>()?;
    let sender = Wire::connect(relay.address, members)?.stream;
    let relaying = Relaying {
        crowd: Crowd::new(wires, frame_bytes())?,
        sender,
        pid: relay.pid(),
        said: |payload| delivered("bench00000", EVENT, payload),
    };
    Ok(RawRelaying { relaying, _relay: relay })
}

/// Every topic is as long as every other.
fn frame_bytes() -> usize {
    delivered("bench00000", EVENT, &payload(PAYLOAD, 0)).len()
}

impl Relaying {
    /// One round: what was heard, and the processor time that it took.
    fn run(&mut self, pace: Pace) -> Result<(Heard, Duration)> {
        let before = cpu_of(self.pid)?;
        let said = self.said;
        let heard = self.crowd.run(&mut self.sender, pace, |nanos| said(&payload(PAYLOAD, nanos)))?;
        let cpu = cpu_of(self.pid)?.saturating_sub(before);
        ensure!(heard.deliveries == heard.sent * self.crowd.len(), "some deliveries are missing");
        Ok((heard, cpu))
    }
}

impl Runs {
    fn add(&mut self, (heard, cpu): (Heard, Duration)) {
        self.per_cpu.push(heard.deliveries as f64 / cpu.as_secs_f64());
        self.per_second.push(heard.deliveries as f64 / heard.took.as_secs_f64());
        self.p50.push(quantile(&heard.times, 0.5));
        self.p99.push(quantile(&heard.times, 0.99));
    }

    fn line(&self, name: &str, raw: &Self) -> [String; 6] {
        let middle = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            ms(quantile(&times, 0.5))
        };
        row([
            name,
            &thousands(median(&self.per_cpu)),
            &times(median(&self.per_cpu), median(&raw.per_cpu)),
            &thousands(median(&self.per_second)),
            &middle(&self.p50),
            &middle(&self.p99),
        ])
    }
}

/// A large number, in thousands.
fn thousands(number: f64) -> String {
    format!("{:.0} k", number / 1e3)
}
