//! What is remembered of rights; plain data, no I/O.
//!
//! One entry a pair of claimant and topic. An entry is asked about once at a time, whoever wants to know. The epoch
//! counts announcements: an answer that was asked for in an earlier epoch than the present one may be of before a
//! change.

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
use super::{AuthorizationError, ReadRights, RightsSubscriber, WriteRights};
use crate::pg::queries::rights::ProbeResult;

/// Answers that nobody watches are kept for a while, for those who join again and for REST.
const MAX_IDLE: usize = 4_096;
pub(super) const IDLE_TTL: Duration = Duration::from_secs(60);
/// Questions that may wait. Over it there is an error at once.
const MAX_QUEUED: usize = 8_192;
/// How often a question that a change overtook is asked again before its answer is given as it is.
const MAX_SUPERSEDED: u8 = 3;

/// What a watcher believes that was told of an error.
const NO_RIGHTS: ReadRights = ReadRights { broadcast: false, presence: false };

/// An entry's place; stale once the entry is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EntryId {
    index: u32,
    generation: u32,
}

pub(super) type ReadResult = Result<ReadRights, AuthorizationError>;
pub(super) type WriteResult = Result<WriteRights, AuthorizationError>;
/// What is to be told to whom, once the lock is gone.
pub(super) type RightsUpdates = Vec<(Arc<dyn RightsSubscriber>, ReadResult)>;

/// A question for the database.
#[derive(Debug, Clone)]
pub(super) struct RightsCheck {
    pub entry: EntryId,
    pub key: CacheKey,
    pub read: bool,
    pub write: bool,
}

/// From which line a batch is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// Somebody waits for the answer.
    Joins,
    /// What was believed may not be so any more.
    Rechecks,
    /// Policies that may not come to an end, one caller at a time.
    Isolated,
}

/// Everything that is remembered.
#[derive(Default)]
pub(super) struct AuthorizationCache {
    entries: Vec<(u32, Option<Entry>)>,
    free: Vec<u32>,
    by_key: HashMap<CacheKey, u32>,
    /// Watched entries by the traces that rows about them leave.
    by_value_hash: HashMap<u32, Vec<u32>>,
    subscribed: usize,
    idle: VecDeque<(u64, EntryId, Instant)>,
    next_id: u64,
    epoch: u64,
    is_connected: bool,
    policies_changed: bool,
    /// Whoever waits: joins and first writes.
    joins: VecDeque<EntryId>,
    /// Watched entries that a change named.
    urgent: VecDeque<EntryId>,
    /// The other watched entries of a round of re-checks, and whether another round is wanted.
    round_queue: VecDeque<EntryId>,
    round_requested: bool,
    /// Whoever is asked alone.
    isolated: VecDeque<EntryId>,
    /// Watched entries that most likely believe what is not so any more.
    unsettled: HashSet<u32>,
}

impl AuthorizationCache {
    // Announcements ------------------------------------------------------------------------------------------------

    /// Something changed that answers depend on; with traces, most likely for those who leave one of them.
    pub fn invalidate(&mut self, traces: &[u32]) {
        self.epoch += 1;
        self.policies_changed |= traces.is_empty();
        if self.subscribed == 0 {
            return;
        }
        self.round_requested = true;
        if traces.is_empty() {
            for (index, (_, entry)) in (0..).zip(&mut self.entries) {
                if let Some(entry) = entry {
                    entry.cached_write.set(None);
                    entry.invalidated_at = self.epoch;
                    if !entry.subscriptions.is_empty() {
                        self.unsettled.insert(index);
                    }
                }
            }
            return;
        }
        let named: HashSet<u32> =
            traces.iter().filter_map(|trace| self.by_value_hash.get(trace)).flatten().copied().collect();
        for index in named {
            let (generation, entry) = &mut self.entries[index as usize];
            if let Some(entry) = entry {
                entry.cached_write.set(None);
                entry.invalidated_at = self.epoch;
                self.unsettled.insert(index);
                // The round finds everybody, so what is over the bound only comes later.
                if self.urgent.len() < 2 * self.subscribed {
                    self.urgent.push_back(EntryId { index, generation: *generation });
                }
            }
        }
    }

    /// Announcements arrive from now on; those of before may have been missed.
    pub fn on_connected(&mut self) {
        self.is_connected = true;
        self.invalidate(&[]);
    }

    /// Announcements are missed from now on.
    pub fn on_disconnected(&mut self) {
        self.is_connected = false;
    }

    /// Whether the policies themselves may have changed since the last call.
    pub fn take_policies_changed(&mut self) -> bool {
        std::mem::take(&mut self.policies_changed)
    }

    pub const fn subscribed(&self) -> usize {
        self.subscribed
    }

    // Questions ----------------------------------------------------------------------------------------------------

    /// What the pair may read: now, or once it has been asked. A no is always asked again: who has just been let in, and
    /// knows it, must not be turned away because the announcement is still on its way.
    pub fn read_rights(&mut self, pair: CacheKey) -> Result<ReadResult, oneshot::Receiver<ReadResult>> {
        let (epoch, hearing) = (self.epoch, self.is_connected);
        let key = self.find_or_insert(pair);
        let entry = self.entry_mut(key.index);
        if let Some((read, _)) = entry.read.filter(|(read, of)| hearing && *of == epoch && read.is_ok()) {
            return Ok(read);
        }
        let (sender, receiver) = oneshot::channel();
        entry.read_waiters.push(sender);
        self.request(key);
        Err(receiver)
    }

    /// What the pair may write: now, or once it has been asked; a no again, as in [`read`](Self::read).
    pub fn write_rights(&mut self, pair: CacheKey) -> Result<WriteResult, oneshot::Receiver<WriteResult>> {
        let (epoch, hearing) = (self.epoch, self.is_connected);
        let key = self.find_or_insert(pair);
        let entry = self.entry_mut(key.index);
        let grants = |write: &WriteResult| write.is_ok_and(|write| write != WriteRights::NONE);
        if let Some((write, _)) = entry.write.filter(|(write, of)| hearing && *of == epoch && grants(write)) {
            return Ok(write);
        }
        let (sender, receiver) = oneshot::channel();
        entry.write_waiters.push(sender);
        self.request(key);
        Err(receiver)
    }

    /// Somebody waits for this entry. Where too many do, the last is told so at once.
    fn request(&mut self, key: EntryId) {
        if self.joins.len() >= MAX_QUEUED {
            let entry = self.entry_mut(key.index);
            send_all(&mut entry.read_waiters, Err(AuthorizationError::PoolExhausted));
            send_all(&mut entry.write_waiters, Err(AuthorizationError::PoolExhausted));
            self.requeue_or_park(key);
            return;
        }
        let entry = self.entry_mut(key.index);
        if entry.state == RequestState::Idle {
            entry.state = RequestState::Queued;
            self.joins.push_back(key);
        }
    }

    /// Takes up to `most` questions from a line. Those of one role come one after the other.
    pub fn take_batch(&mut self, line: QueueKind, most: usize) -> Vec<RightsCheck> {
        let mut questions: Vec<RightsCheck> = Vec::new();
        while questions.len() < most {
            let next = match line {
                QueueKind::Joins => self.joins.pop_front(),
                QueueKind::Rechecks => self.urgent.pop_front().or_else(|| self.round_queue.pop_front()),
                QueueKind::Isolated => self.isolated.pop_front(),
            };
            let Some(key) = next else { break };
            questions.extend(self.begin_check(key, line));
        }
        questions.sort_by(|a, b| a.key.principal.role.cmp(&b.key.principal.role));
        questions
    }

    fn begin_check(&mut self, key: EntryId, line: QueueKind) -> Option<RightsCheck> {
        let epoch = self.epoch;
        let entry = self.get_mut(key)?;
        // Whoever has been asked from another line meanwhile is passed over.
        let its_turn = match entry.state {
            RequestState::Queued => true,
            RequestState::Idle => line == QueueKind::Rechecks && entry.needs_recheck(epoch),
            RequestState::Running { .. } => false,
        };
        if !its_turn {
            return None;
        }
        if entry.isolated && line != QueueKind::Isolated {
            entry.state = RequestState::Queued;
            self.isolated.push_back(key);
            return None;
        }
        let watched = !entry.subscriptions.is_empty();
        let stale = |of: Option<u64>| of.is_none_or(|of| of < epoch);
        let read = !entry.read_waiters.is_empty() || watched && stale(entry.read.map(|(_, of)| of));
        // Once asked about, a watched entry's rights to write are kept up to date too.
        let write =
            !entry.write_waiters.is_empty() || watched && entry.write.is_some_and(|(_, of)| of < epoch);
        if !read && !write {
            entry.state = RequestState::Idle;
            return None;
        }
        entry.state = RequestState::Running { epoch, read, write };
        entry.checked_at = Instant::now();
        Some(RightsCheck { entry: key, key: entry.key.clone(), read, write })
    }

    /// Begins a round of re-checks, if one is wanted and none is under way: everybody who watches and was not asked since
    /// the last announcement.
    pub fn begin_round(&mut self) -> bool {
        if !self.is_round_due() || !self.round_queue.is_empty() {
            return false;
        }
        self.round_requested = false;
        let epoch = self.epoch;
        for (index, (generation, entry)) in self.entries.iter().enumerate() {
            if entry.as_ref().is_some_and(|entry| entry.needs_recheck(epoch)) {
                let index = u32::try_from(index).expect("fewer entries than an u32 counts");
                self.round_queue.push_back(EntryId { index, generation: *generation });
            }
        }
        true
    }

    /// Whether anything is to be asked in a line.
    pub fn has_pending(&self, line: QueueKind) -> bool {
        match line {
            QueueKind::Joins => !self.joins.is_empty(),
            // Deaf, an answer would be void as soon as it came.
            QueueKind::Rechecks => {
                self.is_connected && !(self.urgent.is_empty() && self.round_queue.is_empty())
            }
            QueueKind::Isolated => !self.isolated.is_empty(),
        }
    }

    pub const fn is_round_due(&self) -> bool {
        self.round_requested && self.is_connected
    }

    /// Has watched entries asked again that were not asked for `age`, at most `most` of them.
    pub fn recheck_older_than(&mut self, age: Duration, most: usize) {
        let old = self.entries.iter_mut().enumerate().filter_map(|(index, (generation, entry))| {
            let entry = entry.as_mut()?;
            let due = !entry.subscriptions.is_empty()
                && entry.state == RequestState::Idle
                && entry.checked_at.elapsed() >= age;
            due.then(|| {
                // As if asked before anything: what was believed stays until the answer.
                entry.read = entry.read.map(|(read, _)| (read, 0));
                entry.write = entry.write.map(|(write, _)| (write, 0));
                EntryId {
                    index: u32::try_from(index).expect("fewer than an u32 counts"),
                    generation: *generation,
                }
            })
        });
        self.round_queue.extend(old.take(most));
    }

    // Answers ------------------------------------------------------------------------------------------------------

    /// Takes in what the policies said of one pair.
    pub fn on_result(
        &mut self,
        key: EntryId,
        probed: Result<ProbeResult, AuthorizationError>,
    ) -> RightsUpdates {
        let (now, hearing) = (self.epoch, self.is_connected);
        let Some(entry) = self.get_mut(key) else { return RightsUpdates::new() };
        let RequestState::Running { epoch, read, write } = entry.state else { return RightsUpdates::new() };
        entry.state = RequestState::Idle;
        (entry.isolated, entry.timeouts) = (false, 0);
        let fresh = epoch == now;
        // Deaf, nobody would tell that it became void: good for those who wait, not for later.
        let epoch = if hearing { epoch } else { 0 };
        let overtaken = !fresh && entry.superseded < MAX_SUPERSEDED;
        entry.superseded = if overtaken { entry.superseded + 1 } else { 0 };
        let mut news = RightsUpdates::new();
        if read {
            let said = probed.and_then(|probed| match probed.read {
                Some((false, false)) | None => Err(AuthorizationError::Unauthorized),
                Some((broadcast, presence)) => Ok(ReadRights { broadcast, presence }),
            });
            entry.read = Some((said, epoch));
            // Whoever was told that nothing is left has no channel any more, whatever comes after.
            for watcher in entry.subscriptions.iter_mut().filter(|watcher| watcher.last_known != NO_RIGHTS) {
                let believes = watcher.last_known;
                let news_for_it = match said {
                    Err(_) => true,
                    // What was gained may be gone again; what was lost was lost.
                    Ok(rights) if fresh => rights != believes,
                    Ok(rights) => {
                        believes.broadcast && !rights.broadcast || believes.presence && !rights.presence
                    }
                };
                if news_for_it {
                    watcher.last_known = said.unwrap_or(NO_RIGHTS);
                    news.push((watcher.subscriber.clone(), said));
                }
            }
            if !overtaken {
                send_all(&mut entry.read_waiters, said);
            }
        }
        if write {
            let said = probed.map(|probed| match probed.write {
                Some((broadcast, presence)) => WriteRights { broadcast, presence },
                None => WriteRights::NONE,
            });
            entry.write = Some((said, epoch));
            // Overtaken it is still newer than what was known, unless that was voided by name.
            if fresh || entry.cached_write.get().is_some() {
                entry.cached_write.set(Some(said.unwrap_or(WriteRights::NONE)));
            }
            if !overtaken {
                send_all(&mut entry.write_waiters, said);
            }
        }
        self.requeue_or_park(key);
        news
    }

    /// The question of a batch did not come to an end: each in it is asked alone.
    pub fn isolate(&mut self, key: EntryId) {
        let Some(entry) = self.get_mut(key) else { return };
        entry.isolated = true;
        entry.state = RequestState::Queued;
        self.isolated.push_back(key);
    }

    /// The database could not be asked: whoever waits is told, whoever watches is asked again later. A pair that was asked
    /// alone and whose policies do not come to an end has its watchers told after the third time.
    pub fn on_failure(&mut self, key: EntryId, error: AuthorizationError) -> RightsUpdates {
        let Some(entry) = self.get_mut(key) else { return RightsUpdates::new() };
        entry.state = RequestState::Idle;
        entry.superseded = 0;
        send_all(&mut entry.read_waiters, Err(error));
        send_all(&mut entry.write_waiters, Err(error));
        let mut news = RightsUpdates::new();
        if entry.isolated && error == AuthorizationError::QueryCanceled {
            entry.timeouts = entry.timeouts.saturating_add(1);
            if entry.timeouts >= 3 {
                for watcher in
                    entry.subscriptions.iter_mut().filter(|watcher| watcher.last_known != NO_RIGHTS)
                {
                    watcher.last_known = NO_RIGHTS;
                    news.push((watcher.subscriber.clone(), Err(error)));
                }
            }
        }
        let watched = !entry.subscriptions.is_empty();
        self.round_requested |= watched;
        self.requeue_or_park(key);
        news
    }

    /// The entry waits no longer: it is asked again if somebody wants it to, and kept for a while if nobody does.
    fn requeue_or_park(&mut self, key: EntryId) {
        let epoch = self.epoch;
        let Some(entry) = self.get_mut(key) else { return };
        if entry.state != RequestState::Idle {
            return;
        }
        if !entry.read_waiters.is_empty() || !entry.write_waiters.is_empty() {
            entry.state = RequestState::Queued;
            self.joins.push_back(key);
        } else if entry.needs_recheck(epoch) {
            self.round_requested = true;
        } else if entry.subscriptions.is_empty() {
            self.park(key);
        }
    }

    // What most likely became void -----------------------------------------------------------------------------------

    /// These were asked, and whoever watches them has been told.
    pub fn mark_settled(&mut self, keys: &[EntryId]) {
        for key in keys {
            let Some(entry) = self.get_mut(*key) else { continue };
            if entry.read.is_some_and(|(_, of)| of >= entry.invalidated_at) {
                self.unsettled.remove(&key.index);
            }
        }
        if self.unsettled.is_empty() {
            self.unsettled.shrink_to(1_024);
        }
    }

    /// Whether nobody who watches one of these topics waits to be asked because of a change that most likely concerns them.
    pub fn are_settled(&self, topics: &[&str]) -> bool {
        self.unsettled.iter().all(|index| {
            let entry = self.entries[*index as usize].1.as_ref();
            entry.is_none_or(|entry| !topics.contains(&&*entry.key.topic))
        })
    }

    // Watchers -----------------------------------------------------------------------------------------------------

    /// Tells `told` from now on whenever the pair may read something else than `believes`. If that is so already, or may
    /// be, it is asked at once.
    pub fn subscribe(
        &mut self,
        pair: CacheKey,
        believes: ReadRights,
        told: Arc<dyn RightsSubscriber>,
    ) -> (EntryId, u64, Arc<CachedWriteRights>, RightsUpdates) {
        let epoch = self.epoch;
        let key = self.find_or_insert(pair);
        self.next_id += 1;
        let id = self.next_id;
        let entry = self.entry_mut(key.index);
        let first = entry.subscriptions.is_empty();
        let mut watcher = Subscription { id, last_known: believes, subscriber: told };
        let mut news = RightsUpdates::new();
        match entry.read {
            Some((said, of)) if of == epoch => {
                if said != Ok(believes) {
                    watcher.last_known = said.unwrap_or(NO_RIGHTS);
                    news.push((watcher.subscriber.clone(), said));
                }
            }
            _ => {
                self.urgent.push_back(key);
                self.entry_mut(key.index).invalidated_at = epoch;
                self.unsettled.insert(key.index);
            }
        }
        let entry = self.entry_mut(key.index);
        entry.subscriptions.push(watcher);
        let known_write = entry.cached_write.clone();
        if let Some((write, of)) = entry.write {
            known_write.set((of == epoch).then(|| write.unwrap_or(WriteRights::NONE)));
        }
        if first {
            let traces = entry.value_hashes.clone();
            self.subscribed += 1;
            traces.into_iter().for_each(|trace| self.by_value_hash.entry(trace).or_default().push(key.index));
        }
        (key, id, known_write, news)
    }

    /// Ends what [`watch`](Self::watch) began.
    pub fn unsubscribe(&mut self, key: EntryId, id: u64) {
        let Some(entry) = self.get_mut(key) else { return };
        entry.subscriptions.retain(|watcher| watcher.id != id);
        if !entry.subscriptions.is_empty() {
            return;
        }
        let traces = entry.value_hashes.clone();
        self.unsettled.remove(&key.index);
        self.subscribed -= 1;
        for trace in traces {
            if let Some(indices) = self.by_value_hash.get_mut(&trace) {
                indices.retain(|index| *index != key.index);
                if indices.is_empty() {
                    self.by_value_hash.remove(&trace);
                }
            }
        }
        self.park(key);
    }

    // Entries ------------------------------------------------------------------------------------------------------

    fn find_or_insert(&mut self, pair: CacheKey) -> EntryId {
        if let Some(index) = self.by_key.get(&pair).copied() {
            return EntryId { index, generation: self.entries[index as usize].0 };
        }
        let entry = Entry::new(pair.clone());
        let index = if let Some(index) = self.free.pop() {
            self.entries[index as usize].1 = Some(entry);
            index
        } else {
            self.entries.push((0, Some(entry)));
            u32::try_from(self.entries.len() - 1).expect("fewer entries than an u32 counts")
        };
        self.by_key.insert(pair, index);
        EntryId { index, generation: self.entries[index as usize].0 }
    }

    /// Nobody wants the entry at the moment: it is kept until its time is over or others need the room.
    fn park(&mut self, key: EntryId) {
        self.next_id += 1;
        let stamp = self.next_id;
        let Some(entry) = self.get_mut(key) else { return };
        entry.idle_stamp = stamp;
        self.idle.push_back((stamp, key, Instant::now()));
        while self.idle.len() > MAX_IDLE {
            self.evict_oldest();
        }
    }

    /// Forgets what nobody has wanted for a while.
    pub fn evict_expired(&mut self) {
        while self.idle.front().is_some_and(|(_, _, since)| since.elapsed() >= IDLE_TTL) {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        let Some((stamp, key, _)) = self.idle.pop_front() else { return };
        let Some(entry) = self.get_mut(key) else { return };
        if entry.idle_stamp != stamp || entry.is_in_use() || entry.state != RequestState::Idle {
            return;
        }
        let (generation, slot) = &mut self.entries[key.index as usize];
        *generation = generation.wrapping_add(1);
        if let Some(entry) = slot.take() {
            self.by_key.remove(&entry.key);
        }
        self.free.push(key.index);
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry {
        self.entries[index as usize].1.as_mut().expect("indices are of living entries")
    }

    fn get_mut(&mut self, key: EntryId) -> Option<&mut Entry> {
        let (generation, entry) = self.entries.get_mut(key.index as usize)?;
        entry.as_mut().filter(|_| *generation == key.generation)
    }
}

/// Answers whoever still waits.
fn send_all<T: Copy>(waits: &mut SmallVec<[oneshot::Sender<T>; 1]>, said: T) {
    for waits in waits.drain(..) {
        // Whoever gave up meanwhile needs no answer.
        let _ = waits.send(said);
    }
}

#[cfg(test)]
mod tests;
