//! What one connection has yet to be sent: bounded, in order, and for state only the latest.
//!
//! Two kinds of frames go in. A **state** frame replaces the queued frame of the same key, so a slow reader
//! finds the present when it gets round to reading, not the past. A **stream** frame says something that no
//! later frame repeats; it is never dropped, and if too many pile up, the connection ends as slow.
//!
//! Pure data: no socket, no lock, no clock. The connection holds it behind its mutex.

use std::{collections::VecDeque, io::IoSlice};

use hashbrown::HashMap;

use super::StateKey;
use crate::transport::frame::WireFrame;

/// How much one connection may have queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of stream frames, each counted with its place in the queue; default 256 KiB. A single frame may be
    /// larger, if nothing of its kind is queued before it.
    pub stream_bytes: usize,
    /// The same for a reader that keeps on reading, who is given time for a burst; default 8 MiB.
    pub stream_bytes_active_reader: usize,
    /// Bytes of state frames, counted the same way; default 1 MiB.
    pub state_bytes: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            stream_bytes: 256 * 1024,
            stream_bytes_active_reader: 8 * 1024 * 1024,
            state_bytes: 1024 * 1024,
        }
    }
}

/// The reader is too slow: the frame would have exceeded a limit and was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("outbox is full")]
pub struct Overflow;

/// How a frame was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// As one more frame.
    Added,
    /// Instead of an older frame of the same key, which nobody will see.
    Coalesced,
}

/// The queue of one connection.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are on the wire already.
    front_written: usize,
    /// The number of the first entry; numbers never repeat, so the index survives what leaves at the front.
    first_number: u64,
    /// The number after the last stream frame: state frames from here on may be replaced where they stand.
    barrier: u64,
    /// Where each key's frame is, once there are too many to look through. Boxed: most never need it.
    index: Option<Box<HashMap<StateKey, u64>>>,
    stream_bytes: usize,
    state_bytes: usize,
    /// Emptied places in the middle.
    gaps: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` where a newer frame has been queued further back.
    frame: Option<WireFrame>,
    key: Option<StateKey>,
}

/// From how many entries on state frames are found by an index; looking through fewer costs less than hashing.
const INDEX_THRESHOLD: usize = 32;
/// The most room that an empty outbox keeps, in entries.
const MAX_RETAINED_ENTRIES: usize = 8;

impl Outbox {
    /// An empty outbox, which has allocated nothing.
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

    /// Whether everything has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that wait, counted with their places in the queue.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.stream_bytes + self.state_bytes
    }

    /// Whether a stream frame is within the limit, whoever reads.
    #[must_use]
    pub fn fits(&self, frame: &WireFrame) -> bool {
        self.stream_bytes == 0 || self.stream_bytes + cost(frame) <= self.limits.stream_bytes
    }

    /// Queues a frame that no later one repeats. `is_reading`: whether the reader took something a moment ago.
    ///
    /// # Errors
    /// [`Overflow`] if stream frames are queued already and this one would exceed their limit.
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

    /// Queues the state of `key`; a queued frame of the same key that has not been started goes.
    ///
    /// The new frame takes the old one's place, so that what changes often does not starve, unless a stream
    /// frame was queued in between: then it goes to the back, and never overtakes it.
    ///
    /// # Errors
    /// [`Overflow`] if state frames are queued already and this one would exceed their limit.
    pub fn push_state(&mut self, key: StateKey, frame: WireFrame) -> Result<Queued, Overflow> {
        if self.index.is_none() && self.entries.len() >= INDEX_THRESHOLD {
            self.rebuild_index();
        }
        let old = self.find(key);
        let old_cost = old.and_then(|number| self.entry(number)?.frame.as_ref().map(cost)).unwrap_or(0);
        let cost = cost(&frame);
        let others = self.state_bytes - old_cost;
        if others > 0 && others + cost > self.limits.state_bytes {
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

    /// Queues the connection's last frame, whatever the limits, after what is there.
    pub fn push_last(&mut self, frame: WireFrame) {
        self.append(frame, None);
    }

    /// Forgets what has not been started, to make room at once when a reader is given up.
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

    /// Fills `slices` with what is next, in order, and says how many it filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let frames = self.entries.iter().filter_map(|entry| entry.frame.as_ref());
        let mut filled = 0;
        for (slice, frame) in slices.iter_mut().zip(frames) {
            // The first entry is never a gap, so the first frame is the one that may have been started.
            let from = if filled == 0 { self.front_written } else { 0 };
            *slice = IoSlice::new(&frame.as_bytes()[from..]);
            filled += 1;
        }
        filled
    }

    /// Notes that `written` bytes of what [`Self::fill`] gave are on the wire.
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

    /// Gives back the room that an empty outbox keeps for its next frames.
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
        let place = self.position_of(number)?;
        self.entries.get_mut(place)
    }

    /// The number of the replaceable frame of `key`.
    fn find(&self, key: StateKey) -> Option<u64> {
        let number = if let Some(index) = &self.index {
            *index.get(&key)?
        } else {
            let place = self.entries.iter().rposition(|entry| entry.key == Some(key))?;
            self.first_number + place as u64
        };
        // What is half on the wire has to be finished.
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

    /// Empties the place of a state frame; at the front the place goes too, since the front is never a gap.
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
                // A frame that had been started may have been followed by a newer one of its key.
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

    /// Closes the gaps once they are the larger half, which costs a constant per frame over time.
    fn compact(&mut self) {
        if self.gaps <= INDEX_THRESHOLD || self.gaps * 2 <= self.entries.len() {
            return;
        }
        let before_barrier = self.position_of(self.barrier).unwrap_or(0).min(self.entries.len());
        let kept = self.entries.range(..before_barrier).filter(|entry| entry.frame.is_some()).count();
        self.barrier = self.first_number + kept as u64;
        self.entries.retain(|entry| entry.frame.is_some());
        self.gaps = 0;
        self.index = None;
    }
}

/// What a queued frame counts: its bytes and its place, so that tiny frames are bounded too.
fn cost(frame: &WireFrame) -> usize {
    frame.len() + size_of::<Entry>()
}

#[cfg(test)]
mod tests;
