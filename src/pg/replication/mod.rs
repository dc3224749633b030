//! The write-ahead log as a stream of row changes: logical replication through `pgoutput`.
//!
//! - [`wire`]: one replication connection, from its first byte to `CopyData`.
//! - [`pgoutput`]: what the bytes in `CopyData` mean.
//! - [`stream`]: a slot, its stream, and the feedback that lets PostgreSQL recycle what has been dealt with.
//!
//! **Why not a library.** `tokio-postgres` has no copy-both mode in a release. `pgwire-replication` (0.5) starts
//! streams well, but cannot create a slot on its own connection, which a *temporary* slot needs, knows neither
//! libpq's URLs nor Unix sockets, and buffers in a task of its own. `pg_walstream` (0.10) can do nearly everything,
//! in 38,000 lines, with a second cryptography library beside ours. What is needed is small: the protocol's framing
//! and SCRAM come from `postgres-protocol` (the crate under `tokio-postgres`, in the tree anyway), address and
//! encryption from our own `Connector`, so that a URL means the same here as everywhere else.
//!
//! **Why each node has a slot of its own.** One stream for a cluster of nodes would need a leader, a take-over, and a
//! way for changes to travel from the leader to the others in order. A slot per node needs none of it: a node that
//! dies takes its temporary slot with it and nobody else notices; what it costs is one walsender that decodes
//! the log for each node that has subscribers (and none for a node that has not: the stream is started on demand).
//! A cluster of nodes needs `max_replication_slots` and `max_wal_senders` of at least the number of nodes.

pub mod connection;
pub mod pgoutput;
pub mod stream;

use std::fmt;

pub use pgoutput::{Cell, Column, DecodedChange, Operation, Relation, ReplicaIdentity};
pub use stream::{ReplicationStream, SlotKind, StreamEvent};

use super::PgError;

/// A place in the write-ahead log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads `16/B374D848`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let half = |text| u32::from_str_radix(text, 16).ok().map(u64::from);
        Some(Self(half(high)? << 32 | half(low)?))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Why a stream did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The connection could not be made, or broke.
    #[error("the replication connection broke")]
    Connection(#[from] std::io::Error),
    /// PostgreSQL refused.
    #[error("PostgreSQL refused: {message} ({code})")]
    Server {
        /// Its SQLSTATE.
        code: String,
        /// Its words.
        message: String,
    },
    /// A message makes no sense: not PostgreSQL, or a newer one.
    #[error("the replication stream cannot be understood: {0}")]
    Protocol(&'static str),
    /// The URL cannot be used for replication.
    #[error("{0}")]
    Configuration(&'static str),
    /// A question on an ordinary connection failed.
    #[error(transparent)]
    Sql(#[from] PgError),
}

impl ReplicationError {
    /// Whether the place in the log from which the slot was to go on is gone: there is a gap.
    #[must_use]
    pub fn is_lost_slot(&self) -> bool {
        // 55000: invalidated, because it had to keep too much; 42704: dropped.
        matches!(self, Self::Server { code, .. } if code == "55000" || code == "42704")
    }

    /// Whether somebody else reads from the slot.
    #[must_use]
    pub fn is_slot_in_use(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code == "55006")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_parses_and_displays_like_postgresql() {
        let lsn = Lsn::parse("16/B374D848").unwrap();
        assert_eq!(lsn, Lsn(0x16_b374_d848));
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert!(Lsn(0x0_ffff_ffff) < Lsn::parse("1/0").unwrap());
        for wrong in ["", "16", "16/", "x/1", "1/2/3"] {
            assert_eq!(Lsn::parse(wrong), None, "{wrong}");
        }
    }
}
