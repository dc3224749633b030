//! What a viewer needs to be resumed over another connection ([`super::parking`]).

use std::collections::VecDeque;

use tokio::time::Instant;
use uuid::Uuid;

use crate::model::{Position, UserId};

/// A viewer's index with an epoch; stale once the viewer is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::presence::visibility) struct ViewerKey {
    pub(super) index: u32,
    pub(super) epoch: u32,
}

/// What a viewer needs to be resumed.
pub(super) struct ResumeState {
    /// Random; names the viewer in positions.
    pub(super) id: Uuid,
    /// Mark of the next deliveries. The client knows positions below it.
    pub(super) mark: u32,
    /// Whether something was delivered with the current mark.
    pub(super) is_told: bool,
    /// Positions below this one are too old.
    pub(super) oldest: u32,
    /// Subjects that were taken back and have no edge, each with the mark.
    pub(super) taken_back: VecDeque<(UserId, u32)>,
    /// The position from which the viewer is being resumed, until its state was delivered.
    pub(super) resumed_from: Option<u32>,
    /// Bytes that count while the viewer is parked.
    pub(super) parked_bytes: Option<usize>,
}

impl Default for ResumeState {
    fn default() -> Self {
        Self {
            id: Uuid::new_v4(),
            mark: 1,
            is_told: false,
            oldest: 0,
            taken_back: VecDeque::new(),
            resumed_from: None,
            parked_bytes: None,
        }
    }
}

impl ResumeState {
    /// The client is told a full state instead of differences.
    pub(super) fn forget_resumed(&mut self) {
        self.resumed_from = None;
    }

    pub(super) fn next_position(&mut self) -> Position {
        let position = Position { viewer: self.id, mark: self.mark };
        self.mark += 1;
        self.is_told = false;
        position
    }
}

/// The parked viewers, oldest first, and their bytes.
#[derive(Default)]
pub(super) struct Parked {
    pub(super) queue: VecDeque<(Instant, ViewerKey)>,
    pub(super) count: usize,
    pub(super) bytes: usize,
}
