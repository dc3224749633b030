//! What the catalogue says of types, as far as rendering and comparing values needs it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_postgres::Client;

pub use crate::pg::queries::changes::{Kind, Type};
use crate::pg::{PgError, queries::changes};

/// Types change rarely and tell nobody: what is known of them is believed for so long.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// The types seen so far.
#[derive(Debug, Default)]
pub struct Types {
    known: HashMap<u32, Arc<Type>>,
    since: Option<Instant>,
}

impl Types {
    /// Learns types and what they are made of, as far as they are not known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn learn(&mut self, client: &Client, oids: &HashSet<u32>) -> Result<(), PgError> {
        if self.since.is_none_or(|since| since.elapsed() > BELIEVED_FOR) {
            self.known.clear();
            self.since = Some(Instant::now());
        }
        let mut wanted: Vec<u32> = oids.iter().copied().filter(|oid| !self.known.contains_key(oid)).collect();
        while !wanted.is_empty() {
            wanted.sort_unstable();
            wanted.dedup();
            let mut next = Vec::new();
            for (oid, found) in changes::types(client, &wanted).await? {
                match &found.kind {
                    Kind::Array(of, _) | Kind::Domain(of) => next.push(*of),
                    Kind::Composite(attributes) => next.extend(attributes.iter().map(|(_, of)| *of)),
                    _ => {}
                }
                self.known.insert(oid, Arc::new(found));
            }
            // A type that was dropped meanwhile: its values are shown as the text they came as.
            for oid in wanted {
                self.known.entry(oid).or_insert_with(|| {
                    let unknown = Box::from("unknown");
                    Arc::new(Type { name: unknown, qualified: "pg_catalog.text".into(), kind: Kind::Other })
                });
            }
            next.retain(|oid| !self.known.contains_key(oid));
            wanted = next;
        }
        Ok(())
    }

    /// A type that has been learned.
    #[must_use]
    pub fn get(&self, oid: u32) -> Option<&Arc<Type>> {
        self.known.get(&oid)
    }

    /// What a type is under its domains.
    #[must_use]
    pub fn base(&self, oid: u32) -> &Kind {
        let mut kind = self.known.get(&oid).map_or(&Kind::Other, |found| &found.kind);
        // A domain's base was made before it, so this ends; the bound is for a catalogue that lies.
        for _ in 0..32 {
            let Kind::Domain(of) = kind else { break };
            kind = self.known.get(of).map_or(&Kind::Other, |found| &found.kind);
        }
        kind
    }

    /// Whether values can be rendered here. If not, PostgreSQL is asked.
    #[must_use]
    pub fn renders(&self, oid: u32) -> bool {
        self.renders_within(oid, 32)
    }

    fn renders_within(&self, oid: u32, depth: usize) -> bool {
        if depth == 0 {
            return false;
        }
        match self.base(oid) {
            Kind::Opaque => false,
            Kind::Array(of, _) => self.renders_within(*of, depth - 1),
            Kind::Composite(attributes) => {
                attributes.iter().all(|(_, of)| self.renders_within(*of, depth - 1))
            }
            _ => true,
        }
    }

    #[cfg(test)]
    pub(super) fn with(types: impl IntoIterator<Item = (u32, Kind)>) -> Self {
        let known = types.into_iter().map(|(oid, kind)| {
            (oid, Arc::new(Type { name: "t".into(), qualified: "pg_catalog.t".into(), kind }))
        });
        Self { known: known.collect(), since: Some(Instant::now()) }
    }
}
