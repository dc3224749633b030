//! Builds the events to deliver. Each row is rendered once, and each payload is built once per set of visible
//! columns.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::Client;

use super::{
    access::{PrincipalAccess, RlsRequirement},
    delivery::ChangeEvent,
    payload::{self, ColumnMask},
    registry::SubscriptionGroup,
    rendered_row::RenderedRow,
    rls::{check::RlsResults, slow_queue::DeferredDelivery},
    system_messages,
    table_batch::TableBatch,
    types::TypeCache,
};
use crate::{
    hub::ConnId,
    lifecycle::ErrorChain,
    pg::{
        PgError,
        queries::postgres_changes::{self, TableAccess},
        replication::{Cell, RowChange},
    },
    protocol::phoenix::TopicMessage,
};

/// JSON of values that only PostgreSQL can render, by type OID and text.
pub type DatabaseRendered = HashMap<u32, HashMap<String, String>>;

/// Renders the values that cannot be rendered in memory, in the database.
///
/// # Errors
/// If the database is unavailable.
pub async fn render_in_database(
    client: &Client,
    types: &TypeCache,
    batch: &[RowChange],
    tables: &[TableBatch<'_>],
) -> Result<DatabaseRendered, PgError> {
    let mut database_rendered = DatabaseRendered::default();
    for table in tables {
        for (column_index, column) in table.relation(batch).columns.iter().enumerate() {
            if types.can_render(column.type_oid) {
                continue;
            }
            let cells = table.change_indexes.iter().flat_map(|index| {
                let change = &batch[*index];
                [change.new.as_ref().and_then(|row| row.get(column_index)), change.old_cell(column_index)]
            });
            let texts: HashSet<&str> = cells.flatten().filter_map(Cell::text).collect();
            let texts: Vec<&str> = texts.into_iter().collect();
            match postgres_changes::render_values(client, column.type_oid, &texts).await {
                Ok(json) => {
                    let rendered = texts.iter().map(|text| (*text).to_owned()).zip(json);
                    database_rendered.entry(column.type_oid).or_default().extend(rendered);
                }
                Err(error @ PgError::Unavailable(_)) => return Err(error),
                // The type no longer exists: the value is sent as its text.
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), column = &*column.name, "rendering values in the database failed")
                }
            }
        }
    }
    Ok(database_rendered)
}

/// Input for building the events of a batch.
pub struct FanOut<'a> {
    pub batch: &'a [RowChange],
    /// The changes of `batch`, grouped by table.
    pub tables: &'a [TableBatch<'a>],
    /// Access by table index and principal index.
    pub access: &'a [Vec<Option<PrincipalAccess<'a>>>],
    /// Results of the row-level security checks.
    pub rls: &'a RlsResults,
    pub types: &'a TypeCache,
    /// Values rendered in the database.
    pub database_rendered: &'a DatabaseRendered,
}

impl FanOut<'_> {
    /// Returns the events in the order of the changes, and the deliveries that wait for a row-level security check in
    /// the slow queue.
    pub fn build(&self) -> (Vec<ChangeEvent>, Vec<DeferredDelivery>) {
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (table_index, table) in self.tables.iter().enumerate() {
            order.extend(
                table
                    .change_indexes
                    .iter()
                    .enumerate()
                    .map(|(row, change_index)| (*change_index, table_index, row)),
            );
        }
        order.sort_unstable();
        let mut events = Vec::new();
        let mut deferred: HashMap<(usize, usize), DeferredDelivery> = HashMap::new();
        for (change_index, table_index, row) in order {
            let change = &self.batch[change_index];
            let mut payloads = RowPayloads {
                change,
                types: self.types,
                database_rendered: self.database_rendered,
                rendered: None,
                cached: Vec::new(),
            };
            for (group, ids_by_select) in &self.tables[table_index].matches[row] {
                for (select, ids) in ids_by_select {
                    let matched =
                        MatchedChange { group, change, select: *select, binding_ids: ids, table_index, row };
                    self.add_events(&matched, &mut payloads, &mut events, &mut deferred);
                }
            }
        }
        (events, deferred.into_values().collect())
    }

    /// Adds the events for the members of a group for whom a change matches the same bindings.
    fn add_events<'b>(
        &self,
        matched: &MatchedChange<'_, 'b>,
        payloads: &mut RowPayloads<'b>,
        events: &mut Vec<ChangeEvent>,
        deferred: &mut HashMap<(usize, usize), DeferredDelivery>,
    ) {
        let MatchedChange { group, change, select, table_index, row, .. } = *matched;
        // There are few distinct payloads and many members.
        let mut by_payload: Vec<(Arc<str>, Vec<ConnId>)> = Vec::new();
        for member in &group.members {
            let Some(access) = &self.access[table_index][member.principal] else { continue };
            let data = match access.requirement(change) {
                Ok(RlsRequirement::Invisible) => continue,
                _ if !member.channel.is_active() => continue,
                Err(error) if member.mark_reported(change.relation.oid, error.as_str()) => {
                    payload::error_data(change, error).into()
                }
                Err(_) => continue,
                Ok(RlsRequirement::NotNeeded) => payloads.data(access.access, select),
                Ok(RlsRequirement::Check) => {
                    let key = (table_index, member.principal);
                    if let Some(visibility) = self.rls.visibility.get(&key) {
                        if let Some(error) = &visibility.error {
                            member.channel.send_error_throttled(&system_messages::policy_error(
                                &access.access.qualified_name,
                                error,
                            ));
                        }
                        if !visibility.visible[row] {
                            continue;
                        }
                        payloads.data(access.access, select)
                    } else {
                        let Some(check) = self.rls.deferred.get(&key) else { continue };
                        let deferred = deferred
                            .entry(key)
                            .or_insert_with(|| DeferredDelivery::new(check, &self.rls.tables));
                        let event = matched
                            .change_event(&payloads.data(access.access, select), vec![member.channel.conn]);
                        deferred.events.push((row, event, Arc::clone(&member.channel)));
                        continue;
                    }
                }
            };
            match by_payload.iter_mut().find(|(payload, _)| Arc::ptr_eq(payload, &data)) {
                Some((_, conns)) => conns.push(member.channel.conn),
                None => by_payload.push((data, vec![member.channel.conn])),
            }
        }
        events
            .extend(by_payload.into_iter().map(|(data, recipients)| matched.change_event(&data, recipients)));
    }
}

/// A change that matches bindings of a group.
#[derive(Clone, Copy)]
struct MatchedChange<'a, 'b> {
    group: &'a SubscriptionGroup,
    change: &'a RowChange,
    select: Option<&'b [Box<str>]>,
    binding_ids: &'a [u32],
    /// Index of the table, and of the row within it.
    table_index: usize,
    row: usize,
}

impl MatchedChange<'_, '_> {
    fn change_event(&self, data: &Arc<str>, recipients: Vec<ConnId>) -> ChangeEvent {
        let topic = Arc::clone(&self.group.spec.topic);
        let (event, payload) = if self.group.spec.is_legacy {
            (self.change.operation.as_str(), (&**data).into())
        } else {
            ("postgres_changes", payload::event_payload(data, self.binding_ids).into())
        };
        ChangeEvent { message: TopicMessage { topic, event: event.into(), payload }, recipients }
    }
}

/// A payload by role access and selected columns, with its column mask.
type CachedData<'a> = (*const TableAccess, Option<&'a [Box<str>]>, ColumnMask, Arc<str>);

/// The payloads of one change. The row is rendered at most once.
struct RowPayloads<'a> {
    change: &'a RowChange,
    types: &'a TypeCache,
    database_rendered: &'a DatabaseRendered,
    rendered: Option<RenderedRow>,
    cached: Vec<CachedData<'a>>,
}

impl<'a> RowPayloads<'a> {
    fn data(&mut self, access: &TableAccess, select: Option<&'a [Box<str>]>) -> Arc<str> {
        let cached = self.cached.iter().find(|(cached_access, selected, ..)| {
            std::ptr::eq(*cached_access, access) && *selected == select
        });
        if let Some((.., data)) = cached {
            return Arc::clone(data);
        }
        let is_key = |name: &str| access.key_columns.iter().any(|key| key == name);
        let is_selected = |name: &str| {
            select.is_none_or(|names| is_key(name) || names.iter().any(|selected| **selected == *name))
        };
        let columns = self.change.relation.columns.iter();
        let visible: Box<[bool]> = columns
            .clone()
            .map(|column| {
                is_selected(&column.name) && access.readable_columns.iter().any(|name| **name == *column.name)
            })
            .collect();
        // The visibility of the old row is not checked, so tables with row-level security expose only its key.
        let visible_if_deleted = columns
            .zip(&visible)
            .map(|(column, visible)| *visible && (!access.has_rls || is_key(&column.name)));
        let mask = ColumnMask { visible_if_deleted: visible_if_deleted.collect(), visible };
        let (change, types, database_rendered) = (self.change, self.types, self.database_rendered);
        let rendered = self.rendered.get_or_insert_with(|| {
            RenderedRow::render(change, types, |oid, text| {
                database_rendered.get(&oid).and_then(|by_text| by_text.get(text)).cloned()
            })
        });
        // Another role may see the same columns.
        let same = self
            .cached
            .iter()
            .find(|(_, _, cached_mask, _)| *cached_mask == mask)
            .map(|(.., data)| Arc::clone(data));
        let data = same.unwrap_or_else(|| payload::change_data(change, rendered, types, &mask).into());
        self.cached.push((access, select, mask, Arc::clone(&data)));
        data
    }
}
