//! State shared by the routes.

use std::sync::Arc;

use axum::extract::FromRef;

use super::{GatewayPolicy, MetricsPolicy, detached::DetachedWrites, sockets::Sockets, system::System};
use crate::{
    auth::Verifier,
    clock::Clock,
    context::ContextEngine,
    http::demo_tokens::DemoTokens,
    limits::RateLimiter,
    model::Modules,
    operator::{NodeExchange, OperatorSettings},
    pg::Database,
    presence::PresenceService,
    session::channels::Services,
    webhooks::WebhookClient,
};

/// State of the router. Each extractor takes the part that it needs.
#[derive(Clone, FromRef)]
pub struct HttpState {
    pub presence: Arc<PresenceService>,
    /// For routes that only run a statement.
    pub database: Database,
    pub context: Arc<ContextEngine>,
    pub limits: Arc<RateLimiter>,
    pub detached: DetachedWrites,
    /// Verifies JWTs and API keys.
    pub verifier: Arc<Verifier>,
    pub gateway: Arc<GatewayPolicy>,
    /// Who may read the metrics without a token.
    pub metrics: Arc<MetricsPolicy>,
    pub system: Arc<System>,
    pub sockets: Sockets,
    /// Services of channel sockets.
    pub channels: Arc<Services>,
    /// Signs tokens of the demo users; set only on a demo server.
    pub demo_tokens: Option<DemoTokens>,
    /// Sends test events to webhooks.
    pub webhooks: WebhookClient,
    pub clock: Arc<dyn Clock>,
    /// Asks all nodes on behalf of operators.
    pub operator: NodeExchange,
    pub operator_settings: OperatorSettings,
    /// Modules that the database has.
    pub modules: Modules,
}
