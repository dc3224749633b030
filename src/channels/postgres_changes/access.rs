//! What has to be asked before a change is told to somebody: grants, and whether row-level security binds at all.

use std::collections::HashMap;

use uuid::Uuid;

use super::{params::EventType, payload::RowError, registry::RegistrySnapshot, row_change::RowChange};
use crate::{
    channels::ChannelPrincipal,
    pg::{queries::postgres_changes::TableAccess, replication::Relation},
};

/// Who has to be asked before a change is told to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RlsRequirement {
    /// It may be told.
    NotNeeded,
    /// It may not.
    Invisible,
    /// Row-level security.
    Check,
}

/// What is known of a claimant's rights to a table before any row is looked at.
pub struct PrincipalAccess<'a> {
    /// What the role may read.
    pub access: &'a TableAccess,
    /// INSERT and UPDATE.
    insert_or_update: Rule<'a>,
    /// DELETE.
    delete: Rule<'a>,
}

enum Rule<'a> {
    Error(RowError),
    Fixed(RlsRequirement),
    /// Row-level security does nothing but compare these columns with the viewer's id. The truth test of changes holds
    /// this against `select`.
    OwnerColumns(Vec<usize>, &'a str),
}

impl<'a> PrincipalAccess<'a> {
    fn new(relation: &Relation, access: &'a TableAccess, viewer: Option<&'a str>) -> Self {
        let is_bound = access.has_rls && !access.bypasses_rls;
        let rows = || match (&access.owner_columns, viewer) {
            // No policy lets the role see anything.
            (Some(columns), _) if columns.is_empty() => Rule::Fixed(RlsRequirement::Invisible),
            (Some(columns), Some(viewer)) => {
                let place = |name: &String| relation.columns.iter().position(|column| *column.name == **name);
                let places: Option<Vec<usize>> = columns.iter().map(place).collect();
                places.map_or(Rule::Fixed(RlsRequirement::Check), |places| Rule::OwnerColumns(places, viewer))
            }
            _ => Rule::Fixed(RlsRequirement::Check),
        };
        let (change, deletion) = if access.readable_columns.is_empty() || !access.can_read_key() {
            (Rule::Error(RowError::Unauthorized), Rule::Error(RowError::Unauthorized))
        } else {
            let change = match access.key_columns.is_empty() {
                true => Rule::Error(RowError::NoPrimaryKey),
                false if is_bound => rows(),
                false => Rule::Fixed(RlsRequirement::NotNeeded),
            };
            let is_asked = is_bound && access.checks_rls_on_delete;
            (change, if is_asked { rows() } else { Rule::Fixed(RlsRequirement::NotNeeded) })
        };
        Self { access, insert_or_update: change, delete: deletion }
    }

    /// What has to be asked about a change.
    pub fn requirement(&self, changed: &RowChange) -> Result<RlsRequirement, RowError> {
        let rule = if changed.operation == EventType::Delete { &self.delete } else { &self.insert_or_update };
        match rule {
            Rule::Error(error) => Err(*error),
            Rule::Fixed(asking) => Ok(*asking),
            Rule::OwnerColumns(columns, viewer) => {
                for column in columns {
                    match changed.known_cell(*column) {
                        None => return Ok(RlsRequirement::Check),
                        Some(cell) if cell.text() == Some(viewer) => return Ok(RlsRequirement::NotNeeded),
                        Some(_) => {}
                    }
                }
                Ok(RlsRequirement::Invisible)
            }
        }
    }
}

/// The claimants' ids as `auth.uid()` has them and as the log writes them; `None` where only PostgreSQL can tell.
pub fn principal_ids(snapshot: &RegistrySnapshot) -> Vec<Option<String>> {
    let viewer =
        |claimant: &ChannelPrincipal| Some(Uuid::parse_str(claimant.sub.as_deref()?).ok()?.to_string());
    snapshot.principals.iter().map(|claimant| viewer(claimant)).collect()
}

/// What each claimant may do with a table; none where it is gone.
pub fn by_principal<'a>(
    access: &'a HashMap<(u32, String), TableAccess>,
    relation: &Relation,
    snapshot: &RegistrySnapshot,
    viewers: &'a [Option<String>],
) -> Vec<Option<PrincipalAccess<'a>>> {
    let roles: HashMap<&str, &TableAccess> = access
        .iter()
        .filter(|((of, _), _)| *of == relation.oid)
        .map(|((_, role), access)| (&**role, access))
        .collect();
    let claimants = snapshot.principals.iter().zip(viewers);
    let rights = |(claimant, viewer): (&std::sync::Arc<ChannelPrincipal>, &'a Option<String>)| {
        Some(PrincipalAccess::new(relation, roles.get(&*claimant.role)?, viewer.as_deref()))
    };
    claimants.map(rights).collect()
}
