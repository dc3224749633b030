//! The accept loop: accepts a bounded number of TCP connections, serves HTTP on them, and drains them at shutdown.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::backoff::Backoff;
use crate::lifecycle::ErrorChain;
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use crate::hub::Permit;

/// Limits of the accept loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptSettings {
    /// Maximum number of open sockets, upgraded ones included; default 20,000. Further connections get a 503.
    pub max_connections: usize,
    /// Timeout for the head of each request, including the idle time before it; default 75 s. It is longer than the
    /// idle timeout of common proxies (60 s), so that a proxy closes the connection first.
    pub header_timeout: Duration,
    /// Time for requests to finish after the shutdown signal; default 10 s.
    pub drain_timeout: Duration,
}

impl Default for AcceptSettings {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            header_timeout: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Maximum number of concurrent 503 responses. Further connections are closed without a response.
const MAX_REJECTIONS: usize = 64;
/// Timeout of such a response.
const REJECT_TIMEOUT: Duration = Duration::from_secs(2);
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
/// to the hub and are not waited for.
///
/// # Errors
/// None at present: errors of one connection are logged, and a failed accept is retried.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    settings: AcceptSettings,
) -> io::Result<()> {
    let http = Arc::new(http(&settings));
    let permits = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
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
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            let permit = Permit::new(permit);
            let (http, router, shutdown) = (Arc::clone(&http), router.clone(), shutdown.clone());
            tasks.spawn(async move {
                serve_connection(&http, stream, peer, router, permit, settings.header_timeout, shutdown).await
            });
        } else if let Ok(permit) = Arc::clone(&rejections).try_acquire_owned() {
            tasks.spawn(async move {
                let _ = timeout(REJECT_TIMEOUT, reject_connection(stream)).await;
                drop(permit);
            });
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
    http.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    http
}

async fn serve_connection(
    http: &auto::Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    permit: Permit,
    header_within: Duration,
    shutdown: CancellationToken,
) {
    // Sends small responses at once. A failure shows again in the first read.
    let _ = stream.set_nodelay(true);
    let has_request = Arc::new(AtomicBool::new(false));
    let first_request = Arc::clone(&has_request);
    let service = service_fn(move |request: Request<Incoming>| {
        first_request.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(permit.clone());
        respond(router.clone(), request)
    });
    let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        // hyper starts its own timeout after it detected HTTP/1 or HTTP/2, which needs at least one byte from the
        // client.
        () = async {
            sleep(header_within).await;
            if has_request.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        } => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %ErrorChain(&*error), client.address = %peer, "HTTP connection failed");
    }
}

async fn respond(
    mut router: Router,
    request: Request<Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
    // A router is always ready.
    router.call(request).await
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
