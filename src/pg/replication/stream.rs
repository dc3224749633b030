//! A slot and its stream.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, timeout_at};

use super::{
    Lsn, ReplicationError,
    connection::ReplicationConnection,
    pgoutput::{self, DecodedChange, Message, Operation, Relation},
};
use crate::pg::Connector;

/// How often PostgreSQL is told how far we are, asked or not. It gives up after `wal_sender_timeout` (60 s).
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// A stream that says nothing for so long is dead: PostgreSQL asks for a sign of life every 30 s.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(45);
/// Microseconds from 1970 to 2000.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// How long a slot lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// As long as its connection. Leaves nothing behind, and loses its place when PostgreSQL restarts.
    Temporary,
    /// Until it is dropped. Keeps its place, and so the log since, for a server that is away.
    Persistent,
}

/// Something in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// A committed transaction's changes begin.
    Begin {
        /// Its id, without the epoch.
        xid: u32,
        /// When it was committed, in microseconds since 1970.
        committed_at_us: i64,
    },
    /// One change of one row.
    Change(DecodedChange),
    /// The transaction's changes have all been seen.
    Commit {
        /// Acknowledge this once they have been dealt with.
        end: Lsn,
    },
    /// Nothing for us happened up to here.
    Idle {
        /// May be acknowledged if everything before has been.
        end: Lsn,
    },
}

/// A running stream of a publication's changes.
pub struct ReplicationStream {
    connection: ReplicationConnection,
    relations: HashMap<u32, Arc<Relation>>,
    in_transaction: bool,
    received: Lsn,
    server_wal_end: Lsn,
    acknowledged: Lsn,
    /// The next unasked-for status is due.
    status_due: Instant,
    last_received_at: Instant,
}

impl ReplicationStream {
    /// Makes the slot and starts: changes committed after this returned arrive. A persistent slot that is there, with
    /// nobody reading from it, is made anew.
    ///
    /// # Errors
    /// When the database is out of reach, has no slot or walsender left, the role may not replicate, or somebody else
    /// reads from the slot.
    pub async fn create(
        connector: &Connector,
        slot: &str,
        kind: SlotKind,
        publication: &str,
    ) -> Result<Self, ReplicationError> {
        let mut wire = ReplicationConnection::connect(connector, "changes").await?;
        let temporary = if kind == SlotKind::Temporary { "TEMPORARY " } else { "" };
        let create = format!(
            "CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput (SNAPSHOT 'nothing')",
            quote_identifier(slot)
        );
        let rows = match wire.query(&create).await {
            Ok(rows) => rows,
            Err(ReplicationError::Server { code, .. }) if code == "42710" && kind == SlotKind::Persistent => {
                wire.query(&format!("DROP_REPLICATION_SLOT {}", quote_identifier(slot))).await?;
                wire.query(&create).await?
            }
            Err(error) => return Err(error),
        };
        // What came before is nobody's lag.
        let begun = rows.first().and_then(|row| Lsn::parse(row.get(1)?.as_deref()?));
        let begun = begun.ok_or(ReplicationError::Protocol("a slot without a place in the log"))?;
        Self::start(wire, slot, publication, begun).await
    }

    /// Goes on with a persistent slot behind what has been dealt with.
    ///
    /// # Errors
    /// When the database is out of reach, the slot has gone or lost its place, or somebody else reads from it.
    pub async fn resume(
        connector: &Connector,
        slot: &str,
        publication: &str,
        dealt_with: Lsn,
    ) -> Result<Self, ReplicationError> {
        let wire = ReplicationConnection::connect(connector, "changes").await?;
        Self::start(wire, slot, publication, dealt_with).await
    }

    async fn start(
        mut wire: ReplicationConnection,
        slot: &str,
        publication: &str,
        begun: Lsn,
    ) -> Result<Self, ReplicationError> {
        let start = format!(
            "START_REPLICATION SLOT {} LOGICAL {begun} (proto_version '1', publication_names {})",
            quote_identifier(slot),
            quote_literal(&quote_identifier(publication)),
        );
        wire.copy_both(&start).await?;
        let now = Instant::now();
        Ok(Self {
            connection: wire,
            relations: HashMap::new(),
            in_transaction: false,
            received: begun,
            server_wal_end: begun,
            acknowledged: begun,
            status_due: now + STATUS_INTERVAL,
            last_received_at: now,
        })
    }

    /// Forgets a persistent slot, so that it does not hold the log back any more.
    ///
    /// # Errors
    /// When the database is out of reach or refuses; not when there is no such slot.
    pub async fn drop_slot(connector: &Connector, slot: &str) -> Result<(), ReplicationError> {
        let mut wire = ReplicationConnection::connect(connector, "changes").await?;
        match wire.query(&format!("DROP_REPLICATION_SLOT {} WAIT", quote_identifier(slot))).await {
            Ok(_) => Ok(()),
            Err(ReplicationError::Server { code, .. }) if code == "42704" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next event. Answers PostgreSQL's questions on the way. Safe to drop and call again.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn next_event(&mut self) -> Result<StreamEvent, ReplicationError> {
        loop {
            if let Some(event) = self.buffered_event().await? {
                return Ok(event);
            }
            let silent_at = self.last_received_at + RECEIVE_TIMEOUT;
            match timeout_at(self.status_due.min(silent_at), self.connection.receive_data()).await {
                Ok(bytes) => {
                    if let Some(event) = self.handle_data(bytes?).await? {
                        return Ok(event);
                    }
                }
                Err(_) if Instant::now() >= silent_at => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                Err(_) => self.send_status().await?,
            }
        }
    }

    /// An event that has arrived already, without waiting for one.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn buffered_event(&mut self) -> Result<Option<StreamEvent>, ReplicationError> {
        while let Some(bytes) = self.connection.buffered_data()? {
            if let Some(event) = self.handle_data(bytes).await? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Everything up to here has been dealt with. Told to PostgreSQL with the next status.
    pub fn acknowledge(&mut self, end: Lsn) {
        self.acknowledged = self.acknowledged.max(end);
    }

    /// Up to where everything has been dealt with; at first where the stream begins.
    #[must_use]
    pub const fn acknowledged(&self) -> Lsn {
        self.acknowledged
    }

    /// Bytes of log that PostgreSQL keeps for us.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        self.server_wal_end.max(self.received).0.saturating_sub(self.acknowledged.0)
    }

    /// Tells PostgreSQL how far we are. [`Self::next`] does so by itself; who does not call it for seconds calls this.
    ///
    /// # Errors
    /// When the connection breaks.
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

    /// Ends the stream, and a temporary slot with it.
    pub async fn close(self) {
        self.connection.close().await;
    }

    async fn handle_data(&mut self, mut bytes: Bytes) -> Result<Option<StreamEvent>, ReplicationError> {
        self.last_received_at = Instant::now();
        let short = ReplicationError::Protocol("a piece of the stream ends early");
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
                Ok((!self.in_transaction).then_some(StreamEvent::Idle { end }))
            }
            _ => Err(short),
        }
    }

    fn handle_message(&mut self, message: Message) -> Result<Option<StreamEvent>, ReplicationError> {
        let (oid, operation) = match message {
            Message::Begin { xid, committed_at_us } => {
                self.in_transaction = true;
                return Ok(Some(StreamEvent::Begin { xid, committed_at_us }));
            }
            Message::Commit { end } => {
                self.in_transaction = false;
                return Ok(Some(StreamEvent::Commit { end }));
            }
            Message::Relation(relation) => {
                self.relations.insert(relation.oid, Arc::new(relation));
                return Ok(None);
            }
            Message::Other => return Ok(None),
            Message::Insert { relation, new } => (relation, Operation::Insert { new }),
            Message::Update { relation, old, new } => (relation, Operation::Update { old, new }),
            Message::Delete { relation, old } => (relation, Operation::Delete { old }),
        };
        let relation =
            self.relations.get(&oid).ok_or(ReplicationError::Protocol("a change of an unnamed table"))?;
        let whole = |row: &[_]| row.len() == relation.columns.len();
        let fits = match &operation {
            Operation::Insert { new } => whole(new),
            Operation::Update { old, new } => whole(new) && old.as_deref().is_none_or(whole),
            Operation::Delete { old } => whole(old),
        };
        if !fits {
            return Err(ReplicationError::Protocol("a row that is not its table's"));
        }
        Ok(Some(StreamEvent::Change(DecodedChange { relation: Arc::clone(relation), operation })))
    }
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
