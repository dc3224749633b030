//! Which rows each claimant sees: the questions for row-level security, and what came of them.

use std::{collections::HashMap, sync::Arc};

use super::{
    access::{PrincipalAccess, RlsRequirement},
    registry::RegistrySnapshot,
    rls_executor::{CheckedTable, RlsCheck, RlsCheckResult, RlsExecutor},
    rls_query::RlsQuery,
    row_change::RowChange,
    slow_queue::SlowQueue,
    table_batch::TableBatch,
};
use crate::{
    channels::ChannelPrincipal,
    pg::{PgError, queries::postgres_changes::TableAccess},
};

/// What is known after row-level security has been asked; by lot and claimant.
#[derive(Default)]
pub struct RlsResults {
    /// What was asked about.
    pub tables: Vec<CheckedTable>,
    /// What was answered.
    pub visibility: HashMap<(usize, usize), RowVisibility>,
    /// Questions whose claimants' policies take long.
    pub deferred: HashMap<(usize, usize), RlsCheck>,
}

/// What a claimant sees of a lot.
pub struct RowVisibility {
    /// By row.
    pub visible: Vec<bool>,
    /// What its policies raised.
    pub error: Option<String>,
}

impl RowVisibility {
    fn new(answer: RlsCheckResult, rows: usize) -> Self {
        let mut seen = vec![false; rows];
        for row in answer.visible_rows {
            seen[row] = true;
        }
        Self { visible: seen, error: answer.error }
    }
}

/// Asks, of the rows that are secured and that a claimant would hear of, which it sees.
///
/// # Errors
/// When the database is out of reach.
pub async fn check_rows(
    askers: &mut RlsExecutor,
    slow: &SlowQueue,
    batch: &[RowChange],
    snapshot: &RegistrySnapshot,
    lots: &[TableBatch<'_>],
    rights: &[Vec<Option<PrincipalAccess<'_>>>],
) -> Result<RlsResults, PgError> {
    let mut seen = RlsResults::default();
    let (mut places, mut questions) = (Vec::new(), Vec::new());
    for (number, lot) in lots.iter().enumerate() {
        let rows: Vec<&RowChange> = lot.change_indexes.iter().map(|at| &batch[*at]).collect();
        // The policies that apply to a role make the table what it is to that role.
        let mut known: HashMap<*const TableAccess, usize> = HashMap::new();
        for (claimant, wanted, access) in rows_to_check(lot, &rows, snapshot, &rights[number]) {
            let table = *known.entry(std::ptr::from_ref(access)).or_insert_with(|| {
                seen.tables.push(checked_table(access, &rows));
                seen.tables.len() - 1
            });
            let claimant_of = Arc::clone(&snapshot.principals[claimant]);
            let question = RlsCheck { principal: claimant_of, table_index: table, rows: wanted };
            if slow.contains(&question.principal) {
                seen.deferred.insert((number, claimant), question);
            } else {
                places.push((number, claimant));
                questions.push(question);
            }
        }
    }
    if questions.is_empty() {
        return Ok(seen);
    }
    let answers = askers.run_checks(&seen.tables, &questions).await?;
    for ((place, question), answer) in places.into_iter().zip(questions).zip(answers) {
        if answer.timed_out {
            slow.add(&question.principal);
            seen.deferred.insert(place, question);
        } else {
            let lot = &lots[place.0];
            let mut verdicts = RowVisibility::new(answer, lot.change_indexes.len());
            // A DELETE that cannot be asked about is told to nobody, which was said beforehand.
            let is_lost = |row: &&usize| {
                let table = &seen.tables[question.table_index];
                batch[lot.change_indexes[**row]].new.is_some()
                    && !table.queries.iter().any(|probe| probe.covers(**row))
            };
            if question.rows.iter().any(|row| is_lost(&row)) {
                verdicts.error.get_or_insert_with(|| "the table has been altered since".to_owned());
            }
            seen.visibility.insert(place, verdicts);
        }
    }
    Ok(seen)
}

/// By claimant the rows that row-level security is to be asked about; one role after another, so that a connection need
/// not switch its plans.
fn rows_to_check<'a>(
    lot: &TableBatch<'_>,
    rows: &[&RowChange],
    snapshot: &RegistrySnapshot,
    rights: &'a [Option<PrincipalAccess<'a>>],
) -> Vec<(usize, Vec<usize>, &'a TableAccess)> {
    let mut wanted: HashMap<usize, (Vec<usize>, &'a TableAccess)> = HashMap::new();
    for (row, changed) in rows.iter().enumerate() {
        for (group, _) in &lot.matches[row] {
            for member in &group.members {
                let Some(rights) = &rights[member.principal] else { continue };
                if rights.requirement(changed) == Ok(RlsRequirement::Check) {
                    let (rows, _) =
                        wanted.entry(member.principal).or_insert_with(|| (Vec::new(), rights.access));
                    if rows.last() != Some(&row) {
                        rows.push(row);
                    }
                }
            }
        }
    }
    let role = |claimant: usize| -> &Arc<ChannelPrincipal> { &snapshot.principals[claimant] };
    let mut wanted: Vec<_> =
        wanted.into_iter().map(|(claimant, (rows, access))| (claimant, rows, access)).collect();
    wanted.sort_by(|(one, ..), (other, ..)| role(*one).role.cmp(&role(*other).role));
    wanted
}

fn checked_table(access: &TableAccess, rows: &[&RowChange]) -> CheckedTable {
    let by_values = access.condition.as_ref().and_then(|condition| RlsQuery::by_values(condition, rows));
    let by_key = RlsQuery::by_key(access, rows);
    CheckedTable {
        qualified_name: access.qualified_name.clone(),
        queries: by_values.into_iter().chain(by_key).collect(),
    }
}
