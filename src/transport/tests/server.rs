//! A test server with an echo session, and clients for it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    hub::{ConnId, Hub, HubSettings},
    protocol::{Dialect, Encode, Frame, FrameKind},
    transport::{
        AcceptSettings, Admission, CloseCode, CloseReason, Connection, ConnectionOptions, Flow, Session,
        Upgrade, frame::WireFrame, respond_with_events, serve,
    },
};

/// Maximum time that a test waits for anything.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Fails the test at the caller's line if the future takes too long.
#[track_caller]
pub fn in_time<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match timeout(TEST_TIMEOUT, future).await {
            Ok(output) => output,
            Err(_) => panic!("timed out at {caller}"),
        }
    }
}

/// An event of a session.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionEvent {
    Opened(ConnId),
    Unresponsive(bool),
    Timer,
    Closed(CloseReason),
}

/// Echoes messages. Some texts trigger other actions.
struct Echo(mpsc::UnboundedSender<SessionEvent>);

impl Session for Echo {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        self.0.send(SessionEvent::Opened(conn.id())).expect("the test is running");
        Flow::Continue
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        match frame {
            Frame::Text("panic") => panic!("intended panic in a test"),
            Frame::Text("close") => return Flow::Close(CloseCode::Unauthorized, "as you like".into()),
            Frame::Text("wake") => conn.set_timer(Some(Instant::now() + Duration::from_millis(60))),
            Frame::Text("slow") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                conn.send(WireFrame::text("slow")).expect("open");
            }
            Frame::Text(text) => drop(conn.send(WireFrame::text(text))),
            Frame::Binary(bytes) => drop(conn.send(WireFrame::binary(bytes))),
        }
        Flow::Continue
    }

    async fn on_unresponsive_change(&mut self, is_unresponsive: bool, _conn: &Arc<Connection>) {
        self.0.send(SessionEvent::Unresponsive(is_unresponsive)).expect("the test is running");
    }

    async fn on_timer(&mut self, _conn: &Arc<Connection>) -> Flow {
        self.0.send(SessionEvent::Timer).expect("the test is running");
        Flow::close(CloseCode::TokenExpired)
    }

    async fn on_close(self, _conn: &Arc<Connection>, reason: CloseReason) {
        // The test may be over.
        let _ = self.0.send(SessionEvent::Closed(reason));
    }
}

/// A text message that the hub can deliver.
pub struct TextMessage(pub String);

impl Encode for TextMessage {
    fn encode_into(&self, _dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        out.extend_from_slice(self.0.as_bytes());
        Some(FrameKind::Text)
    }
}

pub struct Server {
    pub addr: SocketAddr,
    pub hub: Hub,
    pub shutdown: CancellationToken,
    pub serving: tokio::task::JoinHandle<std::io::Result<()>>,
    events: mpsc::UnboundedReceiver<SessionEvent>,
}

#[derive(Clone)]
struct App {
    hub: Hub,
    events: mpsc::UnboundedSender<SessionEvent>,
}

async fn open(State(app): State<App>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    match Upgrade::from_parts(&mut parts) {
        Ok(upgrade) => {
            let options = ConnectionOptions::from(Dialect::Presence);
            upgrade.with_protocol("echo").accept(&app.hub, options, Echo(app.events))
        }
        Err(rejected) => {
            let mut response = (rejected.status(), rejected.to_string()).into_response();
            response.headers_mut().extend(rejected.headers());
            response
        }
    }
}

async fn open_events(State(app): State<App>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let options = ConnectionOptions::from(Dialect::PresenceEvents);
    respond_with_events(&mut parts, &app.hub, options, Echo(app.events)).expect("the hub runs")
}

impl Server {
    pub async fn start() -> Self {
        Self::with(HubSettings::default(), AcceptSettings::default()).await
    }

    pub async fn with(settings: HubSettings, accept: AcceptSettings) -> Self {
        let (sender, happened) = mpsc::unbounded_channel();
        let hub = Hub::start(&settings, &TaskTracker::new());
        let app = App { hub: hub.clone(), events: sender };
        let router = Router::new().route("/ws", any(open)).route("/events", any(open_events)).with_state(app);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let serving =
            tokio::spawn(serve(listener, router, shutdown.clone(), accept, Admission::new(&accept)));
        Self { addr, hub, shutdown, serving, events: happened }
    }

    /// The next event of any session.
    #[track_caller]
    pub fn next_event(&mut self) -> impl Future<Output = SessionEvent> {
        let next = in_time(self.events.recv());
        async move { next.await.expect("the server is running") }
    }

    /// Waits for a session to open; fails on any other event.
    pub async fn opened(&mut self) -> ConnId {
        match self.next_event().await {
            SessionEvent::Opened(id) => id,
            other => panic!("{other:?} instead of an opened session"),
        }
    }

    /// A standard WebSocket client.
    pub async fn connect(&self) -> Client {
        let (client, _) =
            in_time(tokio_tungstenite::connect_async(format!("ws://{}/ws", self.addr))).await.expect("open");
        Client(client)
    }

    /// A client controlled byte by byte. `early` is sent together with the handshake.
    pub async fn connect_raw(&self, early: &[u8]) -> RawClient {
        let mut raw = RawClient(TcpStream::connect(self.addr).await.expect("accepted"));
        let mut request = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
        request.extend_from_slice(early);
        raw.send(&request).await;
        let head = raw.read_until(b"\r\n\r\n").await;
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        raw
    }
}

pub struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub async fn send(&mut self, message: Message) {
        in_time(self.0.send(message)).await.expect("sent");
    }

    pub async fn next(&mut self) -> Message {
        in_time(self.0.next()).await.expect("still open").expect("a valid frame")
    }

    /// Reads until the server's close frame; returns its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(Some(close)) = self.next().await {
                return (close.code.into(), close.reason.to_string());
            }
        }
    }
}

pub struct RawClient(pub TcpStream);

impl RawClient {
    pub async fn send(&mut self, bytes: &[u8]) {
        in_time(self.0.write_all(bytes)).await.expect("sent");
    }

    /// Sends a masked frame with this first byte. The payload must be shorter than 126 bytes.
    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send(&masked(first, payload)).await;
    }

    /// Reads up to and including `end`.
    pub async fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        while !read.ends_with(end) {
            read.push(in_time(self.0.read_u8()).await.expect("still open"));
        }
        read
    }

    /// Reads one server frame: first byte and payload. `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = in_time(self.0.read_u8()).await.ok()?;
        let length = match in_time(self.0.read_u8()).await.ok()? {
            126 => in_time(self.0.read_u16()).await.ok()?.into(),
            127 => in_time(self.0.read_u64()).await.ok()?,
            short => short.into(),
        };
        let mut payload = vec![0; usize::try_from(length).expect("small")];
        in_time(self.0.read_exact(&mut payload)).await.ok()?;
        Some((first, payload))
    }

    pub async fn next_text(&mut self) -> Option<String> {
        let (first, payload) = self.next().await?;
        (first == 0x81).then(|| String::from_utf8(payload).expect("UTF-8"))
    }
}

/// A masked client frame with this first byte. The payload must be shorter than 126 bytes.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x11, 0x22, 0x33, 0x44];
    let length = u8::try_from(payload.len()).expect("short");
    assert!(length < 126);
    let mut frame = vec![first, 0x80 | length];
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
