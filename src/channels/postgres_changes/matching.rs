//! Finds the subscriptions that a change matches.
//!
//! A [`TablePlan`] prepares the bindings of all subscriptions for one table. It indexes bindings by the values that
//! an `eq` or `in` filter accepts, so the cost of a change depends on what it matches, not on the number of
//! subscriptions. Only comparisons of constant cost are evaluated here, because nothing has decided yet whether a
//! subscriber may see the row. The other conditions are left to [`FanOut`](super::fan_out::FanOut).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::Client;

use super::{
    filter::{
        Filter,
        predicate::{FilterResult, Predicate},
    },
    registry::RegistrySnapshot,
    types::TypeCache,
};
use crate::pg::{
    PgError,
    queries::postgres_changes,
    replication::{Relation, RowChange},
};

/// A filter prepared for a column of a table.
pub(super) struct Condition {
    /// Index of the column.
    pub column: usize,
    pub type_oid: u32,
    pub filter: Filter,
    pub predicate: Arc<Predicate>,
}

/// A binding whose filters fit the table.
pub(super) struct PlannedBinding {
    /// Index of its group in [`RegistrySnapshot::groups`].
    pub group: usize,
    /// Index in the bindings of the group's specification.
    pub binding: usize,
    pub conditions: Box<[Condition]>,
}

/// The bindings that include one version of a table.
pub(super) struct TablePlan {
    relation: Arc<Relation>,
    /// In the order of groups, then bindings.
    pub bindings: Vec<PlannedBinding>,
    /// Bindings without a condition that an index covers.
    unindexed: Vec<usize>,
    indexes: Vec<ColumnIndex>,
    /// Groups with a condition that may be left undecided.
    undecidable_groups: HashSet<usize>,
}

/// Bindings by the values that a column must have.
struct ColumnIndex {
    column: usize,
    by_value: HashMap<Box<str>, Vec<usize>>,
}

/// The bindings of one group that a change matches, as far as known before row-level security.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupMatch {
    pub group: usize,
    pub bindings: Vec<BindingMatch>,
}

/// A binding that a change matches if the undecided conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BindingMatch {
    /// Index in [`TablePlan::bindings`].
    pub planned: usize,
    /// Indexes of the conditions that are evaluated after row-level security.
    pub undecided: Vec<usize>,
}

impl TablePlan {
    fn new(relation: &Arc<Relation>) -> Self {
        Self {
            relation: Arc::clone(relation),
            bindings: Vec::new(),
            unindexed: Vec::new(),
            indexes: Vec::new(),
            undecidable_groups: HashSet::new(),
        }
    }

    /// Whether a condition of the group may need PostgreSQL.
    #[must_use]
    pub(super) fn is_undecidable(&self, group: usize) -> bool {
        self.undecidable_groups.contains(&group)
    }

    fn add(&mut self, planned: PlannedBinding) {
        let index = self.bindings.len();
        if planned.conditions.iter().any(|condition| !condition.predicate.is_always_decided()) {
            self.undecidable_groups.insert(planned.group);
        }
        let indexable = planned
            .conditions
            .iter()
            .find_map(|condition| Some((condition.column, condition.predicate.accepted_values()?)));
        match indexable {
            None => self.unindexed.push(index),
            Some((column, values)) => {
                let position = self.indexes.iter().position(|index| index.column == column);
                let position = position.unwrap_or_else(|| {
                    self.indexes.push(ColumnIndex { column, by_value: HashMap::new() });
                    self.indexes.len() - 1
                });
                for value in values {
                    let bindings = self.indexes[position].by_value.entry(value.into()).or_default();
                    if bindings.last() != Some(&index) {
                        bindings.push(index);
                    }
                }
            }
        }
        self.bindings.push(planned);
    }

    /// Indexes of the bindings that a change must be compared with, in order.
    fn candidates(&self, change: &RowChange) -> Vec<usize> {
        let mut candidates: Vec<usize> = self.unindexed.clone();
        for index in &self.indexes {
            let text = change.known_cell(index.column).and_then(|cell| cell.text());
            candidates.extend(text.and_then(|text| index.by_value.get(text)).into_iter().flatten());
        }
        candidates.sort_unstable();
        candidates
    }

    /// The groups with bindings that a change may match.
    pub(super) fn matches(&self, change: &RowChange, snapshot: &RegistrySnapshot) -> Vec<GroupMatch> {
        let mut groups: Vec<GroupMatch> = Vec::new();
        for planned in self.candidates(change) {
            let PlannedBinding { group, binding, conditions } = &self.bindings[planned];
            let params = &snapshot.groups[*group].spec.bindings[*binding].params;
            if !params.event.includes(change.operation) {
                continue;
            }
            let Some(undecided) = undecided(conditions, change) else { continue };
            let matched = BindingMatch { planned, undecided };
            match groups.last_mut() {
                Some(last) if last.group == *group => last.bindings.push(matched),
                _ => groups.push(GroupMatch { group: *group, bindings: vec![matched] }),
            }
        }
        groups
    }
}

/// The conditions that are not decided for a change. `None` if one of them does not hold.
fn undecided(conditions: &[Condition], change: &RowChange) -> Option<Vec<usize>> {
    let mut undecided = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let cell = change.known_cell(condition.column)?;
        match condition.predicate.evaluate(cell.text()) {
            FilterResult::Matches => {}
            FilterResult::NoMatch => return None,
            FilterResult::Undecided => undecided.push(index),
        }
    }
    Some(undecided)
}

/// Plans and predicates of the current subscriptions.
#[derive(Default)]
pub(super) struct PlanCache {
    /// The snapshot for which the plans are made.
    snapshot: Option<Arc<RegistrySnapshot>>,
    by_oid: HashMap<u32, Arc<TablePlan>>,
    /// By type OID and filter. `None` if the operand does not fit the type.
    predicates: HashMap<(u32, Filter), Option<Arc<Predicate>>>,
}

impl PlanCache {
    /// Drops what subscriptions that no longer exist have left.
    pub(super) fn retain(&mut self, snapshot: &Arc<RegistrySnapshot>) {
        if self.snapshot.as_ref().is_some_and(|cached| Arc::ptr_eq(cached, snapshot)) {
            return;
        }
        self.by_oid.clear();
        let bindings = snapshot.groups.iter().flat_map(|group| group.spec.bindings.iter());
        let filters: HashSet<&Filter> = bindings.flat_map(|binding| &binding.params.filters).collect();
        self.predicates.retain(|(_, filter), _| filters.contains(filter));
        self.predicates.shrink_to(filters.len() * 2);
        self.snapshot = Some(Arc::clone(snapshot));
    }

    /// Bytes of cached filters.
    pub(super) fn size_bytes(&self) -> usize {
        self.predicates.keys().map(|(_, filter)| 2 * filter.size_bytes()).sum()
    }

    /// The plan of a table for the snapshot that was passed to [`Self::retain`]. The table's types must be loaded.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub(super) async fn plan(
        &mut self,
        client: &Client,
        types: &TypeCache,
        relation: &Arc<Relation>,
        snapshot: &RegistrySnapshot,
    ) -> Result<Arc<TablePlan>, PgError> {
        if let Some(plan) = self.by_oid.get(&relation.oid)
            && Arc::ptr_eq(&plan.relation, relation)
        {
            return Ok(Arc::clone(plan));
        }
        let mut plan = TablePlan::new(relation);
        for (group_index, group) in snapshot.groups.iter().enumerate() {
            for (binding_index, binding) in group.spec.bindings.iter().enumerate() {
                if !binding.params.includes_table(&relation.schema, &relation.table) {
                    continue;
                }
                let conditions = self.conditions(client, types, relation, &binding.params.filters).await?;
                if let Some(conditions) = conditions {
                    plan.add(PlannedBinding { group: group_index, binding: binding_index, conditions });
                }
            }
        }
        let plan = Arc::new(plan);
        self.by_oid.insert(relation.oid, Arc::clone(&plan));
        Ok(plan)
    }

    /// `None` if a column does not exist or an operand does not fit its type: no row matches.
    async fn conditions(
        &mut self,
        client: &Client,
        types: &TypeCache,
        relation: &Relation,
        filters: &[Filter],
    ) -> Result<Option<Box<[Condition]>>, PgError> {
        let mut conditions = Vec::with_capacity(filters.len());
        for filter in filters {
            let Some(column) = relation.columns.iter().position(|column| column.name == filter.column) else {
                return Ok(None);
            };
            let type_oid = relation.columns[column].type_oid;
            let Some(predicate) = self.predicate(client, types, type_oid, filter).await? else {
                return Ok(None);
            };
            conditions.push(Condition { column, type_oid, filter: filter.clone(), predicate });
        }
        Ok(Some(conditions.into()))
    }

    async fn predicate(
        &mut self,
        client: &Client,
        types: &TypeCache,
        type_oid: u32,
        filter: &Filter,
    ) -> Result<Option<Arc<Predicate>>, PgError> {
        let key = (type_oid, filter.clone());
        if let Some(cached) = self.predicates.get(&key) {
            return Ok(cached.clone());
        }
        let kind = types.base_kind(type_oid).clone();
        let literals = match Predicate::canonical_in_memory(filter.operator, &kind, &filter.value) {
            Some(literal) => Ok(vec![Some(literal)]),
            None => {
                let operator = filter.operator.as_str();
                postgres_changes::canonical_literals(client, type_oid, operator, &filter.value).await
            }
        };
        let predicate = match literals {
            Ok(literals) => Some(Arc::new(Predicate::new(filter.operator, filter.negated, kind, literals))),
            Err(error @ PgError::Unavailable(_)) => return Err(error),
            Err(_) => None,
        };
        self.predicates.insert(key, predicate.clone());
        Ok(predicate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channels::postgres_changes::{
            params::{EventFilter, SubscriptionParams},
            registry::{Binding, SubscriptionGroup, SubscriptionSpec},
            types::TypeKind,
        },
        pg::replication::{Cell, Column, Operation, ReplicaIdentity, Transaction},
    };

    fn relation() -> Arc<Relation> {
        let column = |name: &str, type_oid| Column {
            name: name.into(),
            type_oid,
            type_modifier: -1,
            in_identity: false,
        };
        Arc::new(Relation {
            oid: 1,
            schema: "public".into(),
            table: "t".into(),
            identity: ReplicaIdentity::Default,
            columns: [column("k", 20), column("body", 25)].into(),
        })
    }

    fn insert(relation: &Arc<Relation>, key: &str, body: &str) -> RowChange {
        let text = |text: &str| Cell::Text(text.to_owned().into());
        RowChange {
            relation: Arc::clone(relation),
            operation: Operation::Insert,
            new: Some([text(key), text(body)].into()),
            old: None,
            transaction: Transaction::default(),
        }
    }

    /// A plan with one subscription per filter.
    fn plan(filters: &[String]) -> (TablePlan, RegistrySnapshot, Arc<Relation>) {
        let relation = relation();
        let (mut snapshot, mut bindings) = (RegistrySnapshot::default(), Vec::new());
        for (group, text) in filters.iter().enumerate() {
            let filters = Filter::parse_all(text).unwrap();
            let condition = |filter: &Filter| {
                let column = relation.columns.iter().position(|column| column.name == filter.column).unwrap();
                let kind = if column == 0 { TypeKind::Integer } else { TypeKind::Text };
                let list = filter.value.trim_matches(['{', '}']).split(',');
                let canonical = list.map(|value| Some(value.to_owned())).collect();
                let predicate = Predicate::new(filter.operator, filter.negated, kind, canonical);
                Condition { column, type_oid: 0, filter: filter.clone(), predicate: predicate.into() }
            };
            let conditions = filters.iter().map(condition).collect();
            let params = SubscriptionParams {
                event: EventFilter::All,
                schema: "public".into(),
                table: "t".into(),
                filters,
                select: None,
            };
            let spec = SubscriptionSpec {
                topic: "t".into(),
                bindings: [Binding { id: 1, params }].into(),
                is_legacy: false,
            };
            snapshot.groups.push(SubscriptionGroup { spec: spec.into(), members: Vec::new() });
            bindings.push(PlannedBinding { group, binding: 0, conditions });
        }
        let mut plan = TablePlan::new(&relation);
        bindings.into_iter().for_each(|binding| plan.add(binding));
        (plan, snapshot, relation)
    }

    fn matched(plan: &TablePlan, snapshot: &RegistrySnapshot, change: &RowChange) -> Vec<(usize, usize)> {
        let groups = plan.matches(change, snapshot).into_iter();
        groups.map(|matched| (matched.group, matched.bindings[0].undecided.len())).collect()
    }

    #[test]
    fn a_change_examines_only_the_bindings_of_its_value() {
        let mut filters: Vec<String> = (0..4_000).map(|n| format!("k=eq.{n}")).collect();
        filters.extend(["k=in.(7,8)", "k=gt.3998", "body=like.x%", "body=eq.x,k=eq.9"].map(str::to_owned));
        let (plan, snapshot, relation) = plan(&filters);
        let candidates = |key| plan.candidates(&insert(&relation, key, "x"));
        assert_eq!(candidates("7"), [7, 4_000, 4_001, 4_002, 4_003]);
        assert_eq!(candidates("5000"), [4_001, 4_002, 4_003]);
        let matches = |key, body| matched(&plan, &snapshot, &insert(&relation, key, body));
        assert_eq!(matches("7", "y"), [(7, 0), (4_000, 0), (4_002, 1)]);
        assert_eq!(matches("9", "x"), [(9, 0), (4_002, 1), (4_003, 0)]);
        assert_eq!(matches("3999", "y"), [(3_999, 0), (4_001, 0), (4_002, 1)]);
    }
}
