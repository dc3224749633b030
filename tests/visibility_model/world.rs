//! What the histories of a run share: the database, the nodes, and what was lost.

use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::Value;
use testkit::{
    cluster::Cluster,
    harness::{TestDatabase, TestServer},
};
use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};
use tokio_postgres::Row;

use crate::{
    connection::Connection,
    oracle::{LogEntry, Rule},
};

/// Nodes of a run without and with outages.
const NODES: usize = 2;
const NODES_WITH_OUTAGES: usize = 3;

/// The faults of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultLevel {
    None,
    /// Connections, locks and settings of a database that stays.
    Database,
    /// Also PostgreSQL and nodes that end, lost commits and jumps of the clock.
    Outages,
}

pub struct World {
    pub db: Arc<TestDatabase>,
    /// The cluster of the database, if it is not shared with other tests.
    pub cluster: Option<Arc<Cluster>>,
    pub rule: Rule,
    pub faults: FaultLevel,
    nodes: Mutex<Vec<Arc<TestServer>>>,
    /// Connections of finished histories for reuse: opening one costs more than a history uses.
    idle_connections: Mutex<Vec<Vec<Connection>>>,
    /// In order. Locked while the database is exchanged.
    losses: RwLock<Vec<Loss>>,
}

/// Commits that the database has lost.
pub struct Loss {
    /// Number of the last entry of the commit log that remains.
    pub last_kept: i64,
    /// The lost entries of the commit log.
    pub entries: Vec<LogEntry>,
    /// When the database accepted connections again. Requests that started before may be lost, even if they were answered.
    pub ended: Instant,
}

impl World {
    pub async fn new(
        db: Arc<TestDatabase>,
        cluster: Option<Arc<Cluster>>,
        rule: Rule,
        faults: FaultLevel,
    ) -> Self {
        let count = if faults == FaultLevel::Outages { NODES_WITH_OUTAGES } else { NODES };
        let nodes = join_all((0..count).map(|_| db.start_server())).await;
        Self {
            db,
            cluster,
            rule,
            faults,
            nodes: Mutex::new(nodes),
            idle_connections: Mutex::default(),
            losses: RwLock::default(),
        }
    }

    /// Whether requests may be answered with 503.
    pub fn has_faults(&self) -> bool {
        self.faults > FaultLevel::None
    }

    /// Whether sockets and connections may end at any time.
    pub fn has_outages(&self) -> bool {
        self.faults == FaultLevel::Outages
    }

    pub fn node_count(&self) -> usize {
        self.nodes.lock().len()
    }

    pub fn node(&self, index: usize) -> Arc<TestServer> {
        self.nodes.lock()[index].clone()
    }

    /// Starts another node in the place of one that has ended.
    pub async fn replace_node(&self, index: usize) {
        let node = self.db.start_server().await;
        self.nodes.lock()[index] = node;
    }

    /// `count` connections to the database.
    pub fn connections(&self, count: usize) -> Vec<Connection> {
        let idle = self.idle_connections.lock().pop();
        idle.unwrap_or_else(|| {
            (0..count).map(|_| Connection::new(self.db.clone(), self.has_outages())).collect()
        })
    }

    pub fn give_back(&self, connections: Vec<Connection>) {
        self.idle_connections.lock().push(connections);
    }

    /// What was lost so far. Nothing more is lost while the guard is held.
    pub async fn losses(&self) -> RwLockReadGuard<'_, Vec<Loss>> {
        self.losses.read().await
    }

    /// The commits that were about some users, in the order in which nodes could read them: commits that were lost, their
    /// reversal, later ones. `since` and `earlier_losses` are those before the first commit about them.
    pub async fn commit_log(
        &self,
        connection: &Connection,
        users: &[String],
        since: i64,
        earlier_losses: usize,
    ) -> Vec<LogEntry> {
        let losses = self.losses.read().await;
        let losses = &losses[earlier_losses..];
        let first = losses.iter().map(|loss| loss.last_kept).fold(since, i64::min);
        let statement = "select seq, xid::text, source, old_row, new_row from public.commit_log
            where seq > $2 and coalesce(new_row, old_row)::text ~ $1 order by seq";
        let rows = connection.query(statement, &[&users.join("|"), &first]).await;
        let is_about = |entry: &LogEntry| {
            let row = entry.new.as_ref().or(entry.old.as_ref()).map(Value::to_string).unwrap_or_default();
            users.iter().any(|user| row.contains(user))
        };
        let (mut log, mut rows) = (Vec::new(), rows.iter().peekable());
        for (number, loss) in losses.iter().enumerate() {
            while let Some(row) = rows.next_if(|row| row.get::<_, i64>("seq") <= loss.last_kept) {
                log.push(log_entry(row));
            }
            log.extend(with_reversal(loss, number, is_about));
        }
        log.extend(rows.map(log_entry));
        log
    }

    /// Adds a loss. The guard is held while the database is exchanged.
    pub async fn losses_mut(&self) -> RwLockWriteGuard<'_, Vec<Loss>> {
        self.losses.write().await
    }
}

/// The commits of `loss`, then their reversal as one commit.
fn with_reversal<'a>(
    loss: &'a Loss,
    number: usize,
    is_about: impl Fn(&LogEntry) -> bool + 'a,
) -> impl Iterator<Item = LogEntry> + 'a {
    let entries: Vec<&LogEntry> = loss.entries.iter().filter(|entry| is_about(entry)).collect();
    let reversed: Vec<LogEntry> = entries
        .iter()
        .rev()
        .map(|entry| LogEntry {
            xid: format!("loss {number}"),
            source: entry.source.clone(),
            old: entry.new.clone(),
            new: entry.old.clone(),
        })
        .collect();
    entries.into_iter().cloned().chain(reversed)
}

/// An entry of the commit log from its columns `xid`, `source`, `old_row` and `new_row`.
pub fn log_entry(row: &Row) -> LogEntry {
    LogEntry {
        xid: row.get("xid"),
        source: row.get("source"),
        old: row.get("old_row"),
        new: row.get("new_row"),
    }
}
