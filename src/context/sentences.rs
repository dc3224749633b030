//! Ends of sentences and words in several scripts.

/// Whether a sentence ends after `c`, which `next` follows.
#[must_use]
pub fn ends_sentence(c: char, next: Option<char>) -> bool {
    match c {
        // Scripts that put no space after a sentence.
        '。' | '！' | '？' | '｡' | '．' => {
            !next.is_some_and(|next| closes(next) || ends_sentence(next, None))
        }
        '」' | '』' | '）' => false,
        '.' | '!' | '?' | '…' | '؟' | '\u{37e}' | '۔' | '।' | '॥' | '։' | '።' | '။' | '។' => {
            next.is_none_or(char::is_whitespace)
        }
        _ => false,
    }
}

const fn closes(c: char) -> bool {
    matches!(c, '」' | '』' | '）' | '”' | '’' | '》' | '〉')
}

/// Whether the script of `c` puts no spaces between words, so that a text may be cut after any character.
#[must_use]
pub const fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' | '\u{0f00}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3000}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3134f}')
}

/// Byte offsets of the ends of sentences and lines.
#[must_use]
pub fn sentence_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut after_end = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        // A closing quote belongs to its sentence.
        let closed = after_end && closes(c) && !next.is_some_and(closes);
        after_end = matches!(c, '。' | '！' | '？' | '｡' | '．') || after_end && closes(c);
        if c == '\n' || ends_sentence(c, next) || closed {
            ends.push(at + c.len_utf8());
        }
    }
    ends
}

/// Byte offsets at which a text may be cut between words.
#[must_use]
pub fn word_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            if at > 0 && ends.last() != Some(&at) {
                ends.push(at);
            }
        } else if is_unspaced(c) && !chars.peek().is_some_and(|(_, next)| is_mark(*next) || closes(*next)) {
            ends.push(at + c.len_utf8());
        }
    }
    ends
}

/// Vowel signs and tone marks that belong to the character before them.
const fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{0e31}' | '\u{0e34}'..='\u{0e3a}' | '\u{0e47}'..='\u{0e4e}' | '\u{0eb1}' | '\u{0eb4}'..='\u{0ebc}'
        | '\u{0ec8}'..='\u{0ecd}' | '\u{102b}'..='\u{103e}' | '\u{17b4}'..='\u{17d3}' | '\u{3099}'..='\u{309a}'
        | '\u{ff9e}'..='\u{ff9f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        let mut start = 0;
        let mut parts = Vec::new();
        for end in sentence_ends(text) {
            parts.push(text[start..end].trim());
            start = end;
        }
        parts
    }

    #[test]
    fn sentences_end_by_the_marks_of_their_script() {
        assert_eq!(
            sentences("今日は雨です。傘を持って！はい。"),
            ["今日は雨です。", "傘を持って！", "はい。"]
        );
        assert_eq!(sentences("彼は「行く。」と言った。"), ["彼は「行く。」", "と言った。"]);
        assert_eq!(sentences("क्या यह ठीक है? हाँ। अच्छा।"), ["क्या यह ठीक है?", "हाँ।", "अच्छा।"]);
        assert_eq!(sentences("كيف حالك؟ بخير."), ["كيف حالك؟", "بخير."]);
        assert_eq!(sentences("Version 1.5 is out. Good."), ["Version 1.5 is out.", "Good."]);
    }

    #[test]
    fn text_without_spaces_may_be_cut_after_a_character_but_not_before_a_mark() {
        assert_eq!(word_ends("一二").len(), 2);
        let thai = "กำลังน้ำ";
        assert!(word_ends(thai).iter().all(|end| thai[*end..].chars().next().is_none_or(|c| !is_mark(c))));
    }
}
