//! Answers and the composition of their prompts.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::context::{message::ChatMessage, provider::Usage};

/// The engine that assembled a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    Dynamic,
    /// The simple engine; `legacy` in JSON.
    #[serde(rename = "legacy")]
    Simple,
}

/// Metrics of an assembly.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Assembly time in milliseconds.
    pub assembly_time_ms: f64,
    /// Fresh bundles divided by wanted bundles.
    pub cache_hit_rate: f64,
    /// Names of the bundles in the prompt: type, and topic or entity.
    pub bundles_used: Vec<String>,
}

/// Composition of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextStats {
    #[serde(flatten)]
    pub metadata: Metadata,
    pub tokens: usize,
    /// Maximum tokens of the prompt.
    pub max_tokens: usize,
    /// Stored messages in the prompt.
    pub history_messages: usize,
    pub bundles_wanted: usize,
    /// Wanted bundles that were fresh.
    pub bundles_ready: usize,
    /// Wanted bundles that were compiled for this prompt.
    pub bundles_compiled: usize,
    /// Names of the topics detected in the message.
    pub topics: Vec<String>,
    /// Names of the entities detected in the message.
    pub entities: Vec<String>,
    /// Tokens by layer (`L0` to `L7`).
    pub layers: BTreeMap<String, usize>,
    /// Whether the simple engine replaced the failed dynamic one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fell_back: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub content: String,
    /// Calls of the client's tools, in OpenAI's format.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// Why the answer ends, as the provider reports it: `stop`, `length`, `tool_calls`, `content_filter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    pub model: String,
    /// Token usage, as reported by the provider or counted.
    #[serde(serialize_with = "usage_in_camel_case")]
    pub usage: Usage,
    /// Engine that assembled the prompt.
    pub engine: Engine,
    /// Composition of the prompt.
    pub context_stats: ContextStats,
    /// Message ID of the answer. Without a conversation it names no stored message.
    pub message_id: uuid::Uuid,
    /// Whether this is the stored answer to an earlier request with the same idempotency key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// Whether the answer was interrupted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// The provider's response in OpenAI's format; null for a streamed or replayed answer.
    #[serde(skip)]
    pub raw: Value,
}

fn usage_in_camel_case<S: serde::Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Camel {
        total_tokens: u64,
        prompt_tokens: u64,
        completion_tokens: u64,
    }
    let Usage { prompt_tokens, completion_tokens, total_tokens } = *usage;
    Camel { total_tokens, prompt_tokens, completion_tokens }.serialize(serializer)
}

/// An assembled prompt with its statistics.
#[derive(Debug, Clone)]
pub(super) struct PreparedPrompt {
    pub(super) messages: Vec<ChatMessage>,
    pub(super) engine: Engine,
    pub(super) stats: ContextStats,
}
