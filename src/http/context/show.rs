//! The assembled prompt, layer by layer, without calling a model.

use std::time::Instant;

use axum::{extract::State, response::IntoResponse};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{ApiError, Authenticated, HttpState, Json, Path, Query, acting::Acting},
    about::allowed,
};
use crate::{
    context::{assemble::Wish, budget},
    limits::LimitClass,
    model::{ConversationId, UserId},
};

/// The longest message that it is assembled for, in characters: it stands in a URL.
const MOST_MESSAGE_CHARS: usize = 4_000;

#[derive(Deserialize)]
pub(super) struct InPath {
    conversation_id: ConversationId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    #[serde(alias = "user_id")]
    user_id: Option<UserId>,
    /// What would be typed; what the conversation is about without.
    message: Option<String>,
    max_context_tokens: Option<usize>,
    include_history: Option<bool>,
}

pub(super) async fn show(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    Path(InPath { conversation_id }): Path<InPath>,
    Query(asked): Query<Asked>,
) -> Result<impl IntoResponse, ApiError> {
    let (Acting { caller, user }, allowance) = allowed(&state, caller, asked.user_id, LimitClass::Context)?;
    let tokens = super::chat::context_tokens(asked.max_context_tokens)?.unwrap_or(budget::DEFAULT_TOKENS);
    let message = asked.message.unwrap_or_default();
    if message.chars().count() > MOST_MESSAGE_CHARS {
        return Err(ApiError::invalid(
            "message",
            format!("must have at most {MOST_MESSAGE_CHARS} characters"),
        ));
    }
    let wish = Wish { message: &message, tokens, with_history: asked.include_history.unwrap_or(true) };
    let started = Instant::now();
    let prompt = state.context.assemble(&caller, user, conversation_id, wish).await?;
    let elapsed = (started.elapsed().as_secs_f64() * 100_000.0).round() / 100.0;
    let layers = prompt.budget.0.iter().map(|allotment| {
        let sections: Vec<_> = prompt.sections.iter().filter(|it| it.layer == allotment.layer).collect();
        let used: usize = sections.iter().map(|section| section.tokens).sum();
        json!({
            "layer": allotment.layer.to_string(), "name": allotment.layer, "priority": allotment.priority,
            "elasticity": allotment.layer.elasticity(), "minimum": allotment.minimum, "ideal": allotment.ideal,
            "maximum": allotment.maximum, "given": allotment.given, "used": used, "sections": sections,
        })
    });
    let body = json!({
        "success": true,
        "data": {
            "conversationId": conversation_id, "systemPrompt": prompt.system, "messages": prompt.history,
            "detected": prompt.detected, "depth": prompt.depth, "layers": layers.collect::<Vec<_>>(),
            "budget": {"tokens": tokens, "given": prompt.budget.total(), "used": prompt.tokens()},
        },
        "metadata": {
            "assemblyTimeMs": elapsed, "cacheHitRate": prompt.hit_rate(), "bundlesUsed": prompt.used,
            "bundlesWanted": prompt.wanted, "bundlesReady": prompt.ready,
        },
        "timestamp": state.clock.now(),
    });
    Ok((allowance, Json(body)))
}
