//! Builds the prompt for one message from what [`crate::context::store::bundles::assemble`] read.
//!
//! That query takes one round trip in one snapshot: fresh bundles come as text, others with their sources and are
//! compiled here. A prompt is therefore as current as that snapshot. [`build_prompt`] is pure.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    budget::{self, Budget, BudgetInput, Depth, Layer},
    bundle::{BundleType, CompiledBundle, ReadPoint, Readiness, Subject, WantedBundle, WantedBundles},
    compile::{self, InvalidSources},
    history::{self, FittedHistory, HistoryMessage},
    message::ChatMessage,
    predict::{PageVisit, is_researching},
    tokens,
    word_lists::BACK_REFERENCES,
};

/// Share of the prompt that the history gets at most, in percent; see [`budget`].
const MAX_HISTORY_PERCENT: usize = 60;
/// Maximum units and memories in the just-in-time layer.
/// Statements that were said last, whether they match or not.
const MAX_RECENT: usize = 5;
const MAX_UNITS: usize = 10;
const MAX_MEMORIES: usize = 8;
/// Minimum score of a match; see `rollcall.match_words`.
const MIN_UNIT_SCORE: f64 = 0.35;
const MIN_MEMORY_SCORE: f64 = 0.40;

/// Result of `rollcall.assemble`.
#[derive(Debug, Clone, Deserialize)]
pub struct AssemblySources {
    conversation: ConversationSize,
    detected: Vec<Detected>,
    pub bundles: Vec<WantedBundle>,
    units: Vec<ScoredText>,
    memories: Vec<ScoredText>,
    /// The newest statements of a user that no model found facts for.
    #[serde(default)]
    recent: Vec<ScoredText>,
    history: Vec<HistoryMessage>,
    #[serde(default)]
    paths: Vec<PageVisit>,
    /// Snapshot in which everything was read.
    #[serde(flatten)]
    pub point: ReadPoint,
}

impl AssemblySources {
    /// Sources of a prompt without a conversation: only bundles of the user.
    #[must_use]
    pub fn without_conversation(WantedBundles { bundles, point }: WantedBundles) -> Self {
        Self {
            conversation: ConversationSize { messages: 0, tokens: 0 },
            detected: Vec::new(),
            bundles,
            units: Vec::new(),
            memories: Vec::new(),
            recent: Vec::new(),
            history: Vec::new(),
            paths: Vec::new(),
            point,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
struct ConversationSize {
    messages: usize,
    tokens: usize,
}

/// A topic or entity detected in a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DetectedSubject)]
pub struct Detected {
    /// Kind of the subject: `topic` or `entity`.
    pub kind: String,
    /// ID of the topic or entity.
    pub id: Uuid,
    /// Name of the topic or entity.
    pub name: String,
    /// Confidence, from 0 to 1.
    pub score: f64,
    /// How it was detected: `conversation`, `named`, `misspelt` or `meaning`.
    pub reason: String,
}

#[derive(Debug, Clone, Deserialize)]
struct ScoredText {
    id: Uuid,
    content: String,
    score: f64,
    /// Date of the message that it is from.
    #[serde(default)]
    said_on: Option<String>,
}

/// Options of a prompt.
#[derive(Debug, Clone, Copy)]
pub struct PromptOptions<'a> {
    /// Text that topics, entities, units and memories are searched for.
    pub message: &'a str,
    /// Messages of the client, which follow the assembled system message unchanged.
    pub client_messages: &'a [ChatMessage],
    /// Maximum tokens of the prompt, the client's messages included.
    pub max_tokens: usize,
    /// Whether the prompt includes earlier messages of the conversation.
    pub with_history: bool,
}

/// A section of the prompt, or the reason why it was left out.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ContextSection)]
pub struct Section {
    /// Layer that the section belongs to.
    pub layer: Layer,
    /// Heading of the section in the prompt.
    pub title: String,
    /// Text; empty if the section was left out.
    pub content: String,
    /// Tokens of the text.
    pub tokens: usize,
    /// Human-readable reason why the section is included, cut or left out.
    pub reason: String,
    /// State of the bundle; `None` if the section is no bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub readiness: Option<Readiness>,
    /// Name of the bundle: its type, and the name of the topic or entity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bundle: Option<String>,
    /// ID of the stored bundle, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub bundle_id: Option<Uuid>,
    /// Whether the text was truncated.
    pub cut: bool,
}

impl PromptOptions<'_> {
    /// Tokens of the client's messages.
    #[must_use]
    pub fn message_tokens(&self) -> usize {
        self.client_messages.iter().map(ChatMessage::tokens).sum()
    }

    /// Number of stored messages to read.
    #[must_use]
    pub fn messages_to_read(&self) -> i32 {
        if self.with_history {
            history::messages_to_read(self.max_tokens * MAX_HISTORY_PERCENT / 100)
        } else {
            0
        }
    }
}

/// The client's messages and the part of the context that is always kept exceed the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the messages need {messages} tokens and the user's identity and guidelines {kept}, but the prompt may have {max}"
)]
pub struct PromptTooLong {
    pub messages: usize,
    /// Tokens of identity and guidelines that are always kept.
    pub kept: usize,
    pub max: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error(transparent)]
    Sources(#[from] InvalidSources),
    #[error(transparent)]
    TooLong(#[from] PromptTooLong),
}

#[derive(Debug, Clone)]
pub struct Prompt {
    /// System prompt in Markdown; may be empty.
    pub system: String,
    pub history: Vec<ChatMessage>,
    /// Sections in order of priority.
    pub sections: Vec<Section>,
    /// Detected topics and entities.
    pub detected: Vec<Detected>,
    pub budget: Budget,
    pub depth: Depth,
    /// Bundles that were compiled for this prompt and are to be stored.
    pub compiled: Vec<CompiledBundle>,
    /// IDs of stored bundles that were fresh.
    pub hits: Vec<Uuid>,
    /// IDs of stored bundles that were not fresh.
    pub misses: Vec<Uuid>,
    /// Number of wanted bundles.
    pub wanted: usize,
    /// Number of fresh bundles.
    pub ready: usize,
    /// Names of the bundles in the prompt.
    pub used: Vec<String>,
    /// Snapshot in which everything was read.
    pub point: ReadPoint,
}

impl Prompt {
    /// Fresh bundles divided by wanted bundles; 1 if none was wanted.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        if self.wanted == 0 { 1.0 } else { self.ready as f64 / self.wanted as f64 }
    }

    /// Tokens of the whole prompt.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.sections.iter().map(|section| section.tokens).sum()
    }
}

/// Text of a bundle, stored or just compiled.
struct BundleText<'a> {
    wanted: &'a WantedBundle,
    content: String,
    tokens: usize,
}

/// Compiles stale bundles and fits everything into the token budget.
pub fn build_prompt(mut found: AssemblySources, options: PromptOptions<'_>) -> Result<Prompt, PromptError> {
    history::remove_repeated(&mut found.history, options.client_messages);
    let mut compiled = Vec::new();
    let mut texts = Vec::new();
    let (mut hits, mut misses) = (Vec::new(), Vec::new());
    let mut bundled: HashSet<Uuid> = HashSet::new();
    let mut ready = 0;
    for wanted in &found.bundles {
        let text = if let (Readiness::Fresh, Some(content)) = (wanted.reason, &wanted.content) {
            ready += 1;
            hits.extend(wanted.id);
            bundled.extend(wanted.unit_ids.iter().chain(&wanted.memory_ids));
            BundleText { wanted, content: content.clone(), tokens: wanted.tokens }
        } else {
            misses.extend(wanted.id);
            let bundle = compile::compile(wanted.subject, &wanted.sources, None)?;
            bundled.extend(bundle.unit_ids.iter().chain(&bundle.memory_ids));
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

    let input = budget_input(&found, &texts, options);
    if input.required() > options.max_tokens {
        let messages = input.message_tokens;
        let too_long = PromptTooLong { messages, kept: input.required() - messages, max: options.max_tokens };
        return Err(too_long.into());
    }
    let budget = budget::allocate(&input);
    let mut sections = Vec::new();
    for layer in [Layer::Identity, Layer::Preferences, Layer::Conversation, Layer::Topic, Layer::Entity] {
        add_layer(layer, &texts, &found.detected, options.message, budget.layer(layer).given, &mut sections);
    }
    let (room, history_room) = (budget.layer(Layer::JustInTime).given, budget.layer(Layer::History).given);
    add_just_in_time(&found, &bundled, room, &said_in(&found, options, history_room), &mut sections);
    let system = sections.iter().filter(|section| !section.content.is_empty());
    let system = system.map(|section| section.content.as_str()).collect::<Vec<_>>().join("\n\n");

    // Tokens that the sections did not use go to the history, up to its maximum.
    let spent: usize = sections.iter().map(|section| section.tokens).sum();
    let room = options.max_tokens.saturating_sub(spent + budget.layer(Layer::Message).given);
    let room = room.min(budget.layer(Layer::History).maximum.max(budget.layer(Layer::History).given));
    let history =
        if options.with_history { add_history(&found.history, room, &mut sections) } else { Vec::new() };
    sections.push(Section {
        layer: Layer::Message,
        title: "Message".into(),
        content: options.message.to_owned(),
        tokens: input.message_tokens,
        reason: "the message of the user".into(),
        readiness: None,
        bundle: None,
        bundle_id: None,
        cut: false,
    });
    let used = sections.iter().filter(|section| !section.content.is_empty());
    let used = used.filter_map(|section| section.bundle.clone()).collect();
    Ok(Prompt {
        system,
        history,
        sections,
        depth: input.depth,
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

fn budget_input(
    found: &AssemblySources,
    texts: &[BundleText<'_>],
    options: PromptOptions<'_>,
) -> BudgetInput {
    let about = |kind: &str| found.detected.iter().filter(|detected| detected.kind == kind).count();
    let tokens_of = |bundle_type: BundleType| {
        let of_type = texts.iter().filter(|text| text.wanted.subject.bundle_type == bundle_type);
        of_type.map(|text| text.tokens).sum()
    };
    let ConversationSize { messages, tokens: conversation_tokens } = found.conversation;
    BudgetInput {
        tokens: options.max_tokens,
        depth: depth(found, options.message),
        message_tokens: options.message_tokens(),
        identity_tokens: tokens_of(BundleType::IdentityCore),
        preferences_tokens: tokens_of(BundleType::GlobalPrefs),
        topic_count: about("topic"),
        topic_tokens: tokens_of(BundleType::Topic),
        entity_count: about("entity"),
        message_count: messages,
        conversation_tokens: if options.with_history {
            conversation_tokens + messages * tokens::MESSAGE_OVERHEAD
        } else {
            0
        },
        history_preferred: refers_back(options.message),
        dialogue_heavy: messages >= 10 && conversation_tokens / messages.max(1) < 80,
    }
}

/// Deep while the user switches between notebooks and chats; minimal for a short message without matches.
fn depth(found: &AssemblySources, message: &str) -> Depth {
    if is_researching(found.paths.iter().map(|visit| visit.path.as_str())) {
        return Depth::Deep;
    }
    let words = message.split_whitespace().count();
    if words <= 3 && found.units.is_empty() && found.detected.is_empty() {
        Depth::Minimal
    } else {
        Depth::Standard
    }
}

/// Whether a message refers to earlier messages.
fn refers_back(message: &str) -> bool {
    let lower = message.to_lowercase();
    BACK_REFERENCES.iter().any(|sign| lower.contains(sign))
}

fn add_layer(
    layer: Layer,
    texts: &[BundleText<'_>],
    detected: &[Detected],
    question: &str,
    room: usize,
    sections: &mut Vec<Section>,
) {
    // Identity and guidelines are cut to whatever room there is, other layers only if much of them remains.
    let min_cut =
        if matches!(layer, Layer::Identity | Layer::Preferences) { 0 } else { tokens::MIN_CUT_TOKENS };
    let mut remaining = room;
    for text in texts.iter().filter(|text| text.wanted.subject.bundle_type.layer() == layer) {
        let WantedBundle { subject, reason: readiness, id, .. } = text.wanted;
        let is_conversation = subject.bundle_type == BundleType::Conversation;
        let unasked = if is_conversation { compile::without_question(&text.content, question) } else { None };
        let (content, size) = match &unasked {
            Some(content) => (content.as_str(), tokens::count(content)),
            None => (text.content.as_str(), text.tokens),
        };
        let mut section = Section {
            layer,
            title: section_title(*subject, detected),
            content: String::new(),
            tokens: 0,
            reason: section_reason(*subject, *readiness, detected),
            readiness: Some(*readiness),
            bundle: Some(bundle_name(*subject, detected)),
            bundle_id: *id,
            cut: false,
        };
        if content.is_empty() {
            section.reason = format!("{}; it is empty", section.reason);
        } else if size <= remaining {
            content.clone_into(&mut section.content);
            section.tokens = size;
        } else if remaining > min_cut
            && let Some(cut) = tokens::truncate_closed(content, remaining)
        {
            section.tokens = tokens::count(&cut);
            section.content = cut.into_owned();
            section.cut = true;
            section.reason = format!("{}; truncated to its budget", section.reason);
        } else {
            section.reason =
                format!("{}; left out: needs {size} tokens, {remaining} are left", section.reason);
        }
        // The blank line between sections costs one token.
        remaining = remaining.saturating_sub(section.tokens + usize::from(section.tokens > 0));
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

fn bundle_name(subject: Subject, detected: &[Detected]) -> String {
    let name = subject.bundle_type.as_str();
    match detected.iter().find(|it| Some(it.id) == subject.ref_id) {
        Some(detected) => format!("{name}: {}", detected.name),
        None => name.to_owned(),
    }
}

fn section_reason(subject: Subject, readiness: Readiness, detected: &[Detected]) -> String {
    let wanted = match detected.iter().find(|it| Some(it.id) == subject.ref_id) {
        Some(Detected { reason, score, .. }) => match reason.as_str() {
            "named" => "the message names it".to_owned(),
            "misspelt" => "the message seems to name it".to_owned(),
            "conversation" => format!("the conversation is about it ({score:.2})"),
            _ => format!("units that match the message are about it ({score:.2})"),
        },
        None if subject.bundle_type == BundleType::Conversation => {
            "it is the current conversation".to_owned()
        }
        None => "included in every prompt".to_owned(),
    };
    let state = match readiness {
        Readiness::Fresh => "stored and fresh",
        Readiness::Missing => "compiled now: none was stored",
        Readiness::Dirty => "compiled now: a source had changed",
        Readiness::Expired => "compiled now: the stored one had expired",
        Readiness::Forced => "compiled now: the request forces it",
    };
    format!("{wanted}; {state}")
}

/// Text of the client's messages and of the stored ones that certainly fit, in one line each.
fn said_in(found: &AssemblySources, options: PromptOptions<'_>, history_room: usize) -> Vec<String> {
    let stored = if options.with_history { &found.history[..] } else { &[] };
    let stored = history::fit(stored, history_room).messages;
    stored.iter().chain(options.client_messages).map(|message| in_one_line(&message.text())).collect()
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Adds matching units and memories that are in none of the bundles. Units from messages that the prompt repeats anyway,
/// and those with the same text as another, are left out.
fn add_just_in_time(
    found: &AssemblySources,
    bundled: &HashSet<Uuid>,
    room: usize,
    said: &[String],
    sections: &mut Vec<Section>,
) {
    const HEADING: &str = "## Just-In-Time Knowledge";
    let best = |threshold: f64, max: usize, matches: &[ScoredText]| -> Vec<ScoredText> {
        let mut texts = HashSet::new();
        let is_said = |it: &ScoredText| {
            it.said_on.is_some() && said.iter().any(|message| message.contains(&in_one_line(&it.content)))
        };
        let best =
            matches.iter().filter(|it| it.score >= threshold && !bundled.contains(&it.id) && !is_said(it));
        best.filter(|it| texts.insert(in_one_line(&it.content))).take(max).cloned().collect()
    };
    let units = best(MIN_UNIT_SCORE, MAX_UNITS, &found.units);
    let memories = best(MIN_MEMORY_SCORE, MAX_MEMORIES, &found.memories);
    let matched = units.len() + memories.len();
    let mut matches: Vec<_> = units.into_iter().chain(memories).collect();
    matches.sort_by(|one, other| other.score.total_cmp(&one.score));
    // A correction may have no word in common with the question, which then finds only what it corrects.
    let mut recent = best(0.0, MAX_RECENT, &found.recent);
    recent.retain(|it| matches.iter().all(|other| in_one_line(&other.content) != in_one_line(&it.content)));
    let matched = matched + recent.len();
    matches.extend(recent);
    let mut content = String::new();
    let mut remaining = room.saturating_sub(tokens::count(HEADING) + 1);
    let mut included = 0;
    let mut was_cut = false;
    for it in &matches {
        let content_of = in_one_line(&it.content);
        // Of contradicting statements the date tells which one is newer.
        let line = match &it.said_on {
            Some(day) => format!("\n- {day}: {content_of}"),
            None => format!("\n- {content_of}"),
        };
        let cost = tokens::count(&line);
        if cost <= remaining {
            content += &line;
            remaining -= cost;
            included += 1;
        } else if remaining > tokens::MIN_CUT_TOKENS
            && let Some(cut) = tokens::truncate(&line, remaining)
        {
            content += cut;
            remaining = remaining.saturating_sub(tokens::count(cut));
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
            "{included} of {matched} units and memories that match the message, or were said last, and are in no bundle"
        ),
        readiness: None,
        bundle: None,
        bundle_id: None,
        cut: was_cut,
    });
}

/// Adds the newest messages that fit; returns them oldest first.
fn add_history(stored: &[HistoryMessage], room: usize, sections: &mut Vec<Section>) -> Vec<ChatMessage> {
    let FittedHistory { messages, tokens, cut } = history::fit(stored, room);
    let lines: Vec<_> =
        messages.iter().map(|message| format!("{}: {}", message.role(), message.text())).collect();
    sections.push(Section {
        layer: Layer::History,
        title: "Messages".into(),
        content: lines.join("\n"),
        tokens,
        reason: format!("the last {} of {} messages read", messages.len(), stored.len()),
        readiness: None,
        bundle: None,
        bundle_id: None,
        cut,
    });
    messages
}

#[cfg(test)]
mod tests;
