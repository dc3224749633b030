//! Deciding filters for the rows of a lot: in memory where that is exact, else in the database.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::Client;

use super::{
    filter::{
        Filter,
        predicate::{FilterResult, Predicate},
    },
    row_change::RowChange,
    table_batch::TableBatch,
    types::TypeCache,
};
use crate::pg::{PgError, queries::postgres_changes, replication::Cell};

/// Filters made ready that are kept; over it all are forgotten.
const MAX_CACHED_PREDICATES: usize = 50_000;

/// Filters, made ready for the types that they are about; `None` where the value does not fit the type.
#[derive(Default)]
pub struct FilterEvaluator(HashMap<(u32, Filter), Option<Arc<Predicate>>>);

impl FilterEvaluator {
    /// Decides all filters of a lot for all its rows.
    ///
    /// # Errors
    /// When the database is out of reach.
    pub async fn evaluate<'a>(
        &mut self,
        client: &Client,
        types: &TypeCache,
        batch: &[RowChange],
        lot: &mut TableBatch<'a>,
    ) -> Result<(), PgError> {
        let relation = Arc::clone(lot.relation(batch));
        let groups = lot.groups.iter().flat_map(|group| group.spec.bindings.iter());
        let meant = groups.filter(|binding| binding.params.includes_table(&relation.schema, &relation.table));
        let filters: HashSet<&'a Filter> = meant.flat_map(|binding| &binding.params.filters).collect();
        if self.0.len() > MAX_CACHED_PREDICATES {
            self.0.clear();
        }
        for filter in filters {
            let Some(column) = relation.columns.iter().position(|column| column.name == filter.column) else {
                lot.filter_results.insert(filter, vec![false; lot.change_indexes.len()]);
                continue;
            };
            let oid = relation.columns[column].type_oid;
            let Some(test) = self.predicate(client, types, oid, filter).await? else {
                lot.filter_results.insert(filter, vec![false; lot.change_indexes.len()]);
                continue;
            };
            let cells: Vec<_> = lot.change_indexes.iter().map(|at| batch[*at].known_cell(column)).collect();
            let holds = evaluate_column(client, oid, filter, &test, &cells).await?;
            lot.filter_results.insert(filter, holds);
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
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let literals =
            postgres_changes::canonical_literals(client, oid, filter.operator.as_str(), &filter.value).await;
        let made = match literals {
            Ok(literals) => {
                let kind = types.base_kind(oid).clone();
                Some(Arc::new(Predicate::new(filter.operator, filter.negated, kind, literals)))
            }
            Err(error @ PgError::Unavailable(_)) => return Err(error),
            Err(_) => None,
        };
        self.0.insert(key, made.clone());
        Ok(made)
    }
}

async fn evaluate_column(
    client: &Client,
    oid: u32,
    filter: &Filter,
    test: &Predicate,
    cells: &[Option<&Cell>],
) -> Result<Vec<bool>, PgError> {
    let verdicts: Vec<_> = cells
        .iter()
        .map(|cell| cell.map_or(FilterResult::NoMatch, |cell| test.evaluate(cell.text())))
        .collect();
    let mut holds: Vec<bool> = verdicts.iter().map(|verdict| *verdict == FilterResult::Matches).collect();
    let open: Vec<usize> =
        (0..cells.len()).filter(|at| verdicts[*at] == FilterResult::NeedsDatabase).collect();
    if open.is_empty() {
        return Ok(holds);
    }
    let values: Vec<_> = open.iter().filter_map(|at| cells[*at].and_then(Cell::text)).collect();
    let condition = (filter.operator.as_str(), filter.negated, &*filter.value);
    let answers = match postgres_changes::evaluate_filter(client, oid, condition, &values).await {
        Ok(answers) => answers,
        Err(error @ PgError::Unavailable(_)) => return Err(error),
        // The column is no longer of a type that the value fits.
        Err(_) => Vec::new(),
    };
    for (at, answer) in open.into_iter().zip(answers) {
        holds[at] = answer;
    }
    Ok(holds)
}
