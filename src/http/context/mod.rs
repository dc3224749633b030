//! Routes of the context engine, under `/api/v1`.

pub(super) mod chat;
pub(super) mod context_user;
mod health;
pub(super) mod invalidate;
pub(super) mod presence;
mod prompt;
mod roll_up;

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{HttpState, body::BodyLimit, ids::always_true};

/// Maximum size of a chat body in bytes.
pub(super) const MAX_CHAT_BODY_BYTES: usize = 1024 * 1024;

/// Routes with a longer timeout: a model writes its whole answer, a warm-up or roll-up processes all data of
/// a user.
pub const SLOW_ROUTES: [(&str, Duration); 5] = [
    ("/api/v1/conversations/{conversation_id}/summary", Duration::from_secs(90)),
    ("/v1/chat/completions", Duration::from_secs(300)),
    ("/api/v1/ai/chat", Duration::from_secs(300)),
    ("/api/v1/context/warmup/{user_id}", Duration::from_secs(60)),
    ("/api/v1/context/rollup/{user_id}", Duration::from_secs(120)),
];

/// Routes under `/api/v1/context` and `/api/v1/ai`.
pub fn routes() -> OpenApiRouter<HttpState> {
    let chat =
        OpenApiRouter::default().routes(routes!(chat::chat)).layer(BodyLimit(MAX_CHAT_BODY_BYTES).layer());
    OpenApiRouter::default()
        .routes(routes!(presence::record_signals))
        .routes(routes!(presence::warm_up))
        .routes(routes!(roll_up::roll_up))
        .routes(routes!(invalidate::invalidate))
        .routes(routes!(health::health))
        .routes(routes!(prompt::show_prompt))
        .merge(chat)
}

/// Envelope of a successful response with data.
#[derive(Serialize, ToSchema)]
struct SuccessEnvelope<T> {
    /// Always `true` in this response.
    #[schema(schema_with = always_true)]
    success: bool,
    /// What the server did, for people.
    message: &'static str,
    /// Result of the request.
    data: T,
}

impl<T> SuccessEnvelope<T> {
    const fn new(message: &'static str, data: T) -> Self {
        Self { success: true, message, data }
    }
}

/// Envelope of a successful response without data.
#[derive(Serialize, ToSchema)]
struct Done {
    /// Always `true` in this response.
    #[schema(schema_with = always_true)]
    success: bool,
    /// What the server did, for people.
    message: &'static str,
}
