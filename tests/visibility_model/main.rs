//! Model test of visibility. After any change, over any interface, each socket must reach the state that `SELECT` as
//! its viewer returns, and no frame may show what the viewer was not allowed to see at that point of the commit order.
//!
//! Sockets and streams reconnect at random, most with their last position: a resumed one, of which the client may not have
//! received everything, must reach the same state.
//!
//! Users, relations and settings are random, and so are the histories of concurrent changes over REST, sockets and SQL
//! on two nodes. Some transactions overlap. `ROLLCALL_SEED` repeats a run; `ROLLCALL_HISTORIES` sets the number of
//! histories. Two oracles check them: `SELECT` under row-level security at every quiet point ([`history`]), and a second
//! implementation of the rule over the commit log ([`oracle`]).
//!
//! The last two tests also cause faults of the database ([`faults`]) and outages ([`outages`]): then writes may be answered
//! with 503, and none that was acknowledged may be lost or overwritten by an earlier one, except by a fail-over or restored
//! backup that lacks it. With outages every user with a socket must be connected too. `make torture` runs 2,000 histories
//! of each.

mod changes;
mod clock;
mod connection;
mod faults;
mod history;
mod oracle;
mod outages;
mod world;

use std::sync::Arc;

use testkit::{cluster::Cluster, harness::TestDatabase, model::Histories};

use crate::{
    clock::{FakeClock, run_with_fake_clock},
    faults::Faults,
    oracle::Rule,
    world::{FaultLevel, World},
};

/// Histories under the built-in rule. A quarter as many run under the test's own policy, and over own tables.
const HISTORIES: u64 = 1_000;
/// Histories with faults of the database, and with outages.
const FAULTY_HISTORIES: u64 = 16;
const HISTORIES_WITH_OUTAGES: u64 = 24;
/// Concurrent histories. Their users are unrelated. With outages most of the time is spent waiting.
const CONCURRENT_HISTORIES: usize = 8;
const CONCURRENT_HISTORIES_WITH_OUTAGES: usize = 24;

#[testkit::test(exclusive, no_timeout)]
async fn sockets_believe_what_select_as_the_viewer_says(db: Arc<TestDatabase>) {
    run(db, Rule::BuiltIn, Histories::from_env(HISTORIES)).await;
}

#[testkit::test(exclusive, no_timeout)]
async fn sockets_follow_a_policy_of_the_dbas_own(db: Arc<TestDatabase>) {
    run(db, Rule::ByGrant, Histories::from_env(HISTORIES).quarter()).await;
}

#[testkit::test(exclusive, no_timeout)]
async fn sockets_follow_relations_in_tables_of_the_application(db: Arc<TestDatabase>) {
    run(db, Rule::OwnTables, Histories::from_env(HISTORIES).quarter()).await;
}

#[testkit::test(exclusive, no_timeout)]
async fn sockets_reach_the_truth_after_faults_of_the_database(db: Arc<TestDatabase>) {
    run_with(db, None, Rule::BuiltIn, FaultLevel::Database, Histories::from_env(FAULTY_HISTORIES)).await;
}

#[testkit::test(exclusive, no_timeout)]
async fn sockets_reach_the_truth_after_outages(_: Arc<TestDatabase>) {
    if FakeClock::of_process().is_none() {
        return run_with_fake_clock("sockets_reach_the_truth_after_outages").await;
    }
    let cluster = Arc::new(Cluster::start_owner_only("outages").await);
    let db = TestDatabase::new(cluster.clone()).await;
    let histories = Histories::from_env(HISTORIES_WITH_OUTAGES);
    run_with(db.clone(), Some(cluster.clone()), Rule::BuiltIn, FaultLevel::Outages, histories).await;
    db.close().await.expect("closed");
    cluster.stop().await;
}

async fn run(db: Arc<TestDatabase>, rule: Rule, histories: Histories) {
    run_with(db, None, rule, FaultLevel::None, histories).await;
}

async fn run_with(
    db: Arc<TestDatabase>,
    cluster: Option<Arc<Cluster>>,
    rule: Rule,
    level: FaultLevel,
    histories: Histories,
) {
    db.execute(include_str!("log.sql"), &[]).await;
    let world = Arc::new(World::new(db.clone(), cluster, rule, level).await);
    if rule == Rule::ByGrant {
        // While the servers run, as a DBA would.
        db.execute(include_str!("own_policy.sql"), &[]).await;
    }
    if rule == Rule::OwnTables {
        db.execute(include_str!("own_tables.sql"), &[]).await;
    }
    let faults = world.has_faults().then(|| Faults::start(world.clone(), histories.first_seed));
    let concurrent =
        if world.has_outages() { CONCURRENT_HISTORIES_WITH_OUTAGES } else { CONCURRENT_HISTORIES };
    let stats = histories.run(concurrent, |seed| history::run(world.clone(), seed)).await;
    if let Some(faults) = faults {
        faults.stop().await;
    }
    let sum = |of: fn(&history::HistoryStats) -> usize| stats.iter().map(of).sum::<usize>();
    let (steps, frames, resumed) = (sum(|one| one.steps), sum(|one| one.frames), sum(|one| one.resumed));
    println!("{steps} changes, {frames} frames, {resumed} resumed connections");
    assert!(stats.len() < 20 || resumed > 0, "no connection was resumed");
}
