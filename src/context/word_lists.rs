//! English word lists from `data/en`. A line that starts with `#` is a comment.

use std::{collections::HashSet, sync::LazyLock};

/// A set of words.
pub(super) type WordSet = LazyLock<HashSet<&'static str>>;
/// Phrases in the order of their file.
pub(super) type Phrases = LazyLock<Vec<&'static str>>;

macro_rules! list {
    ($name:literal) => {
        include_str!(concat!("../../data/en/", $name, ".txt"))
    };
}

/// Capitalized words that are no names.
pub(super) static NON_NAME_WORDS: WordSet = LazyLock::new(|| words(list!("non_name_words")));
/// Verbs whose subject is a person.
pub(super) static PERSON_VERBS: WordSet = LazyLock::new(|| words(list!("person_verbs")));
/// Relationships of a person to the user.
pub(super) static RELATIONSHIPS: Phrases =
    LazyLock::new(|| lines(list!("relationships")).flat_map(str::split_whitespace).collect());
/// Last words of names of organizations.
pub(super) static ORGANIZATION_SUFFIXES: WordSet = LazyLock::new(|| words(list!("organization_suffixes")));
/// WordSet before names of organizations.
pub(super) static ORGANIZATION_CONTEXT: WordSet = LazyLock::new(|| words(list!("organization_context")));
/// WordSet before names of tools.
pub(super) static TOOL_CONTEXT: WordSet = LazyLock::new(|| words(list!("tool_context")));
/// Verbs that state a fact about their subject, with the confidence of the fact.
pub(super) static FACT_VERBS: LazyLock<Vec<(&'static str, f64)>> = LazyLock::new(|| {
    let entry = |line: &'static str| {
        let (verb, confidence) = line.split_once(' ').expect("a verb and a number");
        (verb, confidence.parse().expect("a number"))
    };
    lines(list!("fact_verbs")).map(entry).collect()
});
pub(super) static POSITIVE_WORDS: WordSet = LazyLock::new(|| words(list!("positive_words")));
pub(super) static NEGATIVE_WORDS: WordSet = LazyLock::new(|| words(list!("negative_words")));
/// Stems that make no topic, in addition to PostgreSQL's stop words.
pub(super) static GENERIC_STEMS: WordSet = LazyLock::new(|| words(list!("generic_stems")));
/// Names of domains, each with its words.
pub(super) static DOMAIN_WORDS: LazyLock<Vec<(&'static str, Vec<&'static str>)>> = LazyLock::new(|| {
    let entry = |line: &'static str| {
        let (domain, words) = line.split_once(':').expect("a domain and its words");
        (domain, words.split_whitespace().collect())
    };
    lines(list!("domain_words")).map(entry).collect()
});
/// Phrases that mark a decision.
pub(super) static DECISION_PHRASES: Phrases = LazyLock::new(|| lines(list!("decision_phrases")).collect());
/// Phrases in a reply that leave a question open.
pub(super) static UNANSWERED_PHRASES: Phrases =
    LazyLock::new(|| lines(list!("unanswered_phrases")).collect());
/// Phrases that refer to earlier messages.
pub(super) static BACK_REFERENCES: Phrases = LazyLock::new(|| lines(list!("back_references")).collect());

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn words(text: &'static str) -> HashSet<&'static str> {
    lines(text).flat_map(str::split_whitespace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_lowercase_without_comments() {
        let sets = [
            &NON_NAME_WORDS,
            &PERSON_VERBS,
            &ORGANIZATION_SUFFIXES,
            &ORGANIZATION_CONTEXT,
            &TOOL_CONTEXT,
            &POSITIVE_WORDS,
            &NEGATIVE_WORDS,
            &GENERIC_STEMS,
        ];
        let phrases = [&RELATIONSHIPS, &DECISION_PHRASES, &UNANSWERED_PHRASES, &BACK_REFERENCES];
        let verbs = FACT_VERBS.iter().map(|(verb, _)| *verb);
        let domains = DOMAIN_WORDS.iter().flat_map(|(_, words)| words.iter().copied());
        let all = sets.iter().flat_map(|set| set.iter().copied());
        let all = all.chain(phrases.iter().flat_map(|list| list.iter().copied())).chain(verbs).chain(domains);
        let mut count = 0;
        for entry in all {
            assert!(!entry.contains('#') && entry == entry.to_lowercase(), "{entry:?}");
            count += 1;
        }
        assert!(count > 800, "{count}");
        assert!(FACT_VERBS.iter().all(|(_, confidence)| (0.0..=1.0).contains(confidence)));
    }
}
