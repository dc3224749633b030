//! A test client: REST calls and presence sockets that keep the received state.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error as SocketError, Message, client::IntoClientRequest, protocol::CloseFrame},
};
use uuid::Uuid;

use crate::{
    events::EventStream,
    harness::{TestServer, User, WAIT_TIMEOUT},
};

#[derive(Debug)]
pub struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The JSON body, or its text if it is not JSON.
    pub body: Value,
}

impl HttpResponse {
    /// Checks the status and returns the body.
    pub fn expect_status(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Checks the error envelope and returns the body.
    pub fn expect_error(self, status: u16, code: &str) -> Value {
        let (given, body) = (self.status.as_u16(), self.body);
        assert_eq!((given, body["error"].as_str()), (status, Some(code)), "{body:#}");
        assert_eq!(body["success"], false, "{body:#}");
        assert_eq!(body["statusCode"], status, "{body:#}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body:#}");
        // The Edge Function has no page of errors.
        let doc_url = body.get("doc_url");
        assert!(doc_url.is_none_or(|url| *url == format!("/docs/errors#{code}")), "{body:#}");
        assert!(self.headers.contains_key("x-request-id"), "{:?}", self.headers);
        let fields = ["success", "error", "message", "statusCode", "details", "doc_url"];
        assert!(body.as_object().expect("an object").keys().all(|key| fields.contains(&&**key)), "{body:#}");
        body
    }
}

impl TestServer {
    /// Builds a request without credentials, proxy, connection pool or redirects.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let client =
            reqwest::Client::builder().no_proxy().timeout(WAIT_TIMEOUT * 2).build().expect("a client");
        client.request(method, format!("http://{}{path}", self.address))
    }

    /// Sends a request to the admin port.
    pub async fn get_admin(&self, path: &str) -> HttpResponse {
        let address = self.admin_address.expect("an admin port");
        let client = reqwest::Client::builder().no_proxy().timeout(WAIT_TIMEOUT).build().expect("a client");
        send(client.get(format!("http://{address}{path}"))).await
    }

    pub async fn get(&self, user: &User, path: &str) -> HttpResponse {
        send(self.request(Method::GET, path).bearer_auth(&user.token)).await
    }

    pub async fn post(&self, user: &User, path: &str, body: Value) -> HttpResponse {
        send(self.request(Method::POST, path).bearer_auth(&user.token).json(&body)).await
    }

    /// Sends a request with an optional JSON body as a user.
    pub async fn send_json(
        &self,
        method: Method,
        user: &User,
        path: &str,
        body: Option<Value>,
    ) -> HttpResponse {
        let request = self.request(method, path).bearer_auth(&user.token);
        send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    pub async fn put(&self, user: &User, path: &str, body: Value) -> HttpResponse {
        self.send_json(Method::PUT, user, path, Some(body)).await
    }

    pub async fn patch(&self, user: &User, path: &str, body: Value) -> HttpResponse {
        self.send_json(Method::PATCH, user, path, Some(body)).await
    }

    pub async fn delete(&self, user: &User, path: &str) -> HttpResponse {
        self.send_json(Method::DELETE, user, path, None).await
    }

    /// Opens a presence socket as a user.
    pub async fn socket(&self, user: &User) -> Socket {
        self.socket_with(user, "").await
    }

    /// Opens a presence socket with further query parameters, for example `&device_id=tab`.
    pub async fn socket_with(&self, user: &User, query: &str) -> Socket {
        self.socket_for_token(&user.token, query).await.expect("the socket opens")
    }

    /// Opens a presence socket with a token.
    pub async fn socket_for_token(&self, token: &str, query: &str) -> Result<Socket, SocketError> {
        let url = format!("ws://{}/api/presence/subscribe?token={token}{query}", self.address);
        let (stream, _) = tokio_tungstenite::connect_async(url).await?;
        Ok(Socket::new(Stream::Socket(Box::new(stream))))
    }

    /// Opens a presence socket, or events, of a client that shows what `last` holds.
    pub async fn resumed(&self, user: &User, query: &str, last: &LastState, is_socket: bool) -> Socket {
        let query = format!("{query}&resume={}", last.position);
        let mut socket = if is_socket {
            self.socket_with(user, &query).await
        } else {
            self.events_with(user, &query).await
        };
        socket.presences.clone_from(&last.presences);
        socket
    }

    /// Opens presence events, which behave as a socket that sends nothing.
    pub async fn events_with(&self, user: &User, query: &str) -> Socket {
        let path = format!("/api/presence/events?token={}{query}", user.token);
        Socket::new(Stream::Events(Box::new(self.event_stream(self.stream_request(&path)).await)))
    }

    /// A GET request without a time limit.
    pub fn stream_request(&self, path: &str) -> RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        client.get(format!("http://{}{path}", self.address))
    }

    /// Sends a request that is answered with events.
    pub async fn event_stream(&self, request: RequestBuilder) -> EventStream {
        EventStream::new(request.send().await.expect("a response"))
    }

    /// Opens a presence socket that reads nothing and answers no pings.
    pub async fn stalled_socket(&self, user: &User) -> TcpStream {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        // A small buffer that fills quickly.
        socket.set_recv_buffer_size(4_096).expect("a buffer");
        socket.connect(&self.address.into()).expect("a connection");
        socket.set_nonblocking(true).expect("a flag");
        let mut stream = TcpStream::from_std(socket.into()).expect("a stream");
        let handshake = format!(
            "GET /api/presence/subscribe?token={} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            user.token
        );
        stream.write_all(handshake.as_bytes()).await.expect("the handshake");
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("a response");
        assert_eq!(&first, b"HTTP/1.1 101");
        stream
    }
}

/// Opens a WebSocket at any address and path, with headers.
pub async fn open_socket(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, String)],
) -> Result<Socket, SocketError> {
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().expect("a header's value"));
    }
    let (stream, _) = tokio_tungstenite::connect_async(request).await?;
    Ok(Socket::new(Stream::Socket(Box::new(stream))))
}

/// Sends a request and reads the response.
pub async fn send(request: RequestBuilder) -> HttpResponse {
    try_send(request).await.expect("a response")
}

/// As [`send`], to a server that may end meanwhile.
pub async fn try_send(request: RequestBuilder) -> reqwest::Result<HttpResponse> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    assert_canonical_times(&body);
    Ok(HttpResponse { status, headers, body })
}

/// A presence socket and the presence state its client has received.
pub struct Socket {
    stream: Stream,
    /// Latest presence of each user.
    pub presences: HashMap<Uuid, Value>,
    /// Number of received messages, without positions.
    pub frames: usize,
    /// The last position that was received.
    position: Option<String>,
    /// Whether the first state held only differences.
    pub is_resumed: bool,
    /// Whether `bundle_ready` messages are returned. Presence signals cause them asynchronously.
    pub keeps_bundle_events: bool,
}

/// What a client keeps of a connection to resume it.
#[derive(Debug, Clone, Default)]
pub struct LastState {
    /// Empty: of no connection.
    pub position: String,
    pub presences: HashMap<Uuid, Value>,
}

enum Stream {
    Socket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Events(Box<EventStream>),
}

/// An event on a socket.
#[derive(Debug)]
pub enum SocketEvent {
    Frame(Value),
    /// The code and reason of a close frame.
    Closed(u16, String),
    /// The connection ended without a close frame.
    Disconnected(String),
}

impl Socket {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            presences: HashMap::new(),
            frames: 0,
            position: None,
            is_resumed: false,
            keeps_bundle_events: false,
        }
    }

    /// What the client keeps to resume the connection.
    pub fn last_state(&self) -> LastState {
        let position = match &self.stream {
            Stream::Socket(_) => &self.position,
            Stream::Events(stream) => &stream.last_id,
        };
        LastState { position: position.clone().unwrap_or_default(), presences: self.presences.clone() }
    }

    /// Whether it is a stream of events, over which nothing is sent.
    pub const fn only_receives(&self) -> bool {
        matches!(self.stream, Stream::Events(_))
    }

    async fn next(&mut self) -> Option<Result<Message, SocketError>> {
        let stream = match &mut self.stream {
            Stream::Socket(stream) => return stream.next().await,
            Stream::Events(stream) => stream,
        };
        loop {
            let event = stream.next().await?;
            match event.name.as_str() {
                "message" => return Some(Ok(Message::text(event.data))),
                "open" => assert_eq!(event.data, "{}"),
                "close" => {
                    let close: Value = serde_json::from_str(&event.data).expect("JSON");
                    let code = u16::try_from(close["code"].as_u64().expect("a code")).expect("a code");
                    let reason = close["reason"].as_str().expect("a reason").to_owned();
                    return Some(Ok(Message::Close(Some(CloseFrame {
                        code: code.into(),
                        reason: reason.into(),
                    }))));
                }
                _ => panic!("an unknown event: {event:?}"),
            }
        }
    }

    /// Returns the next event, or `None` at the deadline. Answers pings.
    pub async fn receive(&mut self, deadline: Instant) -> Option<SocketEvent> {
        loop {
            let received = match timeout_at(deadline, self.next()).await.ok()? {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("the server sends JSON");
                    assert_canonical_times(&frame);
                    if frame["type"] == "bundle_ready" && !self.keeps_bundle_events {
                        continue;
                    }
                    if frame["type"] == "position" {
                        self.position = frame["data"]["position"].as_str().map(str::to_owned);
                        continue;
                    }
                    // The error that the device was not written may come before the first frame.
                    self.frames += usize::from(frame["type"] != "error");
                    self.apply(&frame);
                    SocketEvent::Frame(frame)
                }
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    SocketEvent::Closed(code.into(), reason.to_string())
                }
                Some(Ok(Message::Close(None))) => SocketEvent::Closed(1005, String::new()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => panic!("an unexpected frame: {other:?}"),
                Some(Err(error)) => SocketEvent::Disconnected(error.to_string()),
                None => SocketEvent::Disconnected("end of stream".into()),
            };
            return Some(received);
        }
    }

    /// Returns the next message.
    pub async fn next_message(&mut self) -> Value {
        match self.receive(Instant::now() + WAIT_TIMEOUT).await {
            Some(SocketEvent::Frame(frame)) => frame,
            other => panic!("expected a message, got {other:?}; {}", self.summary()),
        }
    }

    /// Returns the next message, which must match the pattern.
    pub async fn expect_message(&mut self, expected: Value) -> Value {
        let frame = self.next_message().await;
        assert_matches_pattern(&frame, &expected);
        frame
    }

    /// Reads until a message matches, and returns it.
    pub async fn find_message(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            match self.receive(deadline).await {
                Some(SocketEvent::Frame(frame)) if wanted(&frame) => return frame,
                Some(SocketEvent::Frame(_)) => {}
                other => panic!("not received: {what}; got {other:?}; {}", self.summary()),
            }
        }
    }

    /// Reads until the received state satisfies the condition.
    pub async fn wait_until(&mut self, what: &str, mut wanted: impl FnMut(&Self) -> bool) {
        self.wait_until_within(WAIT_TIMEOUT, what, &mut wanted).await;
    }

    /// [`wait_until`](Self::wait_until) with a timeout.
    pub async fn wait_until_within(
        &mut self,
        limit: Duration,
        what: &str,
        mut wanted: impl FnMut(&Self) -> bool,
    ) {
        let deadline = Instant::now() + limit;
        while !wanted(self) {
            match self.receive(deadline).await {
                Some(SocketEvent::Frame(_)) => {}
                other => panic!("not within {limit:?}: {what}; got {other:?}; {}", self.summary()),
            }
        }
    }

    /// Checks that no message arrives within `time`.
    pub async fn expect_no_message(&mut self, time: Duration) {
        if let Some(received) = self.receive(Instant::now() + time).await {
            panic!("expected no message, received {received:?}");
        }
    }

    /// Waits for a close frame with this code; returns the messages before it.
    pub async fn expect_close(&mut self, number: u16) -> Vec<Value> {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        let mut before = Vec::new();
        loop {
            match self.receive(deadline).await {
                Some(SocketEvent::Frame(frame)) => before.push(frame),
                Some(SocketEvent::Closed(given, reason)) => {
                    assert_eq!(given, number, "closed with {given} {reason}; before it {before:?}");
                    return before;
                }
                other => panic!("expected close {number}, got {other:?}; before it {before:?}"),
            }
        }
    }

    /// Sends a JSON message.
    pub async fn send_message(&mut self, message: Value) {
        self.send_frame(Message::text(message.to_string())).await;
    }

    pub async fn send_frame(&mut self, message: Message) {
        self.try_send_frame(message).await.expect("the frame is sent");
    }

    /// As [`send_frame`](Self::send_frame), to a server that may have ended.
    pub async fn try_send_frame(&mut self, message: Message) -> Result<(), SocketError> {
        match &mut self.stream {
            Stream::Socket(stream) => stream.send(message).await,
            Stream::Events(_) => panic!("nothing is sent over a stream of events"),
        }
    }

    /// Closes the socket and waits for the close frame of the server.
    pub async fn close(mut self) {
        match &mut self.stream {
            Stream::Socket(stream) => WebSocketStream::close(stream, None).await.expect("the socket is open"),
            Stream::Events(_) => return,
        }
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while !matches!(self.receive(deadline).await, Some(SocketEvent::Disconnected(_)) | None) {}
    }

    /// Whether the client has received this status and availability of a user.
    pub fn shows(&self, user: Uuid, status: &str, availability: &str) -> bool {
        let presence = self.presences.get(&user);
        presence.is_some_and(|face| face["status"] == status && face["availability"] == availability)
    }

    pub fn shows_online(&self, user: Uuid) -> bool {
        self.shows(user, "online", "online")
    }

    /// Whether the client has received the user as offline, with a last_seen.
    pub fn shows_offline(&self, user: Uuid) -> bool {
        self.shows(user, "offline", "offline") && !self.presences[&user]["last_seen"].is_null()
    }

    /// Whether the user is hidden from the client or was never sent.
    pub fn hides(&self, user: Uuid) -> bool {
        self.presences.get(&user).is_none_or(|face| *face == hidden_presence(user))
    }

    fn apply(&mut self, frame: &Value) {
        let id = |face: &Value| face["user_id"].as_str().and_then(|id| id.parse().ok()).expect("a user's id");
        match frame["type"].as_str() {
            Some("initial_state") => {
                assert_eq!(self.frames, 1, "initial_state is the first frame and is sent once");
                let faces = frame["data"]["presences"].as_array().expect("a list");
                let count = faces.len();
                let faces: HashMap<Uuid, Value> = faces.iter().map(|face| (id(face), face.clone())).collect();
                assert_eq!(faces.len(), count, "a user is in it twice: {frame}");
                self.is_resumed = frame["data"]["resumed"] == true;
                self.position = frame["data"]["position"].as_str().map(str::to_owned);
                if !self.is_resumed {
                    self.presences.clear();
                }
                self.presences.extend(faces);
            }
            // On `/ws` the update has a payload; on the context socket it is about the user's own devices and has none.
            Some("presence_update") if frame["data"].is_object() => {
                assert!(self.frames > 1, "an update before initial_state: {frame}");
                self.presences.insert(id(&frame["data"]), frame["data"].clone());
            }
            _ => {}
        }
    }

    fn summary(&self) -> String {
        format!("{} frames; state {:#?}", self.frames, self.presences)
    }
}

/// The presence that a client receives when a user becomes invisible to it.
pub fn hidden_presence(user: Uuid) -> Value {
    json!({"user_id": user, "status": "offline", "availability": "offline", "last_seen": null})
}

/// Checks that every time in an answer is RFC 3339 in UTC with three fractional digits, which strict readers require:
/// some read fractions only, some require them. Times that clients wrote, and columns of tables, stay as they are.
pub fn assert_canonical_times(answer: &Value) {
    match answer {
        Value::String(text) => {
            let shape: String = text.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
            assert!(
                !shape.starts_with("0000-00-00T00:00") || shape == "0000-00-00T00:00:00.000Z",
                "the time {text} has another format than the documented one"
            );
        }
        Value::Array(items) => items.iter().for_each(assert_canonical_times),
        Value::Object(fields) => {
            let written_by_clients = ["localTime", "local_time", "payload", "record", "old_record"];
            let ours = fields.iter().filter(|(name, _)| !written_by_clients.contains(&name.as_str()));
            ours.for_each(|(_, value)| assert_canonical_times(value));
        }
        _ => {}
    }
}

/// Placeholder in patterns for any time in JavaScript's format.
pub const ANY_TIME: &str = "<time>";

/// Checks that a value equals the pattern, where [`ANY_TIME`] matches any time.
#[track_caller]
pub fn assert_matches_pattern(actual: &Value, expected: &Value) {
    assert!(matches_pattern(actual, expected), "expected {expected:#}, got {actual:#}");
}

fn matches_pattern(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::String(text), Value::String(pattern)) if pattern == ANY_TIME => {
            text.len() == "2024-01-01T12:00:00.000Z".len()
                && text.ends_with('Z')
                && text.parse::<jiff::Timestamp>().is_ok()
        }
        (Value::Object(actual), Value::Object(expected)) => {
            actual.len() == expected.len()
                && expected
                    .iter()
                    .all(|(key, value)| actual.get(key).is_some_and(|actual| matches_pattern(actual, value)))
        }
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, b)| matches_pattern(a, b))
        }
        (actual, expected) => actual == expected,
    }
}
