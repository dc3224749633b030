//! Source S over HTTP: where channel sockets are opened, and what is broadcast without one. Everything is served with
//! and without the gateway's prefix, because clients make their URLs from the one they were given.

mod handshake;

use std::sync::Arc;

use axum::{Router, extract::FromRef};

use crate::session::channels::Services;

/// The routes of source S.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<Services>: FromRef<S>,
{
    handshake::routes()
}
