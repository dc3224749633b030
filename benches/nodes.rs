//! Growth by nodes: what broadcasts and status changes cost on 1, 2 and 4 nodes of one database.

use std::{
    collections::BTreeMap,
    io::Write as _,
    ops::Sub,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use testkit::{
    harness::User,
    nats::{self, NatsServer},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_postgres::Client;

use crate::{
    Plan,
    channels::{
        load_clients::{LoadClients, payload},
        ws_client::{JoinOptions, WsClient, broadcast_frame, delivered_frame},
    },
    cluster::{Cluster, Database},
    load::{median, quantile},
    presence_socket::{PresenceSocket, status_frame},
    report::{Report, ms, ratio, row},
    server::{Server, cpu_of_threads},
    users::add_contacts,
};

const NODES: [usize; 3] = [1, 2, 4];
const TOPIC: &str = "bench01000";
const TOPIC_OF_LATENCY: &str = "bench00001";
const EVENT: &str = "m";
const PAYLOAD: usize = 128;
/// Broadcasts per second of all senders together.
const BROADCASTS_PER_SECOND: u32 = 100;
/// Status changes per second of all writers together, in the rounds that measure CPU time.
const CHANGES_PER_SECOND: u32 = 200;
/// Users who change their status in these rounds: one socket may send at most 100 messages per second.
const WRITERS: usize = 20;
/// Pause between two measurements of latency.
const PAUSE: Duration = Duration::from_millis(20);
/// Time for nodes to find each other and for caches of a started node.
const SETTLE_TIME: Duration = Duration::from_millis(3_500);
/// Time for the server to write what it received last.
const DRAIN_TIME: Duration = Duration::from_millis(300);
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The first measurements of latency, which warm caches and plans.
const WARM_UP: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bus {
    Postgres,
    Nats,
}

impl Bus {
    const fn title(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Nats => "NATS",
        }
    }
}

/// What all rounds of one number of nodes measured, by name.
#[derive(Default)]
struct Samples {
    numbers: BTreeMap<&'static str, Vec<f64>>,
    /// Latencies of all rounds.
    times: BTreeMap<&'static str, Vec<Duration>>,
}

impl Samples {
    fn add(&mut self, name: &'static str, number: f64) {
        self.numbers.entry(name).or_default().push(number);
    }

    fn median(&self, name: &'static str) -> f64 {
        self.numbers.get(name).map_or(f64::NAN, |numbers| median(numbers))
    }

    fn quantile(&self, name: &'static str, part: f64) -> String {
        let mut times = self.times.get(name).cloned().unwrap_or_default();
        times.sort_unstable();
        ms(quantile(&times, part))
    }
}

/// CPU times in seconds and transactions, of a period.
#[derive(Debug, Clone, Copy)]
struct Costs {
    nodes: f64,
    database: f64,
    nats: f64,
    /// Transactions that write or notify.
    commits: f64,
    seconds: f64,
}

impl Costs {
    fn scaled(self, factor: f64) -> Self {
        Self {
            nodes: self.nodes * factor,
            database: self.database * factor,
            nats: self.nats * factor,
            commits: self.commits * factor,
            seconds: self.seconds * factor,
        }
    }

    fn per_second(self) -> Self {
        self.scaled(1.0 / self.seconds)
    }

    /// Subtracts what the same nodes cost when idle, given per second, and divides by a number of operations.
    fn per_operation(self, idle: Self, operations: usize) -> Self {
        (self - idle.scaled(self.seconds)).scaled(1.0 / operations as f64)
    }
}

impl Sub for Costs {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            nodes: self.nodes - other.nodes,
            database: self.database - other.database,
            nats: self.nats - other.nats,
            commits: self.commits - other.commits,
            seconds: self.seconds - other.seconds,
        }
    }
}

/// Times of the phases of a round.
#[derive(Clone, Copy)]
struct Times {
    idle: Duration,
    load: Duration,
    /// Measurements of latency in a phase.
    latencies: usize,
}

/// Running nodes and what is needed to measure them.
struct Nodes<'a> {
    servers: Vec<Server>,
    cluster: &'a Cluster,
    admin: &'a Client,
    nats: Option<u32>,
    began: Instant,
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let rounds = plan.pick(3, 1);
    let members = plan.pick(1_000, 400);
    let times = Times {
        idle: Duration::from_secs(plan.pick(6, 3)),
        load: Duration::from_secs(plan.pick(3, 1)),
        latencies: plan.pick(100, 40),
    };
    let database = cluster.database("bench_nodes").await?;
    let admin = database.admin().await;
    let nats = if nats::program().is_some() { Some(NatsServer::start().await) } else { None };
    let mut samples: BTreeMap<(Bus, usize), Samples> = BTreeMap::new();
    for _ in 0..rounds {
        // Costs of idle nodes, by their number. They do not depend on the bus.
        let mut idle = BTreeMap::new();
        for bus in [Bus::Postgres, Bus::Nats] {
            let url = match (bus, &nats) {
                (Bus::Postgres, _) => None,
                (Bus::Nats, Some(nats)) => Some(nats.url()),
                (Bus::Nats, None) => continue,
            };
            for count in NODES {
                let pid = nats.as_ref().and_then(NatsServer::pid).filter(|_| url.is_some());
                let nodes = Nodes::start(cluster, &database, &admin, count, (url.as_deref(), pid)).await?;
                let samples = samples.entry((bus, count)).or_default();
                if bus == Bus::Postgres {
                    idle.insert(count, nodes.idle(times.idle, samples).await?);
                }
                let idle = idle[&count];
                nodes.broadcasts(members, times, idle, samples).await?;
                // Status changes do not use the bus.
                if bus == Bus::Postgres {
                    nodes.statuses(&database, times, idle, samples).await?;
                }
                for server in nodes.servers {
                    server.stop().await?;
                }
            }
        }
    }
    report.heading("Growth by nodes");
    report.note(&format!(
        "Server processes on one database, each bound to one core (`taskset`), which gives it one worker thread and one hub \
         shard. Nodes, PostgreSQL, NATS and load share {} cores, so the figures to compare are CPU times, not rates. \
         {rounds} alternating rounds; medians, and quantiles of all rounds together. CPU of the database is that of all \
         processes of PostgreSQL. Commits are transactions that write or notify (transaction IDs). Both are without those \
         of the same nodes when idle.",
        thread::available_parallelism()?
    ));
    if nats.is_none() {
        report.note("There are no rows for NATS, because no `nats-server` is installed.");
    }
    report.note(&format!(
        "Broadcasts: {members} members of one public channel, spread over the nodes, one sender on each; \
         {BROADCASTS_PER_SECOND} broadcasts per second in total, {PAYLOAD}-byte payloads. Latency: {} broadcasts one after \
         the other, from the first node to a member on the last one.",
        rounds * times.latencies
    ));
    report.table(&broadcast_rows(&samples));
    report.note(&format!(
        "Status changes by socket on the first node, {CHANGES_PER_SECOND} per second by {WRITERS} users: with a watcher of \
         all of them on every node, and without watchers. Latency: {} changes one after the other, watched on the last \
         node.",
        rounds * times.latencies
    ));
    report.table(&status_rows(&samples));
    report.note(&slopes(&samples));
    cluster.drop_database("bench_nodes").await;
    Ok(())
}

impl<'a> Nodes<'a> {
    async fn start(
        cluster: &'a Cluster,
        database: &Database,
        admin: &'a Client,
        count: usize,
        (nats_url, nats): (Option<&str>, Option<u32>),
    ) -> Result<Self> {
        let settings: Vec<_> = nats_url.map(|url| ("NATS_URL", url)).into_iter().collect();
        let cores = thread::available_parallelism()?.get();
        let mut servers = Vec::with_capacity(count);
        for index in 0..count {
            servers.push(Server::start_on_core(database, &settings, index % cores).await?);
        }
        sleep(SETTLE_TIME).await;
        Ok(Self { servers, cluster, admin, nats, began: Instant::now() })
    }

    fn first(&self) -> &Server {
        &self.servers[0]
    }

    fn last(&self) -> &Server {
        &self.servers[self.servers.len() - 1]
    }

    /// Costs so far.
    async fn costs(&self) -> Result<Costs> {
        let mut nodes = Duration::ZERO;
        for server in &self.servers {
            nodes += server.cpu()?;
        }
        let row = self.admin.query_one(include_str!("sql/transaction_ids.sql"), &[]).await?;
        Ok(Costs {
            nodes: nodes.as_secs_f64(),
            database: self.cluster.cpu()?.as_secs_f64(),
            nats: self.nats.map(cpu_of_threads).transpose()?.unwrap_or_default().as_secs_f64(),
            commits: row.get::<_, i64>(0) as f64,
            seconds: self.began.elapsed().as_secs_f64(),
        })
    }

    /// Measures nodes without users; returns their costs per second.
    async fn idle(&self, time: Duration, samples: &mut Samples) -> Result<Costs> {
        let before = self.costs().await?;
        sleep(time).await;
        let idle = (self.costs().await? - before).per_second();
        samples.add("idle: database", idle.database);
        samples.add("idle: commits", idle.commits);
        samples.add("idle: nodes", idle.nodes);
        Ok(idle)
    }

    /// Measures broadcasts to members on all nodes, and their latency between the first and the last node.
    async fn broadcasts(
        &self,
        members: usize,
        times: Times,
        idle: Costs,
        samples: &mut Samples,
    ) -> Result<()> {
        let user = User::new();
        let open = |index: usize, topic| {
            let server = &self.servers[index % self.servers.len()];
            let mut client = WsClient::open(server.address, index, &user.token)?;
            client.join(topic, JoinOptions::default())?;
            anyhow::Ok(client)
        };
        let clients = (0..members).map(|index| open(index, TOPIC)).collect::<Result<Vec<_>>>()?;
        let frame_bytes = delivered_frame(TOPIC, EVENT, &payload(PAYLOAD, 0)).len();
        let mut clients = LoadClients::new(clients, frame_bytes)?;
        // The first members are on different nodes, one on each.
        let senders: Vec<usize> = (0..self.servers.len()).collect();
        let message = |nanos| broadcast_frame(TOPIC, EVENT, &payload(PAYLOAD, nanos));
        clients.run_among(&senders, BROADCASTS_PER_SECOND, DRAIN_TIME, message)?;
        let before = self.costs().await?;
        let received = clients.run_among(&senders, BROADCASTS_PER_SECOND, times.load, message)?;
        let costs = self.costs().await? - before;
        samples.add("deliveries per CPU second", received.deliveries as f64 / costs.nodes);
        let each = costs.per_operation(idle, received.sent);
        samples.add("broadcast: database", each.database);
        samples.add("broadcast: commits", each.commits);
        samples.add("broadcast: nats", each.nats);
        drop(clients);

        let mut sender = open(0, TOPIC_OF_LATENCY)?;
        let mut member = open(self.servers.len() - 1, TOPIC_OF_LATENCY)?;
        let frame = broadcast_frame(TOPIC_OF_LATENCY, EVENT, &payload(PAYLOAD, 0));
        let mut latencies = Vec::with_capacity(times.latencies);
        for _ in 0..times.latencies + WARM_UP {
            thread::sleep(PAUSE);
            latencies.push(latency_of(&mut sender, &mut member, &frame)?);
        }
        samples.times.entry("broadcast").or_default().extend(latencies.drain(WARM_UP..));
        Ok(())
    }

    /// Measures status changes on the first node.
    async fn statuses(
        &self,
        database: &Database,
        times: Times,
        idle: Costs,
        samples: &mut Samples,
    ) -> Result<()> {
        let (alone, watched) = (User::many(WRITERS), User::many(WRITERS));
        let watchers = User::many(self.servers.len());
        let pairs: Vec<_> =
            watched.iter().flat_map(|user| watchers.iter().map(|watcher| (watcher.id, user.id))).collect();
        add_contacts(&database.connect().await, &pairs).await?;
        let each = self.change_statuses(&alone, times.load, idle).await?;
        samples.add("nobody: database", each.database);
        samples.add("nobody: nodes", each.nodes);
        samples.add("nobody: commits", each.commits);

        let mut reading = JoinSet::new();
        for (watcher, server) in watchers.iter().zip(&self.servers) {
            let socket = PresenceSocket::open(server.address, watcher, 0).await?;
            reading.spawn(socket.read_until(std::future::pending::<()>()));
        }
        let each = self.change_statuses(&watched, times.load, idle).await?;
        samples.add("watched: database", each.database);
        samples.add("watched: nodes", each.nodes);
        drop(reading);

        let (mut socket, id) =
            (PresenceSocket::open(self.first().address, &watched[0], 0).await?, watched[0].id.to_string());
        let mut watching =
            PresenceSocket::open(self.last().address, &watchers[watchers.len() - 1], 0).await?;
        let mut latencies = Vec::with_capacity(times.latencies);
        for number in 0..times.latencies + WARM_UP {
            sleep(PAUSE).await;
            let status = ["busy", "dnd"][number % 2];
            latencies.push(socket.time_status(&id, status, &mut watching, WAIT_TIMEOUT).await?);
        }
        samples.times.entry("status").or_default().extend(latencies.drain(WARM_UP..));
        Ok(())
    }

    /// Opens a socket for each user on the first node, which change their status in turn. Returns the costs of a change.
    async fn change_statuses(&self, users: &[User], time: Duration, idle: Costs) -> Result<Costs> {
        let mut sockets = Vec::with_capacity(users.len());
        for user in users {
            sockets.push(PresenceSocket::open(self.first().address, user, 0).await?);
        }
        sleep(DRAIN_TIME).await;
        let frames = ["busy", "dnd"].map(status_frame);
        let count = (time.as_secs_f64() * f64::from(CHANGES_PER_SECOND)) as usize;
        let mut ticks = interval(Duration::from_secs(1) / CHANGES_PER_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let before = self.costs().await?;
        for number in 0..count {
            ticks.tick().await;
            sockets[number % users.len()].send(&frames[number / users.len() % 2]).await?;
        }
        sleep(DRAIN_TIME).await;
        Ok((self.costs().await? - before).per_operation(idle, count))
    }
}

/// Sends a broadcast and waits until the member has received it.
fn latency_of(sender: &mut WsClient, member: &mut WsClient, frame: &[u8]) -> Result<Duration> {
    let started = Instant::now();
    sender.stream.write_all(frame)?;
    member.next_payload()?;
    Ok(started.elapsed())
}

fn broadcast_rows(samples: &BTreeMap<(Bus, usize), Samples>) -> Vec<[String; 9]> {
    let mut rows = vec![row([
        "bus",
        "nodes",
        "deliveries / CPU s of all nodes",
        "÷ one node",
        "p50",
        "p99",
        "database CPU per broadcast",
        "commits per broadcast",
        "NATS CPU per broadcast",
    ])];
    for ((bus, count), sample) in samples {
        let deliveries = sample.median("deliveries per CPU second");
        let of_one = samples[&(*bus, NODES[0])].median("deliveries per CPU second");
        rows.push(row([
            bus.title(),
            &count.to_string(),
            &format!("{:.0} k", deliveries / 1e3),
            &ratio(deliveries, of_one),
            &sample.quantile("broadcast", 0.5),
            &sample.quantile("broadcast", 0.99),
            &micros(sample.median("broadcast: database")),
            &format!("{:.2}", sample.median("broadcast: commits")),
            &if *bus == Bus::Nats { micros(sample.median("broadcast: nats")) } else { String::new() },
        ]));
    }
    rows
}

fn status_rows(samples: &BTreeMap<(Bus, usize), Samples>) -> Vec<[String; 9]> {
    let mut rows = vec![row([
        "nodes",
        "p50",
        "p99",
        "database CPU per change, watched on every node",
        "database CPU per change, not watched",
        "CPU of all nodes per change, not watched",
        "commits per change",
        "idle: database CPU per second",
        "idle: commits per second",
    ])];
    for ((_, count), sample) in samples.iter().filter(|((bus, _), _)| *bus == Bus::Postgres) {
        rows.push(row([
            &count.to_string(),
            &sample.quantile("status", 0.5),
            &sample.quantile("status", 0.99),
            &micros(sample.median("watched: database")),
            &micros(sample.median("nobody: database")),
            &micros(sample.median("nobody: nodes")),
            &format!("{:.2}", sample.median("nobody: commits")),
            &format!("{:.2} ms", sample.median("idle: database") * 1e3),
            &format!("{:.1}", sample.median("idle: commits")),
        ]));
    }
    rows
}

/// Describes what each further node costs: the mean of those after the first.
fn slopes(samples: &BTreeMap<(Bus, usize), Samples>) -> String {
    let [first, .., last] = NODES;
    let slope = |name| {
        let median = |count| samples[&(Bus::Postgres, count)].median(name);
        (median(last) - median(first)) / (last - first) as f64
    };
    format!(
        "Each further node costs the database {:.2} ms of CPU per second and {:.2} commits per second while it is idle, and \
         {} of CPU per status change that nobody on it watches. It spends {} of its own CPU on such a change. A change that \
         is watched on it costs the database {}. Fewer commits per change, as on a busier machine, hide a part of that.",
        slope("idle: database") * 1e3,
        slope("idle: commits"),
        micros(slope("nobody: database")),
        micros(slope("nobody: nodes")),
        micros(slope("watched: database")),
    )
}

fn micros(seconds: f64) -> String {
    format!("{:.0} µs", seconds * 1e6)
}
