//! Units of a message without a model: its statements, word for word. Independent of the language.

use super::super::{extract, sentences::is_unspaced};

/// Statements taken from one message; the rest of a long text is not taken.
const MAX_UNITS: usize = 20;
/// Longer statements are cut.
const MAX_UNIT_CHARS: usize = 1_000;
/// Shorter statements, such as "ok, thanks", say nothing. Scripts without spaces are counted in characters.
const MIN_WORDS: usize = 3;
const MIN_UNSPACED_CHARS: usize = 4;
/// Question marks of all scripts; `;` is the Greek one only as U+037E.
const QUESTION_MARKS: [char; 8] = ['?', '？', '؟', '\u{37e}', '՞', '፧', '⁇', '⁈'];

/// The statements of a message in order. Questions and code are left out.
#[must_use]
pub fn statements(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for sentence in extract::sentences(text) {
        let sentence = extract::shorten(sentence, MAX_UNIT_CHARS);
        if says_something(&sentence) && !found.contains(&sentence) {
            found.push(sentence);
        }
        if found.len() == MAX_UNITS {
            break;
        }
    }
    found
}

fn says_something(sentence: &str) -> bool {
    let closing =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | '”' | '’' | '»' | '」' | '）' | '!');
    if sentence.trim_end_matches(closing).ends_with(QUESTION_MARKS) {
        return false;
    }
    let words = sentence.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count();
    let unspaced = sentence.chars().filter(|c| is_unspaced(*c) && c.is_alphanumeric()).count();
    words >= MIN_WORDS || unspaced >= MIN_UNSPACED_CHARS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_every_script_are_kept_and_questions_are_not() {
        for (text, expected) in [
            ("I live in Quito. Where is the sea?", &["I live in Quito."][..]),
            (
                "Ich wohne in Köln. Und du? Mein Hund heißt Rex.",
                &["Ich wohne in Köln.", "Mein Hund heißt Rex."],
            ),
            ("私は京都に住んでいます。あなたは？", &["私は京都に住んでいます。"]),
            ("أسكن في القاهرة منذ سنة. وأنت؟", &["أسكن في القاهرة منذ سنة."]),
            ("Πού μένεις\u{37e} Μένω στην Πάτρα τώρα.", &["Μένω στην Πάτρα τώρα."]),
            ("मैं दिल्ली में रहता हूँ। आप कहाँ रहते हैं?", &["मैं दिल्ली में रहता हूँ।"]),
            ("Ok, thanks! Really?! (Why?) \"So?\"", &[]),
            (
                "See this:\n```\nlet city = \"Quito\"; let x = 1;\n```\nMy city is Quito.",
                &["My city is Quito."],
            ),
            ("", &[]),
        ] {
            assert_eq!(statements(text), expected, "{text}");
        }
    }

    #[test]
    fn a_long_text_gives_a_bounded_number_of_bounded_units() {
        let text = (0..500).map(|n| format!("This is sentence number {n}. ")).collect::<String>();
        assert_eq!(statements(&text).len(), MAX_UNITS);
        let long = "word ".repeat(5_000);
        assert!(statements(&long)[0].chars().count() <= MAX_UNIT_CHARS + 1);
        assert_eq!(statements("I like tea a lot.\nI like tea a lot.").len(), 1);
    }
}
