//! Decodes the messages of the output plugin `pgoutput`, protocol version 1.

use bytes::{Buf, Bytes};

use super::{
    Lsn, ReplicationError,
    relation::{Column, Relation, ReplicaIdentity},
    row_change::{Cell, Operation, Row, Transaction},
};

/// Microseconds from 1970 to 2000, the epoch of PostgreSQL's timestamps.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A message of the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Start of a committed transaction.
    Begin(Transaction),
    /// End of the transaction.
    Commit {
        /// WAL position after the transaction.
        end: Lsn,
    },
    /// A table, sent before its first change.
    Relation(Relation),
    /// A changed row; see [`RowChange`](super::RowChange) for the rows.
    Change {
        /// OID of the table.
        relation: u32,
        operation: Operation,
        new: Option<Row>,
        old: Option<Row>,
    },
    /// Content that a transaction wrote with `pg_logical_emit_message`.
    Logical(LogicalMessage),
    /// TRUNCATE, an origin or a type; ignored.
    Other,
}

/// A logical message of a committed transaction, or one that was written outside of transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalMessage {
    pub is_transactional: bool,
    /// Names the program that wrote it.
    pub prefix: Box<str>,
    pub content: Bytes,
}

/// Decodes one message.
///
/// # Errors
/// If the bytes are not a message of protocol version 1.
pub fn decode(bytes: Bytes) -> Result<Message, ReplicationError> {
    let mut input = MessageReader(bytes);
    Ok(match input.u8()? {
        b'B' => {
            input.u64()?; // Position of the commit record; `Commit` has the end of the transaction.
            let committed_at_us = input.i64()?.saturating_add(POSTGRES_EPOCH_US);
            Message::Begin(Transaction { xid: input.u32()?, committed_at_us })
        }
        b'C' => {
            input.u8()?;
            input.u64()?;
            Message::Commit { end: Lsn(input.u64()?) }
        }
        b'R' => Message::Relation(read_relation(&mut input)?),
        b'I' => {
            let relation = input.u32()?;
            input.expect_byte(b'N')?;
            let new = Some(read_row(&mut input)?);
            Message::Change { relation, operation: Operation::Insert, new, old: None }
        }
        b'U' => {
            let relation = input.u32()?;
            let old = match input.u8()? {
                b'K' | b'O' => {
                    let old = read_row(&mut input)?;
                    input.expect_byte(b'N')?;
                    Some(old)
                }
                b'N' => None,
                _ => return Err(ReplicationError::Protocol("an update without a new row")),
            };
            let new = Some(read_row(&mut input)?);
            Message::Change { relation, operation: Operation::Update, new, old }
        }
        b'D' => {
            let relation = input.u32()?;
            if !matches!(input.u8()?, b'K' | b'O') {
                return Err(ReplicationError::Protocol("a delete without an old row"));
            }
            let old = Some(read_row(&mut input)?);
            Message::Change { relation, operation: Operation::Delete, new: None, old }
        }
        b'M' => {
            let is_transactional = input.u8()? & 1 == 1;
            input.u64()?; // Position of the message.
            let prefix = input.c_string()?;
            let length = input.u32()? as usize;
            Message::Logical(LogicalMessage { is_transactional, prefix, content: input.take(length)? })
        }
        b'T' | b'O' | b'Y' => Message::Other,
        _ => return Err(ReplicationError::Protocol("unknown message type")),
    })
}

fn read_relation(input: &mut MessageReader) -> Result<Relation, ReplicationError> {
    let oid = input.u32()?;
    let schema = input.c_string()?;
    let table = input.c_string()?;
    let identity = match input.u8()? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        _ => return Err(ReplicationError::Protocol("unknown replica identity")),
    };
    let column = |input: &mut MessageReader| {
        let in_identity = input.u8()? & 1 == 1;
        let name = input.c_string()?;
        let type_oid = input.u32()?;
        let type_modifier = i32::from_be_bytes(input.u32()?.to_be_bytes());
        Ok(Column { name, type_oid, type_modifier, in_identity })
    };
    let columns = (0..input.u16()?).map(|_| column(input)).collect::<Result<_, ReplicationError>>()?;
    let schema = if schema.is_empty() { "pg_catalog".into() } else { schema };
    Ok(Relation { oid, schema, table, identity, columns })
}

fn read_row(input: &mut MessageReader) -> Result<Row, ReplicationError> {
    let cell = |input: &mut MessageReader| {
        Ok(match input.u8()? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b't' => {
                let length = input.u32()? as usize;
                let bytes = input.take(length)?;
                std::str::from_utf8(&bytes)
                    .map_err(|_| ReplicationError::Protocol("a value that is not UTF-8"))?;
                Cell::Text(bytes)
            }
            _ => return Err(ReplicationError::Protocol("unknown value type")),
        })
    };
    (0..input.u16()?).map(|_| cell(input)).collect()
}

struct MessageReader(Bytes);

impl MessageReader {
    fn take(&mut self, length: usize) -> Result<Bytes, ReplicationError> {
        if self.0.len() < length {
            return Err(ReplicationError::Protocol("truncated message"));
        }
        Ok(self.0.split_to(length))
    }

    fn u8(&mut self) -> Result<u8, ReplicationError> {
        Ok(self.take(1)?.get_u8())
    }

    fn u16(&mut self) -> Result<u16, ReplicationError> {
        Ok(self.take(2)?.get_u16())
    }

    fn u32(&mut self) -> Result<u32, ReplicationError> {
        Ok(self.take(4)?.get_u32())
    }

    fn u64(&mut self) -> Result<u64, ReplicationError> {
        Ok(self.take(8)?.get_u64())
    }

    fn i64(&mut self) -> Result<i64, ReplicationError> {
        Ok(self.take(8)?.get_i64())
    }

    fn expect_byte(&mut self, expected: u8) -> Result<(), ReplicationError> {
        if self.u8()? == expected { Ok(()) } else { Err(ReplicationError::Protocol("expected a new row")) }
    }

    fn c_string(&mut self) -> Result<Box<str>, ReplicationError> {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(ReplicationError::Protocol("unterminated name"))?;
        let name = self.take(end)?;
        self.0.advance(1);
        let name =
            std::str::from_utf8(&name).map_err(|_| ReplicationError::Protocol("a name that is not UTF-8"))?;
        Ok(name.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(texts: &[Option<&str>]) -> Vec<u8> {
        let mut out = u16::try_from(texts.len()).unwrap().to_be_bytes().to_vec();
        for text in texts {
            match text {
                None => out.push(b'n'),
                Some("~") => out.push(b'u'),
                Some(text) => {
                    out.push(b't');
                    out.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                    out.extend(text.as_bytes());
                }
            }
        }
        out
    }

    #[test]
    fn relation_has_columns_and_identity() {
        let mut bytes = b"R\0\0\x40\x01public\0todos\0f\0\x01\x01id\0\0\0\0\x14".to_vec();
        bytes.extend((-1_i32).to_be_bytes());
        let Message::Relation(relation) = decode(bytes.into()).unwrap() else { panic!("a relation") };
        assert_eq!((&*relation.schema, &*relation.table, relation.oid), ("public", "todos", 0x4001));
        assert_eq!(relation.identity, ReplicaIdentity::Full);
        let id = Column { name: "id".into(), type_oid: 20, type_modifier: -1, in_identity: true };
        assert_eq!(*relation.columns, [id]);
    }

    #[test]
    fn update_has_an_old_row_if_the_log_has_one() {
        for old in [None, Some(b'K'), Some(b'O')] {
            let mut bytes = b"U\0\0\0\x07".to_vec();
            if let Some(kind) = old {
                bytes.push(kind);
                bytes.extend(cells(&[Some("1"), None]));
            }
            bytes.push(b'N');
            bytes.extend(cells(&[Some("2"), Some("~")]));
            let Message::Change { relation: 7, operation: Operation::Update, new: Some(new), old: read } =
                decode(bytes.into()).unwrap()
            else {
                panic!("an update")
            };
            assert_eq!(read.is_some(), old.is_some());
            assert_eq!(*new, [Cell::Text("2".into()), Cell::Unchanged]);
        }
    }

    #[test]
    fn logical_message_has_prefix_and_content() {
        let mut bytes = b"M\x01\0\0\0\0\0\0\0\x07rollcall\0".to_vec();
        bytes.extend(5_u32.to_be_bytes());
        bytes.extend(b"hello");
        let message =
            LogicalMessage { is_transactional: true, prefix: "rollcall".into(), content: "hello".into() };
        assert_eq!(decode(bytes.into()).unwrap(), Message::Logical(message));
    }

    #[test]
    fn commit_time_is_counted_from_2000() {
        let mut bytes = vec![b'B'];
        bytes.extend(0_u64.to_be_bytes());
        bytes.extend(1_000_i64.to_be_bytes());
        bytes.extend(77_u32.to_be_bytes());
        let begin = Message::Begin(Transaction { xid: 77, committed_at_us: 946_684_800_001_000 });
        assert_eq!(decode(bytes.into()).unwrap(), begin);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(bytes.into()));
        }
    }
}
