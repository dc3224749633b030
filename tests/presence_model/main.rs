//! Model test of channel presence. Clients join, track, untrack, leave, disconnect and reconnect at random, over two
//! nodes and both serializers. They reduce presence frames like the official JavaScript client. At every quiet point
//! the state of each client, the REST response of each node, the rows in the database and the last actions of the
//! clients must agree.
//!
//! `ROLLCALL_SEED` repeats a run; `ROLLCALL_HISTORIES` sets the number of histories.

#[path = "../integration/client.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which use the rest")]
mod client;
#[path = "../integration/cluster.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which use the rest")]
mod cluster;
#[path = "../integration/harness.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which use the rest")]
mod harness;
#[path = "../integration/presence_client_state.rs"]
mod presence_client_state;

mod history;
mod simulated_client;

use std::{process::ExitCode, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{runtime::Runtime, task::JoinHandle, time::sleep};

use crate::{cluster::Cluster, harness::TestDatabase};

/// Histories per run. A quarter as many run while database connections are cut.
const HISTORIES: u64 = 40;
/// Concurrent histories. Each uses its own topic.
const CONCURRENT_HISTORIES: usize = 6;
/// Interval at which database connections are cut.
const CUT_INTERVAL: Duration = Duration::from_millis(1_500);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    let histories = env_number("ROLLCALL_HISTORIES").unwrap_or(HISTORIES);
    let seed = env_number("ROLLCALL_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let cluster = (!arguments.list).then(|| Arc::new(runtime.block_on(Cluster::start())));

    let trial = |name: &str, cuts: bool, histories: u64| {
        let (runtime, cluster) = (runtime.clone(), cluster.clone());
        Trial::test(name, move || {
            let cluster = cluster.expect("a cluster, unless tests are only listed");
            runtime.block_on(run(cluster, cuts, seed, histories))
        })
    };
    let trials = vec![
        trial("all_clients_agree_on_presence", false, histories),
        trial("all_clients_agree_after_lost_database_connections", true, histories.div_ceil(4)),
    ];
    // Sequential: each test uses the whole machine.
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(cluster) = cluster {
        runtime.block_on(cluster.stop());
    }
    conclusion.exit_code()
}

fn env_number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

async fn run(cluster: Arc<Cluster>, cuts: bool, seed: u64, histories: u64) -> Result<(), Failed> {
    let db = TestDatabase::new(cluster).await;
    let unlimited = |settings: &mut rollcall::config::Settings| {
        for limit in ["PRESENCE_CALLS", "MAX_JOINS_PER_SECOND", "MAX_EVENTS_PER_SECOND", "MAX_CONNECTIONS"] {
            settings.set(&format!("REALTIME_{limit}"), "0");
        }
    };
    let nodes = Arc::new([db.start_server_with(unlimited).await, db.start_server_with(unlimited).await]);
    let cutter = cuts.then(|| cut_connections(db.clone()));
    let started = std::time::Instant::now();
    let mut runs = stream::iter(seed..seed + histories)
        .map(|seed| {
            let (db, nodes) = (db.clone(), nodes.clone());
            async move { (seed, tokio::spawn(history::run(db, nodes, seed)).await) }
        })
        .buffer_unordered(CONCURRENT_HISTORIES);
    let (mut stats, mut failures) = (history::HistoryStats::default(), Vec::new());
    while let Some((seed, outcome)) = runs.next().await {
        match outcome {
            Ok(Ok(more)) => stats.add(&more),
            Ok(Err(wrong)) => failures.push(format!("seed {seed}: {wrong}")),
            Err(panic) => failures.push(format!("seed {seed}: {panic}")),
        }
        if failures.len() > 2 {
            break;
        }
    }
    drop(runs);
    if let Some(cutter) = cutter {
        cutter.abort();
    }
    println!("{histories} histories from seed {seed}: {stats:?}, {:?}", started.elapsed());
    db.close().await?;
    if failures.is_empty() {
        return Ok(());
    }
    let again = "repeat one with ROLLCALL_SEED=<its seed> ROLLCALL_HISTORIES=1";
    Err(format!("{}\n{again}", failures.join("\n\n")).into())
}

/// Cuts the servers' database connections at intervals, including the LISTEN connection.
fn cut_connections(db: Arc<TestDatabase>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let sql = db.connect().await;
        let own_pid: i32 = db.query_row("select pg_backend_pid()", &[]).await.get(0);
        loop {
            sleep(CUT_INTERVAL).await;
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and pid not in (pg_backend_pid(), $1)";
            sql.execute(cut, &[&own_pid]).await.expect("the own connection stays open");
        }
    })
}
