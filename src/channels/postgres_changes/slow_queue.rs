//! Those whose policies take long: they are asked about on a connection of their own, and wait only for themselves.
//!
//! Somebody comes here by being late once, and leaves when nothing waits and the last answer was quick. Of what waits there is a
//! bound; over it, or where not even the longer limit is enough, the subscriber is told that changes were left out.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    pipeline::{ChangeEvent, DeliverySink},
    registry::SubscribedChannel,
    rls_executor::{CheckedTable, RlsCheck, RlsExecutor},
};
use crate::channels::ChannelPrincipal;

/// Batches that may wait here.
const MAX_QUEUED: usize = 256;
/// Batches of one claimant that may wait here.
const MAX_QUEUED_PER_PRINCIPAL: usize = 64;
/// An answer within this time makes a claimant quick again.
const FAST_CHECK_TIME: Duration = Duration::from_millis(100);

/// What a claimant is told if it turns out to see the rows.
pub struct DeferredDelivery {
    check: RlsCheck,
    table: CheckedTable,
    /// Row, frame, channel; in order.
    pub events: Vec<(usize, ChangeEvent, Arc<SubscribedChannel>)>,
}

impl DeferredDelivery {
    /// To be filled with frames.
    #[must_use]
    pub fn new(question: &RlsCheck, tables: &[CheckedTable]) -> Self {
        let question = question.clone();
        let table = tables[question.table_index].clone();
        Self { check: RlsCheck { table_index: 0, ..question }, table, events: Vec::new() }
    }

    fn send_error(&self, message: &str) {
        for (_, _, channel) in &self.events {
            channel.send_error_throttled(message);
        }
    }
}

/// The claimants that are kept here, and how many batches wait for each.
type QueuedByPrincipal = Arc<Mutex<HashMap<Arc<ChannelPrincipal>, usize>>>;

/// The entrance.
pub struct SlowQueue {
    queued: QueuedByPrincipal,
    sender: mpsc::Sender<DeferredDelivery>,
}

/// The task behind it.
pub struct SlowQueueWorker {
    queued: QueuedByPrincipal,
    receiver: mpsc::Receiver<DeferredDelivery>,
    executor: RlsExecutor,
    sink: Arc<dyn DeliverySink>,
}

/// Makes an entrance and its task. `askers` has one connection and a generous limit.
#[must_use]
pub fn slow_queue(askers: RlsExecutor, sink: Arc<dyn DeliverySink>) -> (SlowQueue, SlowQueueWorker) {
    let (sender, work) = mpsc::channel(MAX_QUEUED);
    let kept = QueuedByPrincipal::default();
    (
        SlowQueue { queued: Arc::clone(&kept), sender },
        SlowQueueWorker { queued: kept, receiver: work, executor: askers, sink },
    )
}

impl SlowQueue {
    /// Whether a claimant's questions go here.
    #[must_use]
    pub fn contains(&self, claimant: &Arc<ChannelPrincipal>) -> bool {
        self.queued.lock().contains_key(claimant)
    }

    /// A claimant was late.
    pub fn add(&self, claimant: &Arc<ChannelPrincipal>) {
        self.queued.lock().entry(Arc::clone(claimant)).or_default();
    }

    /// Takes questions on; never waits.
    pub fn enqueue(&self, work: Vec<DeferredDelivery>) {
        for later in work {
            let claimant = Arc::clone(&later.check.principal);
            let mut kept = self.queued.lock();
            let waiting = kept.entry(Arc::clone(&claimant)).or_default();
            let refused = if *waiting >= MAX_QUEUED_PER_PRINCIPAL {
                Some(later)
            } else {
                *waiting += 1;
                match self.sender.try_send(later) {
                    Ok(()) => None,
                    Err(refused) => {
                        *waiting -= 1;
                        Some(refused.into_inner())
                    }
                }
            };
            drop(kept);
            if let Some(later) = refused {
                later.send_error(&skipped_message(&later.table));
            }
        }
    }
}

impl SlowQueueWorker {
    /// Asks one after the other until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(later)) = stop.run_until_cancelled(self.receiver.recv()).await {
            let Some(is_quick) = stop.run_until_cancelled(self.check_and_deliver(&later)).await else {
                return;
            };
            let mut kept = self.queued.lock();
            if let Some(waiting) = kept.get_mut(&later.check.principal) {
                *waiting = waiting.saturating_sub(1);
                if *waiting == 0 && is_quick {
                    kept.remove(&later.check.principal);
                }
            }
        }
    }

    async fn check_and_deliver(&mut self, later: &DeferredDelivery) -> bool {
        let started = Instant::now();
        let tables = std::slice::from_ref(&later.table);
        let answers = self.executor.run_checks(tables, std::slice::from_ref(&later.check)).await;
        match answers.ok().and_then(|answers| answers.into_iter().next()) {
            Some(answer) if !answer.timed_out => {
                if let Some(trouble) = &answer.error {
                    later.send_error(&format!(
                        "Changes of {} are withheld: its row-level security raised an error for you: {trouble}",
                        later.table.qualified_name
                    ));
                }
                let seen = later
                    .events
                    .iter()
                    .filter(|(row, _, channel)| answer.visible_rows.contains(row) && channel.is_active());
                let told: Vec<ChangeEvent> = seen.map(|(_, told, _)| told.clone()).collect();
                self.sink.deliver(told).await;
                started.elapsed() < FAST_CHECK_TIME
            }
            _ => {
                later.send_error(&skipped_message(&later.table));
                false
            }
        }
    }
}

fn skipped_message(table: &CheckedTable) -> String {
    format!(
        "Changes of {} were left out: its row-level security takes too long for you. Fetch again.",
        table.qualified_name
    )
}
