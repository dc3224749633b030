//! Predicts from presence signals which bundles a user will need next. Pure.

use std::collections::HashMap;

use jiff::{Timestamp, civil};
use serde::Deserialize;
use uuid::Uuid;

use super::bundle::{BundleType, Subject};

const MAX_PREDICTIONS: usize = 8;
/// Less likely bundles are not compiled ahead. A recent entity of importance 0.5, the lowest of a profile, reaches it.
const MIN_PROBABILITY: f64 = 0.05;
/// Visible conversations (sidebar) that are considered.
const MAX_VISIBLE_CONVERSATIONS: usize = 3;
/// Recent paths that are considered, and the minimum number for a decision.
const RECENT_PATHS: usize = 5;
const MIN_PATHS: usize = 3;

const ACTIVE_PROBABILITY: f64 = 0.85;
const VISIBLE_PROBABILITY: f64 = 0.30;
const PEAK_HOUR_PROBABILITY: f64 = 0.20;
const RECENT_TOPIC_PROBABILITY: f64 = 0.15;
const RECENT_ENTITY_PROBABILITY: f64 = 0.10;

/// A topic or entity of a user with its importance.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct WeightedItem {
    /// ID of the topic or entity.
    pub id: Uuid,
    /// Importance, from 0 to 1.
    pub importance: f64,
}

/// Result of `rollcall.context_signals`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Signals {
    pub device_id: String,
    pub active_conversation_id: Option<Uuid>,
    /// Topics of the open conversation.
    #[serde(default)]
    pub active_topics: Vec<Uuid>,
    /// Conversations in view, for example in a sidebar.
    #[serde(default)]
    pub visible_conversation_ids: Vec<Uuid>,
    /// Visited paths, oldest first: `[{"path", "at"}]`.
    #[serde(default)]
    pub navigation_history: Vec<PageVisit>,
    /// Topics whose usual hour is the current local hour.
    #[serde(default)]
    pub hours: Vec<WeightedItem>,
    /// Topics used in the last two days.
    #[serde(default)]
    pub hot: Vec<WeightedItem>,
    /// Entities mentioned in the last three days.
    #[serde(default)]
    pub entities: Vec<WeightedItem>,
}

/// An entry of the navigation history.
#[derive(Debug, Clone, Deserialize)]
pub struct PageVisit {
    pub path: String,
}

/// A bundle that may be needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    pub subject: Subject,
    /// From 0 to 1.
    pub probability: f64,
}

/// Predicts needed bundles, most likely first.
#[must_use]
pub fn predict(signals: &Signals) -> Vec<Prediction> {
    let topic = |id| Subject::new(BundleType::Topic, id);
    let conversation = |id| Subject::new(BundleType::Conversation, id);
    let active = signals.active_conversation_id.map(conversation).into_iter();
    let active = active
        .chain(signals.active_topics.iter().copied().map(topic))
        .map(|subject| (subject, ACTIVE_PROBABILITY));
    let visible = signals.visible_conversation_ids.iter().take(MAX_VISIBLE_CONVERSATIONS).copied();
    let visible = visible.map(|id| (conversation(id), VISIBLE_PROBABILITY));
    let hours = signals.hours.iter().map(|it| (topic(it.id), PEAK_HOUR_PROBABILITY * it.importance));
    let hot = signals.hot.iter().map(|it| (topic(it.id), RECENT_TOPIC_PROBABILITY * it.importance));
    let entity = |it: &WeightedItem| {
        (Subject::new(BundleType::Entity, it.id), RECENT_ENTITY_PROBABILITY * it.importance)
    };
    let entities = signals.entities.iter().map(entity);

    // Signals are treated as independent: a bundle is needed unless all its signals are wrong.
    let mut misses: HashMap<Subject, f64> = HashMap::new();
    for (subject, probability) in active.chain(visible).chain(hours).chain(hot).chain(entities) {
        *misses.entry(subject).or_insert(1.0) *= 1.0 - probability;
    }
    let mut all: Vec<_> =
        misses.into_iter().map(|(subject, miss)| Prediction { subject, probability: 1.0 - miss }).collect();
    all.sort_by(|one, other| {
        other.probability.total_cmp(&one.probability).then(one.subject.cmp(&other.subject))
    });
    all.truncate(MAX_PREDICTIONS);
    all
}

/// Subjects that are likely enough to be compiled ahead.
pub fn likely_subjects(predictions: &[Prediction]) -> impl Iterator<Item = Subject> {
    // Tolerance for floating-point error.
    predictions.iter().filter(|it| it.probability >= MIN_PROBABILITY - 1e-9).map(|it| it.subject)
}

/// Whether the user switches between notebooks and chats, which selects [`Depth::Deep`](super::budget::Depth::Deep).
#[must_use]
pub fn is_researching<'a>(paths: impl DoubleEndedIterator<Item = &'a str>) -> bool {
    let recent: Vec<_> = paths.rev().take(RECENT_PATHS).collect();
    let visited = |part: &str| recent.iter().any(|path| path.contains(part));
    recent.len() >= MIN_PATHS && visited("notebook") && (visited("chat") || visited("conversation"))
}

/// Parses the hour of a device's local time (see [`crate::model::LocalTime`]). `None` if it has no valid time.
#[must_use]
pub fn local_hour(text: &str) -> Option<i32> {
    if let Ok(time) = text.parse::<civil::Time>() {
        return Some(time.hour().into());
    }
    let instant: Timestamp = text.parse().ok()?;
    Some(instant.to_zoned(jiff::tz::TimeZone::UTC).hour().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals() -> Signals {
        Signals { device_id: "web".into(), ..Signals::default() }
    }

    #[test]
    fn the_active_conversation_and_its_topics_rank_above_the_sidebar() {
        let [open, topic, one, two, three, four] = std::array::from_fn(|_| Uuid::new_v4());
        let predictions = predict(&Signals {
            active_conversation_id: Some(open),
            active_topics: vec![topic],
            visible_conversation_ids: vec![one, two, three, four],
            ..signals()
        });
        let probability_of =
            |id: Uuid| predictions.iter().find(|it| it.subject.ref_id == Some(id)).map(|it| it.probability);
        assert!(probability_of(open).is_some_and(|p| (p - 0.85).abs() < 1e-9));
        assert!(probability_of(topic).is_some_and(|p| (p - 0.85).abs() < 1e-9));
        assert!(
            probability_of(one).is_some_and(|p| (p - 0.30).abs() < 1e-9) && probability_of(three).is_some()
        );
        assert_eq!(probability_of(four), None, "only the first three visible conversations count");
    }

    #[test]
    fn time_signals_are_weighted_by_importance_and_unlikely_subjects_are_dropped() {
        let [important, minor, entity] = std::array::from_fn(|_| Uuid::new_v4());
        let predictions = predict(&Signals {
            hours: vec![WeightedItem { id: important, importance: 0.9 }],
            hot: vec![
                WeightedItem { id: important, importance: 0.9 },
                WeightedItem { id: minor, importance: 0.2 },
            ],
            entities: vec![WeightedItem { id: entity, importance: 0.5 }],
            ..signals()
        });
        let built: Vec<_> = likely_subjects(&predictions).map(|subject| subject.ref_id).collect();
        assert_eq!(built, [Some(important), Some(entity)]);
        assert_eq!(predictions.len(), 3);
    }

    #[test]
    fn at_most_eight_predictions_are_returned_in_order_of_probability() {
        let predictions = predict(&Signals {
            active_conversation_id: Some(Uuid::new_v4()),
            active_topics: (0..20).map(|_| Uuid::new_v4()).collect(),
            hot: vec![WeightedItem { id: Uuid::new_v4(), importance: 1.0 }],
            ..signals()
        });
        assert_eq!(predictions.len(), 8);
        assert!(predictions.is_sorted_by(|one, other| one.probability >= other.probability));
    }

    #[test]
    fn switching_between_notebooks_and_chats_counts_as_research() {
        assert!(is_researching(["/notebook/1", "/chat/2", "/notebook/1"].into_iter()));
        assert!(!is_researching(["/notebook/1", "/chat/2"].into_iter()), "too few");
        let long_ago = ["/notebook/1", "/chat/1", "/chat/2", "/chat/3", "/chat/4", "/chat/5"];
        assert!(!is_researching(long_ago.into_iter()), "only the last five paths count");
    }

    #[test]
    fn the_hour_is_read_in_the_device_time_zone() {
        for (text, hour) in [
            ("14:30", Some(14)),
            ("2024-06-15T23:30:00+02:00", Some(23)),
            ("2024-06-15T21:30:00Z", Some(21)),
            ("noon", None),
        ] {
            assert_eq!(local_hour(text), hour, "{text}");
        }
    }
}
