//! The changes of a batch by table, and whom each concerns.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Client;

use super::{
    filter::Filter,
    registry::{RegistrySnapshot, SubscriptionGroup},
    row_change::RowChange,
};
use crate::pg::{
    PgError,
    queries::postgres_changes::{self, TableAccess},
    replication::{Cell, Relation, ReplicaIdentity},
};

/// The changes of one table as it was, and who might hear of them.
pub struct TableBatch<'a> {
    /// Their places in the batch.
    pub change_indexes: Vec<usize>,
    /// Groups with an entry that means the table.
    pub groups: Vec<&'a SubscriptionGroup>,
    /// For each filter, whether it holds for each change.
    pub filter_results: HashMap<&'a Filter, Vec<bool>>,
    /// For each change the groups with entries that match it, and those entries.
    pub matches: Vec<Vec<(&'a SubscriptionGroup, IdsBySelect<'a>)>>,
}

/// Ids to name, by the columns that their entries select.
pub type IdsBySelect<'a> = BTreeMap<Option<&'a [Box<str>]>, Vec<u32>>;

/// The changes by table, with those who might hear of them. `None` if nobody might.
pub fn group_by_table<'a>(
    batch: &[RowChange],
    snapshot: &'a RegistrySnapshot,
) -> Option<Vec<TableBatch<'a>>> {
    let mut lots: Vec<TableBatch<'a>> = Vec::new();
    let mut known: HashMap<*const Relation, Option<usize>> = HashMap::new();
    for (at, changed) in batch.iter().enumerate() {
        let lot = *known.entry(std::sync::Arc::as_ptr(&changed.relation)).or_insert_with(|| {
            let relation = &changed.relation;
            let means = |group: &&SubscriptionGroup| {
                let mut bindings = group.spec.bindings.iter();
                bindings.any(|binding| binding.params.includes_table(&relation.schema, &relation.table))
            };
            let groups: Vec<_> = snapshot.groups.iter().filter(means).collect();
            if groups.is_empty() {
                return None;
            }
            lots.push(TableBatch {
                change_indexes: Vec::new(),
                groups,
                filter_results: HashMap::new(),
                matches: Vec::new(),
            });
            Some(lots.len() - 1)
        });
        if let Some(lot) = lot {
            lots[lot].change_indexes.push(at);
        }
    }
    (!lots.is_empty()).then_some(lots)
}

impl TableBatch<'_> {
    /// The table as it was.
    pub fn relation<'b>(&self, batch: &'b [RowChange]) -> &'b std::sync::Arc<Relation> {
        &batch[self.change_indexes[0]].relation
    }

    /// With all filters decided, notes which entries each change matches.
    pub fn match_subscriptions(&mut self, batch: &[RowChange]) {
        let matched = (0..self.change_indexes.len())
            .map(|row| self.matching_groups(row, &batch[self.change_indexes[row]]));
        self.matches = matched.collect();
    }
}

impl<'a> TableBatch<'a> {
    /// The groups with entries that a change matches: the ids of those, by what they select.
    fn matching_groups(
        &self,
        row: usize,
        changed: &RowChange,
    ) -> Vec<(&'a SubscriptionGroup, IdsBySelect<'a>)> {
        let of = |group: &'a SubscriptionGroup| {
            let mut matched = IdsBySelect::new();
            for binding in group.spec.bindings.iter() {
                let params = &binding.params;
                let holds = |filter| self.filter_results.get(filter).is_some_and(|holds| holds[row]);
                if params.event.includes(changed.operation)
                    && params.includes_table(&changed.relation.schema, &changed.relation.table)
                    && params.filters.iter().all(holds)
                {
                    matched.entry(params.select.as_deref()).or_default().push(binding.id);
                }
            }
            (!matched.is_empty()).then_some((group, matched))
        };
        self.groups.iter().filter_map(|group| of(group)).collect()
    }
}

/// Fetches what an update did not touch and the log therefore does not repeat.
pub async fn fetch_toasted_columns(
    client: &Client,
    batch: &mut [RowChange],
    lots: &[TableBatch<'_>],
    access: &HashMap<(u32, String), TableAccess>,
) -> Result<(), PgError> {
    for lot in lots {
        let relation = std::sync::Arc::clone(lot.relation(batch));
        if relation.identity == ReplicaIdentity::Full {
            continue;
        }
        let Some(any) = access.iter().find(|((oid, _), _)| *oid == relation.oid).map(|(_, access)| access)
        else {
            continue;
        };
        for at in &lot.change_indexes {
            let Some(new) = &batch[*at].new else { continue };
            let missing: Vec<usize> =
                (0..new.len()).filter(|column| new[*column] == Cell::Unchanged).collect();
            if missing.is_empty() || any.key_columns.is_empty() {
                continue;
            }
            let names: Vec<&str> = missing.iter().map(|column| &*relation.columns[*column].name).collect();
            let key: Vec<(&str, &str, &str)> = any
                .key_columns
                .iter()
                .zip(&any.key_types)
                .filter_map(|(name, of)| {
                    let column = batch[*at].column_index(name)?;
                    Some((&**name, &**of, new[column].text()?))
                })
                .collect();
            match postgres_changes::fetch_columns_by_key(client, &any.qualified_name, &names, &key).await {
                Ok(Some(values)) => {
                    if let Some(new) = &mut batch[*at].new {
                        for (column, value) in missing.into_iter().zip(values) {
                            new[column] = value.map_or(Cell::Null, |text| Cell::Text(text.into()));
                        }
                    }
                }
                Ok(None) => {}
                Err(error @ PgError::Unavailable(_)) => return Err(error),
                // The table is not what it was, or not ours to read: the value stays unknown.
                Err(error) => tracing::debug!(%error, "an untouched value could not be fetched"),
            }
        }
    }
    Ok(())
}
