//! The changes of a batch by table, and whom each concerns.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Client;

use super::{
    filter::Filter,
    registry::{Group, Snapshot},
    row::Changed,
};
use crate::pg::{
    PgError,
    queries::changes::{self, Access},
    replication::{Cell, Identity, Relation},
};

/// The changes of one table as it was, and who might hear of them.
pub struct Lot<'a> {
    /// Their places in the batch.
    pub places: Vec<usize>,
    /// Groups with an entry that means the table.
    pub groups: Vec<&'a Group>,
    /// For each filter, whether it holds for each change.
    pub holds: HashMap<&'a Filter, Vec<bool>>,
    /// For each change the groups with entries that match it, and those entries.
    pub matched: Vec<Vec<(&'a Group, Matches<'a>)>>,
}

/// Ids to name, by the columns that their entries select.
pub type Matches<'a> = BTreeMap<Option<&'a [Box<str>]>, Vec<u32>>;

/// The changes by table, with those who might hear of them. `None` if nobody might.
pub fn lots<'a>(batch: &[Changed], snapshot: &'a Snapshot) -> Option<Vec<Lot<'a>>> {
    let mut lots: Vec<Lot<'a>> = Vec::new();
    let mut known: HashMap<*const Relation, Option<usize>> = HashMap::new();
    for (at, changed) in batch.iter().enumerate() {
        let lot = *known.entry(std::sync::Arc::as_ptr(&changed.relation)).or_insert_with(|| {
            let relation = &changed.relation;
            let means = |group: &&Group| {
                let mut bindings = group.interest.bindings.iter();
                bindings.any(|binding| binding.params.means(&relation.schema, &relation.table))
            };
            let groups: Vec<_> = snapshot.groups.iter().filter(means).collect();
            if groups.is_empty() {
                return None;
            }
            lots.push(Lot { places: Vec::new(), groups, holds: HashMap::new(), matched: Vec::new() });
            Some(lots.len() - 1)
        });
        if let Some(lot) = lot {
            lots[lot].places.push(at);
        }
    }
    (!lots.is_empty()).then_some(lots)
}

impl Lot<'_> {
    /// The table as it was.
    pub fn relation<'b>(&self, batch: &'b [Changed]) -> &'b std::sync::Arc<Relation> {
        &batch[self.places[0]].relation
    }

    /// With all filters decided, notes which entries each change matches.
    pub fn settle(&mut self, batch: &[Changed]) {
        let matched = (0..self.places.len()).map(|row| self.matched(row, &batch[self.places[row]]));
        self.matched = matched.collect();
    }
}

impl<'a> Lot<'a> {
    /// The groups with entries that a change matches: the ids of those, by what they select.
    fn matched(&self, row: usize, changed: &Changed) -> Vec<(&'a Group, Matches<'a>)> {
        let of = |group: &'a Group| {
            let mut matched = Matches::new();
            for binding in group.interest.bindings.iter() {
                let params = &binding.params;
                let holds = |filter| self.holds.get(filter).is_some_and(|holds| holds[row]);
                if params.events.takes(changed.operation)
                    && params.means(&changed.relation.schema, &changed.relation.table)
                    && params.filters.iter().all(holds)
                {
                    matched.entry(params.select.as_deref()).or_default().push(binding.id);
                }
            }
            (!matched.is_empty()).then_some((group, matched))
        };
        self.groups.iter().filter_map(|group| of(group)).collect()
    }
}

/// Fetches what an update did not touch and the log therefore does not repeat.
pub async fn complete(
    client: &Client,
    batch: &mut [Changed],
    lots: &[Lot<'_>],
    access: &HashMap<(u32, String), Access>,
) -> Result<(), PgError> {
    for lot in lots {
        let relation = std::sync::Arc::clone(lot.relation(batch));
        if relation.identity == Identity::Full {
            continue;
        }
        let Some(any) = access.iter().find(|((oid, _), _)| *oid == relation.oid).map(|(_, access)| access)
        else {
            continue;
        };
        for at in &lot.places {
            let Some(new) = &batch[*at].new else { continue };
            let missing: Vec<usize> =
                (0..new.len()).filter(|column| new[*column] == Cell::Unchanged).collect();
            if missing.is_empty() || any.key.is_empty() {
                continue;
            }
            let names: Vec<&str> = missing.iter().map(|column| &*relation.columns[*column].name).collect();
            let key: Vec<(&str, &str, &str)> = any
                .key
                .iter()
                .zip(&any.key_types)
                .filter_map(|(name, of)| {
                    let column = batch[*at].column(name)?;
                    Some((&**name, &**of, new[column].text()?))
                })
                .collect();
            match changes::fetch(client, &any.qualified, &names, &key).await {
                Ok(Some(values)) => {
                    if let Some(new) = &mut batch[*at].new {
                        for (column, value) in missing.into_iter().zip(values) {
                            new[column] = value.map_or(Cell::Null, |text| Cell::Text(text.into()));
                        }
                    }
                }
                Ok(None) => {}
                Err(error @ PgError::Unavailable(_)) => return Err(error),
                // The table is not what it was, or not ours to read: the value stays unknown.
                Err(error) => tracing::debug!(%error, "an untouched value could not be fetched"),
            }
        }
    }
    Ok(())
}
