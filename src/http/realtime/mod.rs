//! HTTP routes compatible with Supabase Realtime: the socket handshake, broadcasts and channel presence. Most
//! are served with and without the gateway's prefix, because clients derive their URLs from the configured
//! one.

mod broadcast;
mod channel_auth;
mod handshake;
mod health;
mod presence;

use std::sync::Arc;

use axum::{Router, extract::FromRef};

use super::system::System;
use crate::session::channels::Services;

pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<Services>: FromRef<S>,
    Arc<System>: FromRef<S>,
{
    handshake::routes().merge(broadcast::routes()).merge(health::routes()).merge(presence::routes())
}
