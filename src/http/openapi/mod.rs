//! The API's descriptions of itself: OpenAPI 3.1 at `/openapi.json`, AsyncAPI 3 at `/asyncapi.json`.
//!
//! Every area of routes has a file here with an [`Operation`] for each of its routes. An operation says what no type
//! can say (who may, why, an example); words and bounds come from the constants that handlers check, statuses from
//! [`errors`], the shapes that several share from [`types`].
//!
//! **A new route** needs its operation in the file of its area (and a new file its line in [`operations`]); the test
//! `every_route_is_described` fails until it has one, and the integration tests drive its example against a server.

mod asyncapi;
mod channels;
mod complete;
mod console;
mod context;
mod context_shapes;
mod errors;
mod openai;
mod operation;
mod render;
mod schemas;
mod socket_channel;
mod system;
#[cfg(test)]
mod tests;
mod types;

use std::sync::LazyLock;

use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use serde_json::Value;
use utoipa::openapi::OpenApi;

pub use operation::{Access, ExampleUser, HttpMethod, Operation, ParamIn, Parameter, ResponseSpec};
use operation::{get as read, post};

/// Every route of the server, in the order in which people read about them; also an order in which all the examples
/// can be carried out one after the other.
#[must_use]
pub fn operations() -> Vec<Operation> {
    [context::operations(), openai::operations(), system::operations(), console::operations()]
        .into_iter()
        .flatten()
        .collect()
}

/// The OpenAPI document of the routes that `described` describes.
#[must_use]
pub fn document(described: &OpenApi) -> Value {
    let mut document = render::document(&operations());
    let described = serde_json::to_value(described).expect("a description serializes");
    for (path, methods) in described["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let mut operation = operation.as_object().cloned().unwrap_or_default();
            complete::complete_operation(&mut operation);
            document["paths"][path][method] = operation.into();
        }
    }
    for (name, schema) in described["components"]["schemas"].as_object().into_iter().flatten() {
        document["components"]["schemas"][name] = schema.clone();
    }
    complete::complete_schemas(&mut document);
    document
}

/// The AsyncAPI document of the sockets.
#[must_use]
pub fn socket_document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(asyncapi::document);
    &DOCUMENT
}

/// Routes `/openapi.json` and `/asyncapi.json`.
pub fn routes<S: Clone + Send + Sync + 'static>(described: &OpenApi) -> Router<S> {
    let openapi = text(&document(described));
    let asyncapi = text(socket_document());
    Router::new()
        .route("/openapi.json", get(async move || json_response(openapi.clone())))
        .route("/asyncapi.json", get(async move || json_response(asyncapi.clone())))
}

fn text(document: &Value) -> Bytes {
    document.to_string().into()
}

fn json_response(json: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
}
