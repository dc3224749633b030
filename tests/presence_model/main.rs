//! Model test of channel presence. Clients join, track, untrack, leave, disconnect and reconnect at random, over two
//! nodes and both serializers. They reduce presence frames like the official JavaScript client. At every quiet point
//! the state of each client, the REST response of each node, the rows in the database and the last actions of the
//! clients must agree.
//!
//! `ROLLCALL_SEED` repeats a run; `ROLLCALL_HISTORIES` sets the number of histories.

mod history;
mod simulated_client;

use std::{sync::Arc, time::Duration};

use testkit::{harness::TestDatabase, model::Histories};
use tokio::{task::JoinHandle, time::sleep};

/// Histories per run. A quarter as many run while database connections are cut.
const HISTORIES: u64 = 40;
/// Concurrent histories. Each uses its own topic.
const CONCURRENT_HISTORIES: usize = 6;
/// Interval at which database connections are cut.
const CUT_INTERVAL: Duration = Duration::from_millis(1_500);

#[testkit::test(exclusive, no_timeout)]
async fn all_clients_agree_on_presence(db: Arc<TestDatabase>) {
    run(db, Histories::from_env(HISTORIES)).await;
}

#[testkit::test(exclusive, no_timeout)]
async fn all_clients_agree_after_lost_database_connections(db: Arc<TestDatabase>) {
    let cutter = cut_connections(db.clone());
    run(db, Histories::from_env(HISTORIES).quarter()).await;
    cutter.abort();
}

async fn run(db: Arc<TestDatabase>, histories: Histories) {
    let unlimited = |settings: &mut rollcall::config::Settings| {
        for limit in ["PRESENCE_CALLS", "MAX_JOINS_PER_SECOND", "MAX_EVENTS_PER_SECOND", "MAX_CONNECTIONS"] {
            settings.set(&format!("REALTIME_{limit}"), "0");
        }
    };
    let nodes = Arc::new([db.start_server_with(unlimited).await, db.start_server_with(unlimited).await]);
    let history = |seed| history::run(db.clone(), nodes.clone(), seed);
    let mut stats = history::HistoryStats::default();
    for one in histories.run(CONCURRENT_HISTORIES, history).await {
        stats.add(&one);
    }
    println!("{stats:?}");
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
