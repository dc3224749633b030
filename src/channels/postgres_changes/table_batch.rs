//! Groups the changes of a batch by table.

use std::{collections::HashMap, sync::Arc};

use super::{
    matching::{GroupMatch, TablePlan},
    registry::RegistrySnapshot,
};
use crate::pg::replication::{Relation, RowChange};

/// The changes of one version of a table that a subscription includes.
pub(super) struct TableBatch {
    pub relation: Arc<Relation>,
    /// Indexes of the changes in the batch.
    pub change_indexes: Vec<usize>,
    /// Set after the values that the WAL omits have been fetched.
    pub matched: Option<MatchedTable>,
}

/// The subscriptions that the changes of a table match.
pub(super) struct MatchedTable {
    pub plan: Arc<TablePlan>,
    /// By row, in the order of [`TableBatch::change_indexes`].
    pub matches: Vec<Vec<GroupMatch>>,
}

impl TableBatch {
    /// The matches of a row; empty before the table is matched.
    pub(super) fn matches(&self, row: usize) -> &[GroupMatch] {
        self.matched.as_ref().and_then(|matched| matched.matches.get(row)).map_or(&[], Vec::as_slice)
    }

    /// Finds the subscriptions that each change matches.
    pub(super) fn match_subscriptions(
        &mut self,
        plan: Arc<TablePlan>,
        batch: &[RowChange],
        snapshot: &RegistrySnapshot,
    ) {
        let matches = self.change_indexes.iter().map(|index| plan.matches(&batch[*index], snapshot));
        self.matched = Some(MatchedTable { matches: matches.collect(), plan });
    }
}

/// Groups the changes by table, without the tables that no subscription includes.
pub(super) fn group_by_table(batch: &[RowChange], snapshot: &RegistrySnapshot) -> Vec<TableBatch> {
    let mut tables: Vec<TableBatch> = Vec::new();
    let mut by_relation: HashMap<*const Relation, Option<usize>> = HashMap::new();
    for (index, change) in batch.iter().enumerate() {
        let relation = &change.relation;
        let table = *by_relation.entry(Arc::as_ptr(relation)).or_insert_with(|| {
            snapshot.includes_table(&relation.schema, &relation.table).then(|| {
                let relation = Arc::clone(relation);
                tables.push(TableBatch { relation, change_indexes: Vec::new(), matched: None });
                tables.len() - 1
            })
        });
        if let Some(table) = table {
            tables[table].change_indexes.push(index);
        }
    }
    tables
}
