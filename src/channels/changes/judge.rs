//! Which rows each claimant sees: the questions for row-level security, and what came of them.

use std::{collections::HashMap, sync::Arc};

use super::{
    asker::{Answer, Askers, Question, Table},
    lot::Lot,
    probe::Probe,
    registry::Snapshot,
    rights::{Asking, Rights},
    row::Changed,
    slow::SlowLane,
};
use crate::{
    channels::Claimant,
    pg::{PgError, queries::changes::Access},
};

/// What is known after row-level security has been asked; by lot and claimant.
#[derive(Default)]
pub struct Seen {
    /// What was asked about.
    pub tables: Vec<Table>,
    /// What was answered.
    pub verdicts: HashMap<(usize, usize), Verdicts>,
    /// Questions whose claimants' policies take long.
    pub later: HashMap<(usize, usize), Question>,
}

/// What a claimant sees of a lot.
pub struct Verdicts {
    /// By row.
    pub seen: Vec<bool>,
    /// What its policies raised.
    pub trouble: Option<String>,
}

impl Verdicts {
    fn new(answer: Answer, rows: usize) -> Self {
        let mut seen = vec![false; rows];
        for row in answer.seen {
            seen[row] = true;
        }
        Self { seen, trouble: answer.trouble }
    }
}

/// Asks, of the rows that are secured and that a claimant would hear of, which it sees.
///
/// # Errors
/// When the database is out of reach.
pub async fn judge(
    askers: &mut Askers,
    slow: &SlowLane,
    batch: &[Changed],
    snapshot: &Snapshot,
    lots: &[Lot<'_>],
    rights: &[Vec<Option<Rights<'_>>>],
) -> Result<Seen, PgError> {
    let mut seen = Seen::default();
    let (mut places, mut questions) = (Vec::new(), Vec::new());
    for (number, lot) in lots.iter().enumerate() {
        let rows: Vec<&Changed> = lot.places.iter().map(|at| &batch[*at]).collect();
        // The policies that apply to a role make the table what it is to that role.
        let mut known: HashMap<*const Access, usize> = HashMap::new();
        for (claimant, wanted, access) in wanted(lot, &rows, snapshot, &rights[number]) {
            let table = *known.entry(std::ptr::from_ref(access)).or_insert_with(|| {
                seen.tables.push(table(access, &rows));
                seen.tables.len() - 1
            });
            let claimant_of = Arc::clone(&snapshot.claimants[claimant]);
            let question = Question { claimant: claimant_of, table, rows: wanted };
            if slow.keeps(&question.claimant) {
                seen.later.insert((number, claimant), question);
            } else {
                places.push((number, claimant));
                questions.push(question);
            }
        }
    }
    if questions.is_empty() {
        return Ok(seen);
    }
    let answers = askers.ask(&seen.tables, &questions).await?;
    for ((place, question), answer) in places.into_iter().zip(questions).zip(answers) {
        if answer.is_late {
            slow.keep(&question.claimant);
            seen.later.insert(place, question);
        } else {
            let lot = &lots[place.0];
            let mut verdicts = Verdicts::new(answer, lot.places.len());
            // A DELETE that cannot be asked about is told to nobody, which was said beforehand.
            let is_lost = |row: &&usize| {
                let table = &seen.tables[question.table];
                batch[lot.places[**row]].new.is_some() && !table.probes.iter().any(|probe| probe.knows(**row))
            };
            if question.rows.iter().any(|row| is_lost(&row)) {
                verdicts.trouble.get_or_insert_with(|| "the table has been altered since".to_owned());
            }
            seen.verdicts.insert(place, verdicts);
        }
    }
    Ok(seen)
}

/// By claimant the rows that row-level security is to be asked about; one role after another, so that a connection need
/// not switch its plans.
fn wanted<'a>(
    lot: &Lot<'_>,
    rows: &[&Changed],
    snapshot: &Snapshot,
    rights: &'a [Option<Rights<'a>>],
) -> Vec<(usize, Vec<usize>, &'a Access)> {
    let mut wanted: HashMap<usize, (Vec<usize>, &'a Access)> = HashMap::new();
    for (row, changed) in rows.iter().enumerate() {
        for (group, _) in &lot.matched[row] {
            for member in &group.members {
                let Some(rights) = &rights[member.claimant] else { continue };
                if rights.to(changed) == Ok(Asking::RowSecurity) {
                    let (rows, _) =
                        wanted.entry(member.claimant).or_insert_with(|| (Vec::new(), rights.access));
                    if rows.last() != Some(&row) {
                        rows.push(row);
                    }
                }
            }
        }
    }
    let role = |claimant: usize| -> &Arc<Claimant> { &snapshot.claimants[claimant] };
    let mut wanted: Vec<_> =
        wanted.into_iter().map(|(claimant, (rows, access))| (claimant, rows, access)).collect();
    wanted.sort_by(|(one, ..), (other, ..)| role(*one).role.cmp(&role(*other).role));
    wanted
}

fn table(access: &Access, rows: &[&Changed]) -> Table {
    let by_values = access.condition.as_ref().and_then(|condition| Probe::by_values(condition, rows));
    let by_key = Probe::by_key(access, rows);
    Table { qualified: access.qualified.clone(), probes: by_values.into_iter().chain(by_key).collect() }
}
