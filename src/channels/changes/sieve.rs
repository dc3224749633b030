//! Deciding filters for the rows of a lot: in memory where that is exact, else in the database.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::Client;

use super::{
    filter::{
        Filter,
        test::{Test, Verdict},
    },
    lot::Lot,
    row::Changed,
    types::Types,
};
use crate::pg::{PgError, queries::changes, replication::Cell};

/// Filters made ready that are kept; over it all are forgotten.
const MOST_TESTS: usize = 50_000;

/// Filters, made ready for the types that they are about; `None` where the value does not fit the type.
#[derive(Default)]
pub struct Sieve(HashMap<(u32, Filter), Option<Arc<Test>>>);

impl Sieve {
    /// Decides all filters of a lot for all its rows.
    ///
    /// # Errors
    /// When the database is out of reach.
    pub async fn sift<'a>(
        &mut self,
        client: &Client,
        types: &Types,
        batch: &[Changed],
        lot: &mut Lot<'a>,
    ) -> Result<(), PgError> {
        let relation = Arc::clone(lot.relation(batch));
        let groups = lot.groups.iter().flat_map(|group| group.interest.bindings.iter());
        let meant = groups.filter(|binding| binding.params.means(&relation.schema, &relation.table));
        let filters: HashSet<&'a Filter> = meant.flat_map(|binding| &binding.params.filters).collect();
        if self.0.len() > MOST_TESTS {
            self.0.clear();
        }
        for filter in filters {
            let Some(column) = relation.columns.iter().position(|column| column.name == filter.column) else {
                lot.holds.insert(filter, vec![false; lot.places.len()]);
                continue;
            };
            let oid = relation.columns[column].type_oid;
            let Some(test) = self.test(client, types, oid, filter).await? else {
                lot.holds.insert(filter, vec![false; lot.places.len()]);
                continue;
            };
            let cells: Vec<_> = lot.places.iter().map(|at| batch[*at].subject(column)).collect();
            let holds = decide(client, oid, filter, &test, &cells).await?;
            lot.holds.insert(filter, holds);
        }
        Ok(())
    }

    async fn test(
        &mut self,
        client: &Client,
        types: &Types,
        oid: u32,
        filter: &Filter,
    ) -> Result<Option<Arc<Test>>, PgError> {
        let key = (oid, filter.clone());
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let literals =
            changes::canonical_literals(client, oid, filter.operator.as_str(), &filter.value).await;
        let made = match literals {
            Ok(literals) => {
                let kind = types.base(oid).clone();
                Some(Arc::new(Test::new(filter.operator, filter.negated, kind, literals)))
            }
            Err(error @ PgError::Unavailable(_)) => return Err(error),
            Err(_) => None,
        };
        self.0.insert(key, made.clone());
        Ok(made)
    }
}

async fn decide(
    client: &Client,
    oid: u32,
    filter: &Filter,
    test: &Test,
    cells: &[Option<&Cell>],
) -> Result<Vec<bool>, PgError> {
    let verdicts: Vec<_> =
        cells.iter().map(|cell| cell.map_or(Verdict::Fails, |cell| test.of(cell.text()))).collect();
    let mut holds: Vec<bool> = verdicts.iter().map(|verdict| *verdict == Verdict::Holds).collect();
    let open: Vec<usize> = (0..cells.len()).filter(|at| verdicts[*at] == Verdict::Ask).collect();
    if open.is_empty() {
        return Ok(holds);
    }
    let values: Vec<_> = open.iter().filter_map(|at| cells[*at].and_then(Cell::text)).collect();
    let condition = (filter.operator.as_str(), filter.negated, &*filter.value);
    let answers = match changes::filter_holds(client, oid, condition, &values).await {
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
