//! Descriptions of the interface: `/openapi.json` for the routes, `/asyncapi.json` for the sockets.
//!
//! `utoipa` describes each route next to its handler; [`complete`] adds what follows from it. The sockets are described
//! by hand. Tests compare the descriptions with the router and with the codecs, and send every example to a server
//! (`tests/integration/openapi_examples.rs`).

mod asyncapi;
mod channels;
mod complete;
mod errors;
mod render;
mod schemas;
mod socket_channel;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock, OnceLock};

use axum::{
    Extension,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::Value;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The descriptions as they are served, in JSON.
#[derive(Debug)]
pub struct Documents {
    openapi: Bytes,
    asyncapi: Bytes,
}

impl Documents {
    /// The documents of the routes that `described` describes, and of the sockets.
    #[must_use]
    pub fn new(described: &OpenApi) -> Self {
        Self {
            openapi: document(described).to_string().into(),
            asyncapi: socket_document().to_string().into(),
        }
    }
}

/// The OpenAPI document of the routes that `described` describes.
#[must_use]
pub fn document(described: &OpenApi) -> Value {
    let described = serde_json::to_value(described).expect("a description serializes");
    render::document(described)
}

/// The AsyncAPI document of the sockets.
#[must_use]
pub fn socket_document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(asyncapi::document);
    &DOCUMENT
}

/// Routes `/openapi.json` and `/asyncapi.json`. The documents are set after all routes are known.
pub fn routes<S: Clone + Send + Sync + 'static>(documents: Arc<OnceLock<Documents>>) -> OpenApiRouter<S> {
    OpenApiRouter::default()
        .routes(routes!(openapi))
        .routes(routes!(asyncapi_document))
        .layer(Extension(documents))
}

/// Returns this description of the REST API.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "System",
    responses((status = 200, description = "The description as a JSON document.", body = Object, example = json!({}))),
    extensions(("x-access" = json!("open"))),
)]
async fn openapi(Extension(documents): Extension<Arc<OnceLock<Documents>>>) -> Response {
    json_response(documents.get().map(|documents| documents.openapi.clone()))
}

/// Returns the description of the sockets.
#[utoipa::path(
    get, path = "/asyncapi.json", operation_id = "asyncapi", tag = "System",
    responses((status = 200, description = "The description as a JSON document.", body = Object, example = json!({}))),
    extensions(("x-access" = json!("open"))),
)]
async fn asyncapi_document(Extension(documents): Extension<Arc<OnceLock<Documents>>>) -> Response {
    json_response(documents.get().map(|documents| documents.asyncapi.clone()))
}

fn json_response(json: Option<Bytes>) -> Response {
    let Some(json) = json else { return StatusCode::NOT_FOUND.into_response() };
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
}
