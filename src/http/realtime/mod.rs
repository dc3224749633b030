//! Source S over HTTP: where channel sockets are opened, and what is broadcast without one. Everything is served with
//! and without the gateway's prefix, because clients make their URLs from the one they were given.

mod broadcast;
mod channel_auth;
mod handshake;
mod health;
mod presence;

use std::sync::Arc;

use axum::{Router, extract::FromRef};

use super::system::System;
use crate::session::channels::Services;

/// The routes of source S.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<Services>: FromRef<S>,
    Arc<System>: FromRef<S>,
{
    handshake::routes().merge(broadcast::routes()).merge(health::routes()).merge(presence::routes())
}
