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
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopping,
}

impl From<&PgError> for WriteError {
    fn from(error: &PgError) -> Self {
        if matches!(error, PgError::Failed(_) | PgError::PermissionDenied(_)) {
            Self::Rejected
        } else {
            Self::Unavailable
        }
    }
}

pub(super) struct Request {
    pub(super) user: UserId,
    pub(super) change: Change,
    pub(super) queued_at: Instant,
    pub(super) reply: oneshot::Sender<Result<Option<VersionedFace>, WriteError>>,
}
