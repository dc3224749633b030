//! The task that sends occupancy to its watchers.

use std::time::Duration;

use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

use super::ChannelPresence;

/// Minimum time between two occupancy messages of a topic.
const INTERVAL: Duration = Duration::from_millis(200);

/// Sends the occupancy of watched topics, at most once in [`INTERVAL`].
pub struct OccupancySender {
    presence: ChannelPresence,
}

impl OccupancySender {
    #[must_use]
    pub const fn new(presence: ChannelPresence) -> Self {
        Self { presence }
    }

    /// Sends until `stop` is cancelled or the hub has stopped.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            select! {
                () = stop.cancelled() => return,
                () = self.presence.occupancy_changed() => {}
            }
            if self.presence.send_changed_occupancy().await.is_err() {
                return stop.cancelled().await;
            }
            select! {
                () = stop.cancelled() => return,
                () = sleep(INTERVAL) => {}
            }
        }
    }
}
