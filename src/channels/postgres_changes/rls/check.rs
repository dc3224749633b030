//! Determines which rows each principal may see, by row-level security checks.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    executor::{CheckedTable, RlsCheck, RlsCheckResult, RlsExecutor},
    lanes::{Lanes, Owner},
    query::RowQuery,
};
use crate::{
    auth::Principal,
    channels::postgres_changes::{
        access::{PrincipalAccess, RlsRequirement},
        registry::RegistrySnapshot,
        table_batch::TableBatch,
    },
    pg::{PgError, queries::postgres_changes::TableAccess, replication::RowChange},
};

/// Results by pair of table index and principal index.
#[derive(Default)]
pub(crate) struct RlsResults {
    /// The tables that were checked.
    pub tables: Vec<Arc<CheckedTable>>,
    /// Results of the completed checks.
    pub visibility: HashMap<(usize, usize), RowVisibility>,
    /// Checks that are left to a lane.
    pub deferred: HashMap<(usize, usize), RlsCheck>,
}

/// The rows of a table batch that a principal may see.
pub(crate) struct RowVisibility {
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

/// Checks which rows the principals may see: rows with row-level security that may match a principal's subscription. The checks
/// of `slow_owners` are left to a lane.
///
/// # Errors
/// If the database is unavailable.
pub(crate) async fn check_rows(
    executor: &mut RlsExecutor,
    lanes: &Lanes,
    batch: &[RowChange],
    snapshot: &RegistrySnapshot,
    tables: &[TableBatch],
    access_by_table: &[HashMap<usize, PrincipalAccess<'_>>],
    slow_owners: &HashSet<Owner>,
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
                rls.tables.push(Arc::new(checked_table(access, &rows)));
                rls.tables.len() - 1
            });
            let check = RlsCheck {
                principal: Arc::clone(&snapshot.principals[principal]),
                table_index: checked_index,
                rows: row_indexes,
            };
            if slow_owners.contains(&Owner::Principal(Arc::clone(&check.principal))) {
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
            lanes.add_slow_principal(&check.principal);
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
    table: &TableBatch,
    rows: &[&RowChange],
    snapshot: &RegistrySnapshot,
    access: &'a HashMap<usize, PrincipalAccess<'a>>,
) -> Vec<(usize, Vec<usize>, &'a TableAccess)> {
    let mut by_principal: HashMap<usize, (Vec<usize>, &'a TableAccess)> = HashMap::new();
    for (row, change) in rows.iter().enumerate() {
        for matched in table.matches(row) {
            for member in &snapshot.groups[matched.group].members {
                let Some(principal_access) = access.get(&member.principal) else { continue };
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
    let role = |principal: usize| -> &Arc<Principal> { &snapshot.principals[principal] };
    let mut sorted: Vec<_> =
        by_principal.into_iter().map(|(principal, (rows, access))| (principal, rows, access)).collect();
    sorted.sort_by(|(left, ..), (right, ..)| role(*left).role.cmp(&role(*right).role));
    sorted
}

fn checked_table(access: &TableAccess, rows: &[&RowChange]) -> CheckedTable {
    let by_values = access.condition.as_ref().and_then(|condition| RowQuery::by_values(condition, rows));
    let by_key = RowQuery::by_key(access, rows);
    let in_function = access
        .condition
        .as_ref()
        .filter(|_| rows.iter().any(|change| change.new.is_none()))
        .and_then(|condition| by_values.clone()?.in_function(condition));
    CheckedTable {
        qualified_name: access.qualified_name.clone(),
        queries: by_values.into_iter().chain(by_key).chain(in_function).collect(),
    }
}
