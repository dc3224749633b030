//! What the catalogue says of types, as far as rendering and comparing values needs it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_postgres::Client;

pub use crate::pg::queries::postgres_changes::{TypeInfo, TypeKind};
use crate::pg::{PgError, queries::postgres_changes};

/// Types change rarely and tell nobody: what is known of them is believed for so long.
const TYPE_CACHE_TTL: Duration = Duration::from_secs(30);

/// The types seen so far.
#[derive(Debug, Default)]
pub struct TypeCache {
    by_oid: HashMap<u32, Arc<TypeInfo>>,
    filled_at: Option<Instant>,
}

impl TypeCache {
    /// Learns types and what they are made of, as far as they are not known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn load(&mut self, client: &Client, oids: &HashSet<u32>) -> Result<(), PgError> {
        if self.filled_at.is_none_or(|since| since.elapsed() > TYPE_CACHE_TTL) {
            self.by_oid.clear();
            self.filled_at = Some(Instant::now());
        }
        let mut wanted: Vec<u32> =
            oids.iter().copied().filter(|oid| !self.by_oid.contains_key(oid)).collect();
        while !wanted.is_empty() {
            wanted.sort_unstable();
            wanted.dedup();
            let mut next = Vec::new();
            for (oid, found) in postgres_changes::load_types(client, &wanted).await? {
                match &found.kind {
                    TypeKind::Array(of, _) | TypeKind::Domain(of) => next.push(*of),
                    TypeKind::Composite(attributes) => next.extend(attributes.iter().map(|(_, of)| *of)),
                    _ => {}
                }
                self.by_oid.insert(oid, Arc::new(found));
            }
            // A type that was dropped meanwhile: its values are shown as the text they came as.
            for oid in wanted {
                self.by_oid.entry(oid).or_insert_with(|| {
                    let unknown = Box::from("unknown");
                    Arc::new(TypeInfo {
                        name: unknown,
                        qualified: "pg_catalog.text".into(),
                        kind: TypeKind::Other,
                    })
                });
            }
            next.retain(|oid| !self.by_oid.contains_key(oid));
            wanted = next;
        }
        Ok(())
    }

    /// A type that has been learned.
    #[must_use]
    pub fn get(&self, oid: u32) -> Option<&Arc<TypeInfo>> {
        self.by_oid.get(&oid)
    }

    /// What a type is under its domains.
    #[must_use]
    pub fn base_kind(&self, oid: u32) -> &TypeKind {
        let mut kind = self.by_oid.get(&oid).map_or(&TypeKind::Other, |found| &found.kind);
        // A domain's base was made before it, so this ends; the bound is for a catalogue that lies.
        for _ in 0..32 {
            let TypeKind::Domain(of) = kind else { break };
            kind = self.by_oid.get(of).map_or(&TypeKind::Other, |found| &found.kind);
        }
        kind
    }

    /// Whether values can be rendered here. If not, PostgreSQL is asked.
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
            TypeKind::Array(of, _) => self.can_render_within(*of, depth - 1),
            TypeKind::Composite(attributes) => {
                attributes.iter().all(|(_, of)| self.can_render_within(*of, depth - 1))
            }
            _ => true,
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(types: impl IntoIterator<Item = (u32, TypeKind)>) -> Self {
        let known = types.into_iter().map(|(oid, kind)| {
            (oid, Arc::new(TypeInfo { name: "t".into(), qualified: "pg_catalog.t".into(), kind }))
        });
        Self { by_oid: known.collect(), filled_at: Some(Instant::now()) }
    }
}
