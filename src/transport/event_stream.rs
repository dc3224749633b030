//! Server-sent events: a response whose body is written by a connection of the hub. What a WebSocket has, it has too:
//! the outbox and its limits, the session, the timers, the close at shutdown.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderName, HeaderValue, Response, Version, header, request::Parts},
};

use super::{Session, admission::Ticket, read_loop::run_connection};
use crate::{
    hub::{ConnectionOptions, Hub, HubStopped, Link, Permit, Pipe, Socket},
    telemetry::metric,
};

/// Why a stream of events was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefused {
    #[error("the server is shutting down")]
    Stopped(#[from] HubStopped),
    #[error("The server has reached its maximum number of connections. Retry later.")]
    Full,
}

/// Answers a request with a stream of events that `session` and the hub send.
///
/// # Errors
/// [`StreamRefused`] if the server is stopping or has no room for another socket.
pub fn respond_with_events<S: Session>(
    parts: &mut Parts,
    hub: &Hub,
    options: ConnectionOptions,
    session: S,
) -> Result<Response<Body>, StreamRefused> {
    let permit = socket_permit(parts)?;
    let (pipe, body) = Pipe::new();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |ConnectInfo(peer)| *peer);
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

/// The permit that counts the stream as an open socket. Over HTTP/1 it is that of the connection. A connection with HTTP/2
/// carries many streams, so each has a permit of its own.
fn socket_permit(parts: &Parts) -> Result<Option<Permit>, StreamRefused> {
    let ticket = parts.extensions.get::<Ticket>().filter(|_| parts.version == Version::HTTP_2);
    let Some(ticket) = ticket else {
        return Ok(parts.extensions.get::<Permit>().cloned());
    };
    let permit = ticket.try_permit();
    if permit.is_none() {
        metrics::counter!(metric::REJECTED_CONNECTIONS, "reason" => "full").increment(1);
    }
    permit.map(Some).ok_or(StreamRefused::Full)
}
