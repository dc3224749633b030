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
mod page;
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
mod webhooks;

pub use error::{ApiError, FieldError};
pub use extract::{Json, OptionalJson, Path, Query, ValidJson};
pub use identity::{Authenticated, DeviceHeader, GatewayPolicy};
pub use metrics_access::MetricsPolicy;
pub use state::HttpState;

use std::sync::{Arc, OnceLock};

use axum::{Router, middleware::from_fn};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use crate::model::{Module, Modules};

/// The routes with their descriptions, in the order of the API documentation. Those of modules that are not installed
/// answer 404.
fn described_routes(
    modules: Modules,
    pages: OpenApiRouter<HttpState>,
    documents: Arc<OnceLock<openapi::Documents>>,
) -> OpenApiRouter<HttpState> {
    let presence = |routes| of_module(Module::Presence, modules, routes);
    let context = |routes| of_module(Module::Context, modules, routes);
    OpenApiRouter::default()
        .merge(presence(presence::routes()))
        .merge(presence(people::routes()))
        .merge(presence(settings::routes()))
        .merge(presence(privacy::routes()))
        .merge(presence(contacts::routes()))
        .merge(presence(conversations::routes()))
        .merge(presence(devices::routes()))
        .merge(presence(broadcast::routes()))
        .merge(presence(operator::presence_routes()))
        .merge(operator::routes())
        .merge(context(context::routes()))
        .merge(context(library::routes()))
        .merge(context(openai::routes()))
        .merge(presence(sockets::routes()))
        .merge(realtime::routes())
        .merge(system::routes())
        .merge(webhooks::routes())
        .merge(openapi::routes(documents))
        .merge(pages)
}

/// The routes of a module, which answer 404 where it is not installed.
fn of_module(module: Module, modules: Modules, routes: OpenApiRouter<HttpState>) -> OpenApiRouter<HttpState> {
    if modules.contains(module) {
        return routes;
    }
    routes.layer(from_fn(move |_: axum::extract::Request, _: axum::middleware::Next| {
        std::future::ready(ApiError::NotInstalled(module.as_str()))
    }))
}

/// Route of the second port, for old context clients.
pub fn second_port_routes(modules: Modules) -> Router<HttpState> {
    of_module(Module::Presence, modules, sockets::second_port_routes().into()).into()
}

/// All HTTP routes and `pages`, with `/openapi.json` and `/asyncapi.json`.
pub fn routes(modules: Modules, pages: OpenApiRouter<HttpState>) -> Router<HttpState> {
    let documents = Arc::new(OnceLock::new());
    let (router, described) = described_routes(modules, pages, Arc::clone(&documents)).split_for_parts();
    documents.get_or_init(|| openapi::Documents::new(&described));
    router
}

/// The OpenAPI document of all routes and `pages`, as the server serves it.
#[must_use]
pub fn openapi_document(pages: OpenApiRouter<HttpState>) -> Value {
    openapi::document(described_routes(Modules::ALL, pages, Arc::default()).get_openapi())
}
