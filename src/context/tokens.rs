//! Tokens as models count them (`o200k_base`), and texts cut to them.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bpe_openai::o200k_base;

/// A section that has to be cut is dropped instead where no more room than this is left, in tokens.
pub const MIN_CUT_TOKENS: usize = 100;

/// Texts shorter than this are counted as quickly as they are remembered, in bytes.
const MIN_CACHED_BYTES: usize = 48;

/// How many tokens a text has. A conversation's messages are counted for each prompt, so counts are remembered.
#[must_use]
pub fn count(text: &str) -> usize {
    if text.len() < MIN_CACHED_BYTES {
        return o200k_base().count(text);
    }
    static COUNTS: LazyLock<CountCache> = LazyLock::new(CountCache::default);
    COUNTS.get_or_count(text, |text| o200k_base().count(text))
}

/// Counts of texts that were counted of late: a hash of each text and its count in one word, the newest in each place.
/// The hash has a key of this process, so that nobody can make texts that are taken for each other.
struct CountCache {
    slots: Box<[AtomicU64]>,
    key: RandomState,
}

impl Default for CountCache {
    fn default() -> Self {
        let places = (0..Self::SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { slots: places, key: RandomState::new() }
    }
}

impl CountCache {
    /// Half a megabyte.
    const SLOTS: usize = 1 << 16;
    /// The bits of a word that hold the count; longer texts are counted each time.
    const COUNT_MASK: u64 = (1 << 20) - 1;

    fn get_or_count(&self, text: &str, count: impl Fn(&str) -> usize) -> usize {
        let hash = self.key.hash_one(text);
        // The place takes bits that the word does not keep.
        let place = &self.slots[usize::try_from(hash & Self::COUNT_MASK).unwrap_or(0) % Self::SLOTS];
        let known = place.load(Relaxed);
        if known != 0 && known & !Self::COUNT_MASK == hash & !Self::COUNT_MASK {
            return usize::try_from(known & Self::COUNT_MASK).unwrap_or(usize::MAX);
        }
        let counted = count(text);
        if let Some(short) = u64::try_from(counted).ok().filter(|counted| *counted <= Self::COUNT_MASK) {
            place.store(hash & !Self::COUNT_MASK | short, Relaxed);
        }
        counted
    }
}

/// Loads the vocabulary, which takes a moment, so that no request has to.
pub fn preload() {
    let _ = o200k_base();
}

/// The text if it fits; else its beginning up to the end of a sentence (or of a line, or of a word where there is
/// neither) that fits. `None` where nothing does.
#[must_use]
pub fn truncate(text: &str, most: usize) -> Option<&str> {
    if text.len() <= most || count(text) <= most {
        return Some(text);
    }
    for ends in [sentence_ends(text), word_ends(text)] {
        // The most ends whose text fits: tokens grow with the text.
        let fitting = ends.partition_point(|end| count(&text[..*end]) <= most);
        if let Some(end) = fitting.checked_sub(1).map(|last| ends[last]) {
            // A crumb of a sentence is worse than half of the next one.
            if count(&text[..end]) * 2 >= most || ends.len() > 1 && end > 0 && is_word_end(text, end) {
                return Some(text[..end].trim_end());
            }
        }
    }
    None
}

fn is_word_end(text: &str, end: usize) -> bool {
    text[end..].starts_with(char::is_whitespace)
}

/// Where sentences and lines end, in bytes.
fn sentence_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let ends_here = match c {
            '\n' => true,
            '.' | '!' | '?' | '…' | '。' => next.is_none_or(char::is_whitespace),
            _ => false,
        };
        if ends_here {
            ends.push(at + c.len_utf8());
        }
    }
    ends
}

fn word_ends(text: &str) -> Vec<usize> {
    let spaces = text.char_indices().filter(|(_, c)| c.is_whitespace());
    spaces.map(|(at, _)| at).filter(|at| *at > 0).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_are_cached() {
        let counts = CountCache::default();
        let asked = Cell::new(0);
        let count = |text: &str| {
            counts.get_or_count(text, |text| {
                asked.set(asked.get() + 1);
                text.len()
            })
        };
        let texts: Vec<String> = (0..100).map(|n| "word ".repeat(n)).collect();
        for text in texts.iter().chain(&texts).chain(&texts) {
            assert_eq!(count(text), text.len());
        }
        assert!(asked.get() < 200, "{} of 300 were counted", asked.get());
        let long = "x".repeat(2_000_000);
        assert_eq!((count(&long), count(&long)), (long.len(), long.len()), "too long to be remembered");
    }

    #[test]
    fn counts_match_the_vocabulary() {
        // As the models' makers count them.
        assert_eq!(count("Hello, world!"), 4);
        assert_eq!(count(""), 0);
    }

    #[test]
    fn text_is_truncated_at_a_sentence_end() {
        let text = "The first sentence stands. The second one is here. A third follows it.";
        let cut = truncate(text, count(text) - 2).expect("fits");
        assert_eq!(cut, "The first sentence stands. The second one is here.");
    }

    #[test]
    fn text_without_sentences_is_truncated_at_a_word() {
        let text = "word ".repeat(50);
        let cut = truncate(&text, 10).expect("fits");
        assert!(count(cut) <= 10 && cut.ends_with("word") && cut.len() > 20, "{cut:?}");
        assert_eq!(super::truncate("unbreakable-".repeat(50).as_str(), 3), None);
    }

    proptest! {
        #[test]
        fn truncated_text_fits_and_is_a_prefix(text in "[a-zé ,.!?\n]{0,300}", most in 0_usize..60) {
            if let Some(cut) = truncate(&text, most) {
                prop_assert!(count(cut) <= most);
                prop_assert!(text.starts_with(cut));
            }
        }
    }
}
