//! Reads the replication stream ahead of the delivery loop, bounded by bytes, and sends status to PostgreSQL while it
//! waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};

use crate::{
    pg::replication::{Lsn, ReplicationError, ReplicationStream, RowChange, StreamEvent},
    telemetry::metric,
};

/// Maximum size of the buffered changes in KiB.
const MAX_BUFFERED_KIB: usize = 64 << 10;
/// Maximum number of buffered items.
const MAX_BUFFERED_ITEMS: usize = 8_192;
/// Interval of status messages to PostgreSQL while the buffer is full.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Item of the stream for the delivery loop.
pub(super) enum StreamItem {
    /// A change, with a permit for its buffer space that is held until delivery.
    Change(RowChange, OwnedSemaphorePermit),
    /// All changes before this position have been sent to the channel.
    Position(Lsn),
}

/// Position up to which all changes have been delivered.
#[derive(Debug, Clone)]
pub(super) struct FlushPosition(Arc<AtomicU64>);

impl FlushPosition {
    pub(super) fn starting_at(lsn: Lsn) -> Self {
        Self(Arc::new(AtomicU64::new(lsn.0)))
    }

    pub(super) fn lsn(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Acquire))
    }

    /// Records that all changes before `lsn` have been delivered.
    pub(super) fn advance(&self, lsn: Lsn) {
        self.0.fetch_max(lsn.0, Ordering::AcqRel);
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Stream(#[from] ReplicationError),
    /// Delivery is so far behind that PostgreSQL would retain too much WAL.
    #[error(
        "replication lag of {lag_bytes} bytes exceeds the maximum of {max_bytes} bytes (REALTIME_MAX_WAL_MB)"
    )]
    LagExceeded {
        /// Bytes of WAL that are not delivered.
        lag_bytes: u64,
        /// The maximum of `lag_bytes`.
        max_bytes: u64,
    },
    /// The delivery loop has ended.
    #[error("the delivery loop has ended")]
    ReceiverClosed,
}

/// The channel from the reader to the delivery loop.
#[must_use]
pub(super) fn item_channel() -> (mpsc::Sender<StreamItem>, mpsc::Receiver<StreamItem>) {
    mpsc::channel(MAX_BUFFERED_ITEMS)
}

/// Reads until the stream fails or the delivery loop ends; returns the reason.
pub(super) async fn read_stream(
    stream: &mut ReplicationStream,
    items: mpsc::Sender<StreamItem>,
    flush_position: FlushPosition,
    max_lag_bytes: u64,
) -> ReadError {
    let buffer = Arc::new(Semaphore::new(MAX_BUFFERED_KIB));
    let (mut sent_position, mut mid_transaction) = (flush_position.lsn(), false);
    loop {
        let event = match stream.next_event().await {
            Ok(event) => event,
            Err(error) => return error.into(),
        };
        stream.acknowledge(flush_position.lsn());
        // WAL of unpublished tables does not count as lag.
        let is_pending = mid_transaction || flush_position.lsn() < sent_position;
        let lag_bytes = if is_pending { stream.lag_bytes() } else { 0 };
        metrics::gauge!(metric::REPLICATION_LAG).set(lag_bytes as f64);
        if lag_bytes > max_lag_bytes {
            return ReadError::LagExceeded { lag_bytes, max_bytes: max_lag_bytes };
        }
        let sending = async {
            let item = match event {
                // This stream has row changes only.
                StreamEvent::Message { .. } => return Some(()),
                StreamEvent::Begin => {
                    mid_transaction = true;
                    return Some(());
                }
                StreamEvent::Commit { end } | StreamEvent::Idle { end } => {
                    (sent_position, mid_transaction) = (end, false);
                    StreamItem::Position(end)
                }
                StreamEvent::Change(change) => {
                    let kib = (change.size_bytes() / 1024 + 1).min(MAX_BUFFERED_KIB);
                    let permit =
                        buffer.clone().acquire_many_owned(u32::try_from(kib).unwrap_or(1)).await.ok()?;
                    StreamItem::Change(change, permit)
                }
            };
            items.send(item).await.ok()
        };
        tokio::pin!(sending);
        loop {
            select! {
                sent = &mut sending => match sent {
                    Some(()) => break,
                    None => return ReadError::ReceiverClosed,
                },
                () = sleep(STATUS_INTERVAL) => {
                    stream.acknowledge(flush_position.lsn());
                    if let Err(error) = stream.send_status().await {
                        return error.into();
                    }
                }
            }
        }
    }
}
