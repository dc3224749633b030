//! Finds topics: phrases that recur in a user's units and are concentrated in few groups.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use uuid::Uuid;

use super::{
    entities::FoundEntity,
    hints::Hints,
    names::{is_same_name, slug},
    sources::{Corpus, EntityType, Occurrence, Occurrences, Sources, Unit},
};
use crate::context::word_lists::{DOMAIN_WORDS, GENERIC_STEMS};

/// Minimum number of units of a topic.
const MIN_UNITS: u32 = 5;
/// Maximum words of a phrase.
const MAX_PHRASE_WORDS: usize = 3;
/// Maximum phrases that are looked up in the corpus.
const MAX_CANDIDATES: usize = 400;
/// Minimum residual inverse document frequency of a single word: how much more clustered it is than by chance.
const MIN_CLUSTERING: f64 = 0.25;
/// A phrase in a larger share of all units is too common. Applies to corpora of at least `MIN_CORPUS_UNITS`.
const MAX_SHARE: f64 = 0.4;
const MIN_CORPUS_UNITS: u32 = 30;
/// Two phrases form one topic if they share at least this part of the smaller one's units.
const MIN_OVERLAP: f64 = 0.6;
/// Maximum topics per roll-up and aliases per topic.
const MAX_TOPICS: usize = 30;
const MAX_ALIASES: usize = 12;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Most frequent spelling.
    pub phrase: String,
    pub stems: Vec<String>,
    /// Whether only the number of units is checked, because the phrase names an existing topic or a model suggested it.
    pub trusted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoundTopic {
    /// Key, unique per user.
    pub slug: String,
    pub label: String,
    /// Other phrases for the topic.
    pub aliases: Vec<String>,
    pub domain: Option<Domain>,
    pub unit_ids: Vec<Uuid>,
    /// Relevance of each unit in `unit_ids`, from 0 to 1.
    pub relevances: Vec<f32>,
}

/// Broad subject area of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Software and machines.
    Engineering,
    /// Home, family, travel.
    Personal,
    /// Art, music, writing.
    Creative,
    /// Customers, sales and projects at work.
    Business,
    /// Physical and mental health.
    Health,
    /// Personal finance.
    Finance,
}

impl Domain {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "engineering" => Self::Engineering,
            "personal" => Self::Personal,
            "creative" => Self::Creative,
            "business" => Self::Business,
            "health" => Self::Health,
            "finance" => Self::Finance,
            _ => return None,
        })
    }
}

/// Indexes of the units that contain a phrase, and the frequency of each spelling.
type PhraseStats = (HashSet<usize>, HashMap<String, usize>);

/// Candidate phrases from the new units, and the names of existing and suggested topics.
#[must_use]
pub fn find_candidates(sources: &Sources, hints: &Hints) -> Vec<Candidate> {
    // Keyed by stems.
    let mut seen: BTreeMap<Vec<String>, PhraseStats> = BTreeMap::new();
    for (at, unit) in sources.units.iter().enumerate() {
        for (stems, surface) in extract_phrases(unit) {
            let (units, surfaces) = seen.entry(stems).or_default();
            units.insert(at);
            *surfaces.entry(surface).or_default() += 1;
        }
    }
    let mut all: Vec<(usize, Candidate)> = seen
        .into_iter()
        .filter(|(_, (units, _))| units.len() >= 2 || sources.units.len() < 20)
        .map(|(stems, (units, surfaces))| {
            // The most frequent spelling; ties are broken alphabetically, so that the result is deterministic.
            let phrase =
                surfaces.into_iter().max_by(|one, other| one.1.cmp(&other.1).then(other.0.cmp(&one.0)));
            let phrase = phrase.map(|(phrase, _)| phrase).unwrap_or_default();
            (units.len() * (1 + stems.len()), Candidate { phrase, stems, trusted: false })
        })
        .collect();
    all.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.phrase.cmp(&other.1.phrase)));
    all.truncate(MAX_CANDIDATES);
    let mut all: Vec<Candidate> = all.into_iter().map(|(_, candidate)| candidate).collect();
    let known = sources.topics.iter().flat_map(|topic| topic.aliases.iter().chain([&topic.label]));
    for name in known.cloned().chain(hints.topic_names()) {
        all.retain(|candidate| !candidate.phrase.eq_ignore_ascii_case(&name));
        let stems = name.split_whitespace().map(str::to_lowercase).collect();
        all.push(Candidate { phrase: name, stems, trusted: true });
    }
    all
}

/// Runs of one to three significant words without stop words, as stems and original spelling.
fn extract_phrases(unit: &Unit) -> Vec<(Vec<String>, String)> {
    let mut all = Vec::new();
    for run in unit.words.split(|word| word.as_ref().is_none_or(|(_, stem)| stem.is_empty())) {
        let run: Vec<&(String, String)> = run.iter().flatten().collect();
        for length in 1..=MAX_PHRASE_WORDS {
            for window in run.windows(length) {
                let substance = |(_, stem): &(String, String)| {
                    stem.chars().count() >= 3
                        && !GENERIC_STEMS.contains(stem.as_str())
                        && !stem.chars().all(|c| c.is_ascii_digit() || c == '.')
                };
                let acronym = |(token, _): &(String, String)| {
                    token.len() >= 2 && token.chars().all(|c| c.is_ascii_uppercase())
                };
                if window.iter().all(|word| substance(word) || acronym(word)) {
                    let stems = window.iter().map(|(_, stem)| stem.clone()).collect();
                    let surface: Vec<&str> = window.iter().map(|(token, _)| token.as_str()).collect();
                    all.push((stems, normalize_case(&surface.join(" "))));
                }
            }
        }
    }
    all
}

/// Lowercases each word, unless it has inner capitals.
fn normalize_case(surface: &str) -> String {
    let word = |word: &str| {
        if word.chars().skip(1).any(char::is_uppercase) { word.to_owned() } else { word.to_lowercase() }
    };
    surface.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Scores the candidates and clusters them into topics with all their units.
#[must_use]
pub fn build_topics(
    sources: &Sources,
    candidates: &[Candidate],
    occurrences: &Occurrences,
    entities: &[FoundEntity],
) -> Vec<FoundTopic> {
    let people: HashSet<String> = entities
        .iter()
        .filter(|entity| entity.entity_type == EntityType::Person)
        .flat_map(|entity| entity.aliases.iter().chain([&entity.name]))
        .flat_map(|name| name.split_whitespace().map(str::to_lowercase).chain([name.to_lowercase()]))
        .collect();
    let mut terms: Vec<Term<'_>> = candidates
        .iter()
        .filter_map(|candidate| {
            let occurrence = occurrences.get(&candidate.phrase)?;
            let score = score_candidate(candidate, occurrence, sources.corpus)?;
            let is_person = people.contains(&candidate.phrase.to_lowercase());
            (candidate.trusted || !is_person).then(|| Term {
                candidate,
                units: occurrence.unit_ids.iter().copied().collect(),
                score,
            })
        })
        .collect();
    terms.sort_by(|one, other| {
        other.score.total_cmp(&one.score).then_with(|| one.candidate.phrase.cmp(&other.candidate.phrase))
    });
    let clusters = build_clusters(sources, terms);
    clusters.into_iter().take(MAX_TOPICS).filter_map(|cluster| cluster.into_topic(sources)).collect()
}

struct Term<'a> {
    candidate: &'a Candidate,
    units: HashSet<Uuid>,
    score: f64,
}

/// Scores a phrase; `None` if it is no topic.
fn score_candidate(candidate: &Candidate, occurrence: &Occurrence, corpus: Corpus) -> Option<f64> {
    if occurrence.units < MIN_UNITS && !candidate.trusted {
        return None;
    }
    let (units, groups) = (f64::from(occurrence.units), f64::from(occurrence.groups.max(1)));
    let share = units / f64::from(corpus.units.max(1));
    let all_groups = f64::from(corpus.groups.max(1));
    // Expected number of groups if the units were spread at random; a topic's units are in fewer groups.
    let expected = -(1.0 - (-units / all_groups).exp()).ln();
    let clustered = (all_groups / groups).ln() - expected;
    let words = candidate.stems.len();
    if !candidate.trusted {
        if share > MAX_SHARE && corpus.units >= MIN_CORPUS_UNITS {
            return None;
        }
        if words == 1 && corpus.groups >= 4 && clustered < MIN_CLUSTERING {
            return None;
        }
    }
    Some(units.sqrt() * (0.5 + clustered.max(0.0)) * (0.7 + 0.3 * words as f64))
}

struct Cluster<'a> {
    terms: Vec<Term<'a>>,
    units: HashSet<Uuid>,
    known_topic: Option<usize>,
}

/// Clusters phrases that occur in the same units, highest score first.
fn build_clusters<'a>(sources: &Sources, terms: Vec<Term<'a>>) -> Vec<Cluster<'a>> {
    let mut clusters: Vec<Cluster<'a>> = Vec::new();
    // Existing topics come first and keep their names.
    for (at, topic) in sources.topics.iter().enumerate() {
        clusters.push(Cluster { terms: Vec::new(), units: HashSet::new(), known_topic: Some(at) });
        debug_assert!(!topic.label.is_empty());
    }
    let (trusted, rest): (Vec<_>, Vec<_>) = terms.into_iter().partition(|term| term.candidate.trusted);
    for term in trusted.into_iter().chain(rest) {
        let target = clusters.iter_mut().find(|cluster| cluster.accepts(sources, &term));
        match target {
            Some(cluster) => {
                // A phrase that mostly occurs in other units does not join the cluster.
                let common = term.units.intersection(&cluster.units).count();
                if cluster.units.is_empty() || common * 10 >= term.units.len() * 6 || term.candidate.trusted {
                    cluster.units.extend(&term.units);
                    cluster.terms.push(term);
                }
            }
            None => {
                clusters.push(Cluster { units: term.units.clone(), terms: vec![term], known_topic: None })
            }
        }
    }
    clusters.retain(|cluster| !cluster.terms.is_empty());
    clusters
}

impl Cluster<'_> {
    fn accepts(&self, sources: &Sources, term: &Term<'_>) -> bool {
        let phrase = &term.candidate.phrase;
        if let Some(topic) = self.known_topic.map(|at| &sources.topics[at])
            && topic.aliases.iter().chain([&topic.label]).any(|name| is_same_name(name, phrase))
        {
            return true;
        }
        if self.terms.iter().any(|other| is_same_name(&other.candidate.phrase, phrase)) {
            return true;
        }
        let smaller = self.units.len().min(term.units.len());
        let common = self.units.intersection(&term.units).count();
        smaller > 0 && common as f64 >= MIN_OVERLAP * smaller as f64
            // The cluster must not be a small part of a much more frequent phrase.
            && term.units.len() <= self.units.len() * 2
    }

    fn into_topic(self, sources: &Sources) -> Option<FoundTopic> {
        if self.known_topic.is_none() && self.units.len() < MIN_UNITS as usize {
            return None;
        }
        let best = self.terms.first()?;
        // Label: the longest phrase among those that score nearly as high as the best.
        let label =
            self.terms.iter().filter(|term| term.score >= best.score * 0.6).max_by(|one, other| {
                let words = |term: &Term<'_>| term.candidate.stems.len();
                words(one).cmp(&words(other)).then(one.score.total_cmp(&other.score))
            })?;
        let label = label.candidate.phrase.clone();
        let (slug, label) = match self.known_topic.map(|at| &sources.topics[at]) {
            Some(topic) => (topic.slug.clone(), topic.label.clone()),
            None => (slug(&label), label),
        };
        let mut aliases: Vec<String> = Vec::new();
        for term in &self.terms {
            let phrase = &term.candidate.phrase;
            if !phrase.eq_ignore_ascii_case(&label)
                && !aliases.contains(phrase)
                && aliases.len() < MAX_ALIASES
            {
                aliases.push(phrase.clone());
            }
        }
        let mut unit_ids: Vec<Uuid> = self.units.iter().copied().collect();
        unit_ids.sort_unstable();
        let relevance = |id: &Uuid| {
            let terms = self.terms.iter().filter(|term| term.units.contains(id)).count();
            (0.5 + 0.15 * terms as f32).min(1.0)
        };
        let relevances = unit_ids.iter().map(relevance).collect();
        let texts = sources
            .units
            .iter()
            .filter(|unit| self.units.contains(&unit.id))
            .map(|unit| unit.content.as_str());
        (!slug.is_empty()).then(|| FoundTopic {
            domain: detect_domain(texts),
            slug,
            label,
            aliases,
            unit_ids,
            relevances,
        })
    }
}

/// The domain with the most keywords in the texts; `None` below three keywords.
fn detect_domain<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Domain> {
    let mut counts: BTreeMap<Domain, usize> = BTreeMap::new();
    for text in texts {
        let lower = text.to_lowercase();
        for word in lower.split(|c: char| !c.is_alphanumeric()) {
            for (name, words) in DOMAIN_WORDS.iter() {
                let matches =
                    words.iter().any(|known| word.strip_prefix(known).is_some_and(|rest| rest.len() <= 2));
                if let Some(domain) = Domain::parse(name).filter(|_| matches) {
                    *counts.entry(domain).or_default() += 1;
                }
            }
        }
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count >= 3)
        .max_by_key(|(_, count)| *count)
        .map(|(domain, _)| domain)
}
