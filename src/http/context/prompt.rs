//! Route that returns the assembled prompt by layer, without calling a model.

use std::time::Instant;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        ApiError, Authenticated, HttpState, Json, Path, Query, ids::always_true, on_behalf_of::OnBehalfOf,
    },
    context_user::authorize_and_count,
};
use crate::{
    context::{
        assemble::{Detected, PromptOptions, Section},
        budget::{self, Depth, Layer},
        message::ChatMessage,
    },
    limits::LimitClass,
    model::{ConversationId, UserId, milliseconds},
};

/// Maximum length of `message` in characters, because it is part of the URL.
const MAX_MESSAGE_CHARS: usize = 4_000;

#[derive(Deserialize)]
pub(super) struct ConversationPath {
    conversation_id: ConversationId,
}

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct PromptQuery {
    /// ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`.
    #[serde(alias = "user_id")]
    #[param(nullable = false, example = "a0000000-0000-4000-8000-000000000001")]
    user_id: Option<UserId>,
    /// Next message of the user: at most 4,000 characters. Without it, the conversation's recent messages select the
    /// context.
    #[param(nullable = false, max_length = 4_000)]
    message: Option<String>,
    /// Maximum tokens of the prompt, from 500 to 200,000; by default 12,000.
    #[param(nullable = false, minimum = 500, maximum = 200_000)]
    max_context_tokens: Option<usize>,
    /// Whether the prompt contains messages of the conversation, by default `true`.
    #[param(nullable = false)]
    include_history: Option<bool>,
}

/// An assembled prompt with its metrics.
//
// The response as structs: a prompt is long, and building a `Value` tree takes longer than serializing it.
#[derive(Serialize, ToSchema)]
struct PromptEnvelope<'a> {
    /// Always `true` in this response.
    #[schema(schema_with = always_true)]
    success: bool,
    /// The prompt, layer by layer.
    data: PromptData<'a>,
    /// Metrics of the assembly.
    metadata: PromptMetadata<'a>,
    /// Time of the response.
    #[serde(serialize_with = "milliseconds::serialize")]
    timestamp: Timestamp,
}

/// An assembled prompt, layer by layer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PromptData<'a> {
    /// ID of the conversation (UUID).
    conversation_id: ConversationId,
    /// System message of the prompt, as Markdown.
    system_prompt: &'a str,
    /// Messages of the conversation in the prompt, oldest first, in the format of OpenAI's API.
    messages: &'a [ChatMessage],
    /// Topics and entities detected in the message.
    detected: &'a [Detected],
    /// How much context the message needs.
    depth: Depth,
    /// Layers in the order of their priority.
    layers: Vec<LayerData<'a>>,
    /// Tokens of the whole prompt.
    budget: BudgetData,
}

/// A layer of a prompt with its part of the budget.
#[derive(Serialize, ToSchema)]
#[schema(as = ContextLayer)]
struct LayerData<'a> {
    /// Number of the layer: `L0` to `L7`.
    layer: String,
    /// Name of the layer.
    name: Layer,
    /// Layers with a higher priority get the remaining tokens first.
    priority: usize,
    /// How far the layer may shrink below its ideal, from 0 to 1.
    elasticity: f64,
    /// Minimum useful number of tokens.
    minimum: usize,
    /// Number of tokens that the layer asks for.
    ideal: usize,
    /// Maximum number of tokens.
    maximum: usize,
    /// Number of tokens that the layer was given.
    given: usize,
    /// Number of tokens that the layer uses.
    used: usize,
    /// Sections of the layer, with those that were left out.
    #[schema(value_type = Vec<Section>)]
    sections: Vec<&'a Section>,
}

/// Tokens of a prompt.
#[derive(Serialize, ToSchema)]
#[schema(as = ContextBudget)]
struct BudgetData {
    /// Maximum number of tokens of the prompt.
    tokens: usize,
    /// Number of tokens that all layers were given.
    given: usize,
    /// Number of tokens that all layers use.
    used: usize,
}

/// Metrics of the assembly of a shown prompt.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PromptMetadata<'a> {
    /// Time of the assembly in milliseconds.
    assembly_time_ms: f64,
    /// Fresh bundles divided by wanted bundles.
    cache_hit_rate: f64,
    /// Names of the bundles in the prompt: type, and topic or entity.
    bundles_used: &'a [String],
    /// Number of bundles that the message and the signals select.
    bundles_wanted: usize,
    /// Number of wanted bundles that were fresh.
    bundles_ready: usize,
}

/// Returns the prompt of a conversation, layer by layer.
///
/// The prompt is assembled as for a chat request; no model is called. For debugging.
#[utoipa::path(
    get, path = "/api/v1/ai/context/{conversation_id}", operation_id = "showContext", tag = "Context",
    params(
        ("conversation_id" = ConversationId, Path, description = "ID of the conversation (UUID).",
            example = "c0000000-0000-4000-8000-000000000001"),
        PromptQuery,
    ),
    responses((status = 200, description = "The assembled prompt, layer by layer.", body = PromptEnvelope<'static>, example = json!({
        "success": true, "timestamp": "2026-11-21T12:00:00.000Z",
        "data": {
            "conversationId": "c0000000-0000-4000-8000-000000000001", "systemPrompt": "# You", "messages": [],
            "detected": [], "depth": "minimal",
            "layers": [{
                "layer": "L1", "name": "preferences", "priority": 90, "elasticity": 0.1, "minimum": 0, "ideal": 400,
                "maximum": 800, "given": 400, "used": 4,
                "sections": [{
                    "layer": "preferences", "title": "How to answer", "content": "Answer briefly.", "tokens": 4,
                    "reason": "the user's own words", "readiness": "fresh", "cut": false,
                }],
            }],
            "budget": { "tokens": 12_000, "given": 400, "used": 4 },
        },
        "metadata": {
            "assemblyTimeMs": 1.5, "cacheHitRate": 1.0, "bundlesUsed": ["global_prefs"], "bundlesWanted": 1,
            "bundlesReady": 1,
        },
    }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("context"))),
)]
pub(super) async fn show_prompt(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Path(ConversationPath { conversation_id }): Path<ConversationPath>,
    Query(query): Query<PromptQuery>,
) -> Result<Response, ApiError> {
    let (OnBehalfOf { caller, user }, allowance) =
        authorize_and_count(&state, caller, query.user_id, LimitClass::Context)?;
    let tokens =
        super::chat::check_context_tokens(query.max_context_tokens)?.unwrap_or(budget::DEFAULT_TOKENS);
    let message = query.message.unwrap_or_default();
    if message.chars().count() > MAX_MESSAGE_CHARS {
        return Err(ApiError::invalid(
            "message",
            format!("must have at most {MAX_MESSAGE_CHARS} characters"),
        ));
    }
    let client_messages = &[ChatMessage::new("user", message.as_str())];
    let options = PromptOptions {
        message: &message,
        client_messages,
        max_tokens: tokens,
        with_history: query.include_history.unwrap_or(true),
    };
    let started = Instant::now();
    let prompt = state.context.assemble(&caller, user, Some(conversation_id), options).await?;
    let elapsed = (started.elapsed().as_secs_f64() * 100_000.0).round() / 100.0;
    let layers = prompt.budget.0.iter().map(|allotment| {
        let sections: Vec<_> = prompt.sections.iter().filter(|it| it.layer == allotment.layer).collect();
        LayerData {
            layer: allotment.layer.to_string(),
            name: allotment.layer,
            priority: allotment.priority,
            elasticity: allotment.layer.elasticity(),
            minimum: allotment.minimum,
            ideal: allotment.ideal,
            maximum: allotment.maximum,
            given: allotment.given,
            used: sections.iter().map(|section| section.tokens).sum(),
            sections,
        }
    });
    let data = PromptData {
        conversation_id,
        system_prompt: &prompt.system,
        messages: &prompt.history,
        detected: &prompt.detected,
        depth: prompt.depth,
        layers: layers.collect(),
        budget: BudgetData { tokens, given: prompt.budget.total(), used: prompt.tokens() },
    };
    let metadata = PromptMetadata {
        assembly_time_ms: elapsed,
        cache_hit_rate: prompt.hit_rate(),
        bundles_used: &prompt.used,
        bundles_wanted: prompt.wanted,
        bundles_ready: prompt.ready,
    };
    let body = PromptEnvelope { success: true, data, metadata, timestamp: state.clock.now() };
    Ok((allowance, Json(body)).into_response())
}
