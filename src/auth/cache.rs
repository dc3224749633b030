//! Cache of verified tokens.
//!
//! A REST client sends the same token with every request; a cached one costs a hash and a lookup instead of a
//! signature check. Keys are the SHA-256 of the whole token, and each verifier has its own cache, so an entry
//! never applies to another token, secret or issuer. The caller of `get` checks the expiry.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::Principal;

/// SHA-256 of a token.
pub(super) type Fingerprint = [u8; 32];

/// Maximum number of entries in both generations together.
const MAX_ENTRIES: usize = 10_000;

/// Maximum size of cached claims in bytes; bounds the cache at about 20 MB.
const MAX_CLAIMS_BYTES: usize = 2 * 1024;

/// A bounded map with two generations. When the young one is full it becomes the old one, and old entries
/// that were not read since are dropped. Each operation takes constant time.
#[derive(Default)]
pub(super) struct TokenCache {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Fingerprint, Principal>,
    old: HashMap<Fingerprint, Principal>,
    /// Number of [`TokenCache::clear`] calls; keeps out results that were computed with withdrawn keys.
    epoch: u64,
}

impl Generations {
    fn insert(&mut self, key: Fingerprint, principal: Principal) {
        if self.young.len() >= MAX_ENTRIES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, principal);
    }
}

impl TokenCache {
    pub(super) fn get(&self, key: &Fingerprint) -> Option<Principal> {
        let mut generations = self.generations.lock();
        if let Some(principal) = generations.young.get(key) {
            return Some(principal.clone());
        }
        let principal = generations.old.remove(key)?;
        generations.insert(*key, principal.clone());
        Some(principal)
    }

    /// The epoch to pass to [`Self::insert`]. Read it before the keys.
    pub(super) fn epoch(&self) -> u64 {
        self.generations.lock().epoch
    }

    /// Stores a result, unless the cache was cleared since `epoch`.
    pub(super) fn insert(&self, epoch: u64, key: Fingerprint, principal: &Principal) {
        let mut generations = self.generations.lock();
        if principal.claims.len() <= MAX_CLAIMS_BYTES && generations.epoch == epoch {
            generations.insert(key, principal.clone());
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
        let cache = TokenCache::default();
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
        let cache = TokenCache::default();
        let epoch = cache.epoch();
        cache.clear();
        cache.insert(epoch, key(1), &Principal::with_role(Role::Anon));
        assert!(cache.get(&key(1)).is_none());
    }

    #[test]
    fn large_claims_are_not_cached() {
        let cache = TokenCache::default();
        let mut caller = Principal::with_role(Role::Anon);
        caller.claims = "x".repeat(MAX_CLAIMS_BYTES + 1).into();
        cache.insert(0, key(1), &caller);
        assert!(cache.get(&key(1)).is_none());
    }
}
