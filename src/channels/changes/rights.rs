//! What has to be asked before a change is told to somebody: grants, and whether row-level security binds at all.

use std::collections::HashMap;

use uuid::Uuid;

use super::{frame::RowError, params::Events, registry::Snapshot, row::Changed};
use crate::{
    channels::Claimant,
    pg::{queries::changes::Access, replication::Relation},
};

/// Who has to be asked before a change is told to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// It may be told.
    Nobody,
    /// It may not.
    Pointless,
    /// Row-level security.
    RowSecurity,
}

/// What is known of a claimant's rights to a table before any row is looked at.
pub struct Rights<'a> {
    /// What the role may read.
    pub access: &'a Access,
    /// INSERT and UPDATE.
    change: Rule<'a>,
    /// DELETE.
    deletion: Rule<'a>,
}

enum Rule<'a> {
    Error(RowError),
    Same(Asking),
    /// Row-level security does nothing but compare these columns with the viewer's id. The truth test of changes holds
    /// this against `select`.
    Owns(Vec<usize>, &'a str),
}

impl<'a> Rights<'a> {
    fn new(relation: &Relation, access: &'a Access, viewer: Option<&'a str>) -> Self {
        let is_bound = access.is_secured && !access.is_exempt;
        let rows = || match (&access.owner_columns, viewer) {
            // No policy lets the role see anything.
            (Some(columns), _) if columns.is_empty() => Rule::Same(Asking::Pointless),
            (Some(columns), Some(viewer)) => {
                let place = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
                let places: Option<Vec<usize>> = columns.iter().map(place).collect();
                places.map_or(Rule::Same(Asking::RowSecurity), |places| Rule::Owns(places, viewer))
            }
            _ => Rule::Same(Asking::RowSecurity),
        };
        let (change, deletion) = if access.columns.is_empty() || !access.reads_key() {
            (Rule::Error(RowError::Unauthorized), Rule::Error(RowError::Unauthorized))
        } else {
            let change = match access.key.is_empty() {
                true => Rule::Error(RowError::NoKey),
                false if is_bound => rows(),
                false => Rule::Same(Asking::Nobody),
            };
            let is_asked = is_bound && access.deletes_are_secured;
            (change, if is_asked { rows() } else { Rule::Same(Asking::Nobody) })
        };
        Self { access, change, deletion }
    }

    /// What has to be asked about a change.
    pub fn to(&self, changed: &Changed) -> Result<Asking, RowError> {
        let rule = if changed.operation == Events::Delete { &self.deletion } else { &self.change };
        match rule {
            Rule::Error(error) => Err(*error),
            Rule::Same(asking) => Ok(*asking),
            Rule::Owns(columns, viewer) => {
                for column in columns {
                    match changed.subject(*column) {
                        None => return Ok(Asking::RowSecurity),
                        Some(cell) if cell.text() == Some(viewer) => return Ok(Asking::Nobody),
                        Some(_) => {}
                    }
                }
                Ok(Asking::Pointless)
            }
        }
    }
}

/// The claimants' ids as `auth.uid()` has them and as the log writes them; `None` where only PostgreSQL can tell.
pub fn viewers(snapshot: &Snapshot) -> Vec<Option<String>> {
    let viewer = |claimant: &Claimant| Some(Uuid::parse_str(claimant.sub.as_deref()?).ok()?.to_string());
    snapshot.claimants.iter().map(|claimant| viewer(claimant)).collect()
}

/// What each claimant may do with a table; none where it is gone.
pub fn by_claimant<'a>(
    access: &'a HashMap<(u32, String), Access>,
    relation: &Relation,
    snapshot: &Snapshot,
    viewers: &'a [Option<String>],
) -> Vec<Option<Rights<'a>>> {
    let roles: HashMap<&str, &Access> = access
        .iter()
        .filter(|((of, _), _)| *of == relation.oid)
        .map(|((_, role), access)| (&**role, access))
        .collect();
    let claimants = snapshot.claimants.iter().zip(viewers);
    let rights = |(claimant, viewer): (&std::sync::Arc<Claimant>, &'a Option<String>)| {
        Some(Rights::new(relation, roles.get(&*claimant.role)?, viewer.as_deref()))
    };
    claimants.map(rights).collect()
}
