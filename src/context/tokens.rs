//! Counts tokens (`o200k_base`) and truncates text to a number of tokens.

mod encoding;
mod merges;
mod pieces;
mod vocabulary;

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use self::encoding::Encoding;
use super::sentences::{is_unspaced, sentence_ends, word_ends};

/// With less room than this (in tokens), text is dropped instead of truncated.
pub const MIN_CUT_TOKENS: usize = 100;

/// Tokens of a message beyond its text: role and separators in the provider's format.
pub const MESSAGE_OVERHEAD: usize = 4;

/// Counting a shorter text is as fast as a cache look-up.
const MIN_CACHED_BYTES: usize = 48;

static ENCODING: LazyLock<Encoding> = LazyLock::new(Encoding::new);

/// Counts the tokens of a text. Counts are cached, because each prompt counts the messages of a conversation again.
#[must_use]
pub fn count(text: &str) -> usize {
    if text.len() < MIN_CACHED_BYTES {
        return ENCODING.count(text);
    }
    static COUNTS: LazyLock<CountCache> = LazyLock::new(CountCache::default);
    COUNTS.get_or_count(text, |text| ENCODING.count(text))
}

/// Cache of token counts. Each slot is one word with a hash and a count; a new entry replaces the old one. The hash has a
/// random key per process, so that clients cannot construct collisions.
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
    /// 2^16 slots of 8 bytes are 512 KiB.
    const SLOTS: usize = 1 << 16;
    /// Bits of a slot that hold the count; larger counts are not cached.
    const COUNT_MASK: u64 = (1 << 20) - 1;

    fn get_or_count(&self, text: &str, count: impl Fn(&str) -> usize) -> usize {
        let hash = self.key.hash_one(text);
        // The slot index uses the hash bits that the slot does not store.
        let slot = &self.slots[usize::try_from(hash & Self::COUNT_MASK).unwrap_or(0) % Self::SLOTS];
        let known = slot.load(Relaxed);
        if known != 0 && known & !Self::COUNT_MASK == hash & !Self::COUNT_MASK {
            return usize::try_from(known & Self::COUNT_MASK).unwrap_or(usize::MAX);
        }
        let counted = count(text);
        if let Some(short) = u64::try_from(counted).ok().filter(|counted| *counted <= Self::COUNT_MASK) {
            slot.store(hash & !Self::COUNT_MASK | short, Relaxed);
        }
        counted
    }
}

/// Builds the encoding, so that the first request does not wait for it.
pub fn preload() {
    LazyLock::force(&ENCODING);
}

/// Truncates a text to at most `max` tokens, at the end of a sentence or line if possible, otherwise at a word, or at a
/// character in scripts without spaces. `None` if nothing fits.
#[must_use]
pub fn truncate(text: &str, max: usize) -> Option<&str> {
    if text.len() <= max || count(text) <= max {
        return Some(text);
    }
    for ends in [sentence_ends(text), word_ends(text)] {
        // Token counts grow with the text, so a binary search finds the last end that fits.
        let fitting = ends.partition_point(|end| count(&text[..*end]) <= max);
        if let Some(end) = fitting.checked_sub(1).map(|last| ends[last]) {
            // A very short sentence is worse than half of the next one.
            if count(&text[..end]) * 2 >= max || ends.len() > 1 && end > 0 && is_word_end(text, end) {
                return Some(text[..end].trim_end());
            }
        }
    }
    None
}

fn is_word_end(text: &str, end: usize) -> bool {
    text[end..].starts_with(char::is_whitespace) || text[..end].ends_with(is_unspaced)
}

/// As [`truncate`], and closes a code block that the cut leaves open.
#[must_use]
pub fn truncate_closed(text: &str, max: usize) -> Option<Cow<'_, str>> {
    let cut = truncate(text, max)?;
    let Some(fence) = open_fence(cut).filter(|_| cut.len() < text.len()) else { return Some(cut.into()) };
    let end = format!("\n{fence}");
    let cut = truncate(text, max.checked_sub(count(&end) + 1)?)?;
    Some(if open_fence(cut).is_some() { format!("{cut}{end}").into() } else { cut.into() })
}

/// The fence of a Markdown code block that is not closed.
fn open_fence(text: &str) -> Option<&str> {
    let mut open = None;
    for line in text.lines().map(str::trim) {
        let Some(mark) = line.chars().next().filter(|c| matches!(c, '`' | '~')) else { continue };
        let length = line.len() - line.trim_start_matches(mark).len();
        match open {
            None if length >= 3 => open = Some(&line[..length]),
            Some(fence) if line.starts_with(fence) && length == line.len() => open = None,
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_are_cached() {
        let counts = CountCache::default();
        let calls = Cell::new(0);
        let count = |text: &str| {
            counts.get_or_count(text, |text| {
                calls.set(calls.get() + 1);
                text.len()
            })
        };
        let texts: Vec<String> = (0..100).map(|n| "word ".repeat(n)).collect();
        for text in texts.iter().chain(&texts).chain(&texts) {
            assert_eq!(count(text), text.len());
        }
        assert!(calls.get() < 200, "{} of 300 were counted", calls.get());
        let long = "x".repeat(2_000_000);
        assert_eq!((count(&long), count(&long)), (long.len(), long.len()), "too long to be remembered");
    }

    #[test]
    fn counts_match_the_vocabulary() {
        // Reference values of OpenAI's tokenizer.
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

    #[test]
    fn text_without_spaces_is_truncated_at_a_sentence_end_of_its_script() {
        let text = "私は横浜に住んでいます。毎朝電車で東京へ行きます。週末は海を見に行きます。".repeat(10);
        let cut = truncate(&text, 120).expect("fits");
        assert!(cut.ends_with('。') && count(cut) <= 120 && count(cut) > 60, "{cut}");
        let one_sentence = "東京都横浜市川崎区".repeat(50);
        let cut = truncate(&one_sentence, 60).expect("a part fits");
        assert!(count(cut) <= 60 && count(cut) > 30, "{cut}");
    }

    #[test]
    fn a_cut_closes_an_open_code_block() {
        let text = format!("Look:\n```rust\n{}```\nDone.", "let x = 1;\n".repeat(100));
        let cut = truncate_closed(&text, 50).expect("fits");
        assert!(cut.ends_with("\n```") && count(&cut) <= 50, "{cut}");
        assert_eq!(cut.matches("```").count(), 2);
        assert_eq!(
            truncate_closed("```\nopen", 50).as_deref(),
            Some("```\nopen"),
            "an uncut text is unchanged"
        );
    }

    proptest! {
        #[test]
        fn truncated_text_fits_and_is_a_prefix(text in "[a-zé ,.!?\n]{0,300}", max in 0_usize..60) {
            if let Some(cut) = truncate(&text, max) {
                prop_assert!(count(cut) <= max);
                prop_assert!(text.starts_with(cut));
            }
        }
    }
}
