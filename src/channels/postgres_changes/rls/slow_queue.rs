//! Queue for principals whose row-level security checks are slow. They are checked on a separate connection, so they
//! delay only each other.
//!
//! A principal is added when a check times out. It is removed when it has nothing queued and its last check was fast.
//! If the queue is full or the longer timeout is exceeded, the subscriber receives an error that changes were
//! skipped.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::executor::{CheckedTable, RlsCheck, RlsExecutor};
use crate::channels::{
    ChannelPrincipal,
    postgres_changes::{
        delivery::{ChangeEvent, DeliverySink},
        registry::SubscribedChannel,
        system_messages,
    },
};

/// Maximum number of queued deliveries.
const MAX_QUEUED: usize = 256;
/// Maximum number of queued deliveries per principal.
const MAX_QUEUED_PER_PRINCIPAL: usize = 64;
/// A check within this time makes the principal leave the queue.
const FAST_CHECK_TIME: Duration = Duration::from_millis(100);

/// Events that are delivered if the principal may see their rows.
pub struct DeferredDelivery {
    check: RlsCheck,
    table: CheckedTable,
    /// Row index, event and channel, in the order of the changes.
    pub events: Vec<(usize, ChangeEvent, Arc<SubscribedChannel>)>,
}

impl DeferredDelivery {
    /// Creates a delivery without events.
    #[must_use]
    pub fn new(check: &RlsCheck, tables: &[CheckedTable]) -> Self {
        let check = check.clone();
        let table = tables[check.table_index].clone();
        Self { check: RlsCheck { table_index: 0, ..check }, table, events: Vec::new() }
    }

    fn send_error(&self, message: &str) {
        for (_, _, channel) in &self.events {
            channel.send_error_throttled(message);
        }
    }
}

/// The principals in the slow queue, with the number of queued deliveries.
type QueuedByPrincipal = Arc<Mutex<HashMap<Arc<ChannelPrincipal>, usize>>>;

/// Handle that queues deliveries whose row-level security check timed out.
pub struct SlowQueue {
    queued: QueuedByPrincipal,
    sender: mpsc::Sender<DeferredDelivery>,
}

/// Runs the queued checks and delivers the events.
pub struct SlowQueueWorker {
    queued: QueuedByPrincipal,
    receiver: mpsc::Receiver<DeferredDelivery>,
    executor: RlsExecutor,
    sink: Arc<dyn DeliverySink>,
}

/// Creates the queue and its worker. `executor` has one connection and a longer timeout.
#[must_use]
pub fn slow_queue(executor: RlsExecutor, sink: Arc<dyn DeliverySink>) -> (SlowQueue, SlowQueueWorker) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    let queued = QueuedByPrincipal::default();
    (SlowQueue { queued: Arc::clone(&queued), sender }, SlowQueueWorker { queued, receiver, executor, sink })
}

impl SlowQueue {
    /// Whether a principal's checks go to this queue.
    #[must_use]
    pub fn contains(&self, principal: &Arc<ChannelPrincipal>) -> bool {
        self.queued.lock().contains_key(principal)
    }

    /// Adds a principal whose check timed out.
    pub fn add(&self, principal: &Arc<ChannelPrincipal>) {
        self.queued.lock().entry(Arc::clone(principal)).or_default();
    }

    /// Queues deliveries without waiting. If the queue is full, the subscribers receive an error.
    pub fn enqueue(&self, deliveries: Vec<DeferredDelivery>) {
        for delivery in deliveries {
            let principal = Arc::clone(&delivery.check.principal);
            let mut queued = self.queued.lock();
            let count = queued.entry(Arc::clone(&principal)).or_default();
            let rejected = if *count >= MAX_QUEUED_PER_PRINCIPAL {
                Some(delivery)
            } else {
                *count += 1;
                match self.sender.try_send(delivery) {
                    Ok(()) => None,
                    Err(rejected) => {
                        *count -= 1;
                        Some(rejected.into_inner())
                    }
                }
            };
            drop(queued);
            if let Some(delivery) = rejected {
                delivery.send_error(&system_messages::check_timed_out(&delivery.table.qualified_name));
            }
        }
    }
}

impl SlowQueueWorker {
    /// Checks and delivers one delivery after the other until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(delivery)) = stop.run_until_cancelled(self.receiver.recv()).await {
            let Some(is_fast) = stop.run_until_cancelled(self.check_and_deliver(&delivery)).await else {
                return;
            };
            let mut queued = self.queued.lock();
            if let Some(count) = queued.get_mut(&delivery.check.principal) {
                *count = count.saturating_sub(1);
                if *count == 0 && is_fast {
                    queued.remove(&delivery.check.principal);
                }
            }
        }
    }

    async fn check_and_deliver(&mut self, delivery: &DeferredDelivery) -> bool {
        let started = Instant::now();
        let tables = std::slice::from_ref(&delivery.table);
        let results = self.executor.run_checks(tables, std::slice::from_ref(&delivery.check)).await;
        match results.ok().and_then(|results| results.into_iter().next()) {
            Some(result) if !result.timed_out => {
                if let Some(error) = &result.error {
                    delivery
                        .send_error(&system_messages::policy_error(&delivery.table.qualified_name, error));
                }
                let visible = delivery
                    .events
                    .iter()
                    .filter(|(row, _, channel)| result.visible_rows.contains(row) && channel.is_active());
                let events: Vec<ChangeEvent> = visible.map(|(_, event, _)| event.clone()).collect();
                self.sink.deliver(events).await;
                started.elapsed() < FAST_CHECK_TIME
            }
            _ => {
                delivery.send_error(&system_messages::check_timed_out(&delivery.table.qualified_name));
                false
            }
        }
    }
}
