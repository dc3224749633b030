//! The encoding `o200k_base`: splits text into pieces and counts the tokens of each.

use super::{merges::Merges, pieces::Splitter, vocabulary::Vocabulary};

/// Has 1.3 MB of memory besides the embedded tokens. Building it takes milliseconds.
pub(super) struct Encoding {
    splitter: Splitter,
    vocabulary: Vocabulary,
}

impl Encoding {
    pub(super) fn new() -> Self {
        Self { splitter: Splitter::new(), vocabulary: Vocabulary::new() }
    }

    pub(super) fn count(&self, text: &str) -> usize {
        let mut merges = Merges::default();
        self.splitter.pieces(text).map(|piece| merges.count(piece.as_bytes(), &self.vocabulary)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_are_those_of_the_reference() {
        // Computed with bpe-openai 0.3.2, whose tests compare it with OpenAI's tiktoken.
        let counts = [
            ("", 1, 0),
            ("a", 1, 1),
            ("Hello, world!", 1, 4),
            ("They'LL say we've won, don't you think? It'ſ late.", 1, 16),
            ("  leading and trailing  ", 1, 5),
            ("a\n\n\n  b\t\tc \r\n d\n", 1, 9),
            ("1234567890 3.14159 ½ ٣٤٥", 1, 15),
            ("fn main() {\n    println!(\"{}\", 1 << 10); // shift\n}\n", 1, 17),
            ("{\"userId\":\"6f9619ff-8b86-d011-b42d-00c04fc964ff\",\"status\":\"away\"}", 1, 30),
            ("https://example.org/a/b?c=d&e=%20f#g", 1, 14),
            ("私は横浜に住んでいます。毎朝電車で東京へ行きます。", 1, 20),
            ("Съешь ещё этих мягких французских булок", 1, 11),
            ("مرحبا بالعالم", 1, 4),
            ("नमस\u{94d}त\u{947} द\u{941}निया", 1, 5),
            ("👩\u{200d}👩\u{200d}👧\u{200d}👦 👍🏽 🇩🇪", 1, 18),
            ("naïve café e\u{301}", 1, 6),
            ("camelCaseHTTPServer snake_case SCREAMING_CASE", 1, 10),
            ("<|endoftext|><|im_start|>", 1, 12),
            ("\0\u{1}\u{7f}\u{feff}\u{fffd}", 1, 5),
            ("Donaudampfschifffahrtsgesellschaftskapitän", 1, 13),
            ("a", 1_000, 125),
            ("=", 1_000, 16),
            (" ", 1_000, 9),
            ("\n ", 500, 251),
            ("ab", 500, 250),
            ("東", 300, 300),
            ("é", 300, 300),
            ("-=", 400, 54),
            ("Aa", 400, 400),
        ];
        let encoding = Encoding::new();
        for (text, times, count) in counts {
            assert_eq!(encoding.count(&text.repeat(times)), count, "{text:?} {times} times");
        }
    }

    /// One megabyte takes up to 0.4 s of a processor in a release build, and 3 s without optimization. A quadratic
    /// algorithm would take hours.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_megabyte_of_hostile_text_is_counted_in_bounded_time() {
        const BYTES: usize = 1_000_000;
        let random: Vec<u8> = (0..BYTES).map(|_| rand::random()).collect();
        let letters = random.iter().map(|byte| char::from(b'a' + byte % 26));
        let texts = [
            "a".repeat(BYTES),
            "=".repeat(BYTES),
            letters.collect(),
            String::from_utf8_lossy(&random).into_owned(),
        ];
        let encoding = Encoding::new();
        for text in texts {
            let before = cpu_time();
            let count = encoding.count(&text);
            let spent = cpu_time() - before;
            assert!(spent < Duration::from_secs(30), "{count} tokens took {spent:?}");
        }
    }

    /// Time that this thread spent on a processor.
    #[cfg(target_os = "linux")]
    fn cpu_time() -> Duration {
        use nix::sys::{
            resource::{UsageWho, getrusage},
            time::TimeValLike as _,
        };
        let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the usage of a thread");
        let micros = (usage.user_time() + usage.system_time()).num_microseconds();
        Duration::from_micros(micros.try_into().expect("a positive time"))
    }
}
