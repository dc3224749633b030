//! Names of the subjects.

use sha2::{Digest, Sha256};

use super::super::interest::TopicKey;
use crate::pg::queries::bus::BusIdentity;

/// Who receives a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Destination {
    AllNodes,
    /// The nodes with members of the topic.
    Topic(TopicKey),
}

/// The subjects of one installation. They have no part that a client chooses.
#[derive(Debug)]
pub(super) struct Subjects {
    /// `<prefix>.<installation>`
    root: String,
}

impl Subjects {
    pub(super) fn new(prefix: &str, identity: &BusIdentity) -> Self {
        let digest = Sha256::new()
            .chain_update(b"rollcall bus subjects\0")
            .chain_update(&identity.key)
            .chain_update(identity.database.as_bytes())
            .finalize();
        let installation = u64::from_be_bytes(digest.first_chunk().copied().expect("32 bytes"));
        Self { root: format!("{prefix}.{installation:016x}") }
    }

    pub(super) fn of(&self, destination: Destination) -> String {
        match destination {
            Destination::AllNodes => format!("{}.all", self.root),
            Destination::Topic(key) => format!("{}.topic.{key}", self.root),
        }
    }

    /// Nobody subscribes to it. NATS answers a request to it after it has handled all earlier commands of the connection.
    pub(super) fn probe(&self) -> String {
        format!("{}.probe", self.root)
    }

    /// Prefix of the subjects for answers to this client.
    pub(super) fn inbox_prefix(&self) -> String {
        format!("{}.inbox", self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Topic;

    #[test]
    fn installations_and_topics_have_different_subjects() {
        let identity =
            |key: u8, database: &str| BusIdentity { key: vec![key; 32], database: database.to_owned() };
        let topic = Destination::Topic(TopicKey::of(&Topic::public("a b.*.>")));
        let subjects = [
            Subjects::new("rollcall", &identity(1, "app")),
            Subjects::new("rollcall", &identity(2, "app")),
            Subjects::new("rollcall", &identity(1, "copy")),
            Subjects::new("other", &identity(1, "app")),
        ];
        let names: std::collections::HashSet<String> = subjects.iter().map(|names| names.of(topic)).collect();
        assert_eq!(names.len(), 4);
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'), "{name}");
            assert_eq!(name.split('.').count(), 4);
        }
    }
}
