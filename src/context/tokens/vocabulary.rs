//! The tokens of `o200k_base`, embedded in the binary (`data/o200k_base`).

use std::{hash::BuildHasher, num::NonZeroU32};

use hashbrown::{DefaultHashBuilder, HashTable};

/// All tokens in the order of their ranks: one byte with the length, then the token.
const TOKENS: &[u8] = include_bytes!("../../../data/o200k_base/tokens.bin");

/// Number of tokens in [`TOKENS`].
const TOKEN_COUNT: usize = 199_998;

/// Length of the longest token in bytes.
const MAX_TOKEN_BYTES: usize = 128;

/// Priority of a token: a lower rank is merged first. It is the offset of the token in [`TOKENS`], after the byte with
/// the length. Offsets have the order of the published ranks and need no second table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(NonZeroU32);

impl Rank {
    fn token(self) -> &'static [u8] {
        let start = self.0.get() as usize;
        &TOKENS[start..start + usize::from(TOKENS[start - 1])]
    }
}

/// Ranks by token. The table has 1.3 MB; it refers to the embedded tokens.
pub(super) struct Vocabulary {
    ranks: HashTable<Rank>,
    hasher: DefaultHashBuilder,
}

impl Vocabulary {
    pub(super) fn new() -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut ranks = HashTable::with_capacity(TOKEN_COUNT);
        for rank in all_ranks() {
            ranks.insert_unique(hasher.hash_one(rank.token()), rank, |rank| hasher.hash_one(rank.token()));
        }
        Self { ranks, hasher }
    }

    /// The rank of a token; `None` if the bytes are not one token.
    pub(super) fn rank(&self, bytes: &[u8]) -> Option<Rank> {
        if bytes.len() > MAX_TOKEN_BYTES {
            return None;
        }
        self.ranks.find(self.hasher.hash_one(bytes), |rank| rank.token() == bytes).copied()
    }
}

fn all_ranks() -> impl Iterator<Item = Rank> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let length = *TOKENS.get(offset)?;
        let start = u32::try_from(offset + 1).ok()?;
        offset += 1 + usize::from(length);
        NonZeroU32::new(start).map(Rank)
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use base64::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// SHA-256 of OpenAI's file `o200k_base.tiktoken`, as in tiktoken's source.
    const PUBLISHED_SHA256: &str = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d";

    #[test]
    fn the_tokens_are_those_of_the_published_vocabulary() {
        let mut file = String::new();
        for (number, rank) in all_ranks().enumerate() {
            let _ = writeln!(file, "{} {number}", BASE64_STANDARD.encode(rank.token()));
        }
        let digest = Sha256::digest(file.as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, PUBLISHED_SHA256);
        assert_eq!(all_ranks().count(), TOKEN_COUNT);
        assert_eq!(all_ranks().map(|rank| rank.token().len()).max(), Some(MAX_TOKEN_BYTES));
    }

    #[test]
    fn tokens_are_found_by_their_bytes() {
        let vocabulary = Vocabulary::new();
        for rank in all_ranks() {
            assert_eq!(vocabulary.rank(rank.token()), Some(rank));
        }
        assert!((0..=u8::MAX).all(|byte| vocabulary.rank(&[byte]).is_some()), "each byte is a token");
        assert_eq!(vocabulary.rank(b""), None);
        assert_eq!(vocabulary.rank("Rollcall presence".as_bytes()), None);
        assert_eq!(vocabulary.rank(&[b' '; MAX_TOKEN_BYTES + 1]), None);
    }
}
