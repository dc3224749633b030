//! Reads the stream ahead of whoever tells: bounded by bytes, and never silent towards PostgreSQL.

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

use super::row_change::{RowChange, format_commit_time};
use crate::{
    pg::replication::{Lsn, ReplicationError, ReplicationStream, StreamEvent},
    telemetry::metric,
};

/// What may wait between reader and teller.
const MAX_BUFFERED_KIB: usize = 64 << 10;
/// Changes that may wait.
const MAX_BUFFERED_ITEMS: usize = 8_192;
/// While there is no room, PostgreSQL hears from us this often.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Something for the teller.
pub enum StreamItem {
    /// A change, with the room that it takes until it has been told.
    Change(RowChange, OwnedSemaphorePermit),
    /// Everything up to here has been handed over.
    Position(Lsn),
}

/// How far the teller is.
#[derive(Debug, Clone)]
pub struct FlushPosition(Arc<AtomicU64>);

impl FlushPosition {
    /// It begins here.
    pub fn starting_at(lsn: Lsn) -> Self {
        Self(Arc::new(AtomicU64::new(lsn.0)))
    }

    /// Up to where everything has been told.
    pub fn lsn(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Acquire))
    }

    /// Everything up to here has been told.
    pub fn advance(&self, lsn: Lsn) {
        self.0.fetch_max(lsn.0, Ordering::AcqRel);
    }
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream did.
    #[error(transparent)]
    Stream(#[from] ReplicationError),
    /// Telling is so far behind that PostgreSQL would have to keep more of its log than it should.
    #[error("{lag} bytes of log wait to be told, more than the bound of {bound}")]
    LagExceeded {
        /// Bytes of log that wait.
        lag: u64,
        /// How many may.
        bound: u64,
    },
    /// Nobody listens any more.
    #[error("nobody listens any more")]
    ReceiverClosed,
}

/// The channel from reader to teller.
#[must_use]
pub fn item_channel() -> (mpsc::Sender<StreamItem>, mpsc::Receiver<StreamItem>) {
    mpsc::channel(MAX_BUFFERED_ITEMS)
}

/// Reads until the stream ends; there is no other end but an error.
pub async fn read_stream(
    stream: &mut ReplicationStream,
    pieces: mpsc::Sender<StreamItem>,
    progress: FlushPosition,
    most_lag: u64,
) -> ReadError {
    let room = Arc::new(Semaphore::new(MAX_BUFFERED_KIB));
    let (mut xid, mut committed_at) = (0, format_commit_time(0));
    let (mut handed_over, mut is_amid) = (progress.lsn(), false);
    loop {
        let event = match stream.next_event().await {
            Ok(event) => event,
            Err(error) => return error.into(),
        };
        stream.acknowledge(progress.lsn());
        // Log of others' changes, however much, waits for nobody here.
        let is_waiting = is_amid || progress.lsn() < handed_over;
        let lag = if is_waiting { stream.lag_bytes() } else { 0 };
        metrics::gauge!(metric::REPLICATION_LAG).set(lag as f64);
        if lag > most_lag {
            return ReadError::LagExceeded { lag, bound: most_lag };
        }
        let handing_over = async {
            let piece = match event {
                StreamEvent::Begin { xid: id, committed_at_us } => {
                    is_amid = true;
                    (xid, committed_at) = (id, format_commit_time(committed_at_us));
                    return Some(());
                }
                StreamEvent::Commit { end } | StreamEvent::Idle { end } => {
                    (handed_over, is_amid) = (end, false);
                    StreamItem::Position(end)
                }
                StreamEvent::Change(change) => {
                    let changed = RowChange::new(change, Arc::clone(&committed_at), xid);
                    let kib = (changed.size_bytes() / 1024 + 1).min(MAX_BUFFERED_KIB);
                    let permit =
                        room.clone().acquire_many_owned(u32::try_from(kib).unwrap_or(1)).await.ok()?;
                    StreamItem::Change(changed, permit)
                }
            };
            pieces.send(piece).await.ok()
        };
        tokio::pin!(handing_over);
        loop {
            select! {
                handed = &mut handing_over => match handed {
                    Some(()) => break,
                    None => return ReadError::ReceiverClosed,
                },
                () = sleep(STATUS_INTERVAL) => {
                    stream.acknowledge(progress.lsn());
                    if let Err(error) = stream.send_status().await {
                        return error.into();
                    }
                }
            }
        }
    }
}
