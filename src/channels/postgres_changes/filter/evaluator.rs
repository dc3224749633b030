//! Evaluates filters for the rows of a table batch: in memory where the result is exact, else in the database.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::Client;

use super::{
    Filter,
    predicate::{FilterResult, Predicate},
};
use crate::{
    channels::postgres_changes::{table_batch::TableBatch, types::TypeCache},
    pg::{
        PgError,
        queries::postgres_changes,
        replication::{Cell, RowChange},
    },
};

/// Maximum number of cached predicates. Above it, the cache is cleared.
const MAX_CACHED_PREDICATES: usize = 50_000;

/// Cached predicates by type OID and filter. `None` if the value does not fit the type.
#[derive(Default)]
pub struct FilterEvaluator(HashMap<(u32, Filter), Option<Arc<Predicate>>>);

impl FilterEvaluator {
    /// Evaluates all filters of a table batch for all of its rows.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn evaluate<'a>(
        &mut self,
        client: &Client,
        types: &TypeCache,
        batch: &[RowChange],
        table: &mut TableBatch<'a>,
    ) -> Result<(), PgError> {
        let relation = Arc::clone(table.relation(batch));
        let groups = table.groups.iter().flat_map(|group| group.spec.bindings.iter());
        let bindings =
            groups.filter(|binding| binding.params.includes_table(&relation.schema, &relation.table));
        let filters: HashSet<&'a Filter> = bindings.flat_map(|binding| &binding.params.filters).collect();
        if self.0.len() > MAX_CACHED_PREDICATES {
            self.0.clear();
        }
        for filter in filters {
            let Some(column) = relation.columns.iter().position(|column| column.name == filter.column) else {
                table.filter_results.insert(filter, vec![false; table.change_indexes.len()]);
                continue;
            };
            let oid = relation.columns[column].type_oid;
            let Some(predicate) = self.predicate(client, types, oid, filter).await? else {
                table.filter_results.insert(filter, vec![false; table.change_indexes.len()]);
                continue;
            };
            let cells: Vec<_> =
                table.change_indexes.iter().map(|index| batch[*index].known_cell(column)).collect();
            let matches = evaluate_column(client, oid, filter, &predicate, &cells).await?;
            table.filter_results.insert(filter, matches);
        }
        Ok(())
    }

    async fn predicate(
        &mut self,
        client: &Client,
        types: &TypeCache,
        oid: u32,
        filter: &Filter,
    ) -> Result<Option<Arc<Predicate>>, PgError> {
        let key = (oid, filter.clone());
        if let Some(cached) = self.0.get(&key) {
            return Ok(cached.clone());
        }
        let literals =
            postgres_changes::canonical_literals(client, oid, filter.operator.as_str(), &filter.value).await;
        let predicate = match literals {
            Ok(literals) => {
                let kind = types.base_kind(oid).clone();
                Some(Arc::new(Predicate::new(filter.operator, filter.negated, kind, literals)))
            }
            Err(error @ PgError::Unavailable(_)) => return Err(error),
            Err(_) => None,
        };
        self.0.insert(key, predicate.clone());
        Ok(predicate)
    }
}

async fn evaluate_column(
    client: &Client,
    oid: u32,
    filter: &Filter,
    predicate: &Predicate,
    cells: &[Option<&Cell>],
) -> Result<Vec<bool>, PgError> {
    let results: Vec<_> = cells
        .iter()
        .map(|cell| cell.map_or(FilterResult::NoMatch, |cell| predicate.evaluate(cell.text())))
        .collect();
    let mut matches: Vec<bool> = results.iter().map(|result| *result == FilterResult::Matches).collect();
    let undecided: Vec<usize> =
        (0..cells.len()).filter(|index| results[*index] == FilterResult::NeedsDatabase).collect();
    if undecided.is_empty() {
        return Ok(matches);
    }
    let values: Vec<_> = undecided.iter().filter_map(|index| cells[*index].and_then(Cell::text)).collect();
    let condition = (filter.operator.as_str(), filter.negated, &*filter.value);
    let database_results = match postgres_changes::evaluate_filter(client, oid, condition, &values).await {
        Ok(database_results) => database_results,
        Err(error @ PgError::Unavailable(_)) => return Err(error),
        // The type of the column has changed, and the value does not fit it.
        Err(_) => Vec::new(),
    };
    for (index, result) in undecided.into_iter().zip(database_results) {
        matches[index] = result;
    }
    Ok(matches)
}
