//! Results of checks, and who is notified of them.

use std::sync::Arc;

use super::{AuthorizationError, ReadRights, WriteRights};

/// Notified when the read rights of a channel change. Called by the worker task, so it must not block.
pub trait RightsSubscriber: Send + Sync + 'static {
    /// The new read rights, sent only when they differ from the last known. An error means that nothing may
    /// be read.
    fn on_rights_changed(&self, rights: Result<ReadRights, AuthorizationError>);
}

pub(super) type ReadResult = Result<ReadRights, AuthorizationError>;
pub(super) type WriteResult = Result<WriteRights, AuthorizationError>;
/// Subscribers to notify after the lock is released, with their new rights.
pub(super) type RightsUpdates = Vec<(Arc<dyn RightsSubscriber>, ReadResult)>;
