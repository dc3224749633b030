//! Builds the events to deliver. Each row is rendered once, and each payload is built once per set of visible
//! columns. Filters that `matching` left undecided are evaluated here, for visible rows only.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::Client;

use super::{
    access::{PrincipalAccess, RlsRequirement},
    delivery::ChangeEvent,
    filter::predicate::FilterResult,
    matching::{BindingMatch, Condition, GroupMatch, TablePlan},
    payload::{self, ColumnMask},
    registry::{Member, RegistrySnapshot, SubscriptionGroup},
    rendered_row::RenderedRow,
    rls::{
        check::RlsResults,
        executor::CheckedTable,
        lanes::{DeferredDelivery, DeferredEvent, EventPart, Owner, change_event},
    },
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
};

/// JSON of values that only PostgreSQL can render, by type OID and text.
pub(super) type DatabaseRendered = HashMap<u32, HashMap<String, String>>;

/// Renders the values that cannot be rendered in memory, in the database.
///
/// # Errors
/// If the database is unavailable.
pub(super) async fn render_in_database(
    client: &Client,
    types: &TypeCache,
    batch: &[RowChange],
    tables: &[TableBatch],
) -> Result<DatabaseRendered, PgError> {
    let mut database_rendered = DatabaseRendered::default();
    for table in tables {
        for (column_index, column) in table.relation.columns.iter().enumerate() {
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
                    let error = ErrorChain(&error);
                    tracing::warn!(%error, column = &*column.name, "rendering values in the database failed")
                }
            }
        }
    }
    Ok(database_rendered)
}

/// Input for building the events of a batch.
pub(super) struct FanOut<'a> {
    pub batch: &'a [RowChange],
    pub snapshot: &'a RegistrySnapshot,
    /// The changes of `batch`, grouped by table.
    pub tables: &'a [TableBatch],
    /// Access by table index and principal index.
    pub access: &'a [HashMap<usize, PrincipalAccess<'a>>],
    /// Results of the row-level security checks.
    pub rls: &'a RlsResults,
    pub types: &'a TypeCache,
    /// Values rendered in the database.
    pub database_rendered: &'a DatabaseRendered,
    /// Owners whose events must stay behind those that are queued in a lane.
    pub queued_owners: &'a HashSet<Owner>,
}

/// Deliveries by principal index, and connection if the connection is the owner. One delivery holds the events of all
/// tables, so they stay in the order of the changes.
type Deferred = HashMap<(usize, Option<ConnId>), DeferredDelivery>;

impl<'a> FanOut<'a> {
    /// Returns the events in the order of the changes, and the deliveries that wait for a lane.
    pub(super) fn build(&self) -> (Vec<ChangeEvent>, Vec<DeferredDelivery>) {
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (table_index, table) in self.tables.iter().enumerate() {
            let rows = table.change_indexes.iter().enumerate();
            order.extend(rows.map(|(row, change_index)| (*change_index, table_index, row)));
        }
        order.sort_unstable();
        let mut events = Vec::new();
        let mut deferred = Deferred::new();
        for (change_index, table_index, row) in order {
            let change = &self.batch[change_index];
            let table = &self.tables[table_index];
            let Some(matched) = &table.matched else { continue };
            let mut payloads = RowPayloads {
                change,
                types: self.types,
                database_rendered: self.database_rendered,
                rendered: None,
                cached: Vec::new(),
            };
            for group_match in table.matches(row) {
                let group = &self.snapshot.groups[group_match.group];
                let plan = &*matched.plan;
                let matched =
                    MatchedChange { group, group_match, plan, change, table_index, row, resolved: None };
                self.add_events(matched, &mut payloads, &mut events, &mut deferred);
            }
        }
        (events, deferred.into_values().collect())
    }

    /// Adds the events for the members of a group for whom a change may match bindings.
    fn add_events(
        &self,
        mut matched: MatchedChange<'a>,
        payloads: &mut RowPayloads<'a>,
        events: &mut Vec<ChangeEvent>,
        deferred: &mut Deferred,
    ) {
        let (change, group) = (matched.change, matched.group);
        // There are few distinct payloads and many members. The selected columns make a payload of their own.
        let mut by_payload: Vec<(Arc<str>, Selected<'a>, Vec<ConnId>)> = Vec::new();
        let mut error_events: Vec<(Arc<str>, Vec<ConnId>)> = Vec::new();
        for member in &group.members {
            let Some(access) = self.access[matched.table_index].get(&member.principal) else { continue };
            if !member.channel.is_active() {
                continue;
            }
            let is_visible = match access.requirement(change) {
                Ok(RlsRequirement::Invisible) => continue,
                Ok(RlsRequirement::NotNeeded) => Some(true),
                Ok(RlsRequirement::Check) => self.checked_visibility(&matched, member, access),
                Err(error) => {
                    // The error does not depend on the row, so filters do not matter.
                    if member.mark_reported(change.relation.oid, error.as_str()) {
                        let data: Arc<str> = payload::error_data(change, error).into();
                        error_events.push((data, vec![member.channel.conn]));
                    }
                    continue;
                }
            };
            if is_visible == Some(false) {
                continue;
            }
            let conn_owner = Owner::Connection(member.channel.conn);
            let is_queued = !self.queued_owners.is_empty() && self.queued_owners.contains(&conn_owner)
                || deferred.contains_key(&(member.principal, Some(member.channel.conn)));
            let resolved = match is_visible {
                Some(_) => matched.resolve(),
                // Nothing that depends on the row may be evaluated before its visibility is known.
                None => matched.unresolved(),
            };
            if resolved.is_empty() {
                continue;
            }
            let is_decided = resolved.values().all(|part| part.undecided.is_empty());
            if is_visible.is_some() && is_decided && !is_queued {
                for select in resolved.keys() {
                    let data = payloads.data(access.access, *select);
                    let same = |(payload, selected, _): &&mut (Arc<str>, Selected<'a>, _)| {
                        Arc::ptr_eq(payload, &data) && selected == select
                    };
                    match by_payload.iter_mut().find(same) {
                        Some((.., conns)) => conns.push(member.channel.conn),
                        None => by_payload.push((data, *select, vec![member.channel.conn])),
                    }
                }
            } else {
                // All events of a channel that wait for a slow policy have the same owner, so that they stay in order.
                let owner = if !is_queued && !matched.plan.is_undecidable(matched.group_match.group) {
                    Owner::Principal(Arc::clone(&self.snapshot.principals[member.principal]))
                } else {
                    conn_owner
                };
                self.defer(
                    &matched,
                    &resolved,
                    member,
                    access,
                    is_visible.is_some(),
                    owner,
                    payloads,
                    deferred,
                );
            }
        }
        for (data, select, recipients) in by_payload {
            let resolved = matched.resolve();
            if let Some(part) = resolved.get(&select) {
                events.push(change_event(&group.spec, change.operation, &data, &part.ids, recipients));
            }
        }
        for (data, recipients) in error_events {
            let ids = matched.all_ids();
            events.push(change_event(&group.spec, change.operation, &data, &ids, recipients));
        }
    }

    /// Whether a checked row is visible; `None` if the check is left to a lane.
    fn checked_visibility(
        &self,
        matched: &MatchedChange<'_>,
        member: &Member,
        access: &PrincipalAccess<'_>,
    ) -> Option<bool> {
        let key = (matched.table_index, member.principal);
        if self.rls.deferred.contains_key(&key) {
            return None;
        }
        let Some(visibility) = self.rls.visibility.get(&key) else { return Some(false) };
        if let Some(error) = &visibility.error {
            let message = system_messages::policy_error(&access.access.qualified_name, error);
            member.channel.send_error_throttled(&message);
        }
        Some(visibility.visible[matched.row])
    }

    #[expect(clippy::too_many_arguments)]
    fn defer(
        &self,
        matched: &MatchedChange<'a>,
        resolved: &Resolved<'a>,
        member: &Member,
        access: &PrincipalAccess<'_>,
        is_visible: bool,
        owner: Owner,
        payloads: &mut RowPayloads<'a>,
        deferred: &mut Deferred,
    ) {
        let table = match self.rls.deferred.get(&(matched.table_index, member.principal)) {
            Some(check) => Arc::clone(&self.rls.tables[check.table_index]),
            None => Arc::new(CheckedTable {
                qualified_name: access.access.qualified_name.clone(),
                queries: Vec::new(),
            }),
        };
        let row = (matched.table_index, matched.row);
        let conn = matches!(owner, Owner::Connection(_)).then_some(member.channel.conn);
        let delivery = deferred.entry((member.principal, conn)).or_insert_with(|| {
            DeferredDelivery::new(owner, Arc::clone(&self.snapshot.principals[member.principal]))
        });
        let mut parts = Vec::with_capacity(resolved.len());
        for (select, part) in resolved {
            let mut undecided = Vec::with_capacity(part.undecided.len());
            for (id, conditions) in &part.undecided {
                let filters = conditions.iter().filter_map(|condition| {
                    let value = matched.change.known_cell(condition.column)?.text()?;
                    let type_info = self.types.get(condition.type_oid)?;
                    Some(delivery.add_filter(type_info, &condition.filter, row, value))
                });
                let filters: Vec<usize> = filters.collect();
                // A value or type that is not known matches no filter.
                if filters.len() == conditions.len() {
                    undecided.push((*id, filters));
                }
            }
            parts.push(EventPart {
                data: payloads.data(access.access, *select),
                ids: part.ids.clone(),
                undecided,
            });
        }
        let event = DeferredEvent {
            row,
            channel: Arc::clone(&member.channel),
            spec: Arc::clone(&matched.group.spec),
            operation: matched.change.operation,
            parts,
        };
        delivery.add_event(event, &table, is_visible);
    }
}

/// The columns that a binding selects; `None` is all.
type Selected<'a> = Option<&'a [Box<str>]>;

/// The bindings that a visible row matches, by selected columns.
type Resolved<'a> = BTreeMap<Selected<'a>, ResolvedPart<'a>>;

#[derive(Clone, Default)]
struct ResolvedPart<'a> {
    /// IDs of the matching bindings.
    ids: Vec<u32>,
    /// IDs of the bindings that match if all of the conditions hold, which only PostgreSQL can evaluate.
    undecided: Vec<(u32, Vec<&'a Condition>)>,
}

/// A change that may match bindings of a group.
struct MatchedChange<'a> {
    group: &'a SubscriptionGroup,
    group_match: &'a GroupMatch,
    plan: &'a TablePlan,
    change: &'a RowChange,
    /// Index of the table, and of the row within it.
    table_index: usize,
    row: usize,
    resolved: Option<Arc<Resolved<'a>>>,
}

impl<'a> MatchedChange<'a> {
    /// The matching bindings of a visible row, computed at most once.
    fn resolve(&mut self) -> Arc<Resolved<'a>> {
        if let Some(resolved) = &self.resolved {
            return Arc::clone(resolved);
        }
        let change = self.change;
        let resolved = self.resolve_with(|condition| {
            let text = change.known_cell(condition.column).and_then(Cell::text);
            condition.predicate.evaluate_visible(text)
        });
        Arc::clone(self.resolved.insert(Arc::new(resolved)))
    }

    /// The bindings that a row matches if the undecided conditions hold.
    fn unresolved(&self) -> Arc<Resolved<'a>> {
        Arc::new(self.resolve_with(|_| FilterResult::Undecided))
    }

    fn resolve_with(&self, evaluate: impl Fn(&Condition) -> FilterResult) -> Resolved<'a> {
        let mut resolved = Resolved::new();
        for BindingMatch { planned, undecided } in &self.group_match.bindings {
            let planned = &self.plan.bindings[*planned];
            let binding = &self.group.spec.bindings[planned.binding];
            let conditions = undecided.iter().map(|condition| &planned.conditions[*condition]);
            let results: Vec<_> = conditions.map(|condition| (condition, evaluate(condition))).collect();
            if results.iter().any(|(_, result)| *result == FilterResult::NoMatch) {
                continue;
            }
            let undecided: Vec<&Condition> = results
                .into_iter()
                .filter(|(_, result)| *result == FilterResult::Undecided)
                .map(|(condition, _)| condition)
                .collect();
            let part = resolved.entry(binding.params.select.as_deref()).or_default();
            match undecided.is_empty() {
                true => part.ids.push(binding.id),
                false => part.undecided.push((binding.id, undecided)),
            }
        }
        resolved
    }

    fn all_ids(&self) -> Vec<u32> {
        let bindings = self.group_match.bindings.iter();
        let ids =
            bindings.map(|matched| self.group.spec.bindings[self.plan.bindings[matched.planned].binding].id);
        ids.collect()
    }
}

/// A payload by role access and selected columns, with its column mask.
type CachedData<'a> = (*const TableAccess, Selected<'a>, ColumnMask, Arc<str>);

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
