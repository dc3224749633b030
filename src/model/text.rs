//! Sanitizes user-written text that other clients display.

/// Removes control characters and bidirectional overrides, replaces angle brackets with look-alikes that browsers do
/// not parse as markup, and trims white space.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let sanitized = text.chars().filter(|c| !c.is_control() && !is_bidi_control(*c)).map(|c| match c {
        '<' => '‹',
        '>' => '›',
        other => other,
    });
    sanitized.collect::<String>().trim().to_owned()
}

/// Unicode's explicit directional formatting characters, which can change how text reads (UAX #9).
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
