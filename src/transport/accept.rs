//! The accept loop: accepts a bounded number of TCP connections, serves HTTP on them, and drains them at shutdown.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::ConnectInfo,
    http::{Request, Response, Version, header::UPGRADE},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use super::{
    admission::{Admission, RequestGuard, Ticket},
    settings::AcceptSettings,
    socket_options,
    stall::{GuardedBody, TimedBody, TimedStream, UnreadResponses},
};
use crate::{backoff::Backoff, hub::Permit, lifecycle::ErrorChain, telemetry::metric};

/// Maximum number of concurrent requests on a connection with HTTP/2.
const MAX_HTTP2_STREAMS: u32 = 100;
/// Maximum number of concurrent 503 responses. Further connections are closed without a response.
const MAX_REJECTIONS: usize = 64;
/// Timeout of such a response.
const REJECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for an idle connection to close and make room for a new one.
const MAKE_ROOM_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for a connection that has to close to finish what it writes; less than [`MAKE_ROOM_TIMEOUT`].
const EVICT_GRACE: Duration = Duration::from_millis(100);
/// Initial and maximum pause after an accept that failed for lack of file descriptors or memory.
const ACCEPT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

const SERVER_FULL_RESPONSE: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    content-length: 148\r\n\
    retry-after: 5\r\n\
    connection: close\r\n\r\n\
    {\"success\":false,\"error\":\"SERVICE_UNAVAILABLE\",\"message\":\"The server has reached its maximum number of connections. Retry later.\",\"statusCode\":503}\n";

/// Accepts connections and serves `router` on them (HTTP/1.1 with upgrades, and HTTP/2) until `shutdown` is cancelled,
/// then waits for requests to finish. Handlers find the peer in `ConnectInfo<SocketAddr>`. Upgraded connections belong
/// to the hub and are not waited for. `admission` may be shared by several listeners.
///
/// # Errors
/// None at present: errors of one connection are logged, and a failed accept is retried.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    settings: AcceptSettings,
    admission: Arc<Admission>,
) -> io::Result<()> {
    let server =
        Arc::new(ConnectionServer { http: http(&settings), router, settings, shutdown: shutdown.clone() });
    let rejections = Arc::new(Semaphore::new(MAX_REJECTIONS));
    let tasks = TaskTracker::new();
    let mut backoff = ACCEPT_BACKOFF;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // The client disconnected before it was accepted.
            Err(error) if is_client_error(&error) => continue,
            Err(error) => {
                let delay = backoff.next_delay();
                tracing::warn!(error = %ErrorChain(&error), retry_ms = delay.as_millis(), "accept failed");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = sleep(delay) => {}
                }
                continue;
            }
        };
        backoff.reset();
        let Ok((ticket, evicted)) = admission.track(peer.ip(), Instant::now()) else {
            // Closed without a response: the address has spent its tokens on connections without a request.
            metrics::counter!(metric::REJECTED_CONNECTIONS, "reason" => "address").increment(1);
            continue;
        };
        let (server, admission) = (Arc::clone(&server), Arc::clone(&admission));
        if let Some(permit) = admission.try_permit() {
            tasks.spawn(async move { server.serve(stream, peer, permit, ticket, evicted).await });
        } else if let Ok(rejection) = Arc::clone(&rejections).try_acquire_owned() {
            tasks.spawn(async move {
                if let Ok(Some(permit)) = timeout(MAKE_ROOM_TIMEOUT, admission.make_room(&ticket)).await {
                    drop(rejection);
                    return server.serve(stream, peer, permit, ticket, evicted).await;
                }
                metrics::counter!(metric::REJECTED_CONNECTIONS, "reason" => "full").increment(1);
                // Not the fault of the address.
                ticket.confirm();
                let _ = timeout(REJECT_TIMEOUT, reject_connection(stream)).await;
            });
        } else {
            metrics::counter!(metric::REJECTED_CONNECTIONS, "reason" => "full").increment(1);
            ticket.confirm();
        }
    }
    drop(listener);
    tasks.close();
    if timeout(settings.drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "drain timed out; open connections dropped");
    }
    Ok(())
}

fn http(settings: &AcceptSettings) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(settings.header_timeout);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_concurrent_streams(MAX_HTTP2_STREAMS);
    http
}

/// What the connections of a listener share.
struct ConnectionServer {
    http: auto::Builder<TokioExecutor>,
    router: Router,
    settings: AcceptSettings,
    shutdown: CancellationToken,
}

impl ConnectionServer {
    async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: Permit,
        ticket: Ticket,
        evicted: oneshot::Receiver<()>,
    ) {
        // A failure shows again in the first read.
        let stall_timeout = self.settings.stall_timeout;
        let _ = socket_options::configure_http(&stream, stall_timeout);
        let (router, requests) = (self.router.clone(), ticket.clone());
        let stream = TimedStream::new(stream, stall_timeout, ticket.clone());
        let unread_responses = Arc::<UnreadResponses>::default();
        let unread = Arc::clone(&unread_responses);
        let service = service_fn(move |request: Request<Incoming>| {
            let opens_socket = request.headers().contains_key(UPGRADE);
            let guard = Arc::new(requests.begin_request(opens_socket));
            let mut request = request.map(|body| {
                if body.is_end_stream() {
                    guard.on_received();
                    return Body::new(body);
                }
                Body::new(TimedBody::new(body, stall_timeout, Arc::clone(&guard)))
            });
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(permit.clone());
            if opens_socket || request.version() == Version::HTTP_2 {
                request.extensions_mut().insert(requests.clone());
            }
            respond(router.clone(), request, guard, Arc::clone(&unread))
        });
        let mut connection = pin!(self.http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let result = tokio::select! {
            // First: a request that has arrived is served, even if the connection has to close.
            biased;
            result = connection.as_mut() => result,
            Ok(()) = evicted => {
                if !ticket.had_request() || ticket.is_waiting_for_client() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = connection.as_mut() => result,
                    () = async {
                        sleep(EVICT_GRACE).await;
                        while ticket.is_busy() {
                            sleep(EVICT_GRACE).await;
                        }
                    } => return,
                }
            }
            // hyper starts its own timeout after it detected HTTP/1 or HTTP/2, which needs at least one byte from the
            // client.
            () = async {
                sleep(self.settings.first_request_timeout).await;
                if ticket.had_request() {
                    pending::<()>().await;
                }
            } => return,
            () = unread_responses.wait_for_stalled(stall_timeout) => return,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(error = %ErrorChain(&*error), client.address = %peer, "HTTP connection failed");
        }
    }
}

async fn respond(
    mut router: Router,
    request: Request<Body>,
    guard: Arc<RequestGuard>,
    unread: Arc<UnreadResponses>,
) -> Result<Response<Body>, std::convert::Infallible> {
    // A router is always ready.
    let response = router.call(request).await?;
    guard.on_received();
    Ok(response.map(|body| Body::new(GuardedBody::new(body, unread, guard))))
}

/// Responds that the maximum is reached. The request is read first: closing with unread bytes would reset the
/// connection and discard the response.
async fn reject_connection(mut stream: TcpStream) {
    let mut head = [0; 4096];
    if stream.read(&mut head).await.is_ok() && stream.write_all(SERVER_FULL_RESPONSE.as_bytes()).await.is_ok()
    {
        let _ = stream.shutdown().await;
        while stream.read(&mut head).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

fn is_client_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::SERVER_FULL_RESPONSE;

    #[test]
    fn the_server_full_response_has_the_right_content_length() {
        let (head, body) = SERVER_FULL_RESPONSE.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
