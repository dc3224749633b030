//! From verdicts to frames: each row is rendered once, each view of it put together once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::Client;

use super::{
    access::{PrincipalAccess, RlsRequirement},
    payload::{self, ColumnMask},
    pipeline::ChangeEvent,
    registry::SubscriptionGroup,
    rls_check::RlsResults,
    row_change::{RenderedRow, RowChange},
    slow_queue::DeferredDelivery,
    table_batch::TableBatch,
    types::TypeCache,
};
use crate::{
    hub::ConnId,
    pg::{
        PgError,
        queries::postgres_changes::{self, TableAccess},
        replication::Cell,
    },
};

/// The JSON of values that only PostgreSQL can render, by type and text.
pub type DatabaseRendered = HashMap<u32, HashMap<String, String>>;

/// Asks for the JSON of values that cannot be rendered here.
///
/// # Errors
/// When the database is out of reach.
pub async fn render_in_database(
    client: &Client,
    types: &TypeCache,
    batch: &[RowChange],
    lots: &[TableBatch<'_>],
) -> Result<DatabaseRendered, PgError> {
    let mut opaque = DatabaseRendered::default();
    for lot in lots {
        for (at, column) in lot.relation(batch).columns.iter().enumerate() {
            if types.can_render(column.type_oid) {
                continue;
            }
            let cells = lot.change_indexes.iter().flat_map(|place| {
                let changed = &batch[*place];
                [changed.new.as_ref().and_then(|row| row.get(at)), changed.old_cell(at)]
            });
            let texts: HashSet<&str> = cells.flatten().filter_map(Cell::text).collect();
            let texts: Vec<&str> = texts.into_iter().collect();
            match postgres_changes::render_values(client, column.type_oid, &texts).await {
                Ok(json) => {
                    let known = texts.iter().map(|text| (*text).to_owned()).zip(json);
                    opaque.entry(column.type_oid).or_default().extend(known);
                }
                Err(error @ PgError::Unavailable(_)) => return Err(error),
                // The type has gone: its text has to do.
                Err(error) => {
                    tracing::warn!(%error, column = &*column.name, "values could not be rendered")
                }
            }
        }
    }
    Ok(opaque)
}

/// What is needed to write to everybody.
pub struct FanOut<'a> {
    /// The changes.
    pub batch: &'a [RowChange],
    /// The same by table.
    pub tables: &'a [TableBatch<'a>],
    /// By lot and claimant.
    pub access: &'a [Vec<Option<PrincipalAccess<'a>>>],
    /// What row-level security said.
    pub rls: &'a RlsResults,
    /// How values are shown.
    pub types: &'a TypeCache,
    /// Those that are not shown here.
    pub database_rendered: &'a DatabaseRendered,
}

impl FanOut<'_> {
    /// Frames, in the order of the changes; and those for whom row-level security has not answered yet.
    pub fn build(&self) -> (Vec<ChangeEvent>, Vec<DeferredDelivery>) {
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (number, lot) in self.tables.iter().enumerate() {
            order.extend(lot.change_indexes.iter().enumerate().map(|(row, at)| (*at, number, row)));
        }
        order.sort_unstable();
        let mut told = Vec::new();
        let mut later: HashMap<(usize, usize), DeferredDelivery> = HashMap::new();
        for (at, number, row) in order {
            let changed = &self.batch[at];
            let mut sheet = RowPayloads {
                change: changed,
                types: self.types,
                database_rendered: self.database_rendered,
                rendered: None,
                cached: Vec::new(),
            };
            for (group, matched) in &self.tables[number].matches[row] {
                for (select, ids) in matched {
                    let one = MatchedChange {
                        group,
                        change: changed,
                        select: *select,
                        binding_ids: ids,
                        table_index: number,
                        row,
                    };
                    self.add_events(&one, &mut sheet, &mut told, &mut later);
                }
            }
        }
        (told, later.into_values().collect())
    }

    /// To the members of a group for whom a change matches the same entries.
    fn add_events<'b>(
        &self,
        one: &MatchedChange<'_, 'b>,
        sheet: &mut RowPayloads<'b>,
        told: &mut Vec<ChangeEvent>,
        later: &mut HashMap<(usize, usize), DeferredDelivery>,
    ) {
        let MatchedChange { group, change: changed, select, table_index: number, row, .. } = *one;
        // Few views, many members.
        let mut to: Vec<(Arc<str>, Vec<ConnId>)> = Vec::new();
        for member in &group.members {
            let Some(rights) = &self.access[number][member.principal] else { continue };
            let data = match rights.requirement(changed) {
                Ok(RlsRequirement::Invisible) => continue,
                _ if !member.channel.is_active() => continue,
                Err(error) if member.mark_reported(changed.relation.oid, error.as_str()) => {
                    payload::error_data(changed, error).into()
                }
                Err(_) => continue,
                Ok(RlsRequirement::NotNeeded) => sheet.data(rights.access, select),
                Ok(RlsRequirement::Check) => {
                    let place = (number, member.principal);
                    if let Some(verdicts) = self.rls.visibility.get(&place) {
                        if let Some(trouble) = &verdicts.error {
                            member.channel.send_error_throttled(&rls_error_message(changed, trouble));
                        }
                        if !verdicts.visible[row] {
                            continue;
                        }
                        sheet.data(rights.access, select)
                    } else {
                        let Some(question) = self.rls.deferred.get(&place) else { continue };
                        let later = later
                            .entry(place)
                            .or_insert_with(|| DeferredDelivery::new(question, &self.rls.tables));
                        let told =
                            one.change_event(&sheet.data(rights.access, select), vec![member.channel.conn]);
                        later.events.push((row, told, Arc::clone(&member.channel)));
                        continue;
                    }
                }
            };
            match to.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &data)) {
                Some((_, conns)) => conns.push(member.channel.conn),
                None => to.push((data, vec![member.channel.conn])),
            }
        }
        told.extend(to.into_iter().map(|(data, to)| one.change_event(&data, to)));
    }
}

/// A change for a group.
#[derive(Clone, Copy)]
struct MatchedChange<'a, 'b> {
    group: &'a SubscriptionGroup,
    change: &'a RowChange,
    select: Option<&'b [Box<str>]>,
    binding_ids: &'a [u32],
    /// The lot, and the row in it.
    table_index: usize,
    row: usize,
}

impl MatchedChange<'_, '_> {
    fn change_event(&self, data: &Arc<str>, to: Vec<ConnId>) -> ChangeEvent {
        let topic = Arc::clone(&self.group.spec.topic);
        if self.group.spec.is_legacy {
            ChangeEvent {
                topic,
                event: self.change.operation.as_str(),
                payload: (&**data).into(),
                recipients: to,
            }
        } else {
            ChangeEvent {
                topic,
                event: "postgres_changes",
                payload: payload::event_payload(data, self.binding_ids).into(),
                recipients: to,
            }
        }
    }
}

fn rls_error_message(changed: &RowChange, trouble: &str) -> String {
    let relation = &changed.relation;
    format!(
        "Changes of {}.{} are withheld: its row-level security raised an error for you: {trouble}",
        relation.schema, relation.table
    )
}

/// A view that was put together: for a role's access and a selection of columns.
type CachedData<'a> = (*const TableAccess, Option<&'a [Box<str>]>, ColumnMask, Arc<str>);

/// One change, rendered at most once, and put together once for each view of it.
struct RowPayloads<'a> {
    change: &'a RowChange,
    types: &'a TypeCache,
    database_rendered: &'a DatabaseRendered,
    rendered: Option<RenderedRow>,
    cached: Vec<CachedData<'a>>,
}

impl<'a> RowPayloads<'a> {
    fn data(&mut self, access: &TableAccess, select: Option<&'a [Box<str>]>) -> Arc<str> {
        let known =
            self.cached.iter().find(|(of, selected, ..)| std::ptr::eq(*of, access) && *selected == select);
        if let Some((.., data)) = known {
            return Arc::clone(data);
        }
        let is_key = |name: &str| access.key_columns.iter().any(|key| key == name);
        let selected =
            |name: &str| select.is_none_or(|names| is_key(name) || names.iter().any(|one| **one == *name));
        let columns = self.change.relation.columns.iter();
        let shown: Box<[bool]> = columns
            .clone()
            .map(|column| {
                selected(&column.name) && access.readable_columns.iter().any(|name| **name == *column.name)
            })
            .collect();
        // Nobody was asked whether the old row was theirs to see: of secured tables the key alone is told.
        let deleted =
            columns.zip(&shown).map(|(column, shown)| *shown && (!access.has_rls || is_key(&column.name)));
        let view = ColumnMask { visible_if_deleted: deleted.collect(), visible: shown };
        let (changed, types, opaque) = (self.change, self.types, self.database_rendered);
        let rendered = self.rendered.get_or_insert_with(|| {
            RenderedRow::render(changed, types, |oid, text| {
                opaque.get(&oid).and_then(|known| known.get(text)).cloned()
            })
        });
        // Another role may have the same view.
        let same =
            self.cached.iter().find(|(_, _, known, _)| *known == view).map(|(.., data)| Arc::clone(data));
        let data = same.unwrap_or_else(|| payload::change_data(changed, rendered, types, &view).into());
        self.cached.push((access, select, view, Arc::clone(&data)));
        data
    }
}
