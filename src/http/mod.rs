//! The REST API and the upgrade to sockets.
//!
//! A request passes [`middleware::apply`] (ID, span, metrics, CORS, panics, timeout and body limit), then the
//! extractors of its handler ([`extract`] for its content, [`identity`] for the caller) and
//! [`limits`](crate::limits). Every failure becomes an [`error::ApiError`], which renders the error envelope.

mod alias;
pub mod body;
pub mod body_decoders;
pub mod broadcast;
pub mod contacts;
pub mod context;
pub mod conversations;
pub mod demo_tokens;
pub mod detached;
pub mod devices;
pub mod error;
pub mod extract;
mod field_errors;
mod forwarded;
pub mod identity;
mod ids;
pub mod library;
pub mod metrics_access;
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
pub use extract::{Json, OptionalJson, Path, Query, ValidJson};
pub use identity::{Authenticated, DeviceHeader, GatewayPolicy};
pub use metrics_access::MetricsPolicy;
pub use state::HttpState;

use std::sync::{Arc, OnceLock};

use axum::Router;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

/// The routes with their descriptions, in the order of the API documentation.
fn described_routes(
    pages: OpenApiRouter<HttpState>,
    documents: Arc<OnceLock<openapi::Documents>>,
) -> OpenApiRouter<HttpState> {
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
        .merge(context::routes())
        .merge(library::routes())
        .merge(openai::routes())
        .merge(sockets::routes())
        .merge(realtime::routes())
        .merge(system::routes())
        .merge(openapi::routes(documents))
        .merge(pages)
}

/// All HTTP routes and `pages`, with `/openapi.json` and `/asyncapi.json`.
pub fn routes(pages: OpenApiRouter<HttpState>) -> Router<HttpState> {
    let documents = Arc::new(OnceLock::new());
    let (router, described) = described_routes(pages, Arc::clone(&documents)).split_for_parts();
    documents.get_or_init(|| openapi::Documents::new(&described));
    router
}

/// The OpenAPI document of all routes and `pages`, as the server serves it.
#[must_use]
pub fn openapi_document(pages: OpenApiRouter<HttpState>) -> Value {
    openapi::document(described_routes(pages, Arc::default()).get_openapi())
}
