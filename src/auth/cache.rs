//! Cache of verified tokens.
//!
//! A REST client sends the same token with every request; a cached one costs a hash and a lookup instead of a
//! signature check. Keys are the SHA-256 of the whole token, and each verifier has its own cache, so an entry
//! never applies to another token, secret or issuer. The caller of `get` checks the expiry.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{Principal, VerifiedChannelToken};

/// SHA-256 of a token.
pub(super) type Fingerprint = [u8; 32];

/// Maximum number of entries in both generations together.
const MAX_ENTRIES: usize = 10_000;

/// Maximum size of cached claims in bytes; bounds the cache at about 20 MB.
const MAX_CLAIMS_BYTES: usize = 2 * 1024;

/// Cached result of a verification.
pub(super) trait CachedToken: Clone {
    /// Size of the claims in bytes; the other fields are small.
    fn claims_bytes(&self) -> usize;
}

impl CachedToken for Principal {
    fn claims_bytes(&self) -> usize {
        self.claims.len()
    }
}

impl CachedToken for Arc<VerifiedChannelToken> {
    fn claims_bytes(&self) -> usize {
        self.claims.len()
    }
}

/// A bounded map with two generations. When the young one is full it becomes the old one, and old entries
/// that were not read since are dropped. Each operation takes constant time.
pub(super) struct TokenCache<V> {
    generations: Mutex<Generations<V>>,
}

impl<V> Default for TokenCache<V> {
    fn default() -> Self {
        Self { generations: Mutex::default() }
    }
}

struct Generations<V> {
    young: HashMap<Fingerprint, V>,
    old: HashMap<Fingerprint, V>,
    /// Number of [`TokenCache::clear`] calls; keeps out results that were computed with withdrawn keys.
    epoch: u64,
}

impl<V> Default for Generations<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), epoch: 0 }
    }
}

impl<V> Generations<V> {
    fn insert(&mut self, key: Fingerprint, verdict: V) {
        if self.young.len() >= MAX_ENTRIES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, verdict);
    }
}

impl<V: CachedToken> TokenCache<V> {
    pub(super) fn get(&self, key: &Fingerprint) -> Option<V> {
        let mut generations = self.generations.lock();
        if let Some(verdict) = generations.young.get(key) {
            return Some(verdict.clone());
        }
        let verdict = generations.old.remove(key)?;
        generations.insert(*key, verdict.clone());
        Some(verdict)
    }

    /// The epoch to pass to [`Self::insert`]. Read it before the keys.
    pub(super) fn epoch(&self) -> u64 {
        self.generations.lock().epoch
    }

    /// Stores a result, unless the cache was cleared since `epoch`.
    pub(super) fn insert(&self, epoch: u64, key: Fingerprint, verdict: &V) {
        let mut generations = self.generations.lock();
        if verdict.claims_bytes() <= MAX_CLAIMS_BYTES && generations.epoch == epoch {
            generations.insert(key, verdict.clone());
        }
    }

    /// Removes an expired entry.
    pub(super) fn remove(&self, key: &Fingerprint) {
        let mut generations = self.generations.lock();
        generations.young.remove(key);
        generations.old.remove(key);
    }

    /// Removes all entries, because the keys have changed.
    pub(super) fn clear(&self) {
        let mut generations = self.generations.lock();
        *generations = Generations { epoch: generations.epoch + 1, ..Generations::default() };
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.generations.lock();
        generations.young.len() + generations.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    fn key(n: usize) -> Fingerprint {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    #[test]
    fn cache_is_bounded_and_keeps_entries_in_use() {
        let cache = TokenCache::<Principal>::default();
        let caller = Principal::with_role(Role::Anon);
        for n in 0..3 * MAX_ENTRIES {
            cache.insert(0, key(n), &caller);
            assert!(cache.get(&key(0)).is_some(), "lost at {n}");
        }
        assert!(cache.len() <= MAX_ENTRIES);
        assert!(cache.get(&key(1)).is_none());
    }

    #[test]
    fn entry_verified_before_a_key_change_is_not_cached() {
        let cache = TokenCache::<Principal>::default();
        let epoch = cache.epoch();
        cache.clear();
        cache.insert(epoch, key(1), &Principal::with_role(Role::Anon));
        assert!(cache.get(&key(1)).is_none());
    }

    #[test]
    fn large_claims_are_not_cached() {
        let cache = TokenCache::<Principal>::default();
        let mut caller = Principal::with_role(Role::Anon);
        caller.claims = "x".repeat(MAX_CLAIMS_BYTES + 1).into();
        cache.insert(0, key(1), &caller);
        assert!(cache.get(&key(1)).is_none());
    }
}
