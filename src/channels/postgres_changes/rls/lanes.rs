//! Lanes for deliveries that the shared queue must not wait for: slow row-level security checks, and filters that only
//! PostgreSQL can evaluate.
//!
//! Each delivery has an owner, whose deliveries stay in order. The quick lane has a short timeout; an owner that
//! exceeds it moves to the slow lane, which has a longer one. Both lanes serve their owners in turn, so a costly owner
//! delays the others by one delivery at most. An owner leaves the slow lane when it has nothing queued and its last
//! delivery was fast. If an owner's queue is full or the longer timeout is exceeded, the subscriber receives an error
//! that changes were skipped.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    executor::{CheckedTable, RlsCheck, RlsExecutor},
    query::RowQuery,
};
use crate::{
    channels::{
        ChannelPrincipal,
        postgres_changes::{
            delivery::{ChangeEvent, DeliverySink},
            filter::Filter,
            payload,
            registry::{SubscribedChannel, SubscriptionSpec},
            system_messages,
            types::TypeInfo,
        },
    },
    hub::ConnId,
    pg::replication::Operation,
    protocol::phoenix::TopicMessage,
};

/// Maximum number and bytes of queued deliveries.
const MAX_QUEUED: usize = 1_024;
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Maximum number and bytes of queued deliveries per owner.
const MAX_QUEUED_PER_OWNER: usize = 64;
const MAX_QUEUED_BYTES_PER_OWNER: usize = 8 << 20;
/// A delivery within this time makes its owner leave the slow lane.
const FAST_TIME: Duration = Duration::from_millis(100);
/// How long an owner stays in the slow lane without deliveries.
const SLOW_OWNER_TTL: Duration = Duration::from_secs(60);

/// Whose deliveries stay in order and share a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Checks of policies, whose cost depends on the principal.
    Principal(Arc<ChannelPrincipal>),
    /// Filters, whose cost depends on the client's choice.
    Connection(ConnId),
}

/// A lane has one timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Quick,
    Slow,
}

/// Events of one table that are delivered if the principal may see their rows and their filters match.
pub struct DeferredDelivery {
    owner: Owner,
    principal: Arc<ChannelPrincipal>,
    table: CheckedTable,
    /// Rows whose visibility is not known. The other rows are visible.
    unchecked_rows: Vec<usize>,
    filters: Vec<DeferredFilter>,
    events: Vec<DeferredEvent>,
    size_bytes: usize,
}

/// A filter and the values that it is evaluated for.
struct DeferredFilter {
    type_info: Arc<TypeInfo>,
    filter: Filter,
    values: HashMap<usize, String>,
}

/// An event for one channel.
pub struct DeferredEvent {
    pub row: usize,
    pub channel: Arc<SubscribedChannel>,
    pub spec: Arc<SubscriptionSpec>,
    pub operation: Operation,
    /// By selected columns.
    pub parts: Vec<EventPart>,
}

/// A payload and the bindings that receive it.
pub struct EventPart {
    pub data: Arc<str>,
    /// IDs of the matching bindings.
    pub ids: Vec<u32>,
    /// IDs of further bindings, and the filters that must match, by index in the delivery.
    pub undecided: Vec<(u32, Vec<usize>)>,
}

impl DeferredDelivery {
    pub const fn new(owner: Owner, principal: Arc<ChannelPrincipal>, table: CheckedTable) -> Self {
        Self {
            owner,
            principal,
            table,
            unchecked_rows: Vec::new(),
            filters: Vec::new(),
            events: Vec::new(),
            size_bytes: 0,
        }
    }

    /// Adds an event; `is_visible` is false if row-level security has not been checked for its row.
    pub fn add_event(&mut self, event: DeferredEvent, is_visible: bool) {
        if !is_visible && !self.unchecked_rows.contains(&event.row) {
            self.unchecked_rows.push(event.row);
        }
        self.size_bytes += event.parts.iter().map(|part| part.data.len() + 64).sum::<usize>();
        self.events.push(event);
    }

    /// Adds a value to evaluate a filter for; returns the filter's index.
    pub fn add_filter(
        &mut self,
        type_info: &Arc<TypeInfo>,
        filter: &Filter,
        row: usize,
        value: &str,
    ) -> usize {
        let is_same = |known: &DeferredFilter| {
            known.filter == *filter && known.type_info.qualified == type_info.qualified
        };
        let index = self.filters.iter().position(is_same).unwrap_or_else(|| {
            let (type_info, filter) = (Arc::clone(type_info), filter.clone());
            self.size_bytes += filter.size_bytes();
            self.filters.push(DeferredFilter { type_info, filter, values: HashMap::new() });
            self.filters.len() - 1
        });
        if self.filters[index].values.insert(row, value.to_owned()).is_none() {
            self.size_bytes += value.len();
        }
        index
    }

    fn send_error(&self, message: &str) {
        for event in &self.events {
            event.channel.send_error_throttled(message);
        }
    }
}

impl DeferredEvent {
    /// The events, given which filters match the row.
    fn resolve(&self, matches: impl Fn(usize) -> bool) -> Vec<ChangeEvent> {
        let mut events = Vec::new();
        for part in &self.parts {
            let mut ids = part.ids.clone();
            let resolved =
                part.undecided.iter().filter(|(_, filters)| filters.iter().all(|filter| matches(*filter)));
            ids.extend(resolved.map(|(id, _)| *id));
            if ids.is_empty() {
                continue;
            }
            // The order of the join.
            let position = |id: &u32| self.spec.bindings.iter().position(|binding| binding.id == *id);
            ids.sort_by_key(position);
            events.push(change_event(&self.spec, self.operation, &part.data, &ids, vec![self.channel.conn]));
        }
        events
    }
}

/// Builds an event for bindings with equal payloads.
#[must_use]
pub fn change_event(
    spec: &SubscriptionSpec,
    operation: Operation,
    data: &str,
    binding_ids: &[u32],
    recipients: Vec<ConnId>,
) -> ChangeEvent {
    let topic = Arc::clone(&spec.topic);
    let (event, payload) = if spec.is_legacy {
        (operation.as_str(), data.into())
    } else {
        ("postgres_changes", payload::event_payload(data, binding_ids).into())
    };
    ChangeEvent { message: TopicMessage { topic, event: event.into(), payload }, recipients }
}

struct OwnerQueue {
    lane: Lane,
    deliveries: VecDeque<DeferredDelivery>,
    size_bytes: usize,
    /// A worker has taken a delivery.
    is_busy: bool,
    last_used: Instant,
}

#[derive(Default)]
struct State {
    owners: HashMap<Owner, OwnerQueue>,
    /// Owners with deliveries and without a busy worker, by lane.
    ready: [VecDeque<Owner>; 2],
    queued: usize,
    size_bytes: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    notify: [Notify; 2],
}

/// Handle of the two lanes.
#[derive(Clone, Default)]
pub struct Lanes(Arc<Shared>);

/// Processes the deliveries of one lane.
pub struct LaneWorker {
    lanes: Lanes,
    lane: Lane,
    executor: RlsExecutor,
    /// Maximum duration of a delivery.
    timeout: Duration,
    sink: Arc<dyn DeliverySink>,
}

enum Outcome {
    Done { is_fast: bool },
    TimedOut,
}

impl Lanes {
    /// Creates a worker. Several may serve one lane.
    #[must_use]
    pub fn worker(
        &self,
        lane: Lane,
        executor: RlsExecutor,
        timeout: Duration,
        sink: Arc<dyn DeliverySink>,
    ) -> LaneWorker {
        LaneWorker { lanes: self.clone(), lane, executor, timeout, sink }
    }

    /// The owners whose next events must be queued as well: those with queued deliveries, and those that are slow.
    #[must_use]
    pub fn owners(&self) -> HashSet<Owner> {
        let mut state = self.0.state.lock();
        state.owners.retain(|_, queue| {
            queue.is_busy || !queue.deliveries.is_empty() || queue.last_used.elapsed() < SLOW_OWNER_TTL
        });
        state.owners.keys().cloned().collect()
    }

    /// Adds a principal whose policies exceeded the timeout of the shared queue to the slow lane.
    pub fn add_slow_principal(&self, principal: &Arc<ChannelPrincipal>) {
        let owner = Owner::Principal(Arc::clone(principal));
        self.0.state.lock().owners.entry(owner).or_insert_with(|| OwnerQueue::new(Lane::Slow));
    }

    /// Queues deliveries without waiting. If a queue is full, the subscribers receive an error.
    pub fn enqueue(&self, deliveries: Vec<DeferredDelivery>) {
        for delivery in deliveries {
            if let Err(delivery) = self.push(delivery) {
                delivery.send_error(&system_messages::check_timed_out(&delivery.table.qualified_name));
            }
        }
    }

    fn push(&self, delivery: DeferredDelivery) -> Result<(), DeferredDelivery> {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        let size_bytes = delivery.size_bytes;
        let owner = delivery.owner.clone();
        let queue = state.owners.entry(owner.clone()).or_insert_with(|| OwnerQueue::new(Lane::Quick));
        // An owner's first delivery is accepted whatever its size, within the bound of all owners.
        let is_full = !queue.deliveries.is_empty()
            && (queue.deliveries.len() >= MAX_QUEUED_PER_OWNER
                || queue.size_bytes + size_bytes > MAX_QUEUED_BYTES_PER_OWNER);
        if is_full || state.queued >= MAX_QUEUED || state.size_bytes + size_bytes > MAX_QUEUED_BYTES {
            return Err(delivery);
        }
        let lane = queue.lane;
        let is_ready = queue.deliveries.is_empty() && !queue.is_busy;
        queue.deliveries.push_back(delivery);
        queue.size_bytes += size_bytes;
        queue.last_used = Instant::now();
        state.queued += 1;
        state.size_bytes += size_bytes;
        if is_ready {
            state.ready[lane as usize].push_back(owner);
            self.0.notify[lane as usize].notify_one();
        }
        Ok(())
    }

    /// Takes the next delivery of a lane.
    fn pop(&self, lane: Lane) -> Option<DeferredDelivery> {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        let owner = state.ready[lane as usize].pop_front()?;
        let queue = state.owners.get_mut(&owner)?;
        let delivery = queue.deliveries.pop_front()?;
        queue.is_busy = true;
        queue.size_bytes -= delivery.size_bytes;
        state.queued -= 1;
        state.size_bytes -= delivery.size_bytes;
        if !state.ready[lane as usize].is_empty() {
            self.0.notify[lane as usize].notify_one();
        }
        Some(delivery)
    }

    /// Records the result of a delivery. A delivery that timed out in the quick lane is moved to the slow lane.
    fn finish(&self, delivery: DeferredDelivery, lane: Lane, outcome: &Outcome) {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        let Some(queue) = state.owners.get_mut(&delivery.owner) else { return };
        queue.is_busy = false;
        queue.last_used = Instant::now();
        let owner = delivery.owner.clone();
        match (outcome, lane) {
            (Outcome::TimedOut, Lane::Quick) => {
                queue.lane = Lane::Slow;
                queue.size_bytes += delivery.size_bytes;
                state.queued += 1;
                state.size_bytes += delivery.size_bytes;
                queue.deliveries.push_front(delivery);
            }
            (Outcome::Done { is_fast: true }, Lane::Slow) if queue.deliveries.is_empty() => {
                queue.lane = Lane::Quick;
            }
            _ => {}
        }
        if !queue.deliveries.is_empty() {
            let lane = queue.lane;
            state.ready[lane as usize].push_back(owner);
            self.0.notify[lane as usize].notify_one();
        } else if queue.lane == Lane::Quick {
            state.owners.remove(&owner);
        }
    }
}

impl OwnerQueue {
    fn new(lane: Lane) -> Self {
        Self { lane, deliveries: VecDeque::new(), size_bytes: 0, is_busy: false, last_used: Instant::now() }
    }
}

impl LaneWorker {
    /// Processes deliveries until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let Some(delivery) = self.lanes.pop(self.lane) else {
                let lanes = self.lanes.clone();
                let notified = lanes.0.notify[self.lane as usize].notified();
                if stop.run_until_cancelled(notified).await.is_none() {
                    return;
                }
                continue;
            };
            let Some(outcome) = stop.run_until_cancelled(self.process(&delivery)).await else { return };
            self.lanes.finish(delivery, self.lane, &outcome);
        }
    }

    async fn process(&mut self, delivery: &DeferredDelivery) -> Outcome {
        let started = Instant::now();
        match self.resolve(delivery, started).await {
            Some(events) => {
                self.sink.deliver(events).await;
                Outcome::Done { is_fast: started.elapsed() < FAST_TIME }
            }
            None => {
                if self.lane == Lane::Slow {
                    delivery.send_error(&system_messages::check_timed_out(&delivery.table.qualified_name));
                }
                Outcome::TimedOut
            }
        }
    }

    /// The events to deliver; `None` if the timeout was exceeded or the database is unavailable.
    async fn resolve(&mut self, delivery: &DeferredDelivery, started: Instant) -> Option<Vec<ChangeEvent>> {
        let mut visible: HashSet<usize> = delivery.events.iter().map(|event| event.row).collect();
        if !delivery.unchecked_rows.is_empty() {
            let result = self.check(delivery, &delivery.table, delivery.unchecked_rows.clone()).await?;
            if let Some(error) = &result.error {
                let table = &delivery.table.qualified_name;
                delivery.send_error(&system_messages::policy_error(table, error));
            }
            for row in &delivery.unchecked_rows {
                if !result.visible_rows.contains(row) {
                    visible.remove(row);
                }
            }
        }
        let mut matches: Vec<HashSet<usize>> = Vec::with_capacity(delivery.filters.len());
        for filter in &delivery.filters {
            let values: Vec<(usize, &str)> = filter
                .values
                .iter()
                .filter(|(row, _)| visible.contains(*row))
                .map(|(row, value)| (*row, value.as_str()))
                .collect();
            if values.is_empty() {
                matches.push(HashSet::new());
                continue;
            }
            if started.elapsed() > self.timeout {
                return None;
            }
            let rows = values.iter().map(|(row, _)| *row).collect();
            let table = CheckedTable {
                qualified_name: delivery.table.qualified_name.clone(),
                queries: vec![RowQuery::by_filter(&filter.type_info, &filter.filter, &values)],
            };
            let result = self.check(delivery, &table, rows).await?;
            if let Some(error) = &result.error {
                let table = &delivery.table.qualified_name;
                delivery.send_error(&system_messages::filter_error(table, &filter.filter.column, error));
            }
            matches.push(result.visible_rows.into_iter().collect());
        }
        let events =
            delivery.events.iter().filter(|event| visible.contains(&event.row) && event.channel.is_active());
        Some(events.flat_map(|event| event.resolve(|filter| matches[filter].contains(&event.row))).collect())
    }

    async fn check(
        &mut self,
        delivery: &DeferredDelivery,
        table: &CheckedTable,
        rows: Vec<usize>,
    ) -> Option<super::executor::RlsCheckResult> {
        let check = RlsCheck { principal: Arc::clone(&delivery.principal), table_index: 0, rows };
        let results = self.executor.run_checks(std::slice::from_ref(table), &[check]).await;
        results.ok()?.into_iter().next().filter(|result| !result.timed_out)
    }
}
