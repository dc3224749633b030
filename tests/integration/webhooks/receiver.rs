//! A receiver of webhooks that records requests and behaves as told, down to the bytes of its answers.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::Sha256;
use testkit::harness::WAIT_TIMEOUT;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep},
};

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub enum Behavior {
    Status(u16),
    /// Accepts after a while.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// Answers what is no HTTP.
    Garbage,
    /// Closes the connection.
    Close,
    /// Accepts with a body that does not end.
    Endless,
    Redirect(String),
}

#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: String,
    accepted: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether one of the signatures is that of the secret.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let header = |name| self.header(name).expect("a header");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
        mac.update(
            format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), self.body).as_bytes(),
        );
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        header("webhook-signature").split(' ').any(|signature| signature == expected)
    }

    pub fn events(&self) -> Vec<Value> {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        body["data"]["events"].as_array().expect("a list").clone()
    }
}

#[derive(Default)]
struct State {
    next: Mutex<VecDeque<Behavior>>,
    always: Mutex<Option<Behavior>>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
}

pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Receiver {
    /// Starts a receiver that accepts everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let shared = state.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { address, state, server }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Behaves so with the next requests.
    pub fn enqueue(&self, behaviors: impl IntoIterator<Item = Behavior>) {
        self.state.next.lock().extend(behaviors);
    }

    /// Behaves so with all requests that have no other behavior.
    pub fn always(&self, behavior: Behavior) {
        *self.state.always.lock() = Some(behavior);
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().clone()
    }

    /// The events of all requests that were accepted.
    pub fn events(&self) -> Vec<Value> {
        self.requests().iter().filter(|request| request.accepted).flat_map(Request::events).collect()
    }

    pub async fn wait_for_events(&self, count: usize) -> Vec<Value> {
        self.wait_for_events_within(count, WAIT_TIMEOUT).await
    }

    pub async fn wait_for_events_within(&self, count: usize, limit: Duration) -> Vec<Value> {
        wait(count, limit, || self.events()).await
    }

    pub async fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        self.wait_for_requests_within(count, WAIT_TIMEOUT).await
    }

    pub async fn wait_for_requests_within(&self, count: usize, limit: Duration) -> Vec<Request> {
        wait(count, limit, || self.requests()).await
    }
}

/// Waits for that many, and not for more.
async fn wait<T: std::fmt::Debug>(count: usize, limit: Duration, read: impl Fn() -> Vec<T>) -> Vec<T> {
    let deadline = Instant::now() + limit;
    loop {
        let read = read();
        assert!(read.len() <= count, "more than {count}: {read:?}");
        if read.len() == count {
            return read;
        }
        assert!(Instant::now() < deadline, "{} of {count}: {read:?}", read.len());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Serves the requests of one connection.
async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut buffer = Vec::new();
    while let Some(mut request) = read_request(&mut stream, &mut buffer).await {
        let behavior = state.next.lock().pop_front().or_else(|| state.always.lock().clone());
        let behavior = behavior.unwrap_or(Behavior::Status(200));
        request.accepted =
            matches!(behavior, Behavior::Status(200..=299) | Behavior::Slow(_) | Behavior::Endless);
        state.requests.lock().push(request);
        if !answer(&mut stream, behavior).await {
            return;
        }
    }
}

/// Returns whether the connection may go on.
async fn answer(stream: &mut TcpStream, behavior: Behavior) -> bool {
    let simple = |status: u16, more: &str| format!("HTTP/1.1 {status} X\r\n{more}content-length: 0\r\n\r\n");
    let text = match behavior {
        Behavior::Status(status) => simple(status, ""),
        Behavior::Slow(time) => {
            sleep(time).await;
            simple(200, "")
        }
        Behavior::Redirect(url) => simple(307, &format!("location: {url}\r\n")),
        Behavior::Garbage => "\u{0}\u{1}no HTTP at all\r\n\r\n".to_owned(),
        Behavior::Close => return false,
        Behavior::Hang => {
            sleep(Duration::from_secs(600)).await;
            return false;
        }
        Behavior::Endless => {
            let start = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            let mut sent = stream.write_all(start.as_bytes()).await;
            while sent.is_ok() {
                sent = stream.write_all(chunk.as_bytes()).await;
            }
            return false;
        }
    };
    stream.write_all(text.as_bytes()).await.is_ok()
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        if let Some((request, length)) = parse(buffer) {
            buffer.drain(..length);
            return Some(request);
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => buffer.extend_from_slice(&chunk[..length]),
        }
    }
}

/// A complete request at the start of the buffer, and its length.
fn parse(buffer: &[u8]) -> Option<(Request, usize)> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..end]).expect("text");
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length")?.1.parse::<usize>().expect("a length");
    let body = buffer.get(end..end + length)?;
    let body = String::from_utf8(body.to_vec()).expect("text");
    Some((Request { path, headers, body, accepted: false }, end + length))
}
