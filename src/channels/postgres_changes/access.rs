//! Decides from grants and policies whether a change may be delivered to a principal, or whether row-level security
//! must be checked per row.

use std::collections::HashMap;

use super::{payload::RowError, registry::RegistrySnapshot};
use crate::pg::{
    queries::postgres_changes::TableAccess,
    replication::{Operation, Relation, RowChange},
};

/// How to decide whether a principal may see a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RlsRequirement {
    /// The row is visible without a check.
    NotNeeded,
    /// No policy lets this role read the row.
    Invisible,
    /// Row-level security must be checked in the database.
    Check,
}

/// A principal's access to one table, before any row is examined.
pub(super) struct PrincipalAccess<'a> {
    /// What the principal's role may read.
    pub access: &'a TableAccess,
    insert_or_update: Rule<'a>,
    delete: Rule<'a>,
}

enum Rule<'a> {
    Error(RowError),
    Fixed(RlsRequirement),
    /// The policies only compare these columns (by index) with the principal's ID. The integration test of
    /// `postgres_changes` compares the result with `select`.
    OwnerColumns(Vec<usize>, &'a str),
}

impl<'a> PrincipalAccess<'a> {
    fn new(relation: &Relation, access: &'a TableAccess, principal_id: Option<&'a str>) -> Self {
        let rls_applies = access.has_rls && !access.bypasses_rls;
        let row_rule = || match (&access.owner_columns, principal_id) {
            // No policy lets the role read any row.
            (Some(columns), _) if columns.is_empty() => Rule::Fixed(RlsRequirement::Invisible),
            (Some(columns), Some(principal_id)) => {
                let index_of =
                    |name: &String| relation.columns.iter().position(|column| *column.name == **name);
                let indexes: Option<Vec<usize>> = columns.iter().map(index_of).collect();
                indexes.map_or(Rule::Fixed(RlsRequirement::Check), |indexes| {
                    Rule::OwnerColumns(indexes, principal_id)
                })
            }
            _ => Rule::Fixed(RlsRequirement::Check),
        };
        let (insert_or_update, delete) = if access.readable_columns.is_empty() || !access.can_read_key() {
            (Rule::Error(RowError::Unauthorized), Rule::Error(RowError::Unauthorized))
        } else {
            let insert_or_update = match access.key_columns.is_empty() {
                true => Rule::Error(RowError::NoPrimaryKey),
                false if rls_applies => row_rule(),
                false => Rule::Fixed(RlsRequirement::NotNeeded),
            };
            let checks_delete = rls_applies && access.checks_rls_on_delete;
            (
                insert_or_update,
                if checks_delete { row_rule() } else { Rule::Fixed(RlsRequirement::NotNeeded) },
            )
        };
        Self { access, insert_or_update, delete }
    }

    /// Returns how to decide whether the principal may see the change.
    pub(super) fn requirement(&self, change: &RowChange) -> Result<RlsRequirement, RowError> {
        let rule = if change.operation == Operation::Delete { &self.delete } else { &self.insert_or_update };
        match rule {
            Rule::Error(error) => Err(*error),
            Rule::Fixed(requirement) => Ok(*requirement),
            Rule::OwnerColumns(columns, principal_id) => {
                for column in columns {
                    match change.known_cell(*column) {
                        None => return Ok(RlsRequirement::Check),
                        Some(cell) if cell.text() == Some(principal_id) => {
                            return Ok(RlsRequirement::NotNeeded);
                        }
                        Some(_) => {}
                    }
                }
                Ok(RlsRequirement::Invisible)
            }
        }
    }
}

/// The access to a table of those principals in `principals` whose role exists, by principal index.
pub(super) fn by_principal<'a>(
    access: &'a HashMap<(u32, String), TableAccess>,
    relation: &Relation,
    snapshot: &'a RegistrySnapshot,
    principals: impl IntoIterator<Item = usize>,
) -> HashMap<usize, PrincipalAccess<'a>> {
    let roles: HashMap<&str, &TableAccess> = access
        .iter()
        .filter(|((oid, _), _)| *oid == relation.oid)
        .map(|((_, role), access)| (&**role, access))
        .collect();
    let access_of = |principal: usize| {
        let access = roles.get(snapshot.principals[principal].role.as_str())?;
        let user_id = snapshot.user_ids[principal].as_deref();
        Some((principal, PrincipalAccess::new(relation, access, user_id)))
    };
    principals.into_iter().filter_map(access_of).collect()
}
