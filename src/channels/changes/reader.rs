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

use super::row::{Changed, commit_time};
use crate::{
    pg::replication::{Event, Lsn, ReplicationError, Stream},
    telemetry::metric,
};

/// What may wait between reader and teller.
const MOST_WAITING_KIB: usize = 64 << 10;
/// Changes that may wait.
const MOST_WAITING: usize = 8_192;
/// While there is no room, PostgreSQL hears from us this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Something for the teller.
pub enum Piece {
    /// A change, with the room that it takes until it has been told.
    Changed(Changed, OwnedSemaphorePermit),
    /// Everything up to here has been handed over.
    UpTo(Lsn),
}

/// How far the teller is.
#[derive(Debug, Clone)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// It begins here.
    pub fn from(lsn: Lsn) -> Self {
        Self(Arc::new(AtomicU64::new(lsn.0)))
    }

    /// Up to where everything has been told.
    pub fn lsn(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Acquire))
    }

    /// Everything up to here has been told.
    pub fn reached(&self, lsn: Lsn) {
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
    Behind {
        /// Bytes of log that wait.
        lag: u64,
        /// How many may.
        bound: u64,
    },
    /// Nobody listens any more.
    #[error("nobody listens any more")]
    Unheard,
}

/// The channel from reader to teller.
#[must_use]
pub fn pipe() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(MOST_WAITING)
}

/// Reads until the stream ends; there is no other end but an error.
pub async fn read(
    stream: &mut Stream,
    pieces: mpsc::Sender<Piece>,
    progress: Progress,
    most_lag: u64,
) -> ReadError {
    let room = Arc::new(Semaphore::new(MOST_WAITING_KIB));
    let (mut xid, mut committed_at) = (0, commit_time(0));
    let (mut handed_over, mut is_amid) = (progress.lsn(), false);
    loop {
        let event = match stream.next().await {
            Ok(event) => event,
            Err(error) => return error.into(),
        };
        stream.acknowledge(progress.lsn());
        // Log of others' changes, however much, waits for nobody here.
        let is_waiting = is_amid || progress.lsn() < handed_over;
        let lag = if is_waiting { stream.lag_bytes() } else { 0 };
        metrics::gauge!(metric::REPLICATION_LAG).set(lag as f64);
        if lag > most_lag {
            return ReadError::Behind { lag, bound: most_lag };
        }
        let handing_over = async {
            let piece = match event {
                Event::Begin { xid: id, committed_at_us } => {
                    is_amid = true;
                    (xid, committed_at) = (id, commit_time(committed_at_us));
                    return Some(());
                }
                Event::Commit { end } | Event::Idle { end } => {
                    (handed_over, is_amid) = (end, false);
                    Piece::UpTo(end)
                }
                Event::Change(change) => {
                    let changed = Changed::new(change, Arc::clone(&committed_at), xid);
                    let kib = (changed.size() / 1024 + 1).min(MOST_WAITING_KIB);
                    let permit =
                        room.clone().acquire_many_owned(u32::try_from(kib).unwrap_or(1)).await.ok()?;
                    Piece::Changed(changed, permit)
                }
            };
            pieces.send(piece).await.ok()
        };
        tokio::pin!(handing_over);
        loop {
            select! {
                handed = &mut handing_over => match handed {
                    Some(()) => break,
                    None => return ReadError::Unheard,
                },
                () = sleep(SIGN_OF_LIFE) => {
                    stream.acknowledge(progress.lsn());
                    if let Err(error) = stream.say_status().await {
                        return error.into();
                    }
                }
            }
        }
    }
}
