//! Answers and the composition of their prompts.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::context::{message::ChatMessage, provider::Usage};

/// The engine that assembled a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ContextEngine)]
pub enum Engine {
    Dynamic,
    /// The simple engine; `legacy` in JSON.
    #[serde(rename = "legacy")]
    Simple,
}

/// Metrics of the assembly of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AssemblyMetadata)]
pub struct Metadata {
    /// Assembly time in milliseconds.
    pub assembly_time_ms: f64,
    /// Fresh bundles divided by wanted bundles.
    pub cache_hit_rate: f64,
    /// Names of the bundles in the prompt: type, and topic or entity.
    pub bundles_used: Vec<String>,
}

/// Composition of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextStats {
    #[serde(flatten)]
    pub metadata: Metadata,
    /// Tokens of the whole prompt.
    pub tokens: usize,
    /// Maximum tokens of the prompt.
    pub max_tokens: usize,
    /// Stored messages in the prompt.
    pub history_messages: usize,
    /// Bundles that the message and the signals select.
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
    #[schema(required = false)]
    pub fell_back: bool,
}

/// Answer of a model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ChatAnswer)]
pub struct Answer {
    /// Text of the answer.
    pub content: String,
    /// Calls of the client's tools, in OpenAI's format.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>, required = false)]
    pub tool_calls: Vec<Value>,
    /// Why the answer ends, as the provider reports it: `stop`, `length`, `tool_calls`, `content_filter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub finish_reason: Option<String>,
    /// Model that wrote the answer.
    pub model: String,
    /// Token usage, as reported by the provider or counted.
    #[serde(serialize_with = "usage_in_camel_case")]
    #[schema(value_type = CamelCaseUsage)]
    pub usage: Usage,
    /// Engine that assembled the prompt.
    pub engine: Engine,
    /// Composition of the prompt.
    pub context_stats: ContextStats,
    /// Message ID of the answer. Without a conversation it names no stored message.
    pub message_id: uuid::Uuid,
    /// Whether this is the stored answer to an earlier request with the same idempotency key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub replayed: bool,
    /// Whether the answer was interrupted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub partial: bool,
    /// The provider's response in OpenAI's format; null for a streamed or replayed answer.
    #[serde(skip)]
    pub raw: Value,
}

fn usage_in_camel_case<S: serde::Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    let Usage { prompt_tokens, completion_tokens, total_tokens } = *usage;
    CamelCaseUsage { total_tokens, prompt_tokens, completion_tokens }.serialize(serializer)
}

/// Tokens that a request used.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ChatUsage)]
struct CamelCaseUsage {
    /// Tokens of prompt and answer together.
    total_tokens: u64,
    /// Tokens of the whole prompt.
    prompt_tokens: u64,
    /// Tokens of the whole answer.
    completion_tokens: u64,
}

/// An assembled prompt with its statistics.
#[derive(Debug, Clone)]
pub(super) struct PreparedPrompt {
    pub(super) messages: Vec<ChatMessage>,
    pub(super) engine: Engine,
    pub(super) stats: ContextStats,
}
