//! Routes compatible with OpenAI's API: `POST /v1/chat/completions` and `GET /v1/models`.
//!
//! `metadata.conversation_id` names the conversation. Without it, the prompt has the user's own context only, and nothing
//! is saved.

pub(super) mod completions;
mod error;

use axum::{
    extract::{FromRequestParts, Request, State},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::error::error_response;
use super::{ApiError, Authenticated, HttpState, Json, body::BodyLimit, context::MAX_CHAT_BODY_BYTES};

/// Routes under `/v1`.
pub fn routes() -> OpenApiRouter<HttpState> {
    let completions = OpenApiRouter::default()
        .routes(routes!(completions::create))
        .layer(BodyLimit(MAX_CHAT_BODY_BYTES).layer());
    completions.merge(OpenApiRouter::default().routes(routes!(list_models)))
}

/// List of models in the format of OpenAI's API.
#[derive(Serialize, ToSchema)]
struct ModelList {
    /// Always `list` in this response.
    object: &'static str,
    /// Models that the caller may use.
    data: Vec<Model>,
}

/// A model in the format of OpenAI's API.
#[derive(Serialize, ToSchema, PartialEq, Eq)]
struct Model {
    /// Name of the model, with the provider's name as a prefix unless it is the default one.
    id: String,
    /// Always `model` in this response.
    object: &'static str,
    /// Time of creation in Unix seconds. It is unknown and always 0.
    created: u64,
    /// Name of the provider.
    owned_by: String,
}

/// Lists the models of the configured providers.
///
/// The default model of each provider, and the models that the role of the caller may use.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "listModels", tag = "OpenAI-compatible API",
    responses((status = 200, description = "Models that the caller may use.", body = ModelList, example = json!({
        "object": "list", "data": [{ "id": "gpt-4o-mini", "object": "model", "created": 0, "owned_by": "openai" }],
    }))),
    extensions(("x-error-format" = json!("openai"))),
)]
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
    for allowed in
        state.context.chat_limits().models_of(&caller.role).iter().filter(|allowed| *allowed != "*")
    {
        if models.iter().all(|model| model.id != *allowed) {
            models.push(model(allowed.clone(), &owner));
        }
    }
    Ok(models)
}
