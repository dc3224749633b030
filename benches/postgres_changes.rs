//! Latency and throughput of `postgres_changes`, compared with one SQL check per change and subscriber, which is what
//! Supabase Realtime runs.
//!
//! The pipeline runs in this process, up to the point where frames are handed to the hub. Other sections measure
//! sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use rollcall::{
    auth::{Principal, Role},
    channels::postgres_changes::{
        ChangeEvent, DeliverySink, PostgresChanges, PostgresChangesSettings, RequestedBinding, StreamState,
        Subscription, SystemMessageSink,
    },
    hub::ConnId,
    model::ChannelId,
    pg::Database,
};
use serde_json::{json, value::RawValue};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Plan,
    cluster::Cluster,
    load::quantile,
    report::{Report, ms, ratio, row},
};

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
/// Rows per transaction in the throughput runs.
const ROWS_PER_TRANSACTION: i64 = 100;

const POLICIES: [(&str, &str); 3] = [
    ("bench_open", "no row-level security"),
    ("bench_own", "`user_id = auth.uid()`"),
    ("bench_rooms", "membership by subquery"),
];

/// Counts deliveries and records the arrival time of each frame.
#[derive(Default)]
struct Counter {
    delivered: AtomicUsize,
    last: Mutex<Option<Instant>>,
    frames: Mutex<Vec<Instant>>,
}

impl DeliverySink for Counter {
    fn deliver(&self, events: Vec<ChangeEvent>) -> BoxFuture<'_, ()> {
        let now = Instant::now();
        self.delivered
            .fetch_add(events.iter().map(|events| events.recipients.len()).sum(), Ordering::Relaxed);
        self.frames.lock().extend(events.iter().map(|_| now));
        *self.last.lock() = Some(now);
        async {}.boxed()
    }
}

struct SystemMessageLogger;

impl SystemMessageSink for SystemMessageLogger {
    fn send(&self, is_ok: bool, message: &str) {
        if !is_ok {
            eprintln!("system error: {message}");
        }
    }
}

pub async fn run(plan: Plan, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let database = cluster.database("bench_changes").await?;
    let sql = database.connect().await;
    sql.batch_execute(include_str!("sql/changes_tables.sql")).await?;
    let users: Vec<Uuid> = (0..5_000).map(|_| Uuid::new_v4()).collect();
    let member = sql.prepare(include_str!("sql/changes_member.sql")).await?;
    for (number, user) in users.iter().enumerate() {
        sql.execute(&member, &[user, &i32::try_from(number)?]).await?;
    }
    sql.batch_execute("analyze").await?;

    let counter = Arc::new(Counter::default());
    let (changes, engine) = PostgresChanges::new(
        Database::new(&database.url, None, 4)?,
        counter.clone(),
        PostgresChangesSettings::default(),
    );
    let stop = CancellationToken::new();
    // The pipeline has its own threads, as in a server.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.spawn(engine.run(stop.clone()));
    let bench = Bench { changes, counter, sql, users, next_id: 1, runtime };
    let outcome = bench.measure(plan, report).await;
    stop.cancel();
    outcome
}

struct Bench {
    changes: PostgresChanges,
    counter: Arc<Counter>,
    sql: Client,
    users: Vec<Uuid>,
    next_id: i64,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    async fn measure(mut self, plan: Plan, report: &mut Report) -> Result<()> {
        report.heading("Postgres changes");
        self.latency(plan, report).await?;
        self.sustained(plan, report).await?;
        // A runtime must not be dropped inside another runtime.
        self.runtime.shutdown_background();
        Ok(())
    }

    async fn subscribe(&self, table: &str, count: usize) -> Result<Vec<Subscription>> {
        let subscription = json!({"event": "INSERT", "schema": "public", "table": table});
        let raw = RawValue::from_string(subscription.to_string())?;
        let requested = [RequestedBinding::parse(&raw).context("an object")?];
        let mut subscriptions = Vec::with_capacity(count);
        for (number, user) in self.users.iter().take(count).enumerate() {
            let claims = json!({"role": "authenticated", "sub": user}).to_string();
            let sub = user.to_string();
            let principal = Principal::with_claims(Role::Authenticated, Some(&sub), claims.into());
            let conn = ConnId::new(0, u32::try_from(number)?, 1);
            let prepared =
                self.changes.prepare(conn, "bench".into(), &requested, false, Arc::new(principal)).await;
            subscriptions.push(prepared.activate(
                (ChannelId::next(), conn),
                Arc::new(SystemMessageLogger),
                || {},
            ));
        }
        let streams = async {
            while self.changes.stream_state() != StreamState::Streaming {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(WAIT_TIMEOUT, streams).await.context("the replication stream did not start")?;
        Ok(subscriptions)
    }

    async fn insert(&mut self, table: &str, rows: i64, users: usize) -> Result<()> {
        let text = include_str!("sql/changes_insert.sql").replace("$table", table);
        let users = &self.users[..users];
        self.sql.execute(&text, &[&self.next_id, &rows, &users]).await?;
        self.next_id += rows;
        Ok(())
    }

    async fn wait_until_delivered(&self, count: usize) -> Result<()> {
        let all = async {
            while self.counter.delivered.load(Ordering::Relaxed) < count {
                sleep(Duration::from_micros(200)).await;
            }
        };
        timeout(WAIT_TIMEOUT, all).await.with_context(|| {
            format!("{} of {count} changes were delivered", self.counter.delivered.load(Ordering::Relaxed))
        })
    }

    fn reset(&self) {
        self.counter.delivered.store(0, Ordering::Relaxed);
        self.counter.frames.lock().clear();
    }

    /// Commits one row per transaction, 100 per second. Measures from sending the statement to handing the frame to the
    /// hub.
    async fn latency(&mut self, plan: Plan, report: &mut Report) -> Result<()> {
        let rounds = plan.pick(1_000, 200);
        let mut table = vec![row(["policy", "p50", "p99", "commit alone, p50"])];
        for (name, rule) in POLICIES {
            let _subscriptions = self.subscribe(name, 1).await?;
            // The first inserts plan their statements.
            for _ in 0..5 {
                self.reset();
                self.insert(name, 1, 1).await?;
                if name != "bench_rooms" {
                    self.wait_until_delivered(1).await?;
                }
            }
            let mut ticks = interval(Duration::from_millis(10));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut taken, mut committed) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                ticks.tick().await;
                // The first user is a member of 3 of 100 rooms. Moves to an ID whose room is one of them.
                self.next_id += (100 - self.next_id % 100) % 100;
                self.reset();
                let started = Instant::now();
                self.insert(name, 1, 1).await?;
                committed.push(started.elapsed());
                self.wait_until_delivered(1).await?;
                let received_at = self.counter.frames.lock().first().copied().context("a frame")?;
                taken.push(received_at - started);
            }
            taken.sort_unstable();
            committed.sort_unstable();
            table.push([
                rule.to_owned(),
                ms(quantile(&taken, 0.5)),
                ms(quantile(&taken, 0.99)),
                ms(quantile(&committed, 0.5)),
            ]);
        }
        report.note("One subscriber, 100 changes per second in separate transactions. Measured from sending the statement to handing the frame to the hub.");
        report.table(&table);
        Ok(())
    }

    /// Commits transactions of 100 rows in sequence. Measures delivered changes per second, and the same for one SQL
    /// check per subscriber.
    async fn sustained(&mut self, plan: Plan, report: &mut Report) -> Result<()> {
        let mut table = vec![row([
            "policy",
            "subscribers",
            "changes/s",
            "checks/s",
            "per subscriber in SQL, changes/s",
            "ratio",
        ])];
        let counts: &[usize] = plan.pick(&[1, 100, 1_000, 5_000], &[1, 100, 1_000]);
        for (name, rule) in POLICIES {
            for &count in counts {
                let subscriptions = self.subscribe(name, count).await?;
                let transactions = if count > 100 { plan.pick(20, 10) } else { plan.pick(100, 30) };
                self.reset();
                let first = self.next_id;
                let started = Instant::now();
                for _ in 0..transactions {
                    self.insert(name, ROWS_PER_TRANSACTION, count).await?;
                }
                let rows = transactions * ROWS_PER_TRANSACTION;
                let expected = self.expected(name, first, rows, count).await?;
                self.wait_until_delivered(expected).await?;
                let last = (*self.counter.last.lock()).context("a frame")?;
                let rate = rows as f64 / (last - started).as_secs_f64();
                ensure!(
                    self.counter.delivered.load(Ordering::Relaxed) == expected,
                    "more was delivered than is visible"
                );
                drop(subscriptions);
                let baseline = self.baseline(name, first, count).await?;
                table.push([
                    rule.to_owned(),
                    count.to_string(),
                    format!("{rate:.0}"),
                    format!("{:.0}", rate * count as f64),
                    format!("{baseline:.1}"),
                    ratio(rate, baseline),
                ]);
            }
        }
        report.note("Sequential transactions of 100 rows, until every subscriber has received the rows it may see. The baseline runs one SQL check per change and subscriber on one connection.");
        report.table(&table);
        Ok(())
    }

    /// Returns the number of deliveries that the policies allow.
    async fn expected(&self, table: &str, first: i64, rows: i64, users: usize) -> Result<usize> {
        let all = usize::try_from(rows)?;
        let users = &self.users[..users];
        let seen = match table {
            "bench_open" => return Ok(all * users.len()),
            "bench_own" => return Ok(all),
            _ => include_str!("sql/changes_expected.sql"),
        };
        let count: i64 = self.sql.query_one(seen, &[&first, &rows, &users]).await?.get(0);
        Ok(usize::try_from(count)?)
    }

    async fn baseline(&self, table: &str, first: i64, users: usize) -> Result<f64> {
        let changes: i64 = if users >= 1_000 { 3 } else { 20 };
        let ids: Vec<i64> = (first..first + changes).collect();
        let users = &self.users[..users];
        let mut rates = Vec::new();
        for _ in 0..3 {
            let started = Instant::now();
            self.sql.query_one(include_str!("sql/changes_baseline.sql"), &[&table, &ids, &users]).await?;
            rates.push(changes as f64 / started.elapsed().as_secs_f64());
        }
        Ok(crate::load::median(&rates))
    }
}
