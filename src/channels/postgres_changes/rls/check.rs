//! Determines which rows each principal may see, by row-level security checks.

use std::{collections::HashMap, sync::Arc};

use super::{
    executor::{CheckedTable, RlsCheck, RlsCheckResult, RlsExecutor},
    query::RlsQuery,
    slow_queue::SlowQueue,
};
use crate::{
    channels::{
        ChannelPrincipal,
        postgres_changes::{
            access::{PrincipalAccess, RlsRequirement},
            registry::RegistrySnapshot,
            table_batch::TableBatch,
        },
    },
    pg::{PgError, queries::postgres_changes::TableAccess, replication::RowChange},
};

/// Results by pair of table index and principal index.
#[derive(Default)]
pub struct RlsResults {
    /// The tables that were checked.
    pub tables: Vec<CheckedTable>,
    /// Results of the completed checks.
    pub visibility: HashMap<(usize, usize), RowVisibility>,
    /// Checks that are left to the slow queue.
    pub deferred: HashMap<(usize, usize), RlsCheck>,
}

/// The rows of a table batch that a principal may see.
pub struct RowVisibility {
    /// Whether the row is visible, by row index.
    pub visible: Vec<bool>,
    /// The error that a policy raised.
    pub error: Option<String>,
}

impl RowVisibility {
    fn new(result: RlsCheckResult, rows: usize) -> Self {
        let mut visible = vec![false; rows];
        for row in result.visible_rows {
            visible[row] = true;
        }
        Self { visible, error: result.error }
    }
}

/// Checks which rows the principals may see: rows with row-level security that match a principal's subscription.
///
/// # Errors
/// If the database is unavailable.
pub async fn check_rows(
    executor: &mut RlsExecutor,
    slow_queue: &SlowQueue,
    batch: &[RowChange],
    snapshot: &RegistrySnapshot,
    tables: &[TableBatch<'_>],
    access_by_table: &[Vec<Option<PrincipalAccess<'_>>>],
) -> Result<RlsResults, PgError> {
    let mut rls = RlsResults::default();
    let (mut keys, mut checks) = (Vec::new(), Vec::new());
    for (table_index, table) in tables.iter().enumerate() {
        let rows: Vec<&RowChange> = table.change_indexes.iter().map(|index| &batch[*index]).collect();
        // Roles have different policies, so the queries for a table depend on the role.
        let mut table_of_access: HashMap<*const TableAccess, usize> = HashMap::new();
        for (principal, row_indexes, access) in
            rows_to_check(table, &rows, snapshot, &access_by_table[table_index])
        {
            let checked_index = *table_of_access.entry(std::ptr::from_ref(access)).or_insert_with(|| {
                rls.tables.push(checked_table(access, &rows));
                rls.tables.len() - 1
            });
            let check = RlsCheck {
                principal: Arc::clone(&snapshot.principals[principal]),
                table_index: checked_index,
                rows: row_indexes,
            };
            if slow_queue.contains(&check.principal) {
                rls.deferred.insert((table_index, principal), check);
            } else {
                keys.push((table_index, principal));
                checks.push(check);
            }
        }
    }
    if checks.is_empty() {
        return Ok(rls);
    }
    let results = executor.run_checks(&rls.tables, &checks).await?;
    for ((key, check), result) in keys.into_iter().zip(checks).zip(results) {
        if result.timed_out {
            slow_queue.add(&check.principal);
            rls.deferred.insert(key, check);
        } else {
            let table = &tables[key.0];
            let mut visibility = RowVisibility::new(result, table.change_indexes.len());
            // A DELETE that cannot be checked is not delivered; the subscriber was notified of this limitation when
            // it subscribed.
            let is_uncheckable = |row: &&usize| {
                let checked = &rls.tables[check.table_index];
                batch[table.change_indexes[**row]].new.is_some()
                    && !checked.queries.iter().any(|query| query.covers(**row))
            };
            if check.rows.iter().any(|row| is_uncheckable(&row)) {
                visibility.error.get_or_insert_with(|| "the table was altered after the change".to_owned());
            }
            rls.visibility.insert(key, visibility);
        }
    }
    Ok(rls)
}

/// The rows to check by principal, sorted by role so that a connection rarely switches its prepared plans.
fn rows_to_check<'a>(
    table: &TableBatch<'_>,
    rows: &[&RowChange],
    snapshot: &RegistrySnapshot,
    access: &'a [Option<PrincipalAccess<'a>>],
) -> Vec<(usize, Vec<usize>, &'a TableAccess)> {
    let mut by_principal: HashMap<usize, (Vec<usize>, &'a TableAccess)> = HashMap::new();
    for (row, change) in rows.iter().enumerate() {
        for (group, _) in &table.matches[row] {
            for member in &group.members {
                let Some(principal_access) = &access[member.principal] else { continue };
                if principal_access.requirement(change) == Ok(RlsRequirement::Check) {
                    let (rows, _) = by_principal
                        .entry(member.principal)
                        .or_insert_with(|| (Vec::new(), principal_access.access));
                    if rows.last() != Some(&row) {
                        rows.push(row);
                    }
                }
            }
        }
    }
    let role = |principal: usize| -> &Arc<ChannelPrincipal> { &snapshot.principals[principal] };
    let mut sorted: Vec<_> =
        by_principal.into_iter().map(|(principal, (rows, access))| (principal, rows, access)).collect();
    sorted.sort_by(|(left, ..), (right, ..)| role(*left).role.cmp(&role(*right).role));
    sorted
}

fn checked_table(access: &TableAccess, rows: &[&RowChange]) -> CheckedTable {
    let by_values = access.condition.as_ref().and_then(|condition| RlsQuery::by_values(condition, rows));
    let by_key = RlsQuery::by_key(access, rows);
    CheckedTable {
        qualified_name: access.qualified_name.clone(),
        queries: by_values.into_iter().chain(by_key).collect(),
    }
}
