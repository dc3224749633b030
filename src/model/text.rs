//! Text that people write and other people's clients show.

/// Neutralises what a text could do to whoever shows it: control characters and bidirectional overrides go, angle
/// brackets become look-alikes that no browser takes for markup. Trims the ends.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control() && !is_bidi_control(*c)).map(|c| match c {
        '<' => '‹',
        '>' => '›',
        other => other,
    });
    shown.collect::<String>().trim().to_owned()
}

/// Unicode's explicit directional formatting characters, which can make a text read as something else (UAX #9).
const fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::sanitize;

    #[test]
    fn markup_control_characters_and_overrides_are_neutralized() {
        assert_eq!(sanitize("<b onclick=x>hi</b>"), "‹b onclick=x›hi‹/b›");
        assert_eq!(sanitize("a\0b\u{7}c\nd\u{1b}[31m"), "abcd[31m");
        assert_eq!(sanitize("user\u{202e}gpj.exe\u{2066}"), "usergpj.exe");
    }

    #[test]
    fn ordinary_text_is_unchanged() {
        for text in ["In Zürich 🇨🇭", "שלום", "👩‍👩‍👧", "a & b \"c\""] {
            assert_eq!(sanitize(&format!("  {text} ")), text);
        }
    }
}
