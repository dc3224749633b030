//! The prompt for one message: what the database found, fitted into the budget.
//!
//! Fetching is one round trip ([`crate::context::store::bundles::assemble`]) in one snapshot: a bundle that is fresh in it comes as
//! text, any other with its sources and is compiled here. So whatever is in a prompt is as new as the moment at which
//! its assembly began. [`fit`] is pure.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    budget::{self, Budget, BudgetInput, Depth, Layer},
    bundle::{BundleType, CompiledBundle, ReadPoint, Readiness, Subject, WantedBundle},
    compile::{self, InvalidSources},
    predict::{PageVisit, is_researching},
    tokens,
};

/// The messages of a conversation that are read for the history.
pub const MAX_HISTORY: i32 = 120;
/// Units and memories of the just-in-time layer.
const MAX_UNITS: usize = 10;
const MAX_MEMORIES: usize = 8;
/// What is less alike is left out: the share of the message's weight that was found, see `rollcall.match_words`.
const MIN_UNIT_SCORE: f64 = 0.35;
const MIN_MEMORY_SCORE: f64 = 0.40;
/// What a message of the history costs beyond its text, in tokens.
const MESSAGE_OVERHEAD: usize = 4;

/// What the database found for a message: `rollcall.assemble`.
#[derive(Debug, Clone, Deserialize)]
pub struct AssemblySources {
    conversation: ConversationSize,
    detected: Vec<Detected>,
    /// The wanted bundles.
    pub bundles: Vec<WantedBundle>,
    units: Vec<ScoredText>,
    memories: Vec<ScoredText>,
    history: Vec<HistoryMessage>,
    #[serde(default)]
    paths: Vec<PageVisit>,
    /// When all of it was read.
    #[serde(flatten)]
    pub point: ReadPoint,
}

#[derive(Debug, Clone, Deserialize)]
struct ConversationSize {
    messages: usize,
    tokens: usize,
}

/// A topic or an entity that a message is about, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detected {
    /// `topic` or `entity`.
    pub kind: String,
    /// Which.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// How sure, from 0 to 1.
    pub score: f64,
    /// `conversation`, `named`, `misspelt` or `meaning`.
    pub reason: String,
}

#[derive(Debug, Clone, Deserialize)]
struct ScoredText {
    id: Uuid,
    content: String,
    score: f64,
}

/// A message of the conversation.
#[derive(Debug, Clone, Deserialize)]
pub struct HistoryMessage {
    /// Which.
    pub id: Uuid,
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// What it says.
    pub content: String,
}

/// What the request says about its prompt.
#[derive(Debug, Clone, Copy)]
pub struct PromptOptions<'a> {
    /// What the user typed.
    pub message: &'a str,
    /// The whole prompt's tokens.
    pub max_tokens: usize,
    /// Whether the conversation's earlier messages are to be in it.
    pub with_history: bool,
}

/// A part of the prompt, or why it is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// Its layer.
    pub layer: Layer,
    /// What it is about.
    pub title: String,
    /// Its text; empty where it was left out.
    pub content: String,
    /// The text's tokens.
    pub tokens: usize,
    /// Why it is here, or is not, in words.
    pub reason: String,
    /// Of a bundle, whether it was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
    /// Of a bundle, its row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_id: Option<Uuid>,
    /// Whether it is only the beginning.
    pub cut: bool,
}

/// One message as a model takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What it says.
    pub content: String,
}

/// An assembled prompt.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Everything that is known, as Markdown; empty where nothing is.
    pub system: String,
    /// The last messages, oldest first.
    pub history: Vec<ChatMessage>,
    /// What it consists of, by priority.
    pub sections: Vec<Section>,
    /// What the message is about.
    pub detected: Vec<Detected>,
    /// Who got how much.
    pub budget: Budget,
    /// The depth that was chosen.
    pub depth: Depth,
    /// Bundles that were wanted and are compiled now, to be stored.
    pub compiled: Vec<CompiledBundle>,
    /// Rows of bundles that were ready.
    pub hits: Vec<Uuid>,
    /// Rows of bundles that were not.
    pub misses: Vec<Uuid>,
    /// How many bundles were wanted, ready or not.
    pub wanted: usize,
    /// Bundles that were ready.
    pub ready: usize,
    /// Bundles that are in the prompt.
    pub used: usize,
    /// When it was read.
    pub point: ReadPoint,
}

impl Prompt {
    /// Bundles that were ready and fresh over bundles wanted; 1 where none was wanted.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        if self.wanted == 0 { 1.0 } else { self.ready as f64 / self.wanted as f64 }
    }

    /// The tokens of the whole prompt.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.sections.iter().map(|section| section.tokens).sum()
    }
}

/// A bundle's text, however it came about.
struct BundleText<'a> {
    wanted: &'a WantedBundle,
    content: String,
    tokens: usize,
}

/// Fits what was found into the budget of the wish.
///
/// # Errors
/// When the sources of a bundle cannot be read.
pub fn build_prompt(found: AssemblySources, wish: PromptOptions<'_>) -> Result<Prompt, InvalidSources> {
    let mut compiled = Vec::new();
    let mut texts = Vec::new();
    let (mut hits, mut misses) = (Vec::new(), Vec::new());
    let mut held: HashSet<Uuid> = HashSet::new();
    let mut ready = 0;
    for wanted in &found.bundles {
        let text = if let (Readiness::Fresh, Some(content)) = (wanted.reason, &wanted.content) {
            ready += 1;
            hits.extend(wanted.id);
            held.extend(wanted.unit_ids.iter().chain(&wanted.memory_ids));
            BundleText { wanted, content: content.clone(), tokens: wanted.tokens }
        } else {
            misses.extend(wanted.id);
            let bundle = compile::compile(wanted.subject, &wanted.sources, None)?;
            held.extend(bundle.unit_ids.iter().chain(&bundle.memory_ids));
            let text = BundleText {
                wanted,
                content: bundle.content.clone().unwrap_or_default(),
                tokens: bundle.tokens,
            };
            compiled.push(bundle);
            text
        };
        texts.push(text);
    }

    let situation = budget_input(&found, &texts, wish);
    let budget = budget::allocate(&situation);
    let mut sections = Vec::new();
    for layer in [Layer::Identity, Layer::Preferences, Layer::Conversation, Layer::Topic, Layer::Entity] {
        add_layer(layer, &texts, &found.detected, budget.layer(layer).given, &mut sections);
    }
    add_just_in_time(&found, &held, budget.layer(Layer::JustInTime).given, &mut sections);
    let system = sections.iter().filter(|section| !section.content.is_empty());
    let system = system.map(|section| section.content.as_str()).collect::<Vec<_>>().join("\n\n");

    // What the sections have left of their room is the history's, up to its maximum.
    let spent: usize = sections.iter().map(|section| section.tokens).sum();
    let room = wish.max_tokens.saturating_sub(spent + budget.layer(Layer::Message).given);
    let room = room.min(budget.layer(Layer::History).maximum.max(budget.layer(Layer::History).given));
    let history =
        if wish.with_history { add_history(&found.history, room, &mut sections) } else { Vec::new() };
    sections.push(Section {
        layer: Layer::Message,
        title: "Message".into(),
        content: wish.message.to_owned(),
        tokens: situation.message_tokens,
        reason: "what the user typed".into(),
        readiness: None,
        bundle_id: None,
        cut: false,
    });
    let used =
        sections.iter().filter(|section| section.readiness.is_some() && !section.content.is_empty()).count();
    Ok(Prompt {
        system,
        history,
        sections,
        depth: situation.depth,
        detected: found.detected,
        budget,
        compiled,
        hits,
        misses,
        wanted: found.bundles.len(),
        ready,
        used,
        point: found.point,
    })
}

fn budget_input(found: &AssemblySources, texts: &[BundleText<'_>], wish: PromptOptions<'_>) -> BudgetInput {
    let about = |kind: &str| found.detected.iter().filter(|detected| detected.kind == kind).count();
    let of_topics = texts.iter().filter(|text| text.wanted.subject.bundle_type == BundleType::Topic);
    let ConversationSize { messages, tokens: conversation_tokens } = found.conversation;
    BudgetInput {
        tokens: wish.max_tokens,
        depth: depth(found, wish.message),
        message_tokens: tokens::count(wish.message) + MESSAGE_OVERHEAD,
        topic_count: about("topic"),
        topic_tokens: of_topics.map(|text| text.tokens).sum(),
        entity_count: about("entity"),
        has_conversation: true,
        message_count: messages,
        conversation_tokens: if wish.with_history {
            conversation_tokens + messages * MESSAGE_OVERHEAD
        } else {
            0
        },
        history_preferred: refers_back(wish.message),
        dialogue_heavy: messages >= 10 && conversation_tokens / messages.max(1) < 80,
    }
}

/// Deep while the user is researching; minimal for a greeting, which nothing is found for.
fn depth(found: &AssemblySources, message: &str) -> Depth {
    if is_researching(found.paths.iter().map(|place| place.path.as_str())) {
        return Depth::Deep;
    }
    let words = message.split_whitespace().count();
    if words <= 3 && found.units.is_empty() && found.detected.is_empty() {
        Depth::Minimal
    } else {
        Depth::Standard
    }
}

/// Whether a message speaks of what was said before.
fn refers_back(message: &str) -> bool {
    const SIGNS: [&str; 12] = [
        "earlier",
        "you said",
        "i said",
        "as discussed",
        "we discussed",
        "previous",
        "above",
        "remind me",
        "last time",
        "again",
        "you mentioned",
        "go back to",
    ];
    let lower = message.to_lowercase();
    SIGNS.iter().any(|sign| lower.contains(sign))
}

fn add_layer(
    layer: Layer,
    texts: &[BundleText<'_>],
    detected: &[Detected],
    room: usize,
    sections: &mut Vec<Section>,
) {
    let mut left = room;
    for text in texts.iter().filter(|text| text.wanted.subject.bundle_type.layer() == layer) {
        let WantedBundle { subject, reason: readiness, id, .. } = text.wanted;
        let mut section = Section {
            layer,
            title: section_title(*subject, detected),
            content: String::new(),
            tokens: 0,
            reason: section_reason(*subject, *readiness, detected),
            readiness: Some(*readiness),
            bundle_id: *id,
            cut: false,
        };
        if text.content.is_empty() {
            section.reason = format!("{}; nothing is known", section.reason);
        } else if text.tokens <= left {
            section.content.clone_from(&text.content);
            section.tokens = text.tokens;
        } else if left > tokens::MIN_CUT_TOKENS
            && let Some(cut) = tokens::truncate(&text.content, left)
        {
            section.content = cut.to_owned();
            section.tokens = tokens::count(cut);
            section.cut = true;
            section.reason = format!("{}; cut to its room", section.reason);
        } else {
            section.reason =
                format!("{}; left out: {left} tokens of room for {}", section.reason, text.tokens);
        }
        // The blank line between sections costs one.
        left = left.saturating_sub(section.tokens + usize::from(section.tokens > 0));
        sections.push(section);
    }
}

fn section_title(subject: Subject, detected: &[Detected]) -> String {
    let name = || detected.iter().find(|it| Some(it.id) == subject.ref_id).map_or("", |it| it.name.as_str());
    match subject.bundle_type {
        BundleType::IdentityCore => "About This User".into(),
        BundleType::GlobalPrefs => "Response Guidelines".into(),
        BundleType::Conversation => "Current Conversation".into(),
        BundleType::Topic => format!("Topic Context: {}", name()),
        BundleType::Entity => format!("Context: {}", name()),
    }
}

fn section_reason(subject: Subject, readiness: Readiness, detected: &[Detected]) -> String {
    let wanted = match detected.iter().find(|it| Some(it.id) == subject.ref_id) {
        Some(Detected { reason, score, .. }) => match reason.as_str() {
            "named" => "the message names it".to_owned(),
            "misspelt" => "the message seems to name it".to_owned(),
            "conversation" => format!("the conversation is about it ({score:.2})"),
            _ => format!("what matches the message is about it ({score:.2})"),
        },
        None if subject.bundle_type == BundleType::Conversation => "it is the conversation".to_owned(),
        None => "always".to_owned(),
    };
    let came = match readiness {
        Readiness::Fresh => "ready",
        Readiness::Missing => "compiled now: there was none",
        Readiness::Dirty => "compiled now: a source had changed",
        Readiness::Expired => "compiled now: it had expired",
        Readiness::Forced => "compiled now, as asked",
    };
    format!("{wanted}; {came}")
}

/// What matches this very message and is in no bundle above.
fn add_just_in_time(found: &AssemblySources, held: &HashSet<Uuid>, room: usize, sections: &mut Vec<Section>) {
    const HEADING: &str = "## Just-In-Time Knowledge";
    let good = |threshold: f64, most: usize, matches: &[ScoredText]| -> Vec<ScoredText> {
        let good = matches.iter().filter(|it| it.score >= threshold && !held.contains(&it.id));
        good.take(most).cloned().collect()
    };
    let units = good(MIN_UNIT_SCORE, MAX_UNITS, &found.units);
    let memories = good(MIN_MEMORY_SCORE, MAX_MEMORIES, &found.memories);
    let matched = units.len() + memories.len();
    let mut matches: Vec<_> = units.into_iter().chain(memories).collect();
    matches.sort_by(|one, other| other.score.total_cmp(&one.score));
    let mut content = String::new();
    let mut left = room.saturating_sub(tokens::count(HEADING) + 1);
    let mut included = 0;
    let mut was_cut = false;
    for it in &matches {
        let line = format!("\n- {}", it.content.split_whitespace().collect::<Vec<_>>().join(" "));
        let cost = tokens::count(&line);
        if cost <= left {
            content += &line;
            left -= cost;
            included += 1;
        } else if left > tokens::MIN_CUT_TOKENS
            && let Some(cut) = tokens::truncate(&line, left)
        {
            content += cut;
            left = left.saturating_sub(tokens::count(cut));
            included += 1;
            was_cut = true;
        }
    }
    if !content.is_empty() {
        content.insert_str(0, HEADING);
    }
    sections.push(Section {
        layer: Layer::JustInTime,
        title: "Just-In-Time Knowledge".into(),
        tokens: tokens::count(&content),
        content,
        reason: format!(
            "{included} of {matched} units and memories that match the message and are in no bundle"
        ),
        readiness: None,
        bundle_id: None,
        cut: was_cut,
    });
}

/// The newest messages that fit, oldest first; the first that does not fit is cut where enough room remains.
fn add_history(earlier: &[HistoryMessage], room: usize, sections: &mut Vec<Section>) -> Vec<ChatMessage> {
    let mut left = room;
    let mut chosen = Vec::new();
    let mut was_cut = false;
    for message in earlier.iter().rev().filter(|message| !message.content.trim().is_empty()) {
        let cost = tokens::count(&message.content) + MESSAGE_OVERHEAD;
        let content = if cost <= left {
            left -= cost;
            message.content.clone()
        } else {
            was_cut = true;
            let fits = (left > tokens::MIN_CUT_TOKENS + MESSAGE_OVERHEAD)
                .then(|| tokens::truncate(&message.content, left - MESSAGE_OVERHEAD))
                .flatten();
            let Some(cut) = fits else { break };
            left = left.saturating_sub(tokens::count(cut) + MESSAGE_OVERHEAD);
            chosen.push(ChatMessage { role: message.role.clone(), content: cut.to_owned() });
            break;
        };
        chosen.push(ChatMessage { role: message.role.clone(), content });
    }
    chosen.reverse();
    sections.push(Section {
        layer: Layer::History,
        title: "Messages".into(),
        content: chosen
            .iter()
            .map(|message| format!("{}: {}", message.role, message.content))
            .collect::<Vec<_>>()
            .join("\n"),
        tokens: room - left,
        reason: format!("the last {} of {} messages that were read", chosen.len(), earlier.len()),
        readiness: None,
        bundle_id: None,
        cut: was_cut,
    });
    chosen
}

#[cfg(test)]
mod tests;
