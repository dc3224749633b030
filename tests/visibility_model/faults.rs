//! Random faults of the database, while histories run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::unistd::Pid;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use testkit::stopped_process::StoppedProcess;
use tokio::{task::JoinHandle, time::sleep};
use tokio_postgres::Client;

use crate::{clock::FakeClock, outages, world::World};

/// Time between two faults, in milliseconds.
const PAUSE: std::ops::Range<u64> = 500..3_000;
const PAUSE_WITH_OUTAGES: std::ops::Range<u64> = 100..1_500;
/// Maximum time for which a process stands still or a lock is held, in milliseconds. Longer than the server waits for a
/// batch to get its locks, shorter than the timeout of a test's own statements.
const MAX_HOLD: u64 = 6_000;
/// Share of outages, where there are any.
const OUTAGES: f64 = 0.6;

const SERVER_CONNECTIONS: &str = "from pg_stat_activity
    where datname = current_database() and application_name like 'rollcall-%' and pid <> pg_backend_pid()";

/// Causes faults until it is stopped.
pub struct Faults {
    is_stopping: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Faults {
    /// Causes faults of the database and, if `world` has a cluster of its own, outages.
    pub fn start(world: Arc<World>, seed: u64) -> Self {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stops = is_stopping.clone();
        let task = tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            let clock = FakeClock::of_process();
            while !stops.load(Ordering::Relaxed) {
                let pause = if world.has_outages() { PAUSE_WITH_OUTAGES } else { PAUSE };
                sleep(Duration::from_millis(rng.random_range(pause))).await;
                match (&world.cluster, &clock) {
                    (Some(cluster), Some(clock)) if rng.random_bool(OUTAGES) => {
                        outages::cause(&world, cluster, clock, &mut rng).await;
                    }
                    _ => cause(&world.db.connect().await, &mut rng).await,
                }
            }
        });
        Self { is_stopping, task }
    }

    /// Completes the current fault.
    pub async fn stop(self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.task.await.expect("no fault failed");
    }
}

async fn cause(sql: &Client, rng: &mut StdRng) {
    let hold = Duration::from_millis(rng.random_range(200..MAX_HOLD));
    match rng.random_range(0..12) {
        // Connections that end: all, one, and those that wait for notifications or read the log.
        0 => execute(sql, &format!("select pg_terminate_backend(pid) {SERVER_CONNECTIONS}")).await,
        1 | 2 => {
            execute(
                sql,
                &format!("select pg_terminate_backend(pid) {SERVER_CONNECTIONS} order by random() limit 1"),
            )
            .await;
        }
        3 => {
            let listening = "and application_name in ('rollcall-listener', 'rollcall-relay')";
            execute(sql, &format!("select pg_terminate_backend(pid) {SERVER_CONNECTIONS} {listening}")).await;
        }
        // A connection that stands still in the middle of its work.
        4 | 5 => {
            let statement =
                format!("select pid {SERVER_CONNECTIONS} order by state = 'active' desc, random() limit 1");
            if let Some(row) = sql.query_opt(&statement, &[]).await.expect("the own connection stays open") {
                let stopped = StoppedProcess::stop(Pid::from_raw(row.get(0)));
                if stopped.is_some() {
                    sleep(hold).await;
                }
                drop(stopped);
            }
        }
        // Version numbers that go back. The trigger of the statement would set the version itself.
        6 => {
            let back = "with batch as (select set_config('rollcall.batch', 'on', true))
                update rollcall.user_presence set version = 1 from batch";
            execute(sql, back).await;
        }
        // Rows of some users, and a table, that another transaction has locked.
        7 => {
            let locks = "select from rollcall.presence_devices order by user_id, device_id limit 5 for update skip locked";
            hold_transaction(sql, locks, hold / 2).await;
        }
        8 => {
            let tables = ["presence_settings", "contacts", "presence_choices", "user_presence"];
            let table = tables.choose(rng).expect("four");
            let lock = format!(
                "set local lock_timeout = '1s'; lock table rollcall.{table} in access exclusive mode"
            );
            hold_transaction(sql, &lock, hold / 4).await;
        }
        // Rows of connected devices that are gone, or say that nobody is connected.
        9 | 10 => {
            let rows = "(select user_id, device_id from rollcall.presence_devices
                where cardinality(nodes) > 0 order by random() limit 5)";
            let change = if rng.random_bool(0.5) {
                "delete from rollcall.presence_devices"
            } else {
                "update rollcall.presence_devices set status = 'offline', nodes = '{}'"
            };
            execute(sql, &format!("{change} where (user_id, device_id) in {rows}")).await;
        }
        // Defaults that new connections get.
        _ => {
            let defaults =
                ["default_transaction_read_only = on", "default_transaction_isolation = 'serializable'"];
            let default = defaults.choose(rng).expect("two");
            let alter = |what: &str| {
                format!("do $$ begin execute format('alter database %I {what}', current_database()); end $$")
            };
            execute(sql, &alter(&format!("set {}", default.replace('\'', "''")))).await;
            execute(
                sql,
                &format!("select pg_terminate_backend(pid) {SERVER_CONNECTIONS} order by random() limit 3"),
            )
            .await;
            sleep(hold / 2).await;
            execute(sql, &alter("reset all")).await;
        }
    }
}

/// Executes a statement whose failure, such as a deadlock with a history, changes nothing.
async fn execute(sql: &Client, statement: &str) {
    sql.batch_execute(statement).await.ok();
}

async fn hold_transaction(sql: &Client, statement: &str, time: Duration) {
    execute(sql, &format!("begin; {statement}")).await;
    sleep(time).await;
    execute(sql, "rollback").await;
}
