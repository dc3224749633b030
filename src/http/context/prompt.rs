//! Route that returns the assembled prompt by layer, without calling a model.

use std::time::Instant;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    super::{ApiError, Authenticated, HttpState, Json, Path, Query, on_behalf_of::OnBehalfOf},
    context_user::authorize_and_count,
};
use crate::{
    context::{
        assemble::{Detected, PromptOptions, Section},
        budget::{self, Depth, Layer},
        message::ChatMessage,
    },
    limits::LimitClass,
    model::{ConversationId, UserId},
};

/// Maximum length of `message` in characters, because it is part of the URL.
const MAX_MESSAGE_CHARS: usize = 4_000;

#[derive(Deserialize)]
pub(super) struct ConversationPath {
    conversation_id: ConversationId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PromptQuery {
    #[serde(alias = "user_id")]
    user_id: Option<UserId>,
    /// The next message of the user; without it, the conversation's recent messages select the context.
    message: Option<String>,
    max_context_tokens: Option<usize>,
    include_history: Option<bool>,
}

/// The response as structs: a prompt is long, and building a `Value` tree takes longer than serializing it.
#[derive(Serialize)]
struct PromptEnvelope<'a> {
    success: bool,
    data: PromptData<'a>,
    metadata: PromptMetadata<'a>,
    timestamp: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PromptData<'a> {
    conversation_id: ConversationId,
    system_prompt: &'a str,
    messages: &'a [ChatMessage],
    detected: &'a [Detected],
    depth: Depth,
    layers: Vec<LayerData<'a>>,
    budget: BudgetData,
}

#[derive(Serialize)]
struct LayerData<'a> {
    layer: String,
    name: Layer,
    priority: usize,
    elasticity: f64,
    minimum: usize,
    ideal: usize,
    maximum: usize,
    given: usize,
    used: usize,
    sections: Vec<&'a Section>,
}

#[derive(Serialize)]
struct BudgetData {
    tokens: usize,
    given: usize,
    used: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PromptMetadata<'a> {
    assembly_time_ms: f64,
    cache_hit_rate: f64,
    bundles_used: &'a [String],
    bundles_wanted: usize,
    bundles_ready: usize,
}

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
