//! Limit of open sockets.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// Permit for one open socket. An upgraded connection keeps it, so that the accept loop counts upgraded sockets too.
#[derive(Debug, Clone)]
pub struct Permit {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Permit {
    /// Holds a permit of the accept loop's semaphore until the last clone is dropped.
    #[must_use]
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Arc::new(permit) }
    }
}
