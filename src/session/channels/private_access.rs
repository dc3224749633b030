//! Rights of a channel in a private topic.

use std::sync::Arc;

use crate::{
    channels::authorization::{AuthorizationError, ReadRights, RightsSubscription, WriteRights},
    hub::AllowedMask,
};

/// Rights of a channel in a private topic.
pub(super) struct PrivateAccess {
    /// Notifies the session of changes.
    pub subscription: RightsSubscription,
    /// What the channel may receive from the hub.
    pub allowed: Arc<AllowedMask>,
    /// Read rights known to the session.
    pub rights: ReadRights,
    /// Result of a check of the write rights, for the push that waited for it.
    pub write_result: Option<Result<WriteRights, AuthorizationError>>,
}

impl std::fmt::Debug for PrivateAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateAccess")
            .field("allowed", &self.allowed)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}
