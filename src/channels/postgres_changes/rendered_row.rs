//! The values of a changed row as JSON.

use super::{render, types::TypeCache};
use crate::pg::replication::{Cell, RowChange};

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
