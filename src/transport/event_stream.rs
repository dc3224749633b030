//! Server-sent events: a response whose body is written by a connection of the hub. What a WebSocket has, it has too:
//! the outbox and its limits, the session, the timers, the close at shutdown.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderName, HeaderValue, Response, header, request::Parts},
};

use super::{Session, read_loop::run_connection};
use crate::hub::{ConnectionOptions, Hub, HubStopped, Link, Permit, Pipe, Socket};

/// Answers a request with a stream of events that `session` and the hub send.
///
/// # Errors
/// [`HubStopped`] if the server is stopping.
pub fn respond_with_events<S: Session>(
    parts: &mut Parts,
    hub: &Hub,
    options: ConnectionOptions,
    session: S,
) -> Result<Response<Body>, HubStopped> {
    let (pipe, body) = Pipe::new();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |ConnectInfo(peer)| *peer);
    let permit = parts.extensions.get::<Permit>().cloned();
    let registration = hub.register(Socket { link: Link::Body(pipe), peer, permit }, options)?;
    hub.tasks().spawn(run_connection(registration, session, Vec::new(), None));
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // nginx would collect the events of several minutes.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}
