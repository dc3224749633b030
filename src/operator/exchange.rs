//! Requests between nodes: a row with the query or answer, and a notification with the row's ID.
//!
//! Operators ask rarely, so there is no queue of requests: each is one statement. Everything has a limit: the time to
//! wait, the IDs that wait to be read, the size of a row. A node that does not answer is named in the result.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    join, select,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    local::LocalNode,
    message::{Answer, Query},
};
use crate::{
    lifecycle::ErrorChain,
    model::NodeId,
    pg::{
        Database, PgError,
        listener::NotificationHandler,
        notification::Notification,
        queries::{
            channel_presence::live_nodes,
            operator::{self, NodeMessage},
        },
    },
};

/// Time that the answers of other nodes may take.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum IDs that wait to be read. Beyond it the oldest are dropped; their senders report a missing answer.
const MAX_PENDING: usize = 1_000;
/// Maximum rows in one read.
const READ_BATCH_SIZE: usize = 8;
/// Maximum size of an answer in bytes; the column has the same limit.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Answers to one request that may wait; more nodes than these do not exist.
const MAX_WAITING_ANSWERS: usize = 1_000;
/// Maximum streams of live events that operators read from this node.
const MAX_STREAMS: usize = 16;
/// Time between two looks for what operators have stopped to use.
const TIDY_INTERVAL: Duration = Duration::from_secs(10);

/// The answers of several nodes.
#[derive(Debug, Default)]
pub struct Answers {
    pub answers: Vec<(NodeId, Answer)>,
    /// Live nodes that did not answer in time.
    pub unanswered: Vec<NodeId>,
    /// The one node that was asked is not alive.
    pub is_gone: bool,
}

/// Asks nodes. Clones share one state.
#[derive(Clone)]
pub struct NodeExchange(Arc<Inner>);

struct Inner {
    database: Database,
    local: LocalNode,
    pending: Mutex<VecDeque<i64>>,
    wake: Notify,
    waiting: Mutex<HashMap<Uuid, mpsc::Sender<(NodeId, Answer)>>>,
    streams: Arc<Semaphore>,
}

impl Inner {
    fn node(&self) -> NodeId {
        self.local.node
    }
}

/// Adds the notified rows to those to read.
pub struct ExchangeNotifications(NodeExchange);

impl NotificationHandler for ExchangeNotifications {
    fn on_notification(&self, notification: &Notification) {
        let Notification::NodeMessages(ids) = notification else { return };
        let mut pending = self.0.0.pending.lock();
        pending.extend(ids);
        let excess = pending.len().saturating_sub(MAX_PENDING);
        pending.drain(..excess);
        drop(pending);
        self.0.0.wake.notify_one();
    }

    // A missed request or answer is a missing answer, which the sender reports.
    fn on_connected(&self) {}

    fn on_disconnected(&self) {}

    fn on_missed(&self, _: Instant) {}
}

/// Waits for answers to one request until dropped.
pub struct Waiting {
    exchange: NodeExchange,
    request: Uuid,
    answers: mpsc::Receiver<(NodeId, Answer)>,
    deadline: Instant,
}

impl Waiting {
    /// ID of the request.
    #[must_use]
    pub const fn request(&self) -> Uuid {
        self.request
    }

    /// The next answer; `None` if there is none in time.
    pub async fn next(&mut self) -> Option<(NodeId, Answer)> {
        timeout_at(self.deadline, self.answers.recv()).await.ok().flatten()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.exchange.0.waiting.lock().remove(&self.request);
    }
}

impl NodeExchange {
    /// Creates the exchange, its notification handler and its task.
    #[must_use]
    pub fn new(database: Database, local: LocalNode) -> (Self, ExchangeNotifications, ExchangeTask) {
        let exchange = Self(Arc::new(Inner {
            database,
            local,
            pending: Mutex::default(),
            wake: Notify::new(),
            waiting: Mutex::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }));
        (exchange.clone(), ExchangeNotifications(exchange.clone()), ExchangeTask(exchange))
    }

    /// The state of this node.
    #[must_use]
    pub fn local(&self) -> &LocalNode {
        &self.0.local
    }

    /// Counts a stream of live events until dropped; `None` if there are too many.
    #[must_use]
    pub fn stream_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.streams).try_acquire_owned().ok()
    }

    /// Registers a request before it is sent.
    #[must_use]
    pub fn expect(&self) -> Waiting {
        let (sender, answers) = mpsc::channel(MAX_WAITING_ANSWERS);
        let request = Uuid::new_v4();
        self.0.waiting.lock().insert(request, sender);
        Waiting { exchange: self.clone(), request, answers, deadline: Instant::now() + ANSWER_TIMEOUT }
    }

    /// Asks every live node, or one of them.
    ///
    /// # Errors
    /// The database does not respond.
    pub async fn ask(&self, query: Query, only: Option<NodeId>) -> Result<Answers, PgError> {
        let this = self.0.node();
        let mut others = self.other_nodes().await?;
        others.retain(|node| only.is_none_or(|only| *node == only));
        let includes_this = only.is_none_or(|only| only == this);
        let local = async {
            if includes_this { Some((this, self.0.local.answer(query.clone()).await)) } else { None }
        };
        let (local, remote) = join!(local, self.ask_others(&query, others, only));
        let mut answers = remote?;
        answers.answers.extend(local);
        answers.answers.sort_by_key(|(node, _)| *node);
        answers.is_gone = only.is_some() && answers.answers.is_empty() && answers.unanswered.is_empty();
        Ok(answers)
    }

    async fn other_nodes(&self) -> Result<HashSet<NodeId>, PgError> {
        let read = |connection| async move { live_nodes(&connection).await };
        let live = self.0.database.within(STATEMENT_TIMEOUT, read).await?;
        Ok(live.into_iter().map(|live| live.node).filter(|node| *node != self.0.node()).collect())
    }

    async fn ask_others(
        &self,
        query: &Query,
        mut missing: HashSet<NodeId>,
        recipient: Option<NodeId>,
    ) -> Result<Answers, PgError> {
        let mut answers = Vec::new();
        if !missing.is_empty() {
            let mut waiting = self.expect();
            self.post(waiting.request(), recipient, false, &to_json(query)).await?;
            while !missing.is_empty()
                && let Some((node, answer)) = waiting.next().await
            {
                if missing.remove(&node) {
                    answers.push((node, answer));
                }
            }
        }
        let mut unanswered: Vec<_> = missing.into_iter().collect();
        unanswered.sort_unstable();
        Ok(Answers { answers, unanswered, is_gone: false })
    }

    async fn post(
        &self,
        request: Uuid,
        recipient: Option<NodeId>,
        is_answer: bool,
        body: &str,
    ) -> Result<(), PgError> {
        let sender = self.0.node();
        let post = |connection| async move {
            operator::post_to_nodes(&connection, request, sender, recipient, is_answer, body).await
        };
        self.0.database.within(STATEMENT_TIMEOUT, post).await
    }

    async fn next_batch(&self) -> Vec<i64> {
        loop {
            let woken = self.0.wake.notified();
            {
                let mut pending = self.0.pending.lock();
                if !pending.is_empty() {
                    let count = pending.len().min(READ_BATCH_SIZE);
                    return pending.drain(..count).collect();
                }
            }
            woken.await;
        }
    }

    async fn handle(&self, ids: &[i64]) -> Result<(), PgError> {
        let node = self.0.node();
        let read = |connection| async move { operator::read_node_messages(&connection, ids, node).await };
        for message in self.0.database.within(STATEMENT_TIMEOUT, read).await? {
            if message.is_answer {
                self.on_answer(message);
            } else {
                self.on_request(message).await?;
            }
        }
        Ok(())
    }

    fn on_answer(&self, NodeMessage { request, sender, body, .. }: NodeMessage) {
        let (Some(node), Some(waiting)) = (sender, self.0.waiting.lock().get(&request).cloned()) else {
            return;
        };
        // An answer that a newer version writes and this one cannot read.
        let answer = serde_json::from_str(&body).unwrap_or(Answer::Refused);
        // Full only if more nodes answer than exist.
        let _ = waiting.try_send((node, answer));
    }

    async fn on_request(
        &self,
        NodeMessage { request, sender, body, .. }: NodeMessage,
    ) -> Result<(), PgError> {
        let answer = match serde_json::from_str(&body) {
            Ok(query) => self.0.local.answer(query).await,
            Err(error) => {
                tracing::warn!(%error, "cannot decode a request of rollcall_internal.node_messages");
                Answer::Refused
            }
        };
        // Requests of SQL wait for no answer.
        let Some(asking) = sender else { return Ok(()) };
        let mut body = to_json(&answer);
        if body.len() > MAX_ANSWER_BYTES {
            tracing::warn!(bytes = body.len(), "an answer to an operator exceeds 1 MiB; refused");
            body = to_json(&Answer::Refused);
        }
        self.post(request, Some(asking), true, &body).await
    }
}

fn to_json(message: &impl serde::Serialize) -> String {
    serde_json::to_string(message).expect("has string keys only")
}

/// Answers requests of other nodes, and of SQL.
pub struct ExchangeTask(NodeExchange);

impl ExchangeTask {
    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut tidy = interval(TIDY_INTERVAL);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ids = select! {
                () = stop.cancelled() => return,
                _ = tidy.tick() => {
                    self.0.0.local.tidy();
                    continue;
                }
                ids = self.0.next_batch() => ids,
            };
            let handled = select! {
                () = stop.cancelled() => return,
                handled = self.0.handle(&ids) => handled,
            };
            // The senders report missing answers; a request that was not read is not repeated.
            if let Err(error) = handled {
                tracing::warn!(error = %ErrorChain(&error), "requests of operators were not answered");
            }
        }
    }
}
