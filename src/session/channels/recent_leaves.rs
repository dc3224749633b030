//! Which channels a client has just left.
//!
//! A client that leaves and joins again without waiting for the answer, as official ones do when a join takes too long,
//! still gets differences of the old join. They name no join, so it keeps them until the new join's state and then
//! applies them to it, although the state is newer and what happened in between never reached it: it would see ghosts. A
//! second state right behind the first puts its picture right, and changes nothing for anybody else.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

/// What is still on its way to a client is not older than this.
const RETENTION: Duration = Duration::from_secs(30);
/// So many are remembered: more than a client may join at once by default.
const MAX_REMEMBERED: usize = 128;

/// Topics that were left, by hash, the oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentLeaves(Vec<(u64, Instant)>);

impl RecentLeaves {
    /// The client has left a channel of this name.
    pub fn insert(&mut self, name: &str) {
        let now = Instant::now();
        self.0.retain(|(_, when)| now.duration_since(*when) < RETENTION);
        if self.0.len() == MAX_REMEMBERED {
            self.0.remove(0);
        }
        self.0.push((hash(name), now));
    }

    /// Whether it has just left one of this name.
    pub fn contains(&mut self, name: &str) -> bool {
        let now = Instant::now();
        self.0.retain(|(_, when)| now.duration_since(*when) < RETENTION);
        if self.0.is_empty() {
            // Most sockets never leave anything twice.
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
    async fn what_was_left_is_remembered_for_a_while_and_within_bounds() {
        let mut farewells = RecentLeaves::default();
        farewells.insert("a");
        assert!(farewells.contains("a") && !farewells.contains("b"));
        tokio::time::advance(RETENTION).await;
        assert!(!farewells.contains("a"));
        (0..1_000).for_each(|n| farewells.insert(&n.to_string()));
        assert!(farewells.0.len() <= MAX_REMEMBERED && farewells.contains("999"));
    }
}
