//! A changed row.

use std::sync::Arc;

use bytes::Bytes;

use super::relation::{Relation, ReplicaIdentity};

/// A value in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// The value is NULL.
    Null,
    /// A TOASTed value that the update did not change; it is not in the WAL.
    Unchanged,
    /// The text of the type's output function; valid UTF-8.
    Text(Bytes),
}

impl Cell {
    /// The text; `None` for NULL and unchanged values.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null | Self::Unchanged => None,
        }
    }
}

/// The values of a row, in the order of [`Relation::columns`].
pub type Row = Box<[Cell]>;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    /// The name in SQL, which clients receive.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// The transaction that changed a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Transaction ID without the epoch.
    pub xid: u32,
    /// Commit time in microseconds since 1970.
    pub committed_at_us: i64,
}

/// A changed row and the transaction that changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The table as it was when the row changed.
    pub relation: Arc<Relation>,
    pub operation: Operation,
    /// The new row; `None` for DELETE.
    pub new: Option<Row>,
    /// The old row as far as the WAL has it: `None` for INSERT. An UPDATE has all columns if the replica identity is
    /// full, its key columns if they changed, else `None`. A DELETE has the columns of the replica identity; its other
    /// columns are NULL.
    pub old: Option<Row>,
    pub transaction: Transaction,
}

impl RowChange {
    /// Fills unchanged values from the old row if the replica identity is full.
    pub(super) fn fill_from_old(&mut self) {
        if let (Some(new), Some(old), ReplicaIdentity::Full) =
            (&mut self.new, &self.old, self.relation.identity)
        {
            for (new, old) in new.iter_mut().zip(old) {
                if *new == Cell::Unchanged {
                    *new = old.clone();
                }
            }
        }
    }

    /// Index of a column.
    #[must_use]
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.relation.columns.iter().position(|column| *column.name == *name)
    }

    /// Value of a column in the new row, or in the old row for DELETE. `None` if it is not known.
    #[must_use]
    pub fn known_cell(&self, column: usize) -> Option<&Cell> {
        match &self.new {
            Some(new) => new.get(column),
            None => self.old_cell(column),
        }
        .filter(|cell| **cell != Cell::Unchanged)
    }

    /// Value of a column in the old row. `None` if it is not known or not part of the replica identity.
    #[must_use]
    pub fn old_cell(&self, column: usize) -> Option<&Cell> {
        if self.operation == Operation::Insert || !self.relation.columns.get(column)?.in_identity {
            return None;
        }
        // An update that does not change the replica identity has no old row.
        self.old.as_ref().or(self.new.as_ref())?.get(column)
    }

    /// Approximate size of the change as JSON in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let row = |row: &Option<Row>| {
            row.iter()
                .flatten()
                .map(|cell| if let Cell::Text(text) = cell { text.len() + 8 } else { 8 })
                .sum::<usize>()
        };
        let names: usize = self.relation.columns.iter().map(|column| column.name.len() + 32).sum();
        names + row(&self.new) + row(&self.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::replication::Column;

    fn update(identity: ReplicaIdentity, old: Option<Row>, new: Row) -> RowChange {
        let column = |name: &str, in_identity| Column {
            name: name.into(),
            type_oid: 25,
            type_modifier: -1,
            in_identity,
        };
        let is_full = identity == ReplicaIdentity::Full;
        let relation = Relation {
            oid: 1,
            schema: "public".into(),
            table: "t".into(),
            identity,
            columns: [column("id", true), column("body", is_full)].into(),
        };
        let mut change = RowChange {
            relation: relation.into(),
            operation: Operation::Update,
            new: Some(new),
            old,
            transaction: Transaction::default(),
        };
        change.fill_from_old();
        change
    }

    fn row(cells: [Option<&str>; 2]) -> Row {
        cells.map(|cell| cell.map_or(Cell::Unchanged, |text| Cell::Text(text.to_owned().into()))).into()
    }

    #[test]
    fn update_with_unchanged_key_has_the_key_as_old_row() {
        let change = update(ReplicaIdentity::Default, None, row([Some("1"), Some("b")]));
        assert_eq!(change.old_cell(0).and_then(Cell::text), Some("1"));
        assert_eq!(change.old_cell(1), None);
    }

    #[test]
    fn unchanged_values_come_from_a_full_old_row() {
        let full =
            update(ReplicaIdentity::Full, Some(row([Some("1"), Some("long")])), row([Some("1"), None]));
        assert_eq!(full.known_cell(1).and_then(Cell::text), Some("long"));
        let default = update(ReplicaIdentity::Default, None, row([Some("1"), None]));
        assert_eq!(default.known_cell(1), None);
    }
}
