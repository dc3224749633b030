//! Splits text into the pieces that are encoded separately (pre-tokenization of `o200k_base`).

use regex_automata::{Anchored, Input, meta::Regex};

/// The published expression without its alternatives for white space. The last alternative, not a published one, is
/// white space at the end of the text.
const PIECES: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+$",
);

/// White space before other text, with the last white space character, which belongs to the next piece. The published
/// expression is `\s+(?!\S)`; the engine has no look-ahead, and therefore needs linear time only.
const SPACE_BEFORE_TEXT: &str = r"\s+\s";

/// A single white space character.
const SPACE: &str = r"\s+";

/// Number of [`SPACE_BEFORE_TEXT`] in the list of expressions.
const SPACE_BEFORE_TEXT_INDEX: usize = 1;

pub(super) struct Splitter {
    expressions: Regex,
}

impl Splitter {
    pub(super) fn new() -> Self {
        let expressions = Regex::new_many(&[PIECES, SPACE_BEFORE_TEXT, SPACE]).expect("valid expressions");
        Self { expressions }
    }

    /// The pieces in order. Together they are the whole text.
    pub(super) fn pieces<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let found = self.expressions.find(Input::new(rest).anchored(Anchored::Yes))?;
            let mut end = found.end();
            if found.pattern().as_usize() == SPACE_BEFORE_TEXT_INDEX {
                end = rest[..end].char_indices().next_back()?.0;
            }
            let (piece, following) = rest.split_at(end);
            rest = following;
            Some(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        Splitter::new().pieces(text).collect()
    }

    #[test]
    fn text_is_split_at_words_numbers_and_white_space() {
        assert_eq!(pieces("Hello, world!"), ["Hello", ",", " world", "!"]);
        assert_eq!(pieces("camelCase HTTPServer"), ["camel", "Case", " HTTPServer"]);
        assert_eq!(pieces("They'LL we've don't"), ["They'LL", " we've", " don't"]);
        assert_eq!(pieces("1234567"), ["123", "456", "7"]);
        assert_eq!(pieces("a   b"), ["a", "  ", " b"]);
        assert_eq!(pieces("a   "), ["a", "   "]);
        assert_eq!(pieces("a  \n  b"), ["a", "  \n", " ", " b"]);
        assert_eq!(pieces("a\u{3000}1"), ["a", "\u{3000}", "1"]);
        assert_eq!(pieces("x != y;//\n"), ["x", " !=", " y", ";//\n"]);
        assert_eq!(pieces("東京とńáϊ"), ["東京とńáϊ"]);
        assert!(pieces("").is_empty());
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole_text(text in "\\PC{0,40}|[ \\s\\na-cA-C1é東'.]{0,60}") {
            let splitter = Splitter::new();
            prop_assert_eq!(splitter.pieces(&text).collect::<String>(), text.clone());
            prop_assert!(splitter.pieces(&text).all(|piece| !piece.is_empty()));
        }
    }
}
