//! Routes of the context engine, under `/api/v1`.

pub(super) mod chat;
pub(super) mod context_user;
mod health;
mod invalidate;
mod presence;
mod prompt;
mod roll_up;

use std::time::Duration;

use axum::{
    Router,
    routing::{get, post},
};
use serde::Serialize;

use super::{HttpState, body::BodyLimit};

/// Maximum size of a chat body in bytes.
pub(super) const MAX_CHAT_BODY_BYTES: usize = 1024 * 1024;

/// Routes with a longer timeout: a model writes its whole answer, a warm-up or roll-up processes all data of
/// a user.
pub const SLOW_ROUTES: [(&str, Duration); 4] = [
    ("/v1/chat/completions", Duration::from_secs(300)),
    ("/api/v1/ai/chat", Duration::from_secs(300)),
    ("/api/v1/context/warmup/{user_id}", Duration::from_secs(60)),
    ("/api/v1/context/rollup/{user_id}", Duration::from_secs(120)),
];

/// Routes under `/api/v1/context` and `/api/v1/ai`.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/v1/context/health", get(health::health))
        .route("/api/v1/context/presence/{user_id}", post(presence::record_signals))
        .route("/api/v1/context/warmup/{user_id}", post(presence::warm_up))
        .route("/api/v1/context/rollup/{user_id}", post(roll_up::roll_up))
        .route("/api/v1/context/invalidate/{user_id}", post(invalidate::invalidate))
        .route("/api/v1/ai/context/{conversation_id}", get(prompt::show_prompt))
        .route("/api/v1/ai/chat", post(chat::chat).layer(BodyLimit(MAX_CHAT_BODY_BYTES).layer()))
}

/// Envelope of a successful response.
#[derive(Serialize)]
struct SuccessEnvelope<T> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

impl<T> SuccessEnvelope<T> {
    const fn new(message: Option<&'static str>, data: T) -> Self {
        Self { success: true, message, data: Some(data) }
    }
}
