//! Finds entities: names of up to four words, recognized by their casing, and their type, facts and relationship.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use uuid::Uuid;

use super::{
    hints::Hints,
    names::{is_same_name, slug},
    sources::{EntityType, Occurrences, Sources},
};
use crate::context::{
    extract::sentences,
    word_lists::{
        FACT_VERBS, NEGATIVE_WORDS, NON_NAME_WORDS, ORGANIZATION_CONTEXT, ORGANIZATION_SUFFIXES,
        PERSON_VERBS, POSITIVE_WORDS, RELATIONSHIPS, TOOL_CONTEXT,
    },
};

/// Minimum number of units with a name that make it an entity.
const MIN_UNITS: u32 = 3;
/// A candidate name with its sentences.
#[derive(Debug, Clone, PartialEq)]
pub struct Mention {
    /// Original spelling.
    pub name: String,
    /// Unit IDs and sentences that contain the name.
    sentences: Vec<(Uuid, String)>,
    /// Type from an existing entity or a model.
    entity_type: Option<EntityType>,
    /// Whether the name is an existing entity or was suggested by a model.
    trusted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fact {
    /// Sentence that states the fact.
    pub fact: String,
    /// From 0 to 1.
    pub confidence: f64,
    /// Unit that contains the sentence.
    pub source: Uuid,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoundEntity {
    /// Key, unique per user.
    pub slug: String,
    pub name: String,
    pub aliases: Vec<String>,
    pub entity_type: EntityType,
    /// Relationship to the user, for example `manager`.
    pub relationship: Option<String>,
    /// Mean sentiment of the sentences, from −1 to 1.
    pub sentiment: f32,
    pub facts: Vec<Fact>,
    pub unit_ids: Vec<Uuid>,
}

/// Finds candidate names in the new units, and adds existing entities and suggested names.
#[must_use]
pub fn find_mentions(sources: &Sources, hints: &Hints) -> Vec<Mention> {
    // A word that also occurs in lowercase is no name, even if it is capitalized at the beginning of a sentence.
    let lowercase: HashSet<&str> = sources
        .units
        .iter()
        .flat_map(|unit| unit.content.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| word.chars().next().is_some_and(char::is_lowercase))
        .collect();
    let mut all: BTreeMap<String, (Mention, bool)> = BTreeMap::new();
    for unit in &sources.units {
        for sentence in sentences(&unit.content) {
            for (name, significant) in extract_names(sentence, &lowercase) {
                let (mention, seen_significant) = all.entry(name.clone()).or_insert_with(|| {
                    (Mention { name, sentences: Vec::new(), entity_type: None, trusted: false }, false)
                });
                *seen_significant |= significant;
                mention.sentences.push((unit.id, sentence.to_owned()));
            }
        }
    }
    // A word that occurs only at the beginning of sentences may be any word.
    let mut all: Vec<Mention> =
        all.into_values().filter(|(_, significant)| *significant).map(|(mention, _)| mention).collect();
    let known = sources.entities.iter().map(|entity| (entity.name.clone(), Some(entity.entity_type)));
    for (name, entity_type) in known.chain(hints.entities()) {
        if let Some(mention) = all.iter_mut().find(|mention| mention.name == name) {
            mention.trusted = true;
            mention.entity_type = mention.entity_type.or(entity_type);
        } else {
            let lower = name.to_lowercase();
            let of = sources
                .units
                .iter()
                .flat_map(|unit| sentences(&unit.content).map(|it| (unit.id, it.to_owned())));
            let sentences = of.filter(|(_, sentence)| sentence.to_lowercase().contains(&lower)).collect();
            all.push(Mention { name, sentences, entity_type, trusted: true });
        }
    }
    all
}

/// Extracts names from a sentence: runs of capitalized words, or of words shaped like names. The flag says whether the
/// position makes the capital significant.
fn extract_names(sentence: &str, lowercase: &HashSet<&str>) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    let mut run: Vec<&str> = Vec::new();
    let mut run_significant = false;
    let mut flush = |run: &mut Vec<&str>, significant: &mut bool| {
        while run.last().is_some_and(|word| !is_capitalized(word)) {
            run.pop();
        }
        if !run.is_empty() && run.len() <= 4 {
            all.push((run.join(" "), *significant));
        }
        run.clear();
        *significant = false;
    };
    for (at, raw) in sentence.split_whitespace().enumerate() {
        let opens = raw.starts_with(['"', '(', '\'', '“', '‘']);
        let word = raw.trim_matches(|c: char| !c.is_alphanumeric() && c != '+' && c != '#');
        let word = word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).unwrap_or(word);
        let lower = word.to_lowercase();
        let is_plain = !has_name_shape(word);
        let is_name = is_capitalized(word)
            && word.chars().count() >= 2
            && !(is_plain && NON_NAME_WORDS.contains(lower.as_str()))
            // "Bread needs time": "bread" occurs in lowercase elsewhere, so it is no name.
            && !(at == 0 && is_plain && lowercase.contains(lower.as_str()));
        if opens {
            flush(&mut run, &mut run_significant);
        }
        if is_name {
            run_significant |= at > 0 || !is_plain || !run.is_empty();
            run.push(word);
        } else if !run.is_empty() && (raw == "&" || matches!(lower.as_str(), "of" | "de" | "von" | "van")) {
            run.push(if raw == "&" { raw } else { word });
        } else {
            flush(&mut run, &mut run_significant);
        }
        let closes = raw.ends_with([',', ';', ':', ')', '"', '.', '!', '?'])
            || raw.ends_with("'s")
            || raw.ends_with("’s");
        if closes {
            flush(&mut run, &mut run_significant);
        }
    }
    flush(&mut run, &mut run_significant);
    all
}

fn is_capitalized(word: &str) -> bool {
    word.chars().next().is_some_and(char::is_uppercase) || has_name_shape(word)
}

/// Whether the word has inner capitals or digits, as in iPhone, PostgreSQL, AWS or K8s.
fn has_name_shape(word: &str) -> bool {
    let mut chars = word.chars();
    let first = chars.next();
    let inner = chars.clone().any(char::is_uppercase);
    let digit = word.chars().any(|c| c.is_ascii_digit()) && first.is_some_and(char::is_uppercase);
    first.is_some_and(char::is_alphabetic)
        && (inner || digit)
        && word.chars().all(|c| c.is_alphanumeric() || "-.+#".contains(c))
}

/// Groups candidate names into entities with all their units.
#[must_use]
pub fn build_entities(
    sources: &Sources,
    mentions: &[Mention],
    occurrences: &Occurrences,
) -> Vec<FoundEntity> {
    let mut groups: Vec<Vec<&Mention>> = Vec::new();
    let mut by_length: Vec<&Mention> = mentions.iter().collect();
    // Longer names first, so that "Anna" joins "Anna Schmidt".
    by_length.sort_by_key(|mention| {
        (
            std::cmp::Reverse(mention.trusted),
            std::cmp::Reverse(mention.name.split(' ').count()),
            mention.name.clone(),
        )
    });
    for mention in by_length {
        let matching: Vec<usize> = groups
            .iter()
            .enumerate()
            .filter(|(_, group)| group.iter().any(|other| refers_to_same(sources, other, mention)))
            .map(|(at, _)| at)
            .collect();
        match matching[..] {
            [index] => groups[index].push(mention),
            // With two people named Anna, "Anna" alone is ambiguous and is skipped.
            [] => groups.push(vec![mention]),
            _ => {}
        }
    }
    groups.iter().filter_map(|group| build_entity(sources, group, occurrences)).collect()
}

fn refers_to_same(sources: &Sources, other: &Mention, mention: &Mention) -> bool {
    let known = sources.entities.iter().find(|entity| entity.name == other.name);
    if known.is_some_and(|entity| entity.aliases.contains(&mention.name))
        || is_same_name(&other.name, &mention.name)
    {
        return true;
    }
    // First or last name of a person with a full name.
    let words: Vec<&str> = other.name.split(' ').collect();
    words.len() == 2 && words.contains(&mention.name.as_str()) && infer_type(other) == EntityType::Person
}

fn build_entity(sources: &Sources, group: &[&Mention], occurrences: &Occurrences) -> Option<FoundEntity> {
    let first = group.first()?;
    let units: HashSet<Uuid> = group
        .iter()
        .filter_map(|mention| occurrences.get(&mention.name))
        .flat_map(|occurrence| occurrence.unit_ids.iter().copied())
        .collect();
    let known = sources.entities.iter().find(|entity| entity.name == first.name);
    if known.is_none() && units.len() < MIN_UNITS as usize {
        return None;
    }
    let all: Vec<&(Uuid, String)> = group.iter().flat_map(|mention| &mention.sentences).collect();
    let aliases = group.iter().skip(1).map(|mention| mention.name.clone()).collect();
    let mut unit_ids: Vec<Uuid> = units.into_iter().collect();
    unit_ids.sort_unstable();
    let entity_type = known.map_or_else(|| majority_type(group), |entity| entity.entity_type);
    let key = known.map_or_else(|| slug(&first.name), |entity| entity.slug.clone());
    (!key.is_empty()).then(|| FoundEntity {
        slug: key,
        name: first.name.clone(),
        aliases,
        entity_type,
        relationship: group.iter().find_map(|mention| find_relationship(mention)),
        sentiment: score_sentiment(&all),
        facts: find_facts(group),
        unit_ids,
    })
}

fn majority_type(group: &[&Mention]) -> EntityType {
    let mut votes: HashMap<EntityType, usize> = HashMap::new();
    for mention in group {
        *votes.entry(infer_type(mention)).or_default() += mention.sentences.len().max(1);
    }
    let best = votes.into_iter().filter(|(kind, _)| *kind != EntityType::Concept);
    best.max_by_key(|(kind, count)| (*count, *kind)).map_or(EntityType::Concept, |(kind, _)| kind)
}

/// Infers the type from the shape of the name and the words around it.
fn infer_type(mention: &Mention) -> EntityType {
    if let Some(kind) = mention.entity_type {
        return kind;
    }
    let last = mention.name.rsplit(' ').next().unwrap_or_default().to_lowercase();
    if ORGANIZATION_SUFFIXES.contains(last.as_str()) {
        return EntityType::Organization;
    }
    let mut votes: HashMap<EntityType, usize> = HashMap::new();
    for (_, sentence) in &mention.sentences {
        let Some(at) = sentence.find(&mention.name) else { continue };
        let clean = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let before: Vec<String> = sentence[..at].split_whitespace().rev().take(3).map(clean).collect();
        let after =
            sentence[at + mention.name.len()..].split_whitespace().next().map(clean).unwrap_or_default();
        let previous = before.first().map(String::as_str).unwrap_or_default();
        let mut vote = |kind, weight| *votes.entry(kind).or_default() += weight;
        if PERSON_VERBS.contains(after.as_str())
            || before.iter().any(|word| RELATIONSHIPS.contains(&word.as_str()))
        {
            vote(EntityType::Person, 3);
        }
        if previous == "project" || after == "project" {
            vote(EntityType::Project, 4);
        }
        if has_name_shape(&mention.name) {
            vote(EntityType::Tool, 1);
        }
        if TOOL_CONTEXT.contains(previous) {
            vote(EntityType::Tool, 1);
        }
        if ORGANIZATION_CONTEXT.contains(previous) {
            vote(EntityType::Organization, 1);
        }
        if previous == "with" || previous == "and" || after == "and" {
            vote(EntityType::Person, 1);
        }
    }
    let best = votes.into_iter().max_by_key(|(kind, count)| (*count, std::cmp::Reverse(*kind)));
    best.filter(|(_, count)| *count >= 2).map_or(EntityType::Concept, |(kind, _)| kind)
}

/// Finds a relationship in phrases such as "my manager Anna", "Anna, my manager" or "Anna is my manager".
fn find_relationship(mention: &Mention) -> Option<String> {
    for (_, sentence) in &mention.sentences {
        let lower = sentence.to_lowercase();
        let name = mention.name.to_lowercase();
        for relation in RELATIONSHIPS.iter() {
            let phrases = [
                format!("my {relation} {name}"),
                format!("our {relation} {name}"),
                format!("{name}, my {relation}"),
                format!("{name} is my {relation}"),
                format!("{name}, our {relation}"),
                format!("{name} is our {relation}"),
            ];
            if phrases.iter().any(|phrase| lower.contains(phrase.as_str())) {
                return Some((*relation).to_owned());
            }
        }
    }
    None
}

/// Sentences that start with the name and a verb that states a fact.
fn find_facts(group: &[&Mention]) -> Vec<Fact> {
    let mut all: Vec<Fact> = Vec::new();
    for mention in group {
        for (unit, sentence) in &mention.sentences {
            let Some(rest) = sentence.strip_prefix(mention.name.as_str()) else { continue };
            let verb = rest.split_whitespace().next().unwrap_or_default();
            let stated = FACT_VERBS.iter().find(|(word, _)| *word == verb);
            if let Some((_, confidence)) = stated.filter(|_| !sentence.ends_with('?'))
                && all.iter().all(|fact| fact.fact != *sentence)
            {
                all.push(Fact { fact: sentence.clone(), confidence: *confidence, source: *unit });
            }
        }
    }
    all.truncate(20);
    all
}

fn score_sentiment(sentences: &[&(Uuid, String)]) -> f32 {
    let mut sum = 0_i32;
    for (_, sentence) in sentences {
        let lower = sentence.to_lowercase();
        for word in lower.split(|c: char| !c.is_alphanumeric()) {
            sum += i32::from(POSITIVE_WORDS.contains(word));
            sum -= i32::from(NEGATIVE_WORDS.contains(word));
        }
    }
    (sum as f32 / (sentences.len().max(1) as f32)).clamp(-1.0, 1.0)
}
