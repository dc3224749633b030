//! Ends typing that is not refreshed within five seconds.

use std::{sync::Arc, time::Duration};

use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

use super::visibility::PendingChanges;
use crate::lifecycle::ErrorChain;
use crate::pg::{Database, queries::typing};

/// Typing that expires within this time of each other is ended together. It is well below the promised precision of
/// ±0.5 s.
const EXPIRY_COALESCE_WINDOW: Duration = Duration::from_millis(50);
/// Timeout of the query, and the pause after a failure.
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(3);

/// Ends typing when it expires. Idle while nobody types: the first typing notification wakes the task.
pub async fn run_expiry(database: Database, pending: Arc<PendingChanges>, stop: CancellationToken) {
    loop {
        select! {
            () = stop.cancelled() => return,
            () = pending.typing_notified() => {}
        }
        loop {
            let expire = |connection| async move { typing::expire(&connection).await };
            let pause = match database.within(EXPIRY_TIMEOUT, expire).await {
                Ok(None) => break,
                Ok(Some(milliseconds)) => {
                    Duration::from_secs_f64(milliseconds.max(0.0) / 1000.0) + EXPIRY_COALESCE_WINDOW
                }
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "typing expiry failed");
                    EXPIRY_TIMEOUT
                }
            };
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }
}
