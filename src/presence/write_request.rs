//! A change of presence that waits to be written, and how it can fail.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::{
    model::UserId,
    pg::{
        PgError,
        queries::presence::{Change, VersionedFace},
    },
};

/// The write failed, or its outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The database is unavailable or too slow.
    #[error("the database is unavailable")]
    Unavailable,
    /// The database rejected this write.
    #[error("the database rejected the write")]
    Rejected,
    /// The device is new, and the user has as many devices as allowed, all of them online.
    #[error("too many devices: every device of the user is online")]
    TooManyDevices,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopping,
}

impl From<&PgError> for WriteError {
    fn from(error: &PgError) -> Self {
        match error {
            PgError::Failed(_) | PgError::PermissionDenied(_) => Self::Rejected,
            PgError::TooManyDevices(_) => Self::TooManyDevices,
            _ => Self::Unavailable,
        }
    }
}

/// The answer to a change, from the user's face after it. Only changes of new devices beyond the quota leave no face;
/// apart from those that create no device.
pub(super) fn answer(change: &Change, face: Option<VersionedFace>) -> WriteResult {
    if face.is_none() && change.creates_device() { Err(WriteError::TooManyDevices) } else { Ok(face) }
}

pub(super) type WriteResult = Result<Option<VersionedFace>, WriteError>;
pub(super) type Reply = oneshot::Sender<WriteResult>;

pub(super) struct Request {
    pub(super) user: UserId,
    pub(super) change: Change,
    pub(super) queued_at: Instant,
    /// More than one if heartbeats were merged.
    pub(super) replies: Vec<Reply>,
}

impl Request {
    /// Whether every caller was answered, or gave up.
    pub(super) fn is_abandoned(&self) -> bool {
        self.replies.iter().all(Reply::is_closed)
    }

    pub(super) fn reply(self, result: &WriteResult) {
        for reply in self.replies {
            // The caller may have timed out.
            drop(reply.send(result.clone()));
        }
    }

    /// Merges a later heartbeat of the same device into this one; otherwise returns it.
    pub(super) fn merge(&mut self, later: Self) -> Option<Self> {
        if let Change::Heartbeat { device, active } = &mut self.change
            && let Change::Heartbeat { device: same, active: later_active } = &later.change
            && device == same
        {
            *active |= later_active;
            self.replies.extend(later.replies);
            return None;
        }
        Some(later)
    }
}
