//! Latency of status changes while an application updates a table that a policy reads.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use testkit::harness::User;
use tokio::{
    spawn,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use crate::{
    Plan,
    cluster::{Cluster, Database},
    load::{median, quantile},
    presence_socket::PresenceSocket,
    report::{Report, ms, ratio, row},
    server::Server,
};

/// Members of an organization.
const ORGANIZATION: usize = 50;
/// Members of the organization that a viewer follows.
const FOLLOWED: usize = 10;
const CONCURRENT_CONNECTS: usize = 64;
/// Pause between two status changes.
const PAUSE: Duration = Duration::from_millis(20);
/// Time for the effects of updates to end.
const SETTLE_TIME: Duration = Duration::from_secs(2);
const QUIET_PERIOD: Duration = Duration::from_millis(500);
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A policy on `user_presence` that shows members of an organization to each other.
struct Policy {
    title: &'static str,
    text: &'static str,
}

const POLICIES: [Policy; 2] = [
    Policy { title: "names viewer and subject", text: include_str!("sql/policies_named.sql") },
    Policy { title: "calls a function with a text body", text: include_str!("sql/policies_text.sql") },
];

/// What the application does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    Calm,
    Unread,
    Read,
}

impl Load {
    const ALL: [Self; 3] = [Self::Calm, Self::Unread, Self::Read];

    const fn title(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Unread => "200 updates per second, a column that no policy reads",
            Self::Read => "50 updates per second, a column that the policy reads",
        }
    }

    const fn updates_per_second(self) -> u32 {
        match self {
            Self::Calm => 0,
            Self::Unread => 200,
            Self::Read => 50,
        }
    }
}

/// What all rounds of one policy and load measured.
#[derive(Default)]
struct Runs {
    times: Vec<Duration>,
    /// CPU time per second of PostgreSQL and of the server.
    database: Vec<f64>,
    server: Vec<f64>,
    /// Committed updates per second.
    updates: Vec<f64>,
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let (rounds, viewers) = (plan.pick(3, 1), plan.pick(1_000, 300));
    let time = Duration::from_secs(plan.pick(5, 3));
    let mut rows = vec![row([
        "policy",
        "load",
        "p50",
        "÷ calm",
        "p99",
        "÷ calm",
        "updates per second",
        "database, CPU ms per second",
        "server, CPU ms per second",
    ])];
    for policy in POLICIES {
        let database = cluster.database("bench_policies").await?;
        let mut runs: BTreeMap<Load, Runs> = BTreeMap::new();
        let mut bench = Bench::start(cluster, &database, &policy, viewers).await?;
        for _ in 0..rounds {
            for load in Load::ALL {
                bench.measure(load, time, runs.entry(load).or_default()).await?;
            }
        }
        bench.server.stop().await?;
        cluster.drop_database("bench_policies").await;
        for runs in runs.values_mut() {
            runs.times.sort_unstable();
        }
        let calm = [0.5, 0.99].map(|part| quantile(&runs[&Load::Calm].times, part));
        for (load, runs) in &runs {
            let [middle, high] = [0.5, 0.99].map(|part| quantile(&runs.times, part));
            rows.push(row([
                policy.title,
                load.title(),
                &ms(middle),
                &ratio(middle.as_secs_f64(), calm[0].as_secs_f64()),
                &ms(high),
                &ratio(high.as_secs_f64(), calm[1].as_secs_f64()),
                &format!("{:.0}", median(&runs.updates)),
                &format!("{:.0}", median(&runs.database) * 1e3),
                &format!("{:.0}", median(&runs.server) * 1e3),
            ]));
        }
    }
    report.heading("Presence while a table that a policy reads is busy");
    report.note(&format!(
        "Status changes by socket, one after the other, each until the frame of its watcher. {viewers} more viewers are \
         connected, each follows {FOLLOWED} members of its organization of {ORGANIZATION}. A policy on `user_presence` \
         shows members of an organization to each other; the application updates the table of members. {rounds} \
         alternating rounds of {} s each; quantiles of all rounds together, medians of CPU times. Database is all of \
         PostgreSQL, with the updates.",
        time.as_secs()
    ));
    report.table(&rows);
    Ok(())
}

struct Bench<'a> {
    cluster: &'a Cluster,
    database: &'a Database,
    server: Server,
    /// Members whose rows are updated; the viewers.
    members: Arc<[Uuid]>,
    organizations: i32,
    subject: User,
    watching: PresenceSocket,
    /// Status changes so far.
    changes: usize,
    /// Keep the sockets of the viewers open.
    reading: JoinSet<Result<String>>,
}

impl<'a> Bench<'a> {
    async fn start(
        cluster: &'a Cluster,
        database: &'a Database,
        policy: &Policy,
        viewers: usize,
    ) -> Result<Self> {
        // The server watches tables that its role owns.
        let sql = database.connect().await;
        sql.batch_execute(include_str!("sql/policies_tables.sql")).await?;
        sql.batch_execute(policy.text).await?;
        let (subject, watcher) = (User::new(), User::new());
        let users = User::many(viewers);
        let members: Arc<[Uuid]> = users.iter().map(|user| user.id).collect();
        let organizations = viewers / ORGANIZATION;
        let number = i32::try_from(organizations)?;
        let add = sql.prepare(include_str!("sql/policies_members.sql")).await?;
        sql.execute(&add, &[&&members[..], &number]).await?;
        sql.execute(&add, &[&[subject.id, watcher.id].as_slice(), &1]).await?;
        sql.batch_execute("analyze public.bench_members").await?;

        let server = Server::start(database).await?;
        let mut reading = JoinSet::new();
        let address = server.address;
        let opened = users.iter().enumerate().map(async |(index, user)| {
            // Users whose numbers differ by the number of organizations belong to the same one.
            let others = (1..=FOLLOWED).map(|step| members[(index + step * organizations) % viewers]);
            PresenceSocket::open_following(address, user, index, &others.collect::<Vec<_>>()).await
        });
        let mut opening = stream::iter(opened).buffer_unordered(CONCURRENT_CONNECTS);
        while let Some(socket) = opening.try_next().await? {
            reading.spawn(socket.read_until(std::future::pending::<()>()));
        }
        drop(opening);
        let watching = PresenceSocket::open_following(address, &watcher, viewers, &[subject.id]).await?;
        sleep(SETTLE_TIME).await;
        let organizations = number;
        Ok(Self { cluster, database, server, members, organizations, subject, watching, changes: 0, reading })
    }

    /// Changes a status again and again for `time` under a load.
    async fn measure(&mut self, load: Load, time: Duration, runs: &mut Runs) -> Result<()> {
        // A new socket for each round: this one does not answer pings.
        let mut socket = PresenceSocket::open(self.server.address, &self.subject, self.members.len()).await?;
        self.change(&mut socket).await?;
        let updates = Arc::new(AtomicUsize::new(0));
        let updating = self.update(load, updates.clone());
        sleep(PAUSE).await;
        let started = Instant::now();
        let (database, server) = (self.cluster.cpu()?, self.server.cpu()?);
        let updates_before = updates.load(Ordering::Relaxed);
        while started.elapsed() < time {
            runs.times.push(self.change(&mut socket).await?);
            sleep(PAUSE).await;
        }
        let seconds = started.elapsed().as_secs_f64();
        runs.database.push((self.cluster.cpu()?.saturating_sub(database)).as_secs_f64() / seconds);
        runs.server.push((self.server.cpu()? - server).as_secs_f64() / seconds);
        runs.updates.push((updates.load(Ordering::Relaxed) - updates_before) as f64 / seconds);
        ensure!(!updating.is_finished() || load == Load::Calm, "the updates have failed");
        updating.abort();
        ensure!(self.reading.try_join_next().is_none(), "a socket was closed");
        self.wait_until_quiet().await
    }

    /// Waits until PostgreSQL has nothing to do but what idle nodes cause.
    async fn wait_until_quiet(&self) -> Result<()> {
        let started = Instant::now();
        sleep(SETTLE_TIME).await;
        loop {
            let before = self.cluster.cpu()?;
            sleep(QUIET_PERIOD).await;
            if self.cluster.cpu()?.saturating_sub(before) < QUIET_PERIOD / 10 {
                return Ok(());
            }
            ensure!(started.elapsed() < WAIT_TIMEOUT, "the database does not come to rest");
        }
    }

    /// Changes the status once; returns the time until the watcher's frame.
    async fn change(&mut self, socket: &mut PresenceSocket) -> Result<Duration> {
        let status = ["busy", "dnd"][self.changes % 2];
        self.changes += 1;
        let id = self.subject.id.to_string();
        socket.time_status(&id, status, &mut self.watching, WAIT_TIMEOUT).await
    }

    /// Updates rows of members in turn until it is aborted, and counts the commits.
    fn update(&self, load: Load, updates: Arc<AtomicUsize>) -> JoinHandle<Result<()>> {
        let (url, members, organizations) =
            (self.database.url.clone(), self.members.clone(), self.organizations);
        spawn(async move {
            if load == Load::Calm {
                return Ok(());
            }
            let sql = testkit::cluster::connect(&url).await;
            let text = match load {
                Load::Read => include_str!("sql/policies_read.sql"),
                _ => include_str!("sql/policies_unread.sql"),
            };
            let statement = sql.prepare(text).await?;
            let mut ticks = interval(Duration::from_secs(1) / load.updates_per_second());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            // Neighbours in the list belong to different organizations.
            for member in members.iter().cycle() {
                ticks.tick().await;
                if load == Load::Read {
                    sql.execute(&statement, &[member, &organizations]).await?;
                } else {
                    sql.execute(&statement, &[member]).await?;
                }
                updates.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    }
}
