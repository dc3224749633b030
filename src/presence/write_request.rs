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
pub(super) fn answer(
    change: &Change,
    face: Option<VersionedFace>,
) -> Result<Option<VersionedFace>, WriteError> {
    if face.is_none() && change.creates_device() { Err(WriteError::TooManyDevices) } else { Ok(face) }
}

pub(super) struct Request {
    pub(super) user: UserId,
    pub(super) change: Change,
    pub(super) queued_at: Instant,
    pub(super) reply: oneshot::Sender<Result<Option<VersionedFace>, WriteError>>,
}
