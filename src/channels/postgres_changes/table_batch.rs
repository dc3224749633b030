//! Groups the changes of a batch by table and finds the subscriptions that match them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    filter::Filter,
    registry::{RegistrySnapshot, SubscriptionGroup},
};
use crate::pg::replication::{Relation, RowChange};

/// The changes of one version of a table, and the subscriptions that include it.
pub struct TableBatch<'a> {
    /// Indexes of the changes in the batch.
    pub change_indexes: Vec<usize>,
    /// Groups with a binding that includes the table.
    pub groups: Vec<&'a SubscriptionGroup>,
    /// For each filter, its result for each change.
    pub filter_results: HashMap<&'a Filter, Vec<bool>>,
    /// For each change, the groups with matching bindings, and the IDs of these bindings.
    pub matches: Vec<Vec<(&'a SubscriptionGroup, IdsBySelect<'a>)>>,
}

/// Binding IDs by the columns that the bindings select.
pub type IdsBySelect<'a> = BTreeMap<Option<&'a [Box<str>]>, Vec<u32>>;

/// Groups the changes by table. `None` if no subscription includes any of them.
pub fn group_by_table<'a>(
    batch: &[RowChange],
    snapshot: &'a RegistrySnapshot,
) -> Option<Vec<TableBatch<'a>>> {
    let mut tables: Vec<TableBatch<'a>> = Vec::new();
    let mut by_relation: HashMap<*const Relation, Option<usize>> = HashMap::new();
    for (index, change) in batch.iter().enumerate() {
        let table = *by_relation.entry(Arc::as_ptr(&change.relation)).or_insert_with(|| {
            let relation = &change.relation;
            let includes_table = |group: &&SubscriptionGroup| {
                let mut bindings = group.spec.bindings.iter();
                bindings.any(|binding| binding.params.includes_table(&relation.schema, &relation.table))
            };
            let groups: Vec<_> = snapshot.groups.iter().filter(includes_table).collect();
            if groups.is_empty() {
                return None;
            }
            tables.push(TableBatch {
                change_indexes: Vec::new(),
                groups,
                filter_results: HashMap::new(),
                matches: Vec::new(),
            });
            Some(tables.len() - 1)
        });
        if let Some(table) = table {
            tables[table].change_indexes.push(index);
        }
    }
    (!tables.is_empty()).then_some(tables)
}

impl TableBatch<'_> {
    /// The table as it was when the rows changed.
    pub fn relation<'b>(&self, batch: &'b [RowChange]) -> &'b Arc<Relation> {
        &batch[self.change_indexes[0]].relation
    }

    /// Finds the bindings that match each change; requires the results of all filters.
    pub fn match_subscriptions(&mut self, batch: &[RowChange]) {
        let matches = (0..self.change_indexes.len())
            .map(|row| self.matching_groups(row, &batch[self.change_indexes[row]]));
        self.matches = matches.collect();
    }
}

impl<'a> TableBatch<'a> {
    /// The groups with bindings that match a change: the binding IDs by selected columns.
    fn matching_groups(
        &self,
        row: usize,
        change: &RowChange,
    ) -> Vec<(&'a SubscriptionGroup, IdsBySelect<'a>)> {
        let group_matches = |group: &'a SubscriptionGroup| {
            let mut matches = IdsBySelect::new();
            for binding in group.spec.bindings.iter() {
                let params = &binding.params;
                let is_match = |filter| self.filter_results.get(filter).is_some_and(|results| results[row]);
                if params.event.includes(change.operation)
                    && params.includes_table(&change.relation.schema, &change.relation.table)
                    && params.filters.iter().all(is_match)
                {
                    matches.entry(params.select.as_deref()).or_default().push(binding.id);
                }
            }
            (!matches.is_empty()).then_some((group, matches))
        };
        self.groups.iter().filter_map(|group| group_matches(group)).collect()
    }
}
