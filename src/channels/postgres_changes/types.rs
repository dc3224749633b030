//! Cache of the type information that rendering and comparing values needs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_postgres::Client;

pub use crate::pg::queries::postgres_changes::{TypeInfo, TypeKind};
use crate::pg::{PgError, queries::postgres_changes};

/// How long types are cached. PostgreSQL does not report changes of types.
const TYPE_CACHE_TTL: Duration = Duration::from_secs(30);

/// Types by OID. All are dropped when the TTL has passed.
#[derive(Debug, Default)]
pub struct TypeCache {
    by_oid: HashMap<u32, Arc<TypeInfo>>,
    filled_at: Option<Instant>,
}

impl TypeCache {
    /// Loads the types that are not cached, with their element, base and attribute types.
    ///
    /// # Errors
    /// If the database does not respond.
    pub async fn load(&mut self, client: &Client, oids: &HashSet<u32>) -> Result<(), PgError> {
        if self.filled_at.is_none_or(|filled_at| filled_at.elapsed() > TYPE_CACHE_TTL) {
            self.by_oid.clear();
            self.filled_at = Some(Instant::now());
        }
        let mut to_load: Vec<u32> =
            oids.iter().copied().filter(|oid| !self.by_oid.contains_key(oid)).collect();
        while !to_load.is_empty() {
            to_load.sort_unstable();
            to_load.dedup();
            let mut inner_oids = Vec::new();
            for (oid, info) in postgres_changes::load_types(client, &to_load).await? {
                match &info.kind {
                    TypeKind::Array(inner, _) | TypeKind::Domain(inner) => inner_oids.push(*inner),
                    TypeKind::Composite(attributes) => {
                        inner_oids.extend(attributes.iter().map(|(_, inner)| *inner))
                    }
                    _ => {}
                }
                self.by_oid.insert(oid, Arc::new(info));
            }
            // A dropped type: its values are rendered as text.
            for oid in to_load {
                self.by_oid.entry(oid).or_insert_with(|| {
                    let name = Box::from("unknown");
                    Arc::new(TypeInfo::new(name, "pg_catalog.text", TypeKind::Other))
                });
            }
            inner_oids.retain(|oid| !self.by_oid.contains_key(oid));
            to_load = inner_oids;
        }
        Ok(())
    }

    /// Returns a loaded type.
    #[must_use]
    pub fn get(&self, oid: u32) -> Option<&Arc<TypeInfo>> {
        self.by_oid.get(&oid)
    }

    /// The kind of a type; for a domain, the kind of its base type.
    #[must_use]
    pub fn base_kind(&self, oid: u32) -> &TypeKind {
        let mut kind = self.by_oid.get(&oid).map_or(&TypeKind::Other, |info| &info.kind);
        // Domains cannot be cyclic; the bound guards against an inconsistent catalog.
        for _ in 0..32 {
            let TypeKind::Domain(inner) = kind else { break };
            kind = self.by_oid.get(inner).map_or(&TypeKind::Other, |info| &info.kind);
        }
        kind
    }

    /// Whether values can be rendered in memory. If not, PostgreSQL renders them.
    #[must_use]
    pub fn can_render(&self, oid: u32) -> bool {
        self.can_render_within(oid, 32)
    }

    fn can_render_within(&self, oid: u32, depth: usize) -> bool {
        if depth == 0 {
            return false;
        }
        match self.base_kind(oid) {
            TypeKind::Opaque => false,
            TypeKind::Array(inner, _) => self.can_render_within(*inner, depth - 1),
            TypeKind::Composite(attributes) => {
                attributes.iter().all(|(_, inner)| self.can_render_within(*inner, depth - 1))
            }
            _ => true,
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(types: impl IntoIterator<Item = (u32, TypeKind)>) -> Self {
        let by_oid = types
            .into_iter()
            .map(|(oid, kind)| (oid, Arc::new(TypeInfo::new("t".into(), "pg_catalog.t", kind))));
        Self { by_oid: by_oid.collect(), filled_at: Some(Instant::now()) }
    }
}
