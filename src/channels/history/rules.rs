//! Which topics have a history.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use crate::settings::{ParseResult, comma_separated, duration};

/// Maximum number of kept messages of a topic.
const MAX_COUNT: usize = 10_000;
/// Maximum age of messages in memory.
const MAX_MEMORY_AGE: Duration = Duration::from_secs(24 * 3_600);
/// Maximum age of rows. Partitions of `realtime.messages` are kept for three days.
const MAX_ROWS_AGE: Duration = Duration::from_secs(72 * 3_600);

/// Where the messages of a topic are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryStorage {
    /// In the memory of each node.
    Memory,
    /// As rows of `realtime.messages`.
    Rows,
}

/// What is kept of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRule {
    /// Maximum number of messages.
    pub count: usize,
    /// Maximum age of messages.
    pub age: Duration,
    pub storage: HistoryStorage,
}

impl HistoryRule {
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.storage == HistoryStorage::Memory
    }
}

/// The rules by topic. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryRules(Arc<[(TopicPattern, HistoryRule)]>);

/// A topic without `realtime:`, or the beginning of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TopicPattern {
    text: Box<str>,
    is_prefix: bool,
}

impl TopicPattern {
    fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&*self.text) } else { *name == *self.text }
    }
}

impl HistoryRules {
    /// Parses a list of `<topic or prefix*>=<count>/<age>[/rows]`.
    ///
    /// # Errors
    /// An entry is malformed or out of bounds, or a pattern occurs twice. The message names the entry.
    pub fn parse(text: &str) -> ParseResult<Self> {
        let mut rules = Vec::new();
        for entry in comma_separated(text) {
            let (pattern, rule) = parse_entry(entry).map_err(|problem| invalid(entry, &problem))?;
            if rules.iter().any(|(other, _)| *other == pattern) {
                return Err(invalid(entry, "the topic occurs twice"));
            }
            rules.push((pattern, rule));
        }
        // The longest first; a topic before a prefix of the same length.
        rules.sort_by_key(|(pattern, _)| (Reverse(pattern.text.len()), pattern.is_prefix));
        Ok(Self(rules.into()))
    }

    /// The rule of a topic, without `realtime:`. `None` if its messages are not kept.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<HistoryRule> {
        self.0.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, rule)| *rule)
    }
}

fn invalid(entry: &str, problem: &str) -> String {
    format!(
        "must be a comma-separated list of topic=count/age or topic=count/age/rows such as room:*=100/10m (got \
         \"{entry}\": {problem})"
    )
}

fn parse_entry(entry: &str) -> ParseResult<(TopicPattern, HistoryRule)> {
    let (name, limits) = entry.rsplit_once('=').ok_or("the limits are missing")?;
    let (text, is_prefix) = match name.trim().strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (name.trim(), false),
    };
    if text.contains('*') || (text.is_empty() && !is_prefix) {
        return Err("the topic must be a name, optionally with one * at its end".to_owned());
    }
    let mut parts = limits.split('/').map(str::trim);
    let count =
        parts.next().and_then(|count| count.parse().ok()).filter(|count| (1..=MAX_COUNT).contains(count));
    let count = count.ok_or_else(|| format!("the count must be a whole number from 1 to {MAX_COUNT}"))?;
    let age = parts.next().ok_or("the age is missing")?;
    let age = duration(age).map_err(|problem| format!("the age {problem}"))?;
    let (storage, max_age) = match parts.next() {
        None | Some("memory") => (HistoryStorage::Memory, MAX_MEMORY_AGE),
        Some("rows") => (HistoryStorage::Rows, MAX_ROWS_AGE),
        Some(_) => return Err("the messages are kept in memory or rows".to_owned()),
    };
    if parts.next().is_some() {
        return Err("there is something after the storage".to_owned());
    }
    if age.is_zero() || age > max_age {
        return Err(format!("the age must be at most {} h", max_age.as_secs() / 3_600));
    }
    Ok((TopicPattern { text: text.into(), is_prefix }, HistoryRule { count, age, storage }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rules: &str, names: &[&str]) -> Vec<Option<usize>> {
        let rules = HistoryRules::parse(rules).expect("rules");
        names.iter().map(|name| rules.find(name).map(|rule| rule.count)).collect()
    }

    #[test]
    fn the_longest_matching_entry_applies() {
        let rules = "*=1/1m, room:*=2/1m,room:1*=3/1m,room:1=4/1m,a=b=5/1m";
        let expected = [Some(1), Some(2), Some(3), Some(4), Some(5)];
        assert_eq!(counts(rules, &["lobby", "room:2", "room:11", "room:1", "a=b"]), expected);
        assert_eq!(counts("room:*=2/1m", &["room", "lobby"]), [None, None]);
        assert_eq!(counts("", &["room"]), [None]);
        let rule = HistoryRules::parse("a=10000/24h").expect("rules").find("a");
        let storage = HistoryStorage::Memory;
        assert_eq!(rule, Some(HistoryRule { count: 10_000, age: Duration::from_secs(86_400), storage }));
        let rule = HistoryRules::parse("a=1/72h/rows").expect("rules").find("a").expect("a rule");
        assert_eq!((rule.age, rule.storage), (Duration::from_secs(3 * 86_400), HistoryStorage::Rows));
    }

    #[test]
    fn errors_name_the_entry() {
        for (entry, problem) in [
            ("room", "the limits are missing"),
            ("=1/1m", "the topic must be a name"),
            ("a*b=1/1m", "the topic must be a name"),
            ("a=0/1m", "the count must be a whole number from 1 to 10000"),
            ("a=10001/1m", "the count must be"),
            ("a=x/1m", "the count must be"),
            ("a=1", "the age is missing"),
            ("a=1/soon", "the age must be seconds"),
            ("a=1/0s", "the age must be at most 24 h"),
            ("a=1/25h", "the age must be at most 24 h"),
            ("a=1/73h/rows", "the age must be at most 72 h"),
            ("a=1/1m/disk", "the messages are kept in memory or rows"),
            ("a=1/1m/rows/more", "there is something after the storage"),
        ] {
            let error = HistoryRules::parse(&format!("lobby=1/1m,{entry}")).expect_err(entry);
            assert!(error.contains(&format!("(got \"{entry}\": {problem}")), "{error}");
        }
        assert!(HistoryRules::parse("a=1/1m,a=2/1m").is_err_and(|error| error.contains("occurs twice")));
    }
}
