//! Remembers the topics that a client has recently left.
//!
//! A client that leaves and rejoins without waiting for the reply (official clients do so when a join times
//! out) may still receive diffs of the old join. Diffs carry no join reference, so the client applies them to
//! the state of the new join, although that is newer. It would keep members that have left. A second copy of
//! the state directly after the first corrects this and has no other effect.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

/// Longer than any frame may be on its way to a client.
const RETENTION: Duration = Duration::from_secs(30);
/// Maximum remembered topics: more than a client may join by default.
const MAX_REMEMBERED: usize = 128;

/// Hashes of left topics with the time, oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentLeaves(Vec<(u64, Instant)>);

impl RecentLeaves {
    /// Records that the client has left a topic.
    pub(super) fn insert(&mut self, name: &str) {
        let now = Instant::now();
        self.0.retain(|(_, left_at)| now.duration_since(*left_at) < RETENTION);
        if self.0.len() == MAX_REMEMBERED {
            self.0.remove(0);
        }
        self.0.push((hash(name), now));
    }

    /// Whether the client has recently left a topic.
    pub(super) fn contains(&mut self, name: &str) -> bool {
        let now = Instant::now();
        self.0.retain(|(_, left_at)| now.duration_since(*left_at) < RETENTION);
        if self.0.is_empty() {
            // Release the memory: most sockets leave rarely.
            self.0 = Vec::new();
        }
        let name = hash(name);
        self.0.iter().any(|(left, _)| *left == name)
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn left_topics_expire_and_are_bounded() {
        let mut leaves = RecentLeaves::default();
        leaves.insert("a");
        assert!(leaves.contains("a") && !leaves.contains("b"));
        tokio::time::advance(RETENTION).await;
        assert!(!leaves.contains("a"));
        (0..1_000).for_each(|n| leaves.insert(&n.to_string()));
        assert!(leaves.0.len() <= MAX_REMEMBERED && leaves.contains("999"));
    }
}
