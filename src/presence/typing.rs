//! Ends typing that is not refreshed within five seconds.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::visibility::PendingChanges;
use crate::lifecycle::ErrorChain;
use crate::pg::{Database, PgError, queries::typing};

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
            let pause = match timeout(EXPIRY_TIMEOUT, expire(&database)).await {
                Ok(Ok(None)) => break,
                Ok(Ok(Some(milliseconds))) => {
                    Duration::from_secs_f64(milliseconds.max(0.0) / 1000.0) + EXPIRY_COALESCE_WINDOW
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = %ErrorChain(&error), "typing expiry failed");
                    EXPIRY_TIMEOUT
                }
                Err(_) => EXPIRY_TIMEOUT,
            };
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }
}

async fn expire(database: &Database) -> Result<Option<f64>, PgError> {
    typing::expire(&database.server_connection().await?).await
}
