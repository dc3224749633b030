//! Typing ends by itself: whoever does not refresh it within five seconds has stopped.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::visibility::PendingChanges;
use crate::pg::{Database, PgError, queries::typing};

/// Ends of typing within this time of each other are done together; well below the contract's ±0.5 s.
const EXPIRY_COALESCE_WINDOW: Duration = Duration::from_millis(50);
/// How long the database may take, and the pause after it failed.
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(3);

/// Ends typing when it is due. Costs nothing while nobody types: the first notification of typing wakes it.
pub async fn run_expiry(database: Database, inbox: Arc<PendingChanges>, stop: CancellationToken) {
    loop {
        select! {
            () = stop.cancelled() => return,
            () = inbox.typing_notified() => {}
        }
        loop {
            let pause = match timeout(EXPIRY_TIMEOUT, expire(&database)).await {
                Ok(Ok(None)) => break,
                Ok(Ok(Some(milliseconds))) => {
                    Duration::from_secs_f64(milliseconds.max(0.0) / 1000.0) + EXPIRY_COALESCE_WINDOW
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = ?error, "could not end typing");
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
