//! Routes compatible with OpenAI's API: `POST /v1/chat/completions` and `GET /v1/models`.
//!
//! `metadata.conversation_id` names the conversation. Without it, the prompt has the user's own context only, and nothing
//! is saved.

mod completions;
mod error;

use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;

use self::error::error_response;
use super::{ApiError, Authenticated, HttpState, Json, body::BodyLimit, context::MAX_CHAT_BODY_BYTES};

pub fn routes() -> Router<HttpState> {
    Router::new()
        .route(
            "/v1/chat/completions",
            post(completions::create).layer(BodyLimit(MAX_CHAT_BODY_BYTES).layer()),
        )
        .route("/v1/models", get(list_models))
}

#[derive(Serialize)]
struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize, PartialEq, Eq)]
struct Model {
    id: String,
    object: &'static str,
    /// Unix time; unknown, so always 0.
    created: u64,
    owned_by: String,
}

async fn list_models(State(state): State<HttpState>, request: Request) -> Response {
    match models(&state, request).await {
        Ok(data) => Json(ModelList { object: "list", data }).into_response(),
        Err(error) => error_response(error),
    }
}

/// The default model of each provider, and the models that the caller's role may use. Models of other providers than the
/// default one have the provider's name as a prefix.
async fn models(state: &HttpState, request: Request) -> Result<Vec<Model>, ApiError> {
    let (mut parts, _) = request.into_parts();
    let Authenticated(caller) = Authenticated::from_request_parts(&mut parts, state).await?;
    let model =
        |id: String, provider: &str| Model { id, object: "model", created: 0, owned_by: provider.to_owned() };
    let mut models: Vec<Model> = Vec::new();
    for (at, provider) in state.context.providers().all().enumerate() {
        let (name, default) = (provider.name(), provider.default_model());
        models.push(model(if at == 0 { default.to_owned() } else { format!("{name}/{default}") }, name));
    }
    let owner = models.first().map(|model| model.owned_by.clone()).unwrap_or_default();
    for allowed in state.context.chat_limits().models_of(caller.role).iter().filter(|allowed| *allowed != "*")
    {
        if models.iter().all(|model| model.id != *allowed) {
            models.push(model(allowed.clone(), &owner));
        }
    }
    Ok(models)
}
