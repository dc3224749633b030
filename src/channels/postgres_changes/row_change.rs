//! A row change with its transaction's metadata, and its rendered values.

use std::sync::Arc;

use jiff::Timestamp;

use super::{params::EventType, render, types::TypeCache};
use crate::pg::replication::{Cell, DecodedChange, Operation, Relation, ReplicaIdentity, pgoutput::Row};

/// A row change with its transaction's commit time and ID.
#[derive(Debug, Clone)]
pub struct RowChange {
    /// The table as it was when the row changed.
    pub relation: Arc<Relation>,
    /// The operation; never [`EventType::All`].
    pub operation: EventType,
    /// The new row; `None` for DELETE.
    pub new: Option<Row>,
    /// The old row, as far as the WAL has it.
    pub old: Option<Row>,
    /// Commit time in the format sent to clients.
    pub committed_at: Arc<str>,
    /// Transaction ID without the epoch.
    pub xid: u32,
}

impl RowChange {
    #[must_use]
    pub fn new(change: DecodedChange, committed_at: Arc<str>, xid: u32) -> Self {
        let DecodedChange { relation, operation } = change;
        let (operation, new, old) = match operation {
            Operation::Insert { new } => (EventType::Insert, Some(new), None),
            Operation::Update { old, new } => (EventType::Update, Some(new), old),
            Operation::Delete { old } => (EventType::Delete, None, Some(old)),
        };
        let mut change = Self { relation, operation, new, old, committed_at, xid };
        change.fill_from_old();
        change
    }

    /// Fills unchanged values from the old row if the replica identity is full.
    fn fill_from_old(&mut self) {
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
        if self.operation == EventType::Insert || !self.relation.columns.get(column)?.in_identity {
            return None;
        }
        // An update that does not change the replica identity has no old row.
        self.old.as_ref().or(self.new.as_ref())?.get(column)
    }

    /// Approximate size of the change's JSON in bytes.
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

/// Formats a commit time for clients: UTC with milliseconds. The argument is in microseconds since 1970.
#[must_use]
pub fn format_commit_time(microseconds: i64) -> Arc<str> {
    let time = Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MIN);
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into()
}

/// The values of a row as JSON, by column index; `None` if a value is not known.
#[derive(Debug, Clone, Default)]
pub struct RenderedRow {
    /// Values of the new row.
    pub new: Vec<Option<Box<str>>>,
    /// Values of the old row.
    pub old: Vec<Option<Box<str>>>,
}

impl RenderedRow {
    /// Renders the row. `database_rendered` returns the JSON of values that [`TypeCache::can_render`] excludes, by type
    /// OID and text.
    #[must_use]
    pub fn render(
        change: &RowChange,
        types: &TypeCache,
        database_rendered: impl Fn(u32, &str) -> Option<String>,
    ) -> Self {
        let json = |column: usize, cell: Option<&Cell>| -> Option<Box<str>> {
            let oid = change.relation.columns[column].type_oid;
            match cell? {
                Cell::Null => Some("null".into()),
                Cell::Unchanged => None,
                cell @ Cell::Text(_) => {
                    let text = cell.text()?;
                    let mut out = String::new();
                    match (types.can_render(oid), database_rendered(oid, text)) {
                        (false, Some(json)) => out = json,
                        _ => render::append_value(types, oid, text, &mut out),
                    }
                    Some(out.into())
                }
            }
        };
        let columns = 0..change.relation.columns.len();
        let new =
            columns.clone().map(|column| json(column, change.new.as_ref().and_then(|row| row.get(column))));
        let old = columns.map(|column| json(column, change.old_cell(column)));
        Self { new: new.collect(), old: old.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::replication::Column;

    fn row_change(identity: ReplicaIdentity, operation: Operation) -> RowChange {
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
        RowChange::new(DecodedChange { relation: relation.into(), operation }, format_commit_time(0), 3)
    }

    fn row(cells: [Option<&str>; 2]) -> Row {
        cells.map(|cell| cell.map_or(Cell::Unchanged, |text| Cell::Text(text.to_owned().into()))).into()
    }

    #[test]
    fn update_with_unchanged_key_has_the_key_as_old_row() {
        let change = row_change(
            ReplicaIdentity::Default,
            Operation::Update { old: None, new: row([Some("1"), Some("b")]) },
        );
        assert_eq!(change.old_cell(0).and_then(Cell::text), Some("1"));
        assert_eq!(change.old_cell(1), None);
    }

    #[test]
    fn unchanged_values_come_from_a_full_old_row() {
        let update =
            Operation::Update { old: Some(row([Some("1"), Some("long")])), new: row([Some("1"), None]) };
        assert_eq!(
            row_change(ReplicaIdentity::Full, update).known_cell(1).and_then(Cell::text),
            Some("long")
        );
        let update = Operation::Update { old: None, new: row([Some("1"), None]) };
        assert_eq!(row_change(ReplicaIdentity::Default, update).known_cell(1), None);
    }

    #[test]
    fn commit_time_is_utc_with_milliseconds() {
        assert_eq!(&*format_commit_time(1_700_000_000_123_999), "2023-11-14T22:13:20.123Z");
        assert_eq!(&*format_commit_time(1_700_000_000_000_000), "2023-11-14T22:13:20.000Z");
    }
}
