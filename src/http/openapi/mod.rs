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
mod console;
mod context;
mod context_shapes;
mod conversations;
mod errors;
mod openai;
mod operation;
mod people;
mod presence;
mod realtime;
mod relations;
mod render;
mod schemas;
mod sharing;
mod socket_channel;
mod sockets;
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

pub use operation::{Access, ExampleUser, HttpMethod, Operation, ParamIn, Parameter, ResponseSpec};
use operation::{delete, get as read, patch, post, put};

/// Every route of the server, in the order in which people read about them; also an order in which all the examples
/// can be carried out one after the other.
#[must_use]
pub fn operations() -> Vec<Operation> {
    [
        presence::operations(),
        people::operations(),
        sharing::operations(),
        relations::operations(),
        conversations::operations(),
        context::operations(),
        openai::operations(),
        sockets::operations(),
        realtime::operations(),
        system::operations(),
        console::operations(),
        sharing::last_operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[must_use]
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| render::document(&operations()));
    &DOCUMENT
}

#[must_use]
pub fn socket_document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(asyncapi::document);
    &DOCUMENT
}

/// `/openapi.json` and `/asyncapi.json`.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| text(document()));
    static ASYNCAPI: LazyLock<Bytes> = LazyLock::new(|| text(socket_document()));
    Router::new()
        .route("/openapi.json", get(async || json_response(OPENAPI.clone())))
        .route("/asyncapi.json", get(async || json_response(ASYNCAPI.clone())))
}

fn text(document: &Value) -> Bytes {
    document.to_string().into()
}

fn json_response(json: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
}
