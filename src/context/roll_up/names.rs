//! Keys and similarity of names.

/// Converts a name to a key: lowercase letters and digits, everything else a dash; at most 200 characters.
#[must_use]
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    slug.chars().take(200).collect()
}

/// Trigram similarity from 0 to 1, as `pg_trgm` computes it.
#[must_use]
pub fn trigram_similarity(one: &str, other: &str) -> f64 {
    let trigrams = |text: &str| -> std::collections::HashSet<[char; 3]> {
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let padded = words.map(|word| format!("  {word} ").chars().collect::<Vec<_>>());
        padded
            .flat_map(|word| word.windows(3).map(|three| [three[0], three[1], three[2]]).collect::<Vec<_>>())
            .collect()
    };
    let (one, other) = (trigrams(one), trigrams(other));
    let common = one.intersection(&other).count();
    let all = one.len() + other.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

/// Whether two names are the same: equal slugs, similar trigrams, or one is a short form of the other.
#[must_use]
pub fn is_same_name(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let (short, long) = (short.to_lowercase(), long.to_lowercase());
    let is_short_form = short.len() >= 5
        && long.starts_with(&short)
        && !long[short.len()..].starts_with(' ')
        && short.len() * 10 >= long.len() * 6;
    slug(&short) == slug(&long)
        || is_short_form
        || (short.len() >= 4 && trigram_similarity(&short, &long) >= 0.65)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_letters_trigrams_or_short_form() {
        assert!(is_same_name("PostgreSQL", "postgresql"));
        assert!(is_same_name("Postgres", "PostgreSQL"));
        assert!(is_same_name("Elasticsearch", "Elastisearch"));
        assert!(!is_same_name("Anna", "Hanna Berg"));
        assert!(!is_same_name("Java", "JavaScript"), "too short to be a short form");
        assert!(!is_same_name("Berlin office", "Berlin"), "a part of a name is not the name");
    }

    #[test]
    fn slugs_are_lowercase_words_joined_by_dashes() {
        assert_eq!(slug("  Row-Level  Security! "), "row-level-security");
        assert_eq!(slug("Über C++"), "über-c");
    }
}
