//! Cache of authorization results, with the queues of checks. Plain data, no I/O.
//!
//! There is one entry per principal and topic and at most one running check per entry. The epoch counts announced
//! changes that may concern any entry: a result of a check started in an earlier epoch may be outdated. A change that
//! concerns certain entries only makes the results of these outdated, whatever their epoch.

mod entry;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use smallvec::SmallVec;
use tokio::{sync::oneshot, time::Instant};

pub(super) use self::entry::{CacheKey, CachedWriteRights};
use self::entry::{Entry, RequestState, Subscription};
use super::{
    AuthorizationError, ReadRights, WriteRights,
    subscriber::{ReadResult, RightsSubscriber, RightsUpdates, WriteResult},
};
use crate::pg::{notification::AffectedCallers, queries::rights::ProbeResult};

/// Maximum entries without a subscription, kept for rejoins and REST requests.
const MAX_IDLE: usize = 4_096;
pub(super) const IDLE_TTL: Duration = Duration::from_secs(60);
/// Maximum queued requests. Beyond it a request fails immediately.
const MAX_QUEUED: usize = 8_192;
/// Maximum repetitions of a check that was overtaken by a change. After them its result is used as it is.
const MAX_SUPERSEDED: u8 = 3;

/// Last known rights of a subscriber that was notified of an error.
const NO_RIGHTS: ReadRights = ReadRights { broadcast: false, presence: false };

/// Index of an entry. Invalid once the entry is evicted, which changes the generation of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EntryId {
    index: u32,
    generation: u32,
}

/// A check to run in the database.
#[derive(Debug, Clone)]
pub(super) struct RightsCheck {
    pub entry: EntryId,
    pub key: CacheKey,
    pub read: bool,
    pub write: bool,
}

/// The queue that a batch is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// A request waits for the result.
    Joins,
    /// The cached result may be outdated.
    Rechecks,
    /// Checks that may time out, run one at a time.
    Isolated,
}

#[derive(Default)]
pub(super) struct AuthorizationCache {
    entries: Vec<(u32, Option<Entry>)>,
    free: Vec<u32>,
    by_key: HashMap<CacheKey, u32>,
    /// Indexes of entries by the hashes of the values that name them in changed rows.
    by_value_hash: HashMap<u32, Vec<u32>>,
    subscribed: usize,
    idle: VecDeque<(u64, EntryId, Instant)>,
    next_id: u64,
    epoch: u64,
    is_connected: bool,
    policies_changed: bool,
    /// Requests that wait: joins and first writes.
    joins: VecDeque<EntryId>,
    /// Subscribed entries named by a change.
    urgent: VecDeque<EntryId>,
    /// The other subscribed entries of the current round, and whether another round is due.
    round_queue: VecDeque<EntryId>,
    round_requested: bool,
    /// Entries that are checked one at a time.
    isolated: VecDeque<EntryId>,
    /// Subscribed entries whose last known rights are probably outdated.
    unsettled: HashSet<u32>,
}

impl AuthorizationCache {
    // Invalidation -------------------------------------------------------------------------------------------------

    /// Records a change that results depend on.
    pub(super) fn invalidate(&mut self, callers: &AffectedCallers) {
        match callers {
            AffectedCallers::All => {
                self.epoch += 1;
                self.policies_changed = true;
                self.round_requested |= self.subscribed > 0;
                for (index, (_, entry)) in (0..).zip(&mut self.entries) {
                    if let Some(entry) = entry {
                        entry.cached_write.set(None);
                        entry.invalidated_at = self.epoch;
                        if !entry.subscriptions.is_empty() {
                            self.unsettled.insert(index);
                        }
                    }
                }
            }
            AffectedCallers::Likely(value_hashes) => {
                self.epoch += 1;
                self.round_requested |= self.subscribed > 0;
                self.invalidate_named(value_hashes);
            }
            // The epoch stays, so that the results of all others stay valid.
            AffectedCallers::Only(value_hashes) => {
                for index in self.invalidate_named(value_hashes) {
                    self.entry_mut(index).forget_results();
                }
            }
        }
    }

    /// Queues the subscribed entries with one of these hashes. Returns all entries with one.
    fn invalidate_named(&mut self, value_hashes: &[u32]) -> HashSet<u32> {
        let named: HashSet<u32> =
            value_hashes.iter().filter_map(|hash| self.by_value_hash.get(hash)).flatten().copied().collect();
        for index in &named {
            let (generation, entry) = &mut self.entries[*index as usize];
            let entry = entry.as_mut().expect("the index lists occupied slots");
            entry.cached_write.set(None);
            entry.invalidated_at = self.epoch;
            if entry.subscriptions.is_empty() {
                continue;
            }
            self.unsettled.insert(*index);
            // A round checks every outdated entry, so one beyond the bound is only checked later.
            if self.urgent.len() < 2 * self.subscribed {
                self.urgent.push_back(EntryId { index: *index, generation: *generation });
            } else {
                self.round_requested = true;
            }
        }
        named
    }

    /// The listener is connected. Changes before this may have been missed.
    pub(super) fn on_connected(&mut self) {
        self.is_connected = true;
        self.invalidate(&AffectedCallers::All);
    }

    /// The listener is disconnected. Changes from now on are missed.
    pub(super) fn on_disconnected(&mut self) {
        self.is_connected = false;
    }

    /// Whether the policies themselves may have changed since the last call.
    pub(super) fn take_policies_changed(&mut self) -> bool {
        std::mem::take(&mut self.policies_changed)
    }

    pub(super) const fn subscribed(&self) -> usize {
        self.subscribed
    }

    // Checks -------------------------------------------------------------------------------------------------------

    /// The read rights if cached, else a receiver for the result. A denial is always checked again: a user
    /// who was just granted access must not be rejected because the notification is still on its way.
    pub(super) fn read_rights(&mut self, key: CacheKey) -> Result<ReadResult, oneshot::Receiver<ReadResult>> {
        let (epoch, is_connected) = (self.epoch, self.is_connected);
        let entry_id = self.find_or_insert(key);
        let entry = self.entry_mut(entry_id.index);
        if let Some((read, _)) = entry.read.filter(|(read, of)| is_connected && *of == epoch && read.is_ok())
        {
            return Ok(read);
        }
        let (sender, receiver) = oneshot::channel();
        entry.read_waiters.push(sender);
        self.request(entry_id);
        Err(receiver)
    }

    /// The write rights if cached, else a receiver for the result. A denial is checked again, as in
    /// [`read_rights`](Self::read_rights).
    pub(super) fn write_rights(
        &mut self,
        key: CacheKey,
    ) -> Result<WriteResult, oneshot::Receiver<WriteResult>> {
        let (epoch, is_connected) = (self.epoch, self.is_connected);
        let entry_id = self.find_or_insert(key);
        let entry = self.entry_mut(entry_id.index);
        let is_granted = |write: &WriteResult| write.is_ok_and(|write| write != WriteRights::NONE);
        if let Some((write, _)) =
            entry.write.filter(|(write, of)| is_connected && *of == epoch && is_granted(write))
        {
            return Ok(write);
        }
        let (sender, receiver) = oneshot::channel();
        entry.write_waiters.push(sender);
        self.request(entry_id);
        Err(receiver)
    }

    /// Queues an entry that a request waits for. Fails the request if the queue is full.
    fn request(&mut self, entry_id: EntryId) {
        if self.joins.len() >= MAX_QUEUED {
            let entry = self.entry_mut(entry_id.index);
            send_all(&mut entry.read_waiters, Err(AuthorizationError::PoolExhausted));
            send_all(&mut entry.write_waiters, Err(AuthorizationError::PoolExhausted));
            self.requeue_or_park(entry_id);
            return;
        }
        let entry = self.entry_mut(entry_id.index);
        if entry.state == RequestState::Idle {
            entry.state = RequestState::Queued;
            self.joins.push_back(entry_id);
        }
    }

    /// Takes up to `max` checks from a queue, sorted by role.
    pub(super) fn take_batch(&mut self, queue: QueueKind, max: usize) -> Vec<RightsCheck> {
        let mut checks: Vec<RightsCheck> = Vec::new();
        while checks.len() < max {
            let next = match queue {
                QueueKind::Joins => self.joins.pop_front(),
                QueueKind::Rechecks => self.urgent.pop_front().or_else(|| self.round_queue.pop_front()),
                QueueKind::Isolated => self.isolated.pop_front(),
            };
            let Some(entry_id) = next else { break };
            checks.extend(self.begin_check(entry_id, queue));
        }
        checks.sort_by(|a, b| a.key.principal.role.cmp(&b.key.principal.role));
        checks
    }

    fn begin_check(&mut self, entry_id: EntryId, queue: QueueKind) -> Option<RightsCheck> {
        let epoch = self.epoch;
        let entry = self.get_mut(entry_id)?;
        // Skip entries that were checked from another queue meanwhile.
        let is_ready = match entry.state {
            RequestState::Queued => true,
            RequestState::Idle => queue == QueueKind::Rechecks && entry.needs_recheck(epoch),
            RequestState::Running { .. } => false,
        };
        if !is_ready {
            return None;
        }
        if entry.isolated && queue != QueueKind::Isolated {
            entry.state = RequestState::Queued;
            self.isolated.push_back(entry_id);
            return None;
        }
        let is_subscribed = !entry.subscriptions.is_empty();
        let is_stale = |of: Option<u64>| of.is_none_or(|of| of < epoch);
        let read = !entry.read_waiters.is_empty() || is_subscribed && is_stale(entry.read.map(|(_, of)| of));
        // Write rights that were requested once are kept up to date while subscribed.
        let write =
            !entry.write_waiters.is_empty() || is_subscribed && entry.write.is_some_and(|(_, of)| of < epoch);
        if !read && !write {
            entry.state = RequestState::Idle;
            return None;
        }
        entry.state = RequestState::Running { epoch, read, write };
        entry.checked_at = Instant::now();
        Some(RightsCheck { entry: entry_id, key: entry.key.clone(), read, write })
    }

    /// Starts a round of rechecks if one is due and none is running: all subscribed entries not checked since
    /// the last change.
    pub(super) fn begin_round(&mut self) -> bool {
        if !self.is_round_due() || !self.round_queue.is_empty() {
            return false;
        }
        self.round_requested = false;
        let epoch = self.epoch;
        for (index, (generation, entry)) in self.entries.iter().enumerate() {
            if entry.as_ref().is_some_and(|entry| entry.needs_recheck(epoch)) {
                let index = u32::try_from(index).expect("fewer than 2^32 entries");
                self.round_queue.push_back(EntryId { index, generation: *generation });
            }
        }
        true
    }

    pub(super) fn has_pending(&self, queue: QueueKind) -> bool {
        match queue {
            QueueKind::Joins => !self.joins.is_empty(),
            // While disconnected a result would be outdated on arrival.
            QueueKind::Rechecks => {
                self.is_connected && !(self.urgent.is_empty() && self.round_queue.is_empty())
            }
            QueueKind::Isolated => !self.isolated.is_empty(),
        }
    }

    pub(super) const fn is_round_due(&self) -> bool {
        self.round_requested && self.is_connected
    }

    /// Queues up to `max` subscribed entries whose last check is older than `age`.
    pub(super) fn recheck_older_than(&mut self, age: Duration, max: usize) {
        let old = self.entries.iter_mut().enumerate().filter_map(|(index, (generation, entry))| {
            let entry = entry.as_mut()?;
            let is_due = !entry.subscriptions.is_empty()
                && entry.state == RequestState::Idle
                && entry.checked_at.elapsed() >= age;
            is_due.then(|| {
                entry.forget_results();
                EntryId {
                    index: u32::try_from(index).expect("fewer than 2^32 entries"),
                    generation: *generation,
                }
            })
        });
        self.round_queue.extend(old.take(max));
    }

    // Results ------------------------------------------------------------------------------------------------------

    /// Records the result of a check and returns the updates to deliver.
    pub(super) fn on_result(
        &mut self,
        entry_id: EntryId,
        probe: Result<ProbeResult, AuthorizationError>,
    ) -> RightsUpdates {
        let (now, is_connected) = (self.epoch, self.is_connected);
        let Some(entry) = self.get_mut(entry_id) else { return RightsUpdates::new() };
        let RequestState::Running { epoch, read, write } = entry.state else { return RightsUpdates::new() };
        entry.state = RequestState::Idle;
        (entry.isolated, entry.timeouts) = (false, 0);
        let is_current = epoch == now;
        // While disconnected later changes are missed: the result is given to waiting requests but not
        // cached.
        let epoch = if is_connected { epoch } else { 0 };
        let superseded = !is_current && entry.superseded < MAX_SUPERSEDED;
        entry.superseded = if superseded { entry.superseded + 1 } else { 0 };
        let mut updates = RightsUpdates::new();
        if read {
            let result = probe.and_then(|probe| match probe.read {
                Some((false, false)) | None => Err(AuthorizationError::Unauthorized),
                Some((broadcast, presence)) => Ok(ReadRights { broadcast, presence }),
            });
            entry.read = Some((result, epoch));
            // A subscriber that lost all rights has closed its channel; later changes do not matter to it.
            for subscription in
                entry.subscriptions.iter_mut().filter(|subscription| subscription.last_known != NO_RIGHTS)
            {
                let last_known = subscription.last_known;
                let is_update = match result {
                    Err(_) => true,
                    // A gain may have been revoked since; a loss is certain.
                    Ok(rights) if is_current => rights != last_known,
                    Ok(rights) => {
                        last_known.broadcast && !rights.broadcast || last_known.presence && !rights.presence
                    }
                };
                if is_update {
                    subscription.last_known = result.unwrap_or(NO_RIGHTS);
                    updates.push((subscription.subscriber.clone(), result));
                }
            }
            if !superseded {
                send_all(&mut entry.read_waiters, result);
            }
        }
        if write {
            let result = probe.map(|probe| match probe.write {
                Some((broadcast, presence)) => WriteRights { broadcast, presence },
                None => WriteRights::NONE,
            });
            entry.write = Some((result, epoch));
            // An overtaken result is still newer than the cached one, unless that was invalidated by name.
            if is_current || entry.cached_write.get().is_some() {
                entry.cached_write.set(Some(result.unwrap_or(WriteRights::NONE)));
            }
            if !superseded {
                send_all(&mut entry.write_waiters, result);
            }
        }
        self.requeue_or_park(entry_id);
        updates
    }

    /// Marks an entry of a batch that timed out, to be checked alone.
    pub(super) fn isolate(&mut self, entry_id: EntryId) {
        let Some(entry) = self.get_mut(entry_id) else { return };
        entry.isolated = true;
        entry.state = RequestState::Queued;
        self.isolated.push_back(entry_id);
    }

    /// Records a failed check. Waiting requests fail, and subscribed entries are checked again later. After
    /// the third timeout in a row of an isolated check its subscribers are notified.
    pub(super) fn on_failure(&mut self, entry_id: EntryId, error: AuthorizationError) -> RightsUpdates {
        let Some(entry) = self.get_mut(entry_id) else { return RightsUpdates::new() };
        entry.state = RequestState::Idle;
        entry.superseded = 0;
        send_all(&mut entry.read_waiters, Err(error));
        send_all(&mut entry.write_waiters, Err(error));
        let mut updates = RightsUpdates::new();
        if entry.isolated && error == AuthorizationError::QueryCanceled {
            entry.timeouts = entry.timeouts.saturating_add(1);
            if entry.timeouts >= 3 {
                for subscription in
                    entry.subscriptions.iter_mut().filter(|subscription| subscription.last_known != NO_RIGHTS)
                {
                    subscription.last_known = NO_RIGHTS;
                    updates.push((subscription.subscriber.clone(), Err(error)));
                }
            }
        }
        let is_subscribed = !entry.subscriptions.is_empty();
        self.round_requested |= is_subscribed;
        self.requeue_or_park(entry_id);
        updates
    }

    /// After a check: queues the entry again if requests wait, requests a round if it is outdated, and parks
    /// it if it is unused.
    fn requeue_or_park(&mut self, entry_id: EntryId) {
        let epoch = self.epoch;
        let Some(entry) = self.get_mut(entry_id) else { return };
        if entry.state != RequestState::Idle {
            return;
        }
        if !entry.read_waiters.is_empty() || !entry.write_waiters.is_empty() {
            entry.state = RequestState::Queued;
            self.joins.push_back(entry_id);
        } else if entry.needs_recheck(epoch) {
            self.round_requested = true;
        } else if entry.subscriptions.is_empty() {
            self.park(entry_id);
        }
    }

    // Entries that are probably outdated -----------------------------------------------------------------------------

    /// Marks entries as checked, with their subscribers notified.
    pub(super) fn mark_settled(&mut self, entry_ids: &[EntryId]) {
        for entry_id in entry_ids {
            let Some(entry) = self.get_mut(*entry_id) else { continue };
            if entry.read.is_some_and(|(_, of)| of >= entry.invalidated_at) {
                self.unsettled.remove(&entry_id.index);
            }
        }
        if self.unsettled.is_empty() {
            self.unsettled.shrink_to(1_024);
        }
    }

    /// Whether no subscription to one of these topics waits for a recheck because of a change that probably
    /// concerns it.
    pub(super) fn are_settled(&self, topics: &[&str]) -> bool {
        self.unsettled.iter().all(|index| {
            let entry = self.entries[*index as usize].1.as_ref();
            entry.is_none_or(|entry| !topics.contains(&&*entry.key.topic))
        })
    }

    // Subscriptions ------------------------------------------------------------------------------------------------

    /// Notifies `subscriber` whenever the read rights differ from `last_known`. If they differ already, an
    /// update is returned; if that is unknown, a recheck is queued.
    pub(super) fn subscribe(
        &mut self,
        key: CacheKey,
        last_known: ReadRights,
        subscriber: Arc<dyn RightsSubscriber>,
    ) -> (EntryId, u64, Arc<CachedWriteRights>, RightsUpdates) {
        let epoch = self.epoch;
        let entry_id = self.find_or_insert(key);
        self.next_id += 1;
        let id = self.next_id;
        let entry = self.entry_mut(entry_id.index);
        let is_first = entry.subscriptions.is_empty();
        let mut subscription = Subscription { id, last_known, subscriber };
        let mut updates = RightsUpdates::new();
        match entry.read {
            Some((result, of)) if of == epoch => {
                if result != Ok(last_known) {
                    subscription.last_known = result.unwrap_or(NO_RIGHTS);
                    updates.push((subscription.subscriber.clone(), result));
                }
            }
            _ => {
                self.urgent.push_back(entry_id);
                self.entry_mut(entry_id.index).invalidated_at = epoch;
                self.unsettled.insert(entry_id.index);
            }
        }
        let entry = self.entry_mut(entry_id.index);
        entry.subscriptions.push(subscription);
        let cached_write = entry.cached_write.clone();
        if let Some((write, of)) = entry.write {
            cached_write.set((of == epoch).then(|| write.unwrap_or(WriteRights::NONE)));
        }
        self.subscribed += usize::from(is_first);
        (entry_id, id, cached_write, updates)
    }

    pub(super) fn unsubscribe(&mut self, entry_id: EntryId, id: u64) {
        let Some(entry) = self.get_mut(entry_id) else { return };
        entry.subscriptions.retain(|subscription| subscription.id != id);
        if !entry.subscriptions.is_empty() {
            return;
        }
        self.unsettled.remove(&entry_id.index);
        self.subscribed -= 1;
        self.park(entry_id);
    }

    // Entries ------------------------------------------------------------------------------------------------------

    fn find_or_insert(&mut self, key: CacheKey) -> EntryId {
        if let Some(index) = self.by_key.get(&key).copied() {
            return EntryId { index, generation: self.entries[index as usize].0 };
        }
        let entry = Entry::new(key.clone());
        let value_hashes = entry.value_hashes.clone();
        let index = if let Some(index) = self.free.pop() {
            self.entries[index as usize].1 = Some(entry);
            index
        } else {
            self.entries.push((0, Some(entry)));
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 entries")
        };
        self.by_key.insert(key, index);
        for hash in value_hashes {
            self.by_value_hash.entry(hash).or_default().push(index);
        }
        EntryId { index, generation: self.entries[index as usize].0 }
    }

    /// Marks an entry as unused. It is kept until its TTL has passed or others need the space.
    fn park(&mut self, entry_id: EntryId) {
        self.next_id += 1;
        let stamp = self.next_id;
        let Some(entry) = self.get_mut(entry_id) else { return };
        entry.idle_stamp = stamp;
        self.idle.push_back((stamp, entry_id, Instant::now()));
        while self.idle.len() > MAX_IDLE {
            self.evict_oldest();
        }
    }

    /// Evicts entries that were unused for `IDLE_TTL`.
    pub(super) fn evict_expired(&mut self) {
        while self.idle.front().is_some_and(|(_, _, since)| since.elapsed() >= IDLE_TTL) {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        let Some((stamp, entry_id, _)) = self.idle.pop_front() else { return };
        let Some(entry) = self.get_mut(entry_id) else { return };
        if entry.idle_stamp != stamp || entry.is_in_use() || entry.state != RequestState::Idle {
            return;
        }
        let (generation, slot) = &mut self.entries[entry_id.index as usize];
        *generation = generation.wrapping_add(1);
        if let Some(entry) = slot.take() {
            self.by_key.remove(&entry.key);
            for hash in entry.value_hashes {
                if let Some(indexes) = self.by_value_hash.get_mut(&hash) {
                    indexes.retain(|index| *index != entry_id.index);
                    if indexes.is_empty() {
                        self.by_value_hash.remove(&hash);
                    }
                }
            }
        }
        self.free.push(entry_id.index);
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry {
        self.entries[index as usize].1.as_mut().expect("the index belongs to an occupied slot")
    }

    fn get_mut(&mut self, entry_id: EntryId) -> Option<&mut Entry> {
        let (generation, entry) = self.entries.get_mut(entry_id.index as usize)?;
        entry.as_mut().filter(|_| *generation == entry_id.generation)
    }
}

fn send_all<T: Copy>(waiters: &mut SmallVec<[oneshot::Sender<T>; 1]>, result: T) {
    for waiter in waiters.drain(..) {
        // The receiver is gone if the caller timed out.
        let _ = waiter.send(result);
    }
}

#[cfg(test)]
mod tests;
