//! How much a viewer receives before its client has read what was delivered before.
//!
//! A change of many users at once is delivered in parts. What does not fit is held back as a mark on its edge, so it
//! costs no memory, and is read again when the client has read the previous part. The latest state is delivered then.

use crate::{hub::OutboxLimits, model::Presence};

/// Upper bound of the bytes of one presence in an initial state, without its texts.
const INITIAL_STATE_ENTRY_BYTES: usize = 240;
/// Upper bound of the bytes of one update with its entry in the outbox, without texts.
pub(super) const UPDATE_BYTES: usize = 384;

/// Maximum bytes delivered to a viewer and not known to be read, as estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacingLimits {
    /// For the initial state, which is one stream frame.
    pub initial_state_bytes: usize,
    /// For updates, which are state frames.
    pub update_bytes: usize,
}

impl From<OutboxLimits> for PacingLimits {
    /// Limits with which an outbox never overflows.
    fn from(outbox: OutboxLimits) -> Self {
        Self { initial_state_bytes: outbox.stream_bytes_active_reader, update_bytes: outbox.state_bytes }
    }
}

impl Default for PacingLimits {
    fn default() -> Self {
        OutboxLimits::default().into()
    }
}

impl PacingLimits {
    /// Number of short updates that a client that has read everything may receive.
    pub(super) fn updates(&self) -> usize {
        (self.update_bytes / UPDATE_BYTES).max(1)
    }
}

/// Estimated bytes of a presence in an initial state.
pub(super) fn initial_state_bytes(presence: &Presence) -> usize {
    INITIAL_STATE_ENTRY_BYTES + text_bytes(presence)
}

/// Estimated bytes of an update.
pub(super) fn update_bytes(presence: &Presence) -> usize {
    UPDATE_BYTES + text_bytes(presence)
}

/// Bytes of the texts in JSON, at most: each quote and backslash takes two, control characters are removed before.
fn text_bytes(presence: &Presence) -> usize {
    let texts = [&presence.custom_status, &presence.activity, &presence.current_page];
    texts.into_iter().flatten().map(|text| 2 * text.len()).sum()
}

/// What one viewer has not read, and what was held back.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Bytes delivered that the client may not have read.
    unread: usize,
    /// Those of `unread` that were delivered before the wait began.
    awaited: usize,
    /// Whether the task waits until the client has read.
    is_waiting: bool,
    /// Edges with a state that was held back.
    pub held_edges: u32,
    /// Typing states were held back.
    pub holds_typing: bool,
}

impl Pacing {
    /// Counts `bytes` to deliver; `false` if they exceed the limit and must be held back. Anything fits if the client has
    /// read everything.
    pub(super) fn admit(&mut self, bytes: usize, limit: usize) -> bool {
        let fits = self.unread == 0 || self.unread + bytes <= limit;
        if fits {
            self.unread += bytes;
        }
        fits
    }

    pub(super) fn holds_back(&self) -> bool {
        self.held_edges > 0 || self.holds_typing
    }

    /// Begins a wait if one is needed and none is under way. It begins at half of the limit, so that a client that reads
    /// never reaches the limit by single updates.
    pub(super) fn begin_wait(&mut self, limits: &PacingLimits) -> bool {
        let begins = !self.is_waiting && (self.holds_back() || self.unread * 2 > limits.update_bytes);
        if begins {
            self.is_waiting = true;
            self.awaited = self.unread;
        }
        begins
    }

    /// The client has read what was delivered before the wait.
    pub(super) fn on_read(&mut self) {
        self.is_waiting = false;
        self.unread -= std::mem::take(&mut self.awaited);
    }

    /// Ends a wait in which the client did not read.
    pub(super) fn restart_wait(&mut self) {
        self.is_waiting = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PacingLimits = PacingLimits { initial_state_bytes: 1_000, update_bytes: 100 };

    #[test]
    fn a_client_that_has_read_everything_receives_anything() {
        let mut pacing = Pacing::default();
        assert!(pacing.admit(500, LIMITS.update_bytes));
        assert!(!pacing.admit(1, LIMITS.update_bytes));
        assert!(pacing.begin_wait(&LIMITS));
        assert!(!pacing.begin_wait(&LIMITS), "one wait at a time");
        pacing.on_read();
        assert!(pacing.admit(100, LIMITS.update_bytes));
    }

    #[test]
    fn what_is_delivered_during_a_wait_counts_after_it() {
        let mut pacing = Pacing::default();
        assert!(pacing.admit(40, LIMITS.update_bytes) && !pacing.begin_wait(&LIMITS));
        assert!(pacing.admit(20, LIMITS.update_bytes) && pacing.begin_wait(&LIMITS));
        assert!(pacing.admit(40, LIMITS.update_bytes) && !pacing.admit(1, LIMITS.update_bytes));
        pacing.on_read();
        assert!(pacing.admit(60, LIMITS.update_bytes) && !pacing.admit(1, LIMITS.update_bytes));
    }

    #[test]
    fn something_held_back_needs_a_wait() {
        let mut pacing = Pacing { held_edges: 1, ..Pacing::default() };
        assert!(pacing.begin_wait(&LIMITS));
        pacing.on_read();
        assert!(pacing.begin_wait(&LIMITS));
    }
}
