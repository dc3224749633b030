//! A slot and its stream.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, timeout_at};

use super::{
    Lsn, ReplicationError,
    pgoutput::{self, Change, Message, Operation, Relation},
    wire::Wire,
};
use crate::pg::Connector;

/// How often PostgreSQL is told how far we are, asked or not. It gives up after `wal_sender_timeout` (60 s).
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// A stream that says nothing for so long is dead: PostgreSQL asks for a sign of life every 30 s.
const SILENCE: Duration = Duration::from_secs(45);
/// Microseconds from 1970 to 2000.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

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
pub enum Event {
    /// A committed transaction's changes begin.
    Begin {
        /// Its id, without the epoch.
        xid: u32,
        /// When it was committed, in microseconds since 1970.
        committed_at_us: i64,
    },
    /// One change of one row.
    Change(Change),
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
pub struct Stream {
    wire: Wire,
    relations: HashMap<u32, Arc<Relation>>,
    in_transaction: bool,
    received: Lsn,
    server_end: Lsn,
    acknowledged: Lsn,
    /// The next unasked-for status is due.
    status_due: Instant,
    heard_at: Instant,
}

impl Stream {
    /// Makes the slot and starts: changes committed after this returned arrive. A persistent slot that is there, with
    /// nobody reading from it, is made anew.
    ///
    /// # Errors
    /// When the database is out of reach, has no slot or walsender left, the role may not replicate, or somebody else
    /// reads from the slot.
    pub async fn begin(
        connector: &Connector,
        slot: &str,
        kind: SlotKind,
        publication: &str,
    ) -> Result<Self, ReplicationError> {
        let mut wire = Wire::connect(connector, "changes").await?;
        let temporary = if kind == SlotKind::Temporary { "TEMPORARY " } else { "" };
        let create = format!(
            "CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput (SNAPSHOT 'nothing')",
            quoted(slot)
        );
        let rows = match wire.query(&create).await {
            Ok(rows) => rows,
            Err(ReplicationError::Refused { code, .. })
                if code == "42710" && kind == SlotKind::Persistent =>
            {
                wire.query(&format!("DROP_REPLICATION_SLOT {}", quoted(slot))).await?;
                wire.query(&create).await?
            }
            Err(error) => return Err(error),
        };
        // What came before is nobody's lag.
        let begun = rows.first().and_then(|row| Lsn::parse(row.get(1)?.as_deref()?));
        let begun = begun.ok_or(ReplicationError::Garbled("a slot without a place in the log"))?;
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
        let wire = Wire::connect(connector, "changes").await?;
        Self::start(wire, slot, publication, dealt_with).await
    }

    async fn start(
        mut wire: Wire,
        slot: &str,
        publication: &str,
        begun: Lsn,
    ) -> Result<Self, ReplicationError> {
        let start = format!(
            "START_REPLICATION SLOT {} LOGICAL {begun} (proto_version '1', publication_names {})",
            quoted(slot),
            literal(&quoted(publication)),
        );
        wire.copy_both(&start).await?;
        let now = Instant::now();
        Ok(Self {
            wire,
            relations: HashMap::new(),
            in_transaction: false,
            received: begun,
            server_end: begun,
            acknowledged: begun,
            status_due: now + STATUS_EVERY,
            heard_at: now,
        })
    }

    /// Forgets a persistent slot, so that it does not hold the log back any more.
    ///
    /// # Errors
    /// When the database is out of reach or refuses; not when there is no such slot.
    pub async fn drop_slot(connector: &Connector, slot: &str) -> Result<(), ReplicationError> {
        let mut wire = Wire::connect(connector, "changes").await?;
        match wire.query(&format!("DROP_REPLICATION_SLOT {} WAIT", quoted(slot))).await {
            Ok(_) => Ok(()),
            Err(ReplicationError::Refused { code, .. }) if code == "42704" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next event. Answers PostgreSQL's questions on the way. Safe to drop and call again.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn next(&mut self) -> Result<Event, ReplicationError> {
        loop {
            if let Some(event) = self.at_hand().await? {
                return Ok(event);
            }
            let silent_at = self.heard_at + SILENCE;
            match timeout_at(self.status_due.min(silent_at), self.wire.data()).await {
                Ok(bytes) => {
                    if let Some(event) = self.read(bytes?).await? {
                        return Ok(event);
                    }
                }
                Err(_) if Instant::now() >= silent_at => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                Err(_) => self.say_status().await?,
            }
        }
    }

    /// An event that has arrived already, without waiting for one.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn at_hand(&mut self) -> Result<Option<Event>, ReplicationError> {
        while let Some(bytes) = self.wire.data_at_hand()? {
            if let Some(event) = self.read(bytes).await? {
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
        self.server_end.max(self.received).0.saturating_sub(self.acknowledged.0)
    }

    /// Tells PostgreSQL how far we are. [`Self::next`] does so by itself; who does not call it for seconds calls this.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn say_status(&mut self) -> Result<(), ReplicationError> {
        self.status_due = Instant::now() + STATUS_EVERY;
        let now_us = jiff::Timestamp::now().as_microsecond() - EPOCH_2000_US;
        let mut status = Vec::with_capacity(34);
        status.push(b'r');
        for lsn in [self.received.max(self.acknowledged), self.acknowledged, self.acknowledged] {
            status.extend(lsn.0.to_be_bytes());
        }
        status.extend(now_us.to_be_bytes());
        status.push(0);
        self.wire.send_data(&status).await
    }

    /// Ends the stream, and a temporary slot with it.
    pub async fn close(self) {
        self.wire.close().await;
    }

    async fn read(&mut self, mut bytes: Bytes) -> Result<Option<Event>, ReplicationError> {
        self.heard_at = Instant::now();
        let short = ReplicationError::Garbled("a piece of the stream ends early");
        match bytes.first() {
            Some(b'w') if bytes.len() >= 25 => {
                bytes.advance(1);
                self.received = self.received.max(Lsn(bytes.get_u64()));
                self.server_end = self.server_end.max(Lsn(bytes.get_u64()));
                bytes.advance(8);
                self.understand(pgoutput::decode(bytes)?)
            }
            Some(b'k') if bytes.len() >= 18 => {
                bytes.advance(1);
                let end = Lsn(bytes.get_u64());
                self.server_end = self.server_end.max(end);
                bytes.advance(8);
                if bytes.get_u8() == 1 {
                    self.say_status().await?;
                }
                Ok((!self.in_transaction).then_some(Event::Idle { end }))
            }
            _ => Err(short),
        }
    }

    fn understand(&mut self, message: Message) -> Result<Option<Event>, ReplicationError> {
        let (oid, operation) = match message {
            Message::Begin { xid, committed_at_us } => {
                self.in_transaction = true;
                return Ok(Some(Event::Begin { xid, committed_at_us }));
            }
            Message::Commit { end } => {
                self.in_transaction = false;
                return Ok(Some(Event::Commit { end }));
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
            self.relations.get(&oid).ok_or(ReplicationError::Garbled("a change of an unnamed table"))?;
        let whole = |row: &[_]| row.len() == relation.columns.len();
        let fits = match &operation {
            Operation::Insert { new } => whole(new),
            Operation::Update { old, new } => whole(new) && old.as_deref().is_none_or(whole),
            Operation::Delete { old } => whole(old),
        };
        if !fits {
            return Err(ReplicationError::Garbled("a row that is not its table's"));
        }
        Ok(Some(Event::Change(Change { relation: Arc::clone(relation), operation })))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
