//! Streams row changes from the WAL by logical replication with `pgoutput`.
//!
//! - [`connection`]: one replication connection, from the handshake to `CopyData`.
//! - [`pgoutput`]: decodes the payload of `CopyData`.
//! - [`RowChange`]: a changed row, the unit that all later steps process.
//! - [`stream`]: a slot, its stream, and the status messages that let PostgreSQL recycle WAL.
//!
//! **Why not a library.** `tokio-postgres` has no released copy-both mode. `pgwire-replication` (0.5) cannot create a
//! slot on its own connection, which a *temporary* slot requires, supports neither libpq URLs nor Unix sockets, and
//! buffers in its own task. `pg_walstream` (0.10) has 38,000 lines and a second cryptography library. Little code is
//! needed: `postgres-protocol` (a dependency of `tokio-postgres`) provides framing and SCRAM, and our `Connector`
//! provides address and encryption, so a URL has the same meaning everywhere.
//!
//! **Why one slot per node.** One stream for all nodes would need a leader, failover, and an ordered transport of
//! changes to the other nodes. With a slot per node, a node that stops takes its temporary slot with it and affects
//! no other node. The cost is one walsender for each node that has subscribers; the stream is started on demand.
//! `max_replication_slots` and `max_wal_senders` must be at least the number of nodes.

pub mod connection;
pub mod pgoutput;
mod relation;
mod row_change;
pub mod stream;

use std::fmt;

pub use pgoutput::LogicalMessage;
pub use relation::{Column, Relation, ReplicaIdentity};
pub use row_change::{Cell, Operation, Row, RowChange, Transaction};
pub use stream::{ReplicationStream, SlotKind, StreamContent, StreamEvent, StreamPosition};

use super::PgError;

/// A position in the WAL (log sequence number).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Parses the text form, for example `16/B374D848`.
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
    /// The connection failed or was lost.
    #[error("the replication connection failed")]
    Connection(#[from] std::io::Error),
    /// PostgreSQL reported an error.
    #[error("PostgreSQL reported an error on the replication connection: {message} ({code})")]
    Server {
        /// SQLSTATE code of the error.
        code: String,
        message: String,
    },
    /// A message is malformed or not supported.
    #[error("invalid message on the replication connection: {0}")]
    Protocol(&'static str),
    /// The slot belongs to another cluster or timeline: a standby was promoted or a backup was restored.
    #[error("the database was restored or failed over, so the position in its log is not valid any more")]
    OtherTimeline,
    /// The database URL or the server's configuration does not allow replication.
    #[error("{0}")]
    Configuration(&'static str),
    /// A statement on an ordinary connection failed.
    #[error(transparent)]
    Sql(#[from] PgError),
}

impl ReplicationError {
    /// Whether the slot no longer exists or was invalidated, so that changes are missing.
    #[must_use]
    pub fn is_lost_slot(&self) -> bool {
        // 55000: invalidated because it retained too much WAL. 42704: dropped.
        matches!(self, Self::OtherTimeline)
            || matches!(self, Self::Server { code, .. } if code == "55000" || code == "42704")
    }

    /// Whether another connection reads from the slot.
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
        for invalid in ["", "16", "16/", "x/1", "1/2/3"] {
            assert_eq!(Lsn::parse(invalid), None, "{invalid}");
        }
    }
}
