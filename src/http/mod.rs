//! The REST API and the upgrade to sockets.
//!
//! A request passes [`middleware::apply`] (ID, span, metrics, CORS, panics, timeout and body limit), then the
//! extractors of its handler ([`extract`] for its content, [`identity`] for the caller) and
//! [`limits`](crate::limits). Every failure becomes an [`error::ApiError`], which renders the error envelope.

pub mod body;
pub mod broadcast;
pub mod contacts;
pub mod context;
pub mod conversations;
pub mod demo_tokens;
pub mod devices;
pub mod error;
pub mod extract;
mod field_errors;
pub mod identity;
mod ids;
pub mod middleware;
pub mod on_behalf_of;
pub mod openai;
pub mod openapi;
pub mod operator;
pub mod people;
pub mod presence;
pub mod privacy;
pub mod realtime;
pub mod settings;
pub mod sockets;
mod state;
mod strict;
pub mod system;
#[cfg(test)]
mod tests;

pub use error::{ApiError, FieldError};
pub use extract::{Json, Path, Query, ValidJson};
pub use identity::{Authenticated, DeviceHeader, GatewayPolicy};
pub use state::HttpState;

use axum::Router;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

/// The routes with their descriptions. Those of the context engine and the console are described in [`openapi`].
fn described_routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .merge(presence::routes())
        .merge(people::routes())
        .merge(settings::routes())
        .merge(privacy::routes())
        .merge(contacts::routes())
        .merge(conversations::routes())
        .merge(devices::routes())
        .merge(broadcast::routes())
        .merge(operator::routes())
        .merge(sockets::routes())
        .merge(realtime::routes())
        .merge(system::routes())
}

/// All HTTP routes, with `/openapi.json` and `/asyncapi.json`.
pub fn routes() -> Router<HttpState> {
    let (router, described) = described_routes().split_for_parts();
    router.merge(context::routes()).merge(openai::routes()).merge(openapi::routes(&described))
}

/// The OpenAPI document that the server serves.
#[must_use]
pub fn openapi_document() -> Value {
    openapi::document(described_routes().get_openapi())
}
