//! Frames queued for one connection: bounded, in order, and for state only the latest.
//!
//! There are two kinds of frames. A **state** frame replaces the queued frame with the same key, so a slow reader
//! receives the current state. A **stream** frame is never replaced or dropped. If stream frames exceed their limit,
//! the connection is closed as a slow consumer.
//!
//! Plain data without socket, lock or clock. The connection keeps it behind its mutex.

use std::{collections::VecDeque, io::IoSlice};

use hashbrown::HashMap;

use super::StateKey;
use super::frame::WireFrame;

/// Limits of the bytes queued for one connection. Each frame counts with the size of its queue entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Maximum bytes of stream frames; default 256 KiB. A single frame may be larger if no other stream frame is
    /// queued.
    pub stream_bytes: usize,
    /// Maximum bytes of stream frames while the reader makes progress, to absorb a burst; default 8 MiB.
    pub stream_bytes_active_reader: usize,
    /// Maximum bytes of state frames; default 1 MiB.
    pub state_bytes: usize,
    /// Maximum bytes of state frames while the reader makes progress; default 16 MiB. Presence is delivered in parts of
    /// `state_bytes`, so only other states may need more.
    pub state_bytes_active_reader: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            stream_bytes: 256 * 1024,
            stream_bytes_active_reader: 8 * 1024 * 1024,
            state_bytes: 1024 * 1024,
            state_bytes_active_reader: 16 * 1024 * 1024,
        }
    }
}

/// The frame would have exceeded a limit and was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("outbox is full")]
pub struct Overflow;

/// How a frame was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// The frame was appended.
    Added,
    /// The frame replaced an unsent frame with the same key.
    Coalesced,
}

/// The queue of one connection.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are already written to the socket.
    front_written: usize,
    /// Sequence number of the first entry. Numbers are never reused, so the index stays valid when entries leave the
    /// front.
    first_number: u64,
    /// Sequence number after the last stream frame. State frames from here on are replaced in position.
    barrier: u64,
    /// Sequence number by key, present above [`INDEX_THRESHOLD`] entries. Boxed, because most outboxes never need it.
    index: Option<Box<HashMap<StateKey, u64>>>,
    stream_bytes: usize,
    state_bytes: usize,
    /// Number of emptied entries.
    gaps: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` after a newer frame of the same key was appended.
    frame: Option<WireFrame>,
    key: Option<StateKey>,
}

/// Number of entries from which state frames are found by index. A linear search is faster below it.
const INDEX_THRESHOLD: usize = 32;
/// Maximum capacity in entries that an empty outbox keeps.
const MAX_RETAINED_ENTRIES: usize = 8;

impl Outbox {
    /// Creates an empty outbox. It allocates nothing.
    #[must_use]
    pub const fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            front_written: 0,
            first_number: 0,
            barrier: 0,
            index: None,
            stream_bytes: 0,
            state_bytes: 0,
            gaps: 0,
        }
    }

    /// Whether all frames have been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of queued frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - self.gaps
    }

    /// Bytes queued, including the size of the queue entries.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.stream_bytes + self.state_bytes
    }

    /// Whether a stream frame is within `stream_bytes`, the limit that applies to every reader.
    #[must_use]
    pub fn fits(&self, frame: &WireFrame) -> bool {
        self.stream_bytes == 0 || self.stream_bytes + cost(frame) <= self.limits.stream_bytes
    }

    /// Queues a stream frame. `is_reading` returns whether the reader made progress recently.
    ///
    /// # Errors
    /// [`Overflow`] if stream frames are queued and this one would exceed their limit.
    pub fn push(&mut self, frame: WireFrame, is_reading: impl FnOnce() -> bool) -> Result<(), Overflow> {
        let bytes = self.stream_bytes + cost(&frame);
        let is_over = !self.fits(&frame);
        if is_over && (bytes > self.limits.stream_bytes_active_reader || !is_reading()) {
            return Err(Overflow);
        }
        self.append(frame, None);
        self.barrier = self.next_number();
        Ok(())
    }

    /// Whether a state frame is within `state_bytes`, the limit that applies to every reader. A frame that would replace
    /// another counts in full.
    #[must_use]
    pub fn fits_state(&self, frame: &WireFrame) -> bool {
        self.state_bytes == 0 || self.state_bytes + cost(frame) <= self.limits.state_bytes
    }

    /// Queues the state of `key`. It replaces an unsent frame with the same key. `is_reading` returns whether the reader
    /// made progress recently.
    ///
    /// The new frame takes the old one's position, so that a state that changes often is still sent. If a stream frame
    /// was queued in between, the new frame goes to the back and never overtakes it.
    ///
    /// # Errors
    /// [`Overflow`] if state frames are queued and this one would exceed their limit.
    pub fn push_state(
        &mut self,
        key: StateKey,
        frame: WireFrame,
        is_reading: impl FnOnce() -> bool,
    ) -> Result<Queued, Overflow> {
        if self.index.is_none() && self.entries.len() >= INDEX_THRESHOLD {
            self.rebuild_index();
        }
        let old = self.find(key);
        let old_cost = old.and_then(|number| self.entry(number)?.frame.as_ref().map(cost)).unwrap_or(0);
        let cost = cost(&frame);
        let others = self.state_bytes - old_cost;
        let bytes = others + cost;
        let is_over = others > 0 && bytes > self.limits.state_bytes;
        if is_over && (bytes > self.limits.state_bytes_active_reader || !is_reading()) {
            return Err(Overflow);
        }
        match old {
            Some(number) if number >= self.barrier => {
                if let Some(entry) = self.entry_mut(number) {
                    entry.frame = Some(frame);
                }
                self.state_bytes = others + cost;
                Ok(Queued::Coalesced)
            }
            Some(number) => {
                self.clear_entry(number);
                self.append(frame, Some(key));
                self.compact();
                Ok(Queued::Coalesced)
            }
            None => {
                self.append(frame, Some(key));
                Ok(Queued::Added)
            }
        }
    }

    /// Appends the connection's last frame, without checking limits.
    pub fn push_last(&mut self, frame: WireFrame) {
        self.append(frame, None);
    }

    /// Drops all frames that are not partly written, to free memory when a slow reader is closed.
    pub fn drop_unsent(&mut self) {
        let keep = usize::from(self.front_written > 0);
        self.entries.truncate(keep);
        self.index = None;
        self.gaps = 0;
        self.state_bytes = 0;
        self.stream_bytes = 0;
        if let Some(Entry { frame: Some(frame), key }) = self.entries.front() {
            let cost = cost(frame);
            *(if key.is_some() { &mut self.state_bytes } else { &mut self.stream_bytes }) = cost;
        }
        self.barrier = self.next_number();
    }

    /// Fills `slices` with the next frames, in order. Returns how many slices it filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let frames = self.entries.iter().filter_map(|entry| entry.frame.as_ref());
        let mut filled = 0;
        for (slice, frame) in slices.iter_mut().zip(frames) {
            // The first entry is never empty, so the first frame is the one that may be partly written.
            let from = if filled == 0 { self.front_written } else { 0 };
            *slice = IoSlice::new(&frame.as_bytes()[from..]);
            filled += 1;
        }
        filled
    }

    /// Records that `written` bytes of the slices from [`Self::fill`] were written.
    pub fn advance(&mut self, written: usize) {
        let mut written = written + self.front_written;
        self.front_written = 0;
        while let Some(front) = self.entries.front() {
            match &front.frame {
                Some(frame) if written < frame.len() => {
                    self.front_written = written;
                    break;
                }
                Some(frame) => written -= frame.len(),
                None => {}
            }
            self.pop();
        }
        debug_assert!(!self.entries.is_empty() || written == 0, "more was written than was queued");
        if self.entries.is_empty() {
            self.index = None;
            if self.entries.capacity() > MAX_RETAINED_ENTRIES {
                self.entries = VecDeque::new();
            }
        }
    }

    /// Frees the capacity that an empty outbox keeps.
    pub fn release(&mut self) {
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    fn next_number(&self) -> u64 {
        self.first_number + self.entries.len() as u64
    }

    fn position_of(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first_number)?).ok()
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(self.position_of(number)?)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        let position = self.position_of(number)?;
        self.entries.get_mut(position)
    }

    /// The sequence number of the replaceable frame of `key`.
    fn find(&self, key: StateKey) -> Option<u64> {
        let number = if let Some(index) = &self.index {
            *index.get(&key)?
        } else {
            let position = self.entries.iter().rposition(|entry| entry.key == Some(key))?;
            self.first_number + position as u64
        };
        // A partly written frame must be finished.
        (number != self.first_number || self.front_written == 0).then_some(number)
    }

    fn append(&mut self, frame: WireFrame, key: Option<StateKey>) {
        let cost = cost(&frame);
        let number = self.next_number();
        match key {
            Some(key) => {
                self.state_bytes += cost;
                if let Some(index) = &mut self.index {
                    index.insert(key, number);
                }
            }
            None => self.stream_bytes += cost,
        }
        self.entries.push_back(Entry { frame: Some(frame), key });
    }

    fn rebuild_index(&mut self) {
        let numbered = (self.first_number..).zip(&self.entries);
        let index = numbered.filter_map(|(number, entry)| Some((entry.key?, number))).collect();
        self.index = Some(Box::new(index));
    }

    /// Empties the entry of a state frame. Empty entries at the front are removed, since the front is never empty.
    fn clear_entry(&mut self, number: u64) {
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        entry.key = None;
        let Some(frame) = entry.frame.take() else {
            return;
        };
        self.state_bytes -= cost(&frame);
        self.gaps += 1;
        while self.entries.front().is_some_and(|front| front.frame.is_none()) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        let number = self.first_number;
        self.first_number += 1;
        match (entry.frame, entry.key) {
            (Some(frame), Some(key)) => {
                self.state_bytes -= cost(&frame);
                // A newer frame of the same key may follow a partly written one.
                if let Some(index) = &mut self.index
                    && index.get(&key) == Some(&number)
                {
                    index.remove(&key);
                }
            }
            (Some(frame), None) => self.stream_bytes -= cost(&frame),
            (None, _) => self.gaps -= 1,
        }
    }

    /// Removes empty entries once they are the majority. The amortized cost per frame is constant.
    fn compact(&mut self) {
        if self.gaps <= INDEX_THRESHOLD || self.gaps * 2 <= self.entries.len() {
            return;
        }
        let entries_before_barrier = self.position_of(self.barrier).unwrap_or(0).min(self.entries.len());
        let kept = self.entries.range(..entries_before_barrier).filter(|entry| entry.frame.is_some()).count();
        self.barrier = self.first_number + kept as u64;
        self.entries.retain(|entry| entry.frame.is_some());
        self.gaps = 0;
        self.index = None;
    }
}

/// The bytes that a queued frame counts: its length and its queue entry, so that small frames are bounded too.
fn cost(frame: &WireFrame) -> usize {
    frame.len() + size_of::<Entry>()
}

#[cfg(test)]
mod tests;
