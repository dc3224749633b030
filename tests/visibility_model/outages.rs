//! Random outages: nodes and PostgreSQL that end, commits that are lost, and jumps of the clock.

use std::time::Duration;

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use testkit::{cluster::Cluster, copied_cluster::CopiedCluster};
use tokio::time::{Instant, sleep};

use crate::{
    clock::FakeClock,
    world::{Loss, World, log_entry},
};

/// Offsets of the clock, in seconds. Tokens are valid for an hour.
const CLOCK_OFFSETS: [i64; 7] = [-1_500, -60, -5, 0, 5, 60, 1_500];

#[derive(Debug, Clone, Copy)]
enum Outage {
    NodeCrashes,
    NodeRestarts,
    PostgresRestarts,
    PostgresCrashes,
    EverythingCrashes,
    /// A fail-over to a standby that lacks the last commits.
    StandbyIsPromoted,
    BackupIsRestored,
    ClockJumps,
    /// A transaction keeps rows of some users locked.
    RowsAreLocked,
}

/// As often as they are listed.
const OUTAGES: [Outage; 14] = [
    Outage::NodeCrashes,
    Outage::NodeCrashes,
    Outage::NodeCrashes,
    Outage::NodeRestarts,
    Outage::PostgresRestarts,
    Outage::PostgresCrashes,
    Outage::EverythingCrashes,
    Outage::StandbyIsPromoted,
    Outage::StandbyIsPromoted,
    Outage::BackupIsRestored,
    Outage::ClockJumps,
    Outage::ClockJumps,
    Outage::ClockJumps,
    Outage::RowsAreLocked,
];

pub async fn cause(world: &World, cluster: &Cluster, clock: &FakeClock, rng: &mut StdRng) {
    // Shorter or longer than the lease of a node.
    let pause = Duration::from_millis(rng.random_range(0..3_000));
    let index = rng.random_range(0..world.node_count());
    let outage = *OUTAGES.choose(rng).expect("not empty");
    println!("outage: {outage:?}");
    match outage {
        Outage::NodeCrashes => {
            world.node(index).crash();
            sleep(pause).await;
            world.replace_node(index).await;
        }
        Outage::NodeRestarts => {
            world.node(index).stop().await.expect("it stops");
            sleep(pause).await;
            world.replace_node(index).await;
        }
        Outage::PostgresRestarts => cluster.restart().await,
        Outage::PostgresCrashes => cluster.crash().await,
        Outage::EverythingCrashes => {
            (0..world.node_count()).for_each(|index| world.node(index).crash());
            cluster.crash().await;
            for index in 0..world.node_count() {
                world.replace_node(index).await;
            }
        }
        Outage::StandbyIsPromoted => {
            let standby = CopiedCluster::standby(cluster, &world.db.admin_url()).await;
            sleep(pause / 2).await;
            standby.promote().await;
            exchange(world, cluster, standby, pause, rng.random_bool(0.5)).await;
        }
        Outage::BackupIsRestored => {
            let backup = CopiedCluster::backup(cluster, &world.db.admin_url()).await;
            backup.start().await;
            exchange(world, cluster, backup, pause, rng.random_bool(0.5)).await;
        }
        Outage::ClockJumps => {
            let offset = *CLOCK_OFFSETS.choose(rng).expect("not empty");
            println!("the clock goes to {offset} s");
            clock.set_offset(offset);
        }
        Outage::RowsAreLocked => {
            let locks =
                "begin; select from rollcall.user_last_seen order by random() limit 5 for update skip locked";
            let locker = world.db.connect().await;
            locker.batch_execute(locks).await.expect("no row is waited for");
            sleep(Duration::from_secs(rng.random_range(5..30))).await;
        }
    }
}

/// Replaces the files of the cluster with those of a running copy, and loses what was committed since.
async fn exchange(world: &World, cluster: &Cluster, copy: CopiedCluster, lost: Duration, crashes: bool) {
    let last = "select coalesce(max(seq), 0) from public.commit_log";
    let last_kept: i64 = copy.connect().await.query_one(last, &[]).await.expect("an answer").get(0);
    copy.stop().await;
    sleep(lost).await;
    let mut losses = world.losses_mut().await;
    if crashes {
        cluster.crash().await;
    }
    cluster.while_stopped(|files| copy.exchange(files)).await;
    let ended = Instant::now();
    copy.start().await;
    let entries =
        "select xid::text, source, old_row, new_row from public.commit_log where seq > $1 order by seq";
    let entries = copy.connect().await.query(entries, &[&last_kept]).await.expect("the log of the old files");
    copy.stop().await;
    println!("{} entries of the commit log are lost", entries.len());
    losses.push(Loss { last_kept, entries: entries.iter().map(log_entry).collect(), ended });
}
