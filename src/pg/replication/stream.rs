//! A replication slot and its stream.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, timeout_at};

use super::{
    Lsn, ReplicationError,
    connection::ReplicationConnection,
    pgoutput::{self, LogicalMessage, Message},
    relation::Relation,
    row_change::{RowChange, Transaction},
};
use crate::pg::Connector;
use crate::pg::ident::{quote_identifier, quote_literal};

/// Interval of status messages to PostgreSQL, which ends the connection after `wal_sender_timeout` (60 s by default).
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum time without a message. PostgreSQL sends a keepalive every 30 s.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(45);
/// Microseconds from 1970 to 2000.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// Lifetime of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// Ends with its connection. Its position is lost when the connection breaks or PostgreSQL restarts.
    Temporary,
    /// Exists until it is dropped. Retains its position and the WAL since then.
    Persistent,
}

/// What a stream contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamContent<'a> {
    /// Row changes of the tables of a publication.
    RowChanges { publication: &'a str },
    /// Logical messages. The publication has no tables.
    LogicalMessages { publication: &'a str },
}

impl StreamContent<'_> {
    /// Purpose of the connection, for `application_name`.
    const fn purpose(self) -> &'static str {
        match self {
            Self::RowChanges { .. } => "changes",
            Self::LogicalMessages { .. } => "relay-stream",
        }
    }

    /// Options of `START_REPLICATION`.
    fn options(self) -> String {
        let (publication, messages) = match self {
            Self::RowChanges { publication } => (publication, ""),
            Self::LogicalMessages { publication } => (publication, ", messages 'true'"),
        };
        let publications = quote_literal(&quote_identifier(publication));
        format!("proto_version '1', publication_names {publications}{messages}")
    }
}

/// Event of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// Start of a committed transaction.
    Begin,
    Change(RowChange),
    /// Part of the transaction, or written outside of one. The log is read before other sessions see the transaction.
    Message {
        message: LogicalMessage,
        transaction: Option<Transaction>,
    },
    /// All changes of the transaction have been returned.
    Commit {
        /// Position to acknowledge once the changes are processed.
        end: Lsn,
    },
    /// No change for this stream up to a position.
    Idle {
        /// Position to acknowledge if all earlier changes are processed.
        end: Lsn,
    },
}

/// A position in the log of one cluster and timeline. Positions of another one cannot be compared with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPosition {
    pub timeline: Timeline,
    pub lsn: Lsn,
}

/// The system identifier of a cluster, and its timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline(String);

/// A running stream of a publication's changes.
pub struct ReplicationStream {
    connection: ReplicationConnection,
    timeline: Timeline,
    relations: HashMap<u32, Arc<Relation>>,
    /// The transaction of which changes arrive.
    transaction: Option<Transaction>,
    received: Lsn,
    server_wal_end: Lsn,
    acknowledged: Lsn,
    /// When the next status message is sent.
    status_due: Instant,
    last_received_at: Instant,
}

impl ReplicationStream {
    /// Creates the slot and starts the stream: changes that are committed after this returns arrive. An inactive
    /// persistent slot of the same name is dropped and created again.
    ///
    /// # Errors
    /// If the database is unavailable, no slot or walsender is free, the role may not replicate, or another
    /// connection reads from the slot.
    pub async fn create(
        connector: &Connector,
        slot: &str,
        kind: SlotKind,
        content: StreamContent<'_>,
    ) -> Result<Self, ReplicationError> {
        let mut connection = ReplicationConnection::connect(connector, content.purpose()).await?;
        let StreamPosition { timeline, .. } = current_position(&mut connection).await?;
        let temporary = if kind == SlotKind::Temporary { "TEMPORARY " } else { "" };
        let create = format!(
            "CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput (SNAPSHOT 'nothing')",
            quote_identifier(slot)
        );
        let rows = match connection.query(&create).await {
            Ok(rows) => rows,
            Err(ReplicationError::Server { code, .. }) if code == "42710" && kind == SlotKind::Persistent => {
                connection.query(&format!("DROP_REPLICATION_SLOT {}", quote_identifier(slot))).await?;
                connection.query(&create).await?
            }
            Err(error) => return Err(error),
        };
        // WAL before the slot's creation does not count as lag.
        let start_lsn = rows.first().and_then(|row| Lsn::parse(row.get(1)?.as_deref()?));
        let start_lsn =
            start_lsn.ok_or(ReplicationError::Protocol("the created slot has no WAL position"))?;
        Self::start(connection, slot, content, StreamPosition { timeline, lsn: start_lsn }).await
    }

    /// Resumes a persistent slot after the position up to which changes were processed.
    ///
    /// # Errors
    /// If the database is unavailable, the slot was dropped or invalidated, another connection reads from it, or the
    /// position is not one of this database ([`ReplicationError::OtherTimeline`]).
    pub async fn resume(
        connector: &Connector,
        slot: &str,
        content: StreamContent<'_>,
        processed_up_to: StreamPosition,
    ) -> Result<Self, ReplicationError> {
        let mut connection = ReplicationConnection::connect(connector, content.purpose()).await?;
        let current = current_position(&mut connection).await?;
        // PostgreSQL would skip everything up to the position. A copy of the files that was put back has the same
        // timeline and ends earlier.
        if current.timeline != processed_up_to.timeline || current.lsn < processed_up_to.lsn {
            return Err(ReplicationError::OtherTimeline);
        }
        Self::start(connection, slot, content, processed_up_to).await
    }

    async fn start(
        mut connection: ReplicationConnection,
        slot: &str,
        content: StreamContent<'_>,
        StreamPosition { timeline, lsn: start_lsn }: StreamPosition,
    ) -> Result<Self, ReplicationError> {
        let start = format!(
            "START_REPLICATION SLOT {} LOGICAL {start_lsn} ({})",
            quote_identifier(slot),
            content.options(),
        );
        connection.copy_both(&start).await?;
        let now = Instant::now();
        Ok(Self {
            connection,
            timeline,
            relations: HashMap::new(),
            transaction: None,
            received: start_lsn,
            server_wal_end: start_lsn,
            acknowledged: start_lsn,
            status_due: now + STATUS_INTERVAL,
            last_received_at: now,
        })
    }

    /// The position up to which changes were acknowledged.
    #[must_use]
    pub fn position(&self) -> StreamPosition {
        StreamPosition { timeline: self.timeline.clone(), lsn: self.acknowledged }
    }

    /// Drops a persistent slot so that it does not retain WAL. A slot that does not exist is not an error.
    ///
    /// # Errors
    /// If the database is unavailable or refuses.
    pub async fn drop_slot(connector: &Connector, slot: &str) -> Result<(), ReplicationError> {
        let mut connection = ReplicationConnection::connect(connector, "changes").await?;
        match connection.query(&format!("DROP_REPLICATION_SLOT {} WAIT", quote_identifier(slot))).await {
            Ok(_) => Ok(()),
            Err(ReplicationError::Server { code, .. }) if code == "42704" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits for the next event and replies to keepalives meanwhile. Cancel-safe.
    ///
    /// # Errors
    /// If the stream ends.
    pub async fn next_event(&mut self) -> Result<StreamEvent, ReplicationError> {
        loop {
            if let Some(event) = self.buffered_event().await? {
                return Ok(event);
            }
            let receive_deadline = self.last_received_at + RECEIVE_TIMEOUT;
            match timeout_at(self.status_due.min(receive_deadline), self.connection.receive_data()).await {
                Ok(bytes) => {
                    if let Some(event) = self.handle_data(bytes?).await? {
                        return Ok(event);
                    }
                }
                Err(_) if Instant::now() >= receive_deadline => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                Err(_) => self.send_status().await?,
            }
        }
    }

    /// Returns the next event that is already buffered, if any.
    ///
    /// # Errors
    /// If the stream ends.
    pub async fn buffered_event(&mut self) -> Result<Option<StreamEvent>, ReplicationError> {
        while let Some(bytes) = self.connection.buffered_data()? {
            if let Some(event) = self.handle_data(bytes).await? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Records that all changes up to `end` are processed. The next status message reports it.
    pub fn acknowledge(&mut self, end: Lsn) {
        self.acknowledged = self.acknowledged.max(end);
    }

    /// The position up to which all changes are processed; initially the start of the stream.
    #[must_use]
    pub const fn acknowledged(&self) -> Lsn {
        self.acknowledged
    }

    /// Bytes of WAL that PostgreSQL retains for this stream.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        self.server_wal_end.max(self.received).0.saturating_sub(self.acknowledged.0)
    }

    /// Sends a status message. [`Self::next_event`] sends it at every interval; a caller that does not poll it for
    /// seconds must call this.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send_status(&mut self) -> Result<(), ReplicationError> {
        self.status_due = Instant::now() + STATUS_INTERVAL;
        let now_us = jiff::Timestamp::now().as_microsecond() - POSTGRES_EPOCH_US;
        let mut status = Vec::with_capacity(34);
        status.push(b'r');
        for lsn in [self.received.max(self.acknowledged), self.acknowledged, self.acknowledged] {
            status.extend(lsn.0.to_be_bytes());
        }
        status.extend(now_us.to_be_bytes());
        status.push(0);
        self.connection.send_data(&status).await
    }

    /// Ends the stream, and with it a temporary slot.
    pub async fn close(self) {
        self.connection.close().await;
    }

    async fn handle_data(&mut self, mut bytes: Bytes) -> Result<Option<StreamEvent>, ReplicationError> {
        self.last_received_at = Instant::now();
        let malformed = ReplicationError::Protocol("truncated or unknown stream message");
        match bytes.first() {
            Some(b'w') if bytes.len() >= 25 => {
                bytes.advance(1);
                self.received = self.received.max(Lsn(bytes.get_u64()));
                self.server_wal_end = self.server_wal_end.max(Lsn(bytes.get_u64()));
                bytes.advance(8);
                self.handle_message(pgoutput::decode(bytes)?)
            }
            Some(b'k') if bytes.len() >= 18 => {
                bytes.advance(1);
                let end = Lsn(bytes.get_u64());
                self.server_wal_end = self.server_wal_end.max(end);
                bytes.advance(8);
                if bytes.get_u8() == 1 {
                    self.send_status().await?;
                }
                Ok(self.transaction.is_none().then_some(StreamEvent::Idle { end }))
            }
            _ => Err(malformed),
        }
    }

    fn handle_message(&mut self, message: Message) -> Result<Option<StreamEvent>, ReplicationError> {
        let (oid, operation, new, old) = match message {
            Message::Begin(transaction) => {
                self.transaction = Some(transaction);
                return Ok(Some(StreamEvent::Begin));
            }
            Message::Commit { end } => {
                self.transaction = None;
                return Ok(Some(StreamEvent::Commit { end }));
            }
            Message::Relation(relation) => {
                self.relations.insert(relation.oid, Arc::new(relation));
                return Ok(None);
            }
            Message::Logical(message) => {
                return Ok(Some(StreamEvent::Message { message, transaction: self.transaction }));
            }
            Message::Other => return Ok(None),
            Message::Change { relation, operation, new, old } => (relation, operation, new, old),
        };
        let relation =
            self.relations.get(&oid).ok_or(ReplicationError::Protocol("a change of an unknown table"))?;
        let transaction =
            self.transaction.ok_or(ReplicationError::Protocol("a change outside of a transaction"))?;
        if new.iter().chain(&old).any(|row| row.len() != relation.columns.len()) {
            return Err(ReplicationError::Protocol("a row with the wrong number of columns"));
        }
        let mut change = RowChange { relation: Arc::clone(relation), operation, new, old, transaction };
        change.fill_from_old();
        Ok(Some(StreamEvent::Change(change)))
    }
}

/// Where the log of the connected database ends.
async fn current_position(
    connection: &mut ReplicationConnection,
) -> Result<StreamPosition, ReplicationError> {
    let rows = connection.query("IDENTIFY_SYSTEM").await?;
    let cell = |index: usize| rows.first().and_then(|row| row.get(index)?.as_deref());
    let position = || {
        let timeline = Timeline(format!("{}:{}", cell(0)?, cell(1)?));
        Some(StreamPosition { timeline, lsn: Lsn::parse(cell(2)?)? })
    };
    position().ok_or(ReplicationError::Protocol("the database does not say which one it is"))
}
