//! What the routes share.

use std::sync::Arc;

use axum::extract::FromRef;

use super::{GatewayPolicy, sockets::Sockets, system::System};
use crate::{
    auth::Verifier, clock::Clock, context::ContextEngine, http::demo_tokens::DemoTokens, limits::RateLimiter,
    pg::Database, presence::PresenceService, session::channels::Services,
};

/// The state of the router; each extractor takes the part that it needs.
#[derive(Clone, FromRef)]
pub struct HttpState {
    /// The one model of presence.
    pub presence: Arc<PresenceService>,
    /// For the routes whose whole work is a statement.
    pub database: Database,
    /// The context engine.
    pub context: Arc<ContextEngine>,
    /// How often one may.
    pub limits: Arc<RateLimiter>,
    /// Believes tokens.
    pub verifier: Arc<Verifier>,
    /// Whose identity headers count.
    pub gateway: Arc<GatewayPolicy>,
    /// Health and metrics.
    pub system: Arc<System>,
    /// Where upgraded sockets go.
    pub sockets: Sockets,
    /// What channel sockets share.
    pub channels: Arc<Services>,
    /// Hands out the demo's tokens, where the server is a demo.
    pub demo_tokens: Option<DemoTokens>,
    /// For time stamps.
    pub clock: Arc<dyn Clock>,
}
