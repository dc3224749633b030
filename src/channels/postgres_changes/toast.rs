//! Fetches TOASTed values that an update did not change and that the WAL omits.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::{payload::MAX_CHANGE_BYTES, table_batch::TableBatch};
use crate::lifecycle::ErrorChain;
use crate::pg::{
    PgError,
    queries::postgres_changes::{self, TableAccess},
    replication::{Cell, Relation, ReplicaIdentity, RowChange},
};

/// Fetches unchanged TOASTed values, with one query per table. A value stays unknown if its row no longer exists, or
/// if the change would exceed [`MAX_CHANGE_BYTES`] with it.
///
/// # Errors
/// If the database is unavailable.
pub(super) async fn fetch_toasted_columns(
    client: &Client,
    batch: &mut [RowChange],
    tables: &[TableBatch],
    access: &HashMap<(u32, String), TableAccess>,
) -> Result<(), PgError> {
    for table in tables {
        let relation = &table.relation;
        if relation.identity == ReplicaIdentity::Full {
            continue;
        }
        let Some(access) = access.iter().find(|((oid, _), _)| *oid == relation.oid).map(|(_, access)| access)
        else {
            continue;
        };
        let Some(key_columns) = key_indexes(access, relation) else { continue };
        // Indexes in the batch, and the columns that any of the rows lacks.
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        for index in &table.change_indexes {
            let Some(new) = &batch[*index].new else { continue };
            let unchanged = (0..new.len()).filter(|column| new[*column] == Cell::Unchanged);
            let known = columns.len();
            let mut is_complete = true;
            for column in unchanged {
                is_complete = false;
                if !columns[..known].contains(&column) {
                    columns.push(column);
                }
            }
            if !is_complete {
                rows.push(*index);
            }
        }
        if rows.is_empty() {
            continue;
        }
        let names: Vec<&str> = columns.iter().map(|column| &*relation.columns[*column].name).collect();
        let keys: Vec<Vec<Option<&str>>> = key_columns
            .iter()
            .map(|column| rows.iter().map(|index| batch[*index].known_cell(*column)?.text()).collect())
            .collect();
        let fetched =
            postgres_changes::fetch_columns_by_key(client, access, &names, &keys, MAX_CHANGE_BYTES).await;
        match fetched {
            Ok(fetched) => {
                for (row, values) in fetched {
                    let Some(index) = rows.get(row) else { continue };
                    fill_unchanged(&mut batch[*index], &columns, values);
                }
            }
            Err(error @ PgError::Unavailable(_)) => return Err(error),
            // The table was altered or the server may not read it: the values stay unknown.
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "fetching unchanged TOASTed values failed")
            }
        }
    }
    Ok(())
}

/// The key columns by index. `None` if there is no key, or the table had another one when the rows changed.
fn key_indexes(access: &TableAccess, relation: &Relation) -> Option<Vec<usize>> {
    let index_of = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
    let indexes: Vec<usize> = access.key_columns.iter().map(index_of).collect::<Option<_>>()?;
    (!indexes.is_empty()).then_some(indexes)
}

/// Sets the unchanged values, smallest first, as long as the change fits in [`MAX_CHANGE_BYTES`].
fn fill_unchanged(change: &mut RowChange, columns: &[usize], values: Vec<Option<Cell>>) {
    let mut size = change.size_bytes();
    let mut values: Vec<(usize, Cell)> =
        columns.iter().copied().zip(values).filter_map(|(column, value)| Some((column, value?))).collect();
    let length = |cell: &Cell| if let Cell::Text(text) = cell { text.len() } else { 0 };
    values.sort_by_key(|(_, cell)| length(cell));
    let Some(new) = &mut change.new else { return };
    for (column, cell) in values {
        if new.get(column) == Some(&Cell::Unchanged) && size + length(&cell) <= MAX_CHANGE_BYTES {
            size += length(&cell);
            new[column] = cell;
        }
    }
}
