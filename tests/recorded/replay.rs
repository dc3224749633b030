//! Repeats the recorded actions and compares the results.
//!
//! Each action waits until the results recorded before it have arrived, not for the recorded time. Frames are compared
//! by order group: frames of the channel itself (replies, system messages, close) keep their order, and so do the
//! messages of its topic. The order between the two groups may differ, except that no frame precedes the reply to a
//! join.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::Method;
use rollcall::config::Settings;
use serde_json::{Map, Value, json};
use testkit::{
    client::{HttpResponse, send},
    harness::{TestDatabase, TestServer},
    phoenix::{Frame, SerializerVersion},
};
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::Client;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Error as SocketError, Message,
        client::IntoClientRequest,
        protocol::{
            CloseFrame,
            frame::{
                Frame as RawFrame,
                coding::{Data, OpCode},
            },
        },
    },
};

use crate::{
    compare::Bindings,
    recording::{Event, Kind, Recording, version_in},
    tokens::Tokens,
};

/// Time allowed for recorded results beyond their recorded time.
const WAIT_TIMEOUT: Duration = Duration::from_secs(8);
/// Time at the end in which no unexpected frame may arrive.
const SETTLE_TIME: Duration = Duration::from_millis(400);
/// Delay between two actions that were recorded apart, so that effects of the first arrive first.
const ACTION_DELAY: Duration = Duration::from_millis(40);
/// Actions recorded closer together than this (in milliseconds) are repeated without a delay.
const MAX_CONCURRENT_GAP_MS: f64 = 30.0;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Frames that one socket has received.
#[derive(Default)]
struct ReceivedFrames {
    by_order_key: BTreeMap<FrameOrderKey, Vec<Frame>>,
    order: Vec<(String, String)>,
    pongs: Vec<Vec<u8>>,
    closed: Option<u16>,
}

/// Frames of one socket with equal keys keep their order.
type FrameOrderKey = (String, bool);

fn order_key(frame: &Frame) -> FrameOrderKey {
    let of_the_room = matches!(frame.event.as_str(), "broadcast" | "presence_diff" | "postgres_changes");
    (frame.topic.to_string(), of_the_room)
}

struct OpenSocket {
    sink: SplitSink<Stream, Message>,
    received: Arc<Mutex<ReceivedFrames>>,
    reader: JoinHandle<()>,
}

pub struct Replay<'a> {
    recording: &'a Recording,
    db: &'a TestDatabase,
    node: Arc<TestServer>,
    sql: Client,
    tokens: Tokens,
    sockets: HashMap<String, OpenSocket>,
    received_notify: Arc<Notify>,
    /// Recorded times and the corresponding times of this run.
    event_times: Vec<(Timestamp, Timestamp)>,
    differences: Vec<String>,
}

/// Replays a recording against a new server; returns all differences.
pub async fn replay(db: &TestDatabase, recording: &Recording) -> Vec<String> {
    let (settings, events) = settings(&recording.events);
    let recording = Recording {
        scenario: recording.scenario.clone(),
        version: recording.version.clone(),
        events: without_hangup(recording, events),
    };
    let configure = |all: &mut Settings| {
        // The recorded server had a high limit, except where the limit is the subject.
        all.set("REALTIME_PRESENCE_CALLS", "0");
        settings.iter().for_each(|(name, value)| apply_setting(all, name, value));
    };
    let node = db.start_server_with(configure).await;
    let mut replay = Replay {
        recording: &recording,
        db,
        node,
        sql: db.connect().await,
        tokens: Tokens::default(),
        sockets: HashMap::new(),
        received_notify: Arc::default(),
        event_times: Vec::new(),
        differences: Vec::new(),
    };
    replay.run().await;
    replay.differences
}

/// Extracts the tenant settings made at the start of the recording, as server settings.
fn settings(events: &[Event]) -> (Map<String, Value>, &[Event]) {
    match events {
        [Event { kind: Kind::Request { method, body: Some(body), .. }, .. }, _, rest @ ..]
            if method == "PUT" =>
        {
            let tenant: Value = serde_json::from_str(body).expect("JSON");
            (tenant["tenant"].as_object().expect("settings").clone(), rest)
        }
        _ => (Map::new(), events),
    }
}

fn apply_setting(settings: &mut Settings, name: &str, value: &Value) {
    let variable = match name {
        "max_channels_per_client" => "REALTIME_MAX_CHANNELS_PER_CLIENT",
        "max_concurrent_users" => "REALTIME_MAX_CONNECTIONS",
        "max_events_per_second" => "REALTIME_MAX_EVENTS_PER_SECOND",
        "max_joins_per_second" => "REALTIME_MAX_JOINS_PER_SECOND",
        "max_payload_size_in_kb" => "REALTIME_MAX_PAYLOAD_KB",
        other => panic!("no server setting for {other}"),
    };
    settings.set(variable, value.to_string());
}

/// Drops the disconnects at the end of the recording, which are not part of the scenario.
fn without_hangup(recording: &Recording, events: &[Event]) -> Vec<Event> {
    let last_action =
        events.iter().rposition(|event| event.kind.is_action()).expect("a recording has an action");
    let said_goodbye = |socket: &str| {
        events.iter().any(|event| event.socket == socket && matches!(event.kind, Kind::Close(_)))
    };
    let hung_up = |event: &Event| matches!(event.kind, Kind::Closed(1000)) && !said_goodbye(&event.socket);
    let waited_for = recording.scenario == "idle_timeout";
    let end = events[last_action..].iter().find(|event| hung_up(event) && !waited_for).map(|event| event.t);
    let kept = |(at, event): &(usize, &Event)| match end {
        Some(end) if *at > last_action => {
            let gone = matches!(&event.kind, Kind::Received(frame) if frame.event == "presence_diff")
                && event.t > end - 10.0;
            !hung_up(event) && !gone
        }
        _ => true,
    };
    events.iter().enumerate().filter(kept).map(|(_, event)| event.clone()).collect()
}

impl Replay<'_> {
    async fn run(&mut self) {
        let events = &self.recording.events;
        let mut before: Option<&Event> = None;
        for (at, event) in events.iter().enumerate() {
            if !event.kind.is_action() {
                continue;
            }
            self.wait_for_recorded(&events[..at]).await;
            if before.is_some_and(|before| event.t - before.t > MAX_CONCURRENT_GAP_MS) {
                sleep(ACTION_DELAY).await;
            }
            before = Some(event);
            self.event_times.push((event.at, Timestamp::now()));
            self.perform(event, &events[at + 1..]).await;
            if self.differences.len() > 5 {
                return;
            }
        }
        self.wait_for_recorded(events).await;
        sleep(SETTLE_TIME).await;
        self.compare();
    }

    /// Repeats an action and checks its immediate result.
    async fn perform(&mut self, event: &Event, after: &[Event]) {
        match &event.kind {
            Kind::Note(note) => self.apply_note(note).await,
            Kind::Connect { path, headers } => {
                let outcome = after.iter().find(|later| {
                    later.socket == event.socket && matches!(later.kind, Kind::Opened | Kind::Refused { .. })
                });
                let outcome = &outcome.expect("a handshake has an outcome").kind;
                self.connect(&event.socket, path, headers, outcome).await;
            }
            Kind::Send { text, split } => {
                let text = self.tokens.substitute(&self.shift_since(text));
                match split {
                    None => self.send(&event.socket, Message::text(text)).await,
                    Some(at) => {
                        let (first, rest) = text.as_bytes().split_at(*at);
                        for (part, code, last) in [(first, Data::Text, false), (rest, Data::Continue, true)] {
                            let frame = RawFrame::message(part.to_vec(), OpCode::Data(code), last);
                            self.send(&event.socket, Message::Frame(frame)).await;
                        }
                    }
                }
            }
            Kind::SendBytes(bytes) => self.send(&event.socket, Message::binary(bytes.clone())).await,
            Kind::Ping(bytes) => self.send(&event.socket, Message::Ping(bytes.clone().into())).await,
            Kind::Close(code) => {
                let close = CloseFrame { code: (*code).into(), reason: "".into() };
                self.send(&event.socket, Message::Close(Some(close))).await;
            }
            Kind::Terminate => self.terminate(&event.socket).await,
            Kind::Sql { statement, failed } => {
                let result = self.sql.simple_query(statement).await;
                if result.is_err() != *failed {
                    self.differences.push(format!("{statement}: {result:?}"));
                }
            }
            Kind::Request { method, path, headers, body } => {
                let response = self.request(method, path, headers, body.as_deref()).await;
                let recorded = after.iter().find_map(|later| match &later.kind {
                    Kind::Response { status, headers, body } => Some((*status, headers, body)),
                    _ => None,
                });
                self.compare_answer(path, recorded.expect("a request has a response"), &response);
            }
            other => unreachable!("{other:?} is a result, not an action"),
        }
    }

    /// Repeats actions on the server that the recording describes in notes.
    async fn apply_note(&mut self, note: &str) {
        match note {
            "stopping postgres" => self.db.disconnect_clients().await,
            "starting postgres" => {
                self.db.allow_connections().await;
                self.sql = self.db.connect().await;
            }
            "restarting postgres" => {
                self.db.disconnect_clients().await;
                sleep(Duration::from_secs(1)).await;
                self.db.allow_connections().await;
                self.sql = self.db.connect().await;
            }
            "stopping the server" => {
                if let Err(error) = self.node.stop().await {
                    self.differences.push(error);
                }
            }
            _ => {}
        }
    }

    async fn connect(&mut self, name: &str, path: &str, headers: &Map<String, Value>, outcome: &Kind) {
        let path = self.tokens.substitute(path);
        let url = format!("ws://{}{path}", self.node.address);
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            let value = self.tokens.substitute(value.as_str().expect("text"));
            let name = name.parse::<reqwest::header::HeaderName>().expect("a header");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        match (tokio_tungstenite::connect_async(request).await, outcome) {
            (Ok((stream, _)), Kind::Opened) => self.listen(name, version_in(&path), stream),
            (Err(SocketError::Http(response)), Kind::Refused { status, body }) => {
                let given = (response.status().as_u16(), response.into_body().unwrap_or_default());
                let text = String::from_utf8_lossy(&given.1);
                if given.0 != *status || json_or_text(&text) != json_or_text(body) {
                    self.differences
                        .push(format!("{name}: rejected with {} {text}, not {status} {body}", given.0));
                }
            }
            (Ok(_), _) => self.differences.push(format!("{name}: opened, not {outcome:?}")),
            (Err(error), _) => self.differences.push(format!("{name}: {error}, not {outcome:?}")),
        }
    }

    /// Reads a socket until it ends.
    fn listen(&mut self, name: &str, version: SerializerVersion, stream: Stream) {
        let (sink, mut stream) = stream.split();
        let received: Arc<Mutex<ReceivedFrames>> = Arc::default();
        let (notify, shared) = (self.received_notify.clone(), received.clone());
        let reader = tokio::spawn(async move {
            while shared.lock().closed.is_none() {
                let message = stream.next().await;
                let mut frames = shared.lock();
                let mut take = |frame: Frame| {
                    frames.order.push((frame.topic.to_string(), frame.event.clone()));
                    frames.by_order_key.entry(order_key(&frame)).or_default().push(frame);
                };
                match message {
                    Some(Ok(Message::Text(text))) => take(Frame::from_text(version, &text)),
                    Some(Ok(Message::Binary(bytes))) => take(Frame::from_bytes(&bytes)),
                    Some(Ok(Message::Pong(bytes))) => frames.pongs.push(bytes.to_vec()),
                    Some(Ok(Message::Close(frame))) => {
                        frames.closed = Some(frame.map_or(1005, |frame| frame.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => frames.closed = Some(1006),
                }
                drop(frames);
                notify.notify_waiters();
            }
        });
        self.sockets.insert(name.to_owned(), OpenSocket { sink, received, reader });
    }

    async fn send(&mut self, name: &str, message: Message) {
        let Some(live) = self.sockets.get_mut(name) else {
            return self.differences.push(format!("{name} is not open"));
        };
        // Some scenarios send on a socket that the server has closed.
        timeout(WAIT_TIMEOUT, live.sink.send(message)).await.ok();
    }

    /// Dropping both halves drops the connection.
    async fn terminate(&mut self, name: &str) {
        if let Some(live) = self.sockets.remove(name) {
            live.reader.abort();
            live.reader.await.ok();
        }
    }

    async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &Map<String, Value>,
        body: Option<&str>,
    ) -> HttpResponse {
        let path = self.tokens.substitute(path);
        let mut request = self.node.request(Method::from_bytes(method.as_bytes()).expect("a method"), &path);
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(name, self.tokens.substitute(value.as_str().expect("text")));
        }
        send(match body {
            Some(body) => request.body(body.to_owned()),
            None => request,
        })
        .await
    }

    fn compare_answer(
        &mut self,
        path: &str,
        (status, headers, body): (u16, &Map<String, Value>, &String),
        ours: &HttpResponse,
    ) {
        if ours.status.as_u16() != status || ours.body != json_or_text(body) {
            self.differences.push(format!(
                "{path}: response {} {}, not {status} {body}",
                ours.status.as_u16(),
                ours.body
            ));
        }
        for name in
            headers.keys().filter(|name| name.starts_with("x-rate") || name.starts_with("access-control"))
        {
            if ours.header(name).is_none() {
                self.differences.push(format!("{path}: no header {name}"));
            }
        }
    }

    /// Shifts a recorded time to this run, with the same distance from the same event.
    fn shift_since(&self, text: &str) -> String {
        let Some((before, after)) = text.split_once(r#""since":"#) else { return text.to_owned() };
        let quoted = after.starts_with('"');
        let digits: String = after.trim_start_matches('"').chars().take_while(char::is_ascii_digit).collect();
        let Ok(theirs) = digits.parse::<i64>() else { return text.to_owned() };
        let (recorded, here) = self
            .event_times
            .iter()
            .rev()
            .find(|(recorded, _)| recorded.as_millisecond() <= theirs)
            .or(self.event_times.first())
            .expect("the recording has events");
        let ours = here.as_millisecond() + (theirs - recorded.as_millisecond());
        let after = &after[digits.len() + usize::from(quoted)..];
        format!(r#"{before}"since":{}{ours}{after}"#, if quoted { "\"" } else { "" })
    }

    /// Waits until all results recorded up to here have arrived.
    async fn wait_for_recorded(&mut self, so_far: &[Event]) {
        let expected = Expected::from_events(so_far);
        // A result may take as long as recorded, plus the timeout.
        let recorded = match so_far {
            [.., deed, last] if !last.kind.is_action() => {
                Duration::from_secs_f64((last.t - deed.t).max(0.0) / 1_000.0)
            }
            _ => Duration::ZERO,
        };
        let deadline = Instant::now() + recorded + WAIT_TIMEOUT;
        loop {
            let notify = self.received_notify.clone();
            let notified = notify.notified();
            if expected.sockets.iter().all(|(name, expected)| self.has_received(name, expected)) {
                return;
            }
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return;
            }
        }
    }

    fn has_received(&self, name: &str, expected: &ReceivedFrames) -> bool {
        let Some(live) = self.sockets.get(name) else { return true };
        let received = live.received.lock();
        let lanes = expected
            .by_order_key
            .iter()
            .all(|(lane, frames)| received.by_order_key.get(lane).map_or(0, Vec::len) >= frames.len());
        lanes
            && received.pongs.len() >= expected.pongs.len()
            && (expected.closed.is_none() || received.closed.is_some())
    }

    fn compare(&mut self) {
        let expected = Expected::from_events(&self.recording.events);
        let mut bindings = Bindings::default();
        let nothing = ReceivedFrames::default();
        for (name, live) in &self.sockets {
            let (received, expected) = (live.received.lock(), expected.sockets.get(name).unwrap_or(&nothing));
            let lanes: std::collections::BTreeSet<_> =
                received.by_order_key.keys().chain(expected.by_order_key.keys()).collect();
            for lane in lanes {
                let none = Vec::new();
                let theirs = expected.by_order_key.get(lane).unwrap_or(&none);
                let ours = received.by_order_key.get(lane).unwrap_or(&none);
                let same = theirs
                    .iter()
                    .zip(ours)
                    .try_for_each(|(theirs, ours)| bindings.compare_frame(theirs, ours));
                if let Err(difference) = same {
                    self.differences.push(format!("{name}: {difference}"));
                } else if theirs.len() > ours.len() {
                    self.differences.push(format!("{name}: missing: {:?}", &theirs[ours.len()..]));
                } else if ours.len() > theirs.len() {
                    self.differences.push(format!("{name}: unexpected: {:?}", &ours[theirs.len()..]));
                }
            }
            if received.pongs != expected.pongs {
                self.differences
                    .push(format!("{name}: pongs {:?}, not {:?}", received.pongs, expected.pongs));
            }
            // A frame over the size limit may end the connection before the close frame is read.
            let closed = received.closed.filter(|_| expected.closed.is_some());
            if closed != expected.closed && (expected.closed, closed) != (Some(1006), Some(1009)) {
                self.differences
                    .push(format!("{name}: closed with {:?}, not {:?}", received.closed, expected.closed));
            }
            if expected.closed.is_none() && received.closed.is_some() {
                self.differences.push(format!("{name}: closed with {:?}", received.closed));
            }
            let mut started = std::collections::HashSet::new();
            for (topic, event) in &received.order {
                if started.insert(topic) && event != "phx_reply" {
                    self.differences.push(format!("{name}: {event} of {topic} before any reply"));
                }
            }
        }
    }
}

/// Frames of the recorded sockets.
struct Expected {
    sockets: HashMap<String, ReceivedFrames>,
}

impl Expected {
    fn from_events(events: &[Event]) -> Self {
        let mut sockets: HashMap<String, ReceivedFrames> = HashMap::new();
        for event in events {
            // A socket dropped by the client receives nothing more.
            if matches!(event.kind, Kind::Terminate) {
                sockets.remove(&event.socket);
                continue;
            }
            let received = sockets.entry(event.socket.clone()).or_default();
            match &event.kind {
                Kind::Received(frame) => {
                    received.by_order_key.entry(order_key(frame)).or_default().push(frame.clone())
                }
                Kind::Pong(bytes) => received.pongs.push(bytes.clone()),
                Kind::Closed(code) => received.closed = Some(*code),
                _ => {}
            }
        }
        Self { sockets }
    }
}

fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}
