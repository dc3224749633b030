//! Model test of visibility. After any change, over any interface, each socket must reach the state that `SELECT` as
//! its viewer returns, and no frame may show what the viewer was not allowed to see at that point of the commit order.
//!
//! Users, relations and settings are random, and so are the histories of concurrent changes over REST, sockets and SQL
//! on two nodes. `ROLLCALL_SEED` repeats a run; `ROLLCALL_HISTORIES` sets the number of histories. Two oracles check
//! them: `SELECT` under row-level security at every quiet point ([`history`]), and a second implementation of the rule
//! over the commit log ([`oracle`]).

#[path = "../integration/client.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which use the rest")]
mod client;
#[path = "../integration/cluster.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which use the rest")]
mod cluster;
#[path = "../integration/harness.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which use the rest")]
mod harness;

mod history;
mod oracle;

use std::{process::ExitCode, sync::Arc};

use futures_util::{StreamExt, stream};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use crate::{cluster::Cluster, harness::TestDatabase, oracle::Rule};

/// Histories under the built-in rule. A quarter as many run under the test's own policy.
const HISTORIES: u64 = 1_000;
/// Concurrent histories. Their users are unrelated.
const CONCURRENT_HISTORIES: usize = 8;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    let histories = env_number("ROLLCALL_HISTORIES").unwrap_or(HISTORIES);
    let seed = env_number("ROLLCALL_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let cluster = (!arguments.list).then(|| Arc::new(runtime.block_on(Cluster::start())));

    let trial = |name: &str, rule: Rule, histories: u64| {
        let (runtime, cluster) = (runtime.clone(), cluster.clone());
        Trial::test(name, move || {
            let cluster = cluster.expect("a cluster, unless tests are only listed");
            runtime.block_on(run(cluster, rule, seed, histories))
        })
    };
    let trials = vec![
        trial("sockets_believe_what_select_as_the_viewer_says", Rule::BuiltIn, histories),
        trial("sockets_follow_a_policy_of_the_dbas_own", Rule::ByGrant, histories.div_ceil(4)),
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

async fn run(cluster: Arc<Cluster>, rule: Rule, seed: u64, histories: u64) -> Result<(), Failed> {
    let db = TestDatabase::new(cluster).await;
    db.execute(include_str!("log.sql"), &[]).await;
    let nodes = Arc::new([db.start_server().await, db.start_server().await]);
    if rule == Rule::ByGrant {
        // While the servers run, as a DBA would.
        db.execute(include_str!("own_policy.sql"), &[]).await;
    }
    let started = std::time::Instant::now();
    let idle = Arc::new(history::IdleConnections::default());
    let mut runs = stream::iter(seed..seed + histories)
        .map(|seed| {
            let (db, idle, nodes) = (db.clone(), idle.clone(), nodes.clone());
            async move { (seed, tokio::spawn(history::run(db, idle, nodes, rule, seed)).await) }
        })
        .buffer_unordered(CONCURRENT_HISTORIES);
    let (mut frames, mut steps, mut failures) = (0, 0, Vec::new());
    while let Some((seed, outcome)) = runs.next().await {
        match outcome {
            Ok(Ok(stats)) => {
                frames += stats.frames;
                steps += stats.steps;
            }
            Ok(Err(wrong)) => failures.push(format!("seed {seed}: {wrong}")),
            Err(panic) => failures.push(format!("seed {seed}: {panic}")),
        }
        if failures.len() > 2 {
            break;
        }
    }
    drop(runs);
    drop(idle);
    println!(
        "{histories} histories from seed {seed}: {steps} changes, {frames} frames, {:?}",
        started.elapsed()
    );
    db.close().await?;
    if failures.is_empty() {
        return Ok(());
    }
    let again = "repeat one with ROLLCALL_SEED=<its seed> ROLLCALL_HISTORIES=1";
    Err(format!("{}\n{again}", failures.join("\n\n")).into())
}
