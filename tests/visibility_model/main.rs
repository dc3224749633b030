//! Model test of visibility. After any change, over any interface, each socket must reach the state that `SELECT` as
//! its viewer returns, and no frame may show what the viewer was not allowed to see at that point of the commit order.
//!
//! Sockets and streams reconnect at random, most with their last position: a resumed one, of which the client may not have
//! received everything, must reach the same state.
//!
//! Users, relations and settings are random, and so are the histories of concurrent changes over REST, sockets and SQL
//! on two nodes. `ROLLCALL_SEED` repeats a run; `ROLLCALL_HISTORIES` sets the number of histories. Two oracles check
//! them: `SELECT` under row-level security at every quiet point ([`history`]), and a second implementation of the rule
//! over the commit log ([`oracle`]).
//!
//! The last test also causes faults of the database ([`faults`]): then writes may be answered with 503, and none that was
//! acknowledged may be lost or overwritten by an earlier one. `make torture` runs 2,000 histories of it.

mod faults;
mod history;
mod oracle;

use std::sync::Arc;

use testkit::{harness::TestDatabase, model::Histories};

use crate::{faults::Faults, oracle::Rule};

/// Histories under the built-in rule. A quarter as many run under the test's own policy, and over own tables.
const HISTORIES: u64 = 1_000;
/// Histories with faults.
const FAULTY_HISTORIES: u64 = 16;
/// Concurrent histories. Their users are unrelated.
const CONCURRENT_HISTORIES: usize = 8;

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
    let histories = Histories::from_env(FAULTY_HISTORIES);
    let faults = Faults::start(db.clone(), histories.first_seed);
    run_with(db, Rule::BuiltIn, true, histories).await;
    drop(faults);
}

async fn run(db: Arc<TestDatabase>, rule: Rule, histories: Histories) {
    run_with(db, rule, false, histories).await;
}

async fn run_with(db: Arc<TestDatabase>, rule: Rule, has_faults: bool, histories: Histories) {
    db.execute(include_str!("log.sql"), &[]).await;
    let nodes = Arc::new([db.start_server().await, db.start_server().await]);
    if rule == Rule::ByGrant {
        // While the servers run, as a DBA would.
        db.execute(include_str!("own_policy.sql"), &[]).await;
    }
    if rule == Rule::OwnTables {
        db.execute(include_str!("own_tables.sql"), &[]).await;
    }
    let idle = Arc::new(history::IdleConnections::default());
    let history = |seed| history::run(db.clone(), idle.clone(), nodes.clone(), rule, has_faults, seed);
    let stats = histories.run(CONCURRENT_HISTORIES, history).await;
    let sum = |of: fn(&history::HistoryStats) -> usize| stats.iter().map(of).sum::<usize>();
    let (steps, frames, resumed) = (sum(|one| one.steps), sum(|one| one.frames), sum(|one| one.resumed));
    println!("{steps} changes, {frames} frames, {resumed} resumed connections");
    assert!(stats.len() < 20 || resumed > 0, "no connection was resumed");
}
