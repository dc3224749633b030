//! Lanes for deliveries that the shared queue must not wait for: slow row-level security checks, and filters that only
//! PostgreSQL can evaluate.
//!
//! Each delivery has an owner, whose deliveries stay in order. The quick lane has a short timeout; an owner that
//! exceeds it moves to the slow lane, which has a longer one. Both lanes serve their owners in turn, so a costly owner
//! delays the others by one delivery at most. An owner leaves the slow lane when it has nothing queued and its last
//! delivery was fast. If an owner's queue is full or the longer timeout is exceeded, the subscriber receives an error
//! that changes were skipped.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    executor::{CheckedTable, RlsCheck, RlsCheckResult, RlsExecutor},
    query::RowQuery,
};
use crate::{
    auth::Principal,
    channels::postgres_changes::{
        delivery::{ChangeEvent, DeliverySink},
        filter::Filter,
        payload,
        registry::{SubscribedChannel, SubscriptionSpec},
        system_messages,
        types::TypeInfo,
    },
    hub::ConnId,
    pg::replication::Operation,
    protocol::phoenix::TopicMessage,
};

/// Maximum number and bytes of queued deliveries. Payloads that deliveries share count for each of them.
const MAX_QUEUED: usize = 16_384;
const MAX_QUEUED_BYTES: usize = 128 << 20;
/// Maximum number and bytes of queued deliveries per owner.
const MAX_QUEUED_PER_OWNER: usize = 64;
const MAX_QUEUED_BYTES_PER_OWNER: usize = 8 << 20;
/// A delivery within this time makes its owner leave the slow lane.
const FAST_TIME: Duration = Duration::from_millis(100);
/// How long an owner stays in the slow lane without deliveries.
const SLOW_OWNER_TTL: Duration = Duration::from_secs(60);
/// Time that a delivery may take beyond the timeout of its statements.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(250);

/// Whose deliveries stay in order and share a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// Checks of policies, whose cost depends on the principal.
    Principal(Arc<Principal>),
    /// Filters, whose cost depends on the client's choice.
    Connection(ConnId),
}

/// A lane has one timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Quick,
    Slow,
}

/// Index of a table in its batch, and of a row within the table.
pub(crate) type RowRef = (usize, usize);

/// Events of one batch that are delivered if the principal may see their rows and their filters match. They are in the
/// order of the changes, whatever their tables.
pub(crate) struct DeferredDelivery {
    owner: Owner,
    principal: Arc<Principal>,
    /// By index in the batch.
    tables: BTreeMap<usize, DeferredTable>,
    filters: Vec<DeferredFilter>,
    events: Vec<DeferredEvent>,
    size_bytes: usize,
}

struct DeferredTable {
    table: Arc<CheckedTable>,
    /// Rows whose visibility is not known. The other rows are visible.
    unchecked_rows: Vec<usize>,
}

/// A filter and the values that it is evaluated for.
struct DeferredFilter {
    type_info: Arc<TypeInfo>,
    filter: Filter,
    values: HashMap<RowRef, String>,
}

/// An event for one channel.
pub(crate) struct DeferredEvent {
    pub row: RowRef,
    pub channel: Arc<SubscribedChannel>,
    pub spec: Arc<SubscriptionSpec>,
    pub operation: Operation,
    /// One part per set of selected columns.
    pub parts: Vec<EventPart>,
}

/// A payload and the bindings that receive it.
pub(crate) struct EventPart {
    pub data: Arc<str>,
    /// IDs of the matching bindings.
    pub ids: Vec<u32>,
    /// IDs of further bindings, and the filters that must match, by index in the delivery.
    pub undecided: Vec<(u32, Vec<usize>)>,
}

impl DeferredDelivery {
    pub(crate) const fn new(owner: Owner, principal: Arc<Principal>) -> Self {
        Self {
            owner,
            principal,
            tables: BTreeMap::new(),
            filters: Vec::new(),
            events: Vec::new(),
            size_bytes: 0,
        }
    }

    /// Adds an event of a table, in the order of the changes; `is_visible` is false if row-level security has not been
    /// checked for its row.
    pub(crate) fn add_event(&mut self, event: DeferredEvent, table: &Arc<CheckedTable>, is_visible: bool) {
        let (table_index, row) = event.row;
        let size_bytes = &mut self.size_bytes;
        let deferred = self.tables.entry(table_index).or_insert_with(|| {
            *size_bytes += table.size_bytes();
            DeferredTable { table: Arc::clone(table), unchecked_rows: Vec::new() }
        });
        if !is_visible && deferred.unchecked_rows.last() != Some(&row) {
            deferred.unchecked_rows.push(row);
        }
        self.size_bytes += event.parts.iter().map(|part| part.data.len() + 64).sum::<usize>();
        self.events.push(event);
    }

    /// Adds a value to evaluate a filter for; returns the filter's index.
    pub(crate) fn add_filter(
        &mut self,
        type_info: &Arc<TypeInfo>,
        filter: &Filter,
        row: RowRef,
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

    /// Sends an error to the channels that wait for events of a table.
    fn send_error(&self, table_index: usize, message: &str) {
        for event in self.events.iter().filter(|event| event.row.0 == table_index) {
            event.channel.send_error_throttled(message);
        }
    }

    /// Sends the error that the deliveries were skipped.
    fn send_timed_out(&self) {
        for (table_index, deferred) in &self.tables {
            self.send_error(*table_index, &system_messages::check_timed_out(&deferred.table.qualified_name));
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
pub(crate) fn change_event(
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
pub(crate) struct Lanes(Arc<Shared>);

/// Processes the deliveries of one lane.
pub(crate) struct LaneWorker {
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
    pub(crate) fn worker(
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
    pub(crate) fn owners(&self) -> HashSet<Owner> {
        let mut state = self.0.state.lock();
        state.owners.retain(|_, queue| {
            queue.is_busy || !queue.deliveries.is_empty() || queue.last_used.elapsed() < SLOW_OWNER_TTL
        });
        state.owners.keys().cloned().collect()
    }

    /// Adds a principal whose policies exceeded the timeout of the shared queue to the slow lane.
    pub(crate) fn add_slow_principal(&self, principal: &Arc<Principal>) {
        let owner = Owner::Principal(Arc::clone(principal));
        self.0.state.lock().owners.entry(owner).or_insert_with(|| OwnerQueue::new(Lane::Slow));
    }

    /// Queues deliveries without waiting. If a queue is full, the subscribers receive an error.
    pub(crate) fn enqueue(&self, deliveries: Vec<DeferredDelivery>) {
        for delivery in deliveries {
            if let Err(delivery) = self.push(delivery) {
                delivery.send_timed_out();
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
    pub(crate) async fn run(mut self, stop: CancellationToken) {
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
        let resolved = timeout(self.timeout + TIMEOUT_MARGIN, self.resolve(delivery, started)).await;
        if resolved.is_err() {
            // A statement may still run on the connection.
            self.executor.disconnect();
        }
        match resolved.ok().flatten() {
            Some(events) => {
                self.sink.deliver(events).await;
                Outcome::Done { is_fast: started.elapsed() < FAST_TIME }
            }
            None => {
                if self.lane == Lane::Slow {
                    delivery.send_timed_out();
                }
                Outcome::TimedOut
            }
        }
    }

    /// The events to deliver; `None` if the timeout was exceeded or the database is unavailable.
    async fn resolve(&mut self, delivery: &DeferredDelivery, started: Instant) -> Option<Vec<ChangeEvent>> {
        let mut visible: HashSet<RowRef> = delivery.events.iter().map(|event| event.row).collect();
        for (table_index, DeferredTable { table, unchecked_rows }) in &delivery.tables {
            if unchecked_rows.is_empty() {
                continue;
            }
            let result = self.check(delivery, table, unchecked_rows.clone()).await?;
            if let Some(error) = &result.error {
                let message = system_messages::policy_error(&table.qualified_name, error);
                delivery.send_error(*table_index, &message);
            }
            let visible_rows: HashSet<usize> = result.visible_rows.into_iter().collect();
            let hidden = unchecked_rows.iter().filter(|row| !visible_rows.contains(row));
            for row in hidden {
                visible.remove(&(*table_index, *row));
            }
        }
        let mut matches: Vec<HashSet<RowRef>> = Vec::with_capacity(delivery.filters.len());
        for filter in &delivery.filters {
            if started.elapsed() > self.timeout {
                return None;
            }
            matches.push(self.matching_rows(delivery, filter, &visible).await?);
        }
        let events =
            delivery.events.iter().filter(|event| visible.contains(&event.row) && event.channel.is_active());
        Some(events.flat_map(|event| event.resolve(|filter| matches[filter].contains(&event.row))).collect())
    }

    /// The visible rows that a filter matches. Equal values are evaluated once.
    async fn matching_rows(
        &mut self,
        delivery: &DeferredDelivery,
        DeferredFilter { type_info, filter, values }: &DeferredFilter,
        visible: &HashSet<RowRef>,
    ) -> Option<HashSet<RowRef>> {
        let mut rows_by_value: BTreeMap<&str, Vec<RowRef>> = BTreeMap::new();
        for (row, value) in values.iter().filter(|(row, _)| visible.contains(*row)) {
            rows_by_value.entry(value).or_default().push(*row);
        }
        if rows_by_value.is_empty() {
            return Some(HashSet::new());
        }
        let distinct: Vec<&str> = rows_by_value.keys().copied().collect();
        let query = RowQuery::by_filter(type_info, filter, &distinct);
        let table = CheckedTable { qualified_name: String::new(), queries: vec![query] };
        let result = self.check(delivery, &Arc::new(table), (0..distinct.len()).collect()).await?;
        if let Some(error) = &result.error {
            let tables: HashSet<usize> = values.keys().map(|(table, _)| *table).collect();
            for (table_index, deferred) in delivery.tables.iter().filter(|(index, _)| tables.contains(index))
            {
                let table = &deferred.table.qualified_name;
                delivery
                    .send_error(*table_index, &system_messages::filter_error(table, &filter.column, error));
            }
        }
        let groups: Vec<Vec<RowRef>> = rows_by_value.into_values().collect();
        Some(result.visible_rows.into_iter().flat_map(|index| groups[index].clone()).collect())
    }

    async fn check(
        &mut self,
        delivery: &DeferredDelivery,
        table: &Arc<CheckedTable>,
        rows: Vec<usize>,
    ) -> Option<RlsCheckResult> {
        let check = RlsCheck { principal: Arc::clone(&delivery.principal), table_index: 0, rows };
        let results = self.executor.run_checks(std::slice::from_ref(table), &[check]).await;
        results.ok()?.into_iter().next().filter(|result| !result.timed_out)
    }
}
