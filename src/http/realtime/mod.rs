//! HTTP routes compatible with Supabase Realtime: the socket handshake, broadcasts and channel presence. Most
//! are served with and without the gateway's prefix, because clients derive their URLs from the configured
//! one.

pub(super) mod broadcast;
mod channel_auth;
mod events;
mod handshake;
mod health;
mod presence;

use utoipa_axum::router::OpenApiRouter;

use super::HttpState;

pub fn routes() -> OpenApiRouter<HttpState> {
    handshake::routes()
        .merge(events::routes())
        .merge(broadcast::routes())
        .merge(health::routes())
        .merge(presence::routes())
}
