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

use self::entry::{Entry, Turn, Watcher};
pub(super) use self::entry::{KnownWrite, Pair};
use super::{AuthorizationError, ReadRights, RightsWatcher, WriteRights};
use crate::pg::queries::rights::Probed;

/// Answers that nobody watches are kept for a while, for those who join again and for REST.
const MOST_IDLE: usize = 4_096;
pub(super) const IDLE_FOR: Duration = Duration::from_secs(60);
/// Questions that may wait. Over it there is an error at once.
const MOST_WAITING: usize = 8_192;
/// How often a question that a change overtook is asked again before its answer is given as it is.
const MOST_OVERTAKEN: u8 = 3;

/// What a watcher believes that was told of an error.
const NOTHING: ReadRights = ReadRights { broadcast: false, presence: false };

/// An entry's place; stale once the entry is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

pub(super) type Read = Result<ReadRights, AuthorizationError>;
pub(super) type Write = Result<WriteRights, AuthorizationError>;
/// What is to be told to whom, once the lock is gone.
pub(super) type News = Vec<(Arc<dyn RightsWatcher>, Read)>;

/// A question for the database.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub key: Key,
    pub pair: Pair,
    pub read: bool,
    pub write: bool,
}

/// From which line a batch is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// Somebody waits for the answer.
    Joins,
    /// What was believed may not be so any more.
    Rechecks,
    /// Policies that may not come to an end, one caller at a time.
    Alone,
}

/// Everything that is remembered.
#[derive(Default)]
pub(super) struct Verdicts {
    entries: Vec<(u32, Option<Entry>)>,
    free: Vec<u32>,
    by_pair: HashMap<Pair, u32>,
    /// Watched entries by the traces that rows about them leave.
    by_trace: HashMap<u32, Vec<u32>>,
    watched: usize,
    idle: VecDeque<(u64, Key, Instant)>,
    next_id: u64,
    epoch: u64,
    hearing: bool,
    policies_changed: bool,
    /// Whoever waits: joins and first writes.
    joins: VecDeque<Key>,
    /// Watched entries that a change named.
    urgent: VecDeque<Key>,
    /// The other watched entries of a round of re-checks, and whether another round is wanted.
    round: VecDeque<Key>,
    round_wanted: bool,
    /// Whoever is asked alone.
    alone: VecDeque<Key>,
    /// Watched entries that most likely believe what is not so any more.
    unsettled: HashSet<u32>,
}

impl Verdicts {
    // Announcements ------------------------------------------------------------------------------------------------

    /// Something changed that answers depend on; with traces, most likely for those who leave one of them.
    pub fn void(&mut self, traces: &[u32]) {
        self.epoch += 1;
        self.policies_changed |= traces.is_empty();
        if self.watched == 0 {
            return;
        }
        self.round_wanted = true;
        if traces.is_empty() {
            for (index, (_, entry)) in (0..).zip(&mut self.entries) {
                if let Some(entry) = entry {
                    entry.known_write.set(None);
                    entry.voided = self.epoch;
                    if !entry.watchers.is_empty() {
                        self.unsettled.insert(index);
                    }
                }
            }
            return;
        }
        let named: HashSet<u32> =
            traces.iter().filter_map(|trace| self.by_trace.get(trace)).flatten().copied().collect();
        for index in named {
            let (generation, entry) = &mut self.entries[index as usize];
            if let Some(entry) = entry {
                entry.known_write.set(None);
                entry.voided = self.epoch;
                self.unsettled.insert(index);
                // The round finds everybody, so what is over the bound only comes later.
                if self.urgent.len() < 2 * self.watched {
                    self.urgent.push_back(Key { index, generation: *generation });
                }
            }
        }
    }

    /// Announcements arrive from now on; those of before may have been missed.
    pub fn listening(&mut self) {
        self.hearing = true;
        self.void(&[]);
    }

    /// Announcements are missed from now on.
    pub fn deaf(&mut self) {
        self.hearing = false;
    }

    /// Whether the policies themselves may have changed since the last call.
    pub fn take_policies_changed(&mut self) -> bool {
        std::mem::take(&mut self.policies_changed)
    }

    pub const fn watched(&self) -> usize {
        self.watched
    }

    // Questions ----------------------------------------------------------------------------------------------------

    /// What the pair may read: now, or once it has been asked. A no is always asked again: who has just been let in, and
    /// knows it, must not be turned away because the announcement is still on its way.
    pub fn read(&mut self, pair: Pair) -> Result<Read, oneshot::Receiver<Read>> {
        let (epoch, hearing) = (self.epoch, self.hearing);
        let key = self.enter(pair);
        let entry = self.entry_mut(key.index);
        if let Some((read, _)) = entry.read.filter(|(read, of)| hearing && *of == epoch && read.is_ok()) {
            return Ok(read);
        }
        let (sender, receiver) = oneshot::channel();
        entry.read_waits.push(sender);
        self.want(key);
        Err(receiver)
    }

    /// What the pair may write: now, or once it has been asked; a no again, as in [`read`](Self::read).
    pub fn write(&mut self, pair: Pair) -> Result<Write, oneshot::Receiver<Write>> {
        let (epoch, hearing) = (self.epoch, self.hearing);
        let key = self.enter(pair);
        let entry = self.entry_mut(key.index);
        let grants = |write: &Write| write.is_ok_and(|write| write != WriteRights::NONE);
        if let Some((write, _)) = entry.write.filter(|(write, of)| hearing && *of == epoch && grants(write)) {
            return Ok(write);
        }
        let (sender, receiver) = oneshot::channel();
        entry.write_waits.push(sender);
        self.want(key);
        Err(receiver)
    }

    /// Somebody waits for this entry. Where too many do, the last is told so at once.
    fn want(&mut self, key: Key) {
        if self.joins.len() >= MOST_WAITING {
            let entry = self.entry_mut(key.index);
            answer(&mut entry.read_waits, Err(AuthorizationError::PoolExhausted));
            answer(&mut entry.write_waits, Err(AuthorizationError::PoolExhausted));
            self.rest(key);
            return;
        }
        let entry = self.entry_mut(key.index);
        if entry.turn == Turn::Resting {
            entry.turn = Turn::Waiting;
            self.joins.push_back(key);
        }
    }

    /// Takes up to `most` questions from a line. Those of one role come one after the other.
    pub fn take(&mut self, line: Line, most: usize) -> Vec<Question> {
        let mut questions: Vec<Question> = Vec::new();
        while questions.len() < most {
            let next = match line {
                Line::Joins => self.joins.pop_front(),
                Line::Rechecks => self.urgent.pop_front().or_else(|| self.round.pop_front()),
                Line::Alone => self.alone.pop_front(),
            };
            let Some(key) = next else { break };
            questions.extend(self.begin(key, line));
        }
        questions.sort_by(|a, b| a.pair.claimant.role.cmp(&b.pair.claimant.role));
        questions
    }

    fn begin(&mut self, key: Key, line: Line) -> Option<Question> {
        let epoch = self.epoch;
        let entry = self.living_mut(key)?;
        // Whoever has been asked from another line meanwhile is passed over.
        let its_turn = match entry.turn {
            Turn::Waiting => true,
            Turn::Resting => line == Line::Rechecks && entry.is_due(epoch),
            Turn::Asking { .. } => false,
        };
        if !its_turn {
            return None;
        }
        if entry.alone && line != Line::Alone {
            entry.turn = Turn::Waiting;
            self.alone.push_back(key);
            return None;
        }
        let watched = !entry.watchers.is_empty();
        let stale = |of: Option<u64>| of.is_none_or(|of| of < epoch);
        let read = !entry.read_waits.is_empty() || watched && stale(entry.read.map(|(_, of)| of));
        // Once asked about, a watched entry's rights to write are kept up to date too.
        let write = !entry.write_waits.is_empty() || watched && entry.write.is_some_and(|(_, of)| of < epoch);
        if !read && !write {
            entry.turn = Turn::Resting;
            return None;
        }
        entry.turn = Turn::Asking { epoch, read, write };
        entry.asked_at = Instant::now();
        Some(Question { key, pair: entry.pair.clone(), read, write })
    }

    /// Begins a round of re-checks, if one is wanted and none is under way: everybody who watches and was not asked since
    /// the last announcement.
    pub fn begin_round(&mut self) -> bool {
        if !self.wants_round() || !self.round.is_empty() {
            return false;
        }
        self.round_wanted = false;
        let epoch = self.epoch;
        for (index, (generation, entry)) in self.entries.iter().enumerate() {
            if entry.as_ref().is_some_and(|entry| entry.is_due(epoch)) {
                let index = u32::try_from(index).expect("fewer entries than an u32 counts");
                self.round.push_back(Key { index, generation: *generation });
            }
        }
        true
    }

    /// Whether anything is to be asked in a line.
    pub fn has(&self, line: Line) -> bool {
        match line {
            Line::Joins => !self.joins.is_empty(),
            // Deaf, an answer would be void as soon as it came.
            Line::Rechecks => self.hearing && !(self.urgent.is_empty() && self.round.is_empty()),
            Line::Alone => !self.alone.is_empty(),
        }
    }

    pub const fn wants_round(&self) -> bool {
        self.round_wanted && self.hearing
    }

    /// Has watched entries asked again that were not asked for `age`, at most `most` of them.
    pub fn age(&mut self, age: Duration, most: usize) {
        let old = self.entries.iter_mut().enumerate().filter_map(|(index, (generation, entry))| {
            let entry = entry.as_mut()?;
            let due =
                !entry.watchers.is_empty() && entry.turn == Turn::Resting && entry.asked_at.elapsed() >= age;
            due.then(|| {
                // As if asked before anything: what was believed stays until the answer.
                entry.read = entry.read.map(|(read, _)| (read, 0));
                entry.write = entry.write.map(|(write, _)| (write, 0));
                Key {
                    index: u32::try_from(index).expect("fewer than an u32 counts"),
                    generation: *generation,
                }
            })
        });
        self.round.extend(old.take(most));
    }

    // Answers ------------------------------------------------------------------------------------------------------

    /// Takes in what the policies said of one pair.
    pub fn answered(&mut self, key: Key, probed: Result<Probed, AuthorizationError>) -> News {
        let (now, hearing) = (self.epoch, self.hearing);
        let Some(entry) = self.living_mut(key) else { return News::new() };
        let Turn::Asking { epoch, read, write } = entry.turn else { return News::new() };
        entry.turn = Turn::Resting;
        (entry.alone, entry.stuck) = (false, 0);
        let fresh = epoch == now;
        // Deaf, nobody would tell that it became void: good for those who wait, not for later.
        let epoch = if hearing { epoch } else { 0 };
        let overtaken = !fresh && entry.overtaken < MOST_OVERTAKEN;
        entry.overtaken = if overtaken { entry.overtaken + 1 } else { 0 };
        let mut news = News::new();
        if read {
            let said = probed.and_then(|probed| match probed.read {
                Some((false, false)) | None => Err(AuthorizationError::Unauthorized),
                Some((broadcast, presence)) => Ok(ReadRights { broadcast, presence }),
            });
            entry.read = Some((said, epoch));
            // Whoever was told that nothing is left has no channel any more, whatever comes after.
            for watcher in entry.watchers.iter_mut().filter(|watcher| watcher.believes != NOTHING) {
                let believes = watcher.believes;
                let news_for_it = match said {
                    Err(_) => true,
                    // What was gained may be gone again; what was lost was lost.
                    Ok(rights) if fresh => rights != believes,
                    Ok(rights) => {
                        believes.broadcast && !rights.broadcast || believes.presence && !rights.presence
                    }
                };
                if news_for_it {
                    watcher.believes = said.unwrap_or(NOTHING);
                    news.push((watcher.told.clone(), said));
                }
            }
            if !overtaken {
                answer(&mut entry.read_waits, said);
            }
        }
        if write {
            let said = probed.map(|probed| match probed.write {
                Some((broadcast, presence)) => WriteRights { broadcast, presence },
                None => WriteRights::NONE,
            });
            entry.write = Some((said, epoch));
            // Overtaken it is still newer than what was known, unless that was voided by name.
            if fresh || entry.known_write.get().is_some() {
                entry.known_write.set(Some(said.unwrap_or(WriteRights::NONE)));
            }
            if !overtaken {
                answer(&mut entry.write_waits, said);
            }
        }
        self.rest(key);
        news
    }

    /// The question of a batch did not come to an end: each in it is asked alone.
    pub fn suspect(&mut self, key: Key) {
        let Some(entry) = self.living_mut(key) else { return };
        entry.alone = true;
        entry.turn = Turn::Waiting;
        self.alone.push_back(key);
    }

    /// The database could not be asked: whoever waits is told, whoever watches is asked again later. A pair that was asked
    /// alone and whose policies do not come to an end has its watchers told after the third time.
    pub fn failed(&mut self, key: Key, error: AuthorizationError) -> News {
        let Some(entry) = self.living_mut(key) else { return News::new() };
        entry.turn = Turn::Resting;
        entry.overtaken = 0;
        answer(&mut entry.read_waits, Err(error));
        answer(&mut entry.write_waits, Err(error));
        let mut news = News::new();
        if entry.alone && error == AuthorizationError::QueryCanceled {
            entry.stuck = entry.stuck.saturating_add(1);
            if entry.stuck >= 3 {
                for watcher in entry.watchers.iter_mut().filter(|watcher| watcher.believes != NOTHING) {
                    watcher.believes = NOTHING;
                    news.push((watcher.told.clone(), Err(error)));
                }
            }
        }
        let watched = !entry.watchers.is_empty();
        self.round_wanted |= watched;
        self.rest(key);
        news
    }

    /// The entry waits no longer: it is asked again if somebody wants it to, and kept for a while if nobody does.
    fn rest(&mut self, key: Key) {
        let epoch = self.epoch;
        let Some(entry) = self.living_mut(key) else { return };
        if entry.turn != Turn::Resting {
            return;
        }
        if !entry.read_waits.is_empty() || !entry.write_waits.is_empty() {
            entry.turn = Turn::Waiting;
            self.joins.push_back(key);
        } else if entry.is_due(epoch) {
            self.round_wanted = true;
        } else if entry.watchers.is_empty() {
            self.lay_by(key);
        }
    }

    // What most likely became void -----------------------------------------------------------------------------------

    /// These were asked, and whoever watches them has been told.
    pub fn settle(&mut self, keys: &[Key]) {
        for key in keys {
            let Some(entry) = self.living_mut(*key) else { continue };
            if entry.read.is_some_and(|(_, of)| of >= entry.voided) {
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
            entry.is_none_or(|entry| !topics.contains(&&*entry.pair.topic))
        })
    }

    // Watchers -----------------------------------------------------------------------------------------------------

    /// Tells `told` from now on whenever the pair may read something else than `believes`. If that is so already, or may
    /// be, it is asked at once.
    pub fn watch(
        &mut self,
        pair: Pair,
        believes: ReadRights,
        told: Arc<dyn RightsWatcher>,
    ) -> (Key, u64, Arc<KnownWrite>, News) {
        let epoch = self.epoch;
        let key = self.enter(pair);
        self.next_id += 1;
        let id = self.next_id;
        let entry = self.entry_mut(key.index);
        let first = entry.watchers.is_empty();
        let mut watcher = Watcher { id, believes, told };
        let mut news = News::new();
        match entry.read {
            Some((said, of)) if of == epoch => {
                if said != Ok(believes) {
                    watcher.believes = said.unwrap_or(NOTHING);
                    news.push((watcher.told.clone(), said));
                }
            }
            _ => {
                self.urgent.push_back(key);
                self.entry_mut(key.index).voided = epoch;
                self.unsettled.insert(key.index);
            }
        }
        let entry = self.entry_mut(key.index);
        entry.watchers.push(watcher);
        let known_write = entry.known_write.clone();
        if let Some((write, of)) = entry.write {
            known_write.set((of == epoch).then(|| write.unwrap_or(WriteRights::NONE)));
        }
        if first {
            let traces = entry.traces.clone();
            self.watched += 1;
            traces.into_iter().for_each(|trace| self.by_trace.entry(trace).or_default().push(key.index));
        }
        (key, id, known_write, news)
    }

    /// Ends what [`watch`](Self::watch) began.
    pub fn unwatch(&mut self, key: Key, id: u64) {
        let Some(entry) = self.living_mut(key) else { return };
        entry.watchers.retain(|watcher| watcher.id != id);
        if !entry.watchers.is_empty() {
            return;
        }
        let traces = entry.traces.clone();
        self.unsettled.remove(&key.index);
        self.watched -= 1;
        for trace in traces {
            if let Some(indices) = self.by_trace.get_mut(&trace) {
                indices.retain(|index| *index != key.index);
                if indices.is_empty() {
                    self.by_trace.remove(&trace);
                }
            }
        }
        self.lay_by(key);
    }

    // Entries ------------------------------------------------------------------------------------------------------

    fn enter(&mut self, pair: Pair) -> Key {
        if let Some(index) = self.by_pair.get(&pair).copied() {
            return Key { index, generation: self.entries[index as usize].0 };
        }
        let entry = Entry::new(pair.clone());
        let index = if let Some(index) = self.free.pop() {
            self.entries[index as usize].1 = Some(entry);
            index
        } else {
            self.entries.push((0, Some(entry)));
            u32::try_from(self.entries.len() - 1).expect("fewer entries than an u32 counts")
        };
        self.by_pair.insert(pair, index);
        Key { index, generation: self.entries[index as usize].0 }
    }

    /// Nobody wants the entry at the moment: it is kept until its time is over or others need the room.
    fn lay_by(&mut self, key: Key) {
        self.next_id += 1;
        let stamp = self.next_id;
        let Some(entry) = self.living_mut(key) else { return };
        entry.idle = stamp;
        self.idle.push_back((stamp, key, Instant::now()));
        while self.idle.len() > MOST_IDLE {
            self.forget_oldest();
        }
    }

    /// Forgets what nobody has wanted for a while.
    pub fn forget_old(&mut self) {
        while self.idle.front().is_some_and(|(_, _, since)| since.elapsed() >= IDLE_FOR) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((stamp, key, _)) = self.idle.pop_front() else { return };
        let Some(entry) = self.living_mut(key) else { return };
        if entry.idle != stamp || entry.is_wanted() || entry.turn != Turn::Resting {
            return;
        }
        let (generation, slot) = &mut self.entries[key.index as usize];
        *generation = generation.wrapping_add(1);
        if let Some(entry) = slot.take() {
            self.by_pair.remove(&entry.pair);
        }
        self.free.push(key.index);
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry {
        self.entries[index as usize].1.as_mut().expect("indices are of living entries")
    }

    fn living_mut(&mut self, key: Key) -> Option<&mut Entry> {
        let (generation, entry) = self.entries.get_mut(key.index as usize)?;
        entry.as_mut().filter(|_| *generation == key.generation)
    }
}

/// Answers whoever still waits.
fn answer<T: Copy>(waits: &mut SmallVec<[oneshot::Sender<T>; 1]>, said: T) {
    for waits in waits.drain(..) {
        // Whoever gave up meanwhile needs no answer.
        let _ = waits.send(said);
    }
}

#[cfg(test)]
mod tests;
