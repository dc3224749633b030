//! Recorded events: what was sent and what was received.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use testkit::phoenix::{Frame, SerializerVersion};

/// Directory of the recordings.
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/recordings")
}

/// One scenario with one serializer version.
pub struct Recording {
    pub scenario: String,
    /// Version as in the query string.
    pub version: String,
    /// Events in order.
    pub events: Vec<Event>,
}

#[derive(Debug, Clone)]
pub struct Event {
    /// Milliseconds since the start.
    pub t: f64,
    /// Wall-clock time.
    pub at: Timestamp,
    /// Name of the socket; empty for HTTP, SQL and notes.
    pub socket: String,
    pub kind: Kind,
}

/// An action of a client or a result.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A remark of the recorder.
    Note(String),
    Connect {
        path: String,
        headers: Map<String, Value>,
    },
    Opened,
    Refused {
        status: u16,
        body: String,
    },
    /// The client sends text, in one frame or fragmented at `split`.
    Send {
        text: String,
        split: Option<usize>,
    },
    /// The client sends a binary frame.
    SendBytes(Vec<u8>),
    /// The client sends a ping.
    Ping(Vec<u8>),
    /// The server answers a ping.
    Pong(Vec<u8>),
    /// The client receives a message.
    Received(Frame),
    /// The client closes the socket.
    Close(u16),
    /// The client drops the connection.
    Terminate,
    /// The socket was closed.
    Closed(u16),
    /// A SQL statement and whether it failed.
    Sql {
        statement: String,
        failed: bool,
    },
    Request {
        method: String,
        path: String,
        headers: Map<String, Value>,
        body: Option<String>,
    },
    Response {
        status: u16,
        headers: Map<String, Value>,
        body: String,
    },
}

impl Kind {
    /// Whether this is an action rather than a result.
    pub fn is_action(&self) -> bool {
        use Kind::{Close, Connect, Note, Ping, Request, Send, SendBytes, Sql, Terminate};
        matches!(
            self,
            Note(_)
                | Connect { .. }
                | Send { .. }
                | SendBytes(_)
                | Ping(_)
                | Close(_)
                | Terminate
                | Sql { .. }
                | Request { .. }
        )
    }
}

/// One line of a recording.
#[derive(Deserialize)]
#[serde(tag = "k", rename_all = "snake_case")]
enum RecordedLine {
    Meta { scenario: String, vsn: String },
    Note { m: String },
    Connect { path: String, headers: Map<String, Value> },
    Open,
    Refused { status: u16, body: String },
    Send { data: String, bytes: Option<usize> },
    SendFragmented { data: String, at: usize },
    SendBin { hex: String },
    SendPing { hex: String },
    Pong { hex: String },
    Recv { data: String, bytes: Option<usize> },
    RecvBin { hex: String },
    CloseByClient { code: u16 },
    TerminateByClient,
    Close { code: u16 },
    Sql { q: String, error: Option<String> },
    HttpReq { method: String, path: String, headers: Map<String, Value>, body: Option<String> },
    HttpRes { status: u16, headers: Map<String, Value>, body: String },
}

#[derive(Deserialize)]
struct LineHeader {
    t: f64,
    ts: Timestamp,
    s: Option<String>,
}

impl Recording {
    /// Reads all recordings, sorted by name.
    pub fn all() -> Vec<Self> {
        let files = std::fs::read_dir(directory()).expect("the recordings exist");
        let mut paths: Vec<_> = files
            .map(|file| file.expect("a file").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        paths.sort();
        paths.into_iter().map(|path| Self::read(&std::fs::read_to_string(path).expect("text"))).collect()
    }

    fn read(file: &str) -> Self {
        let mut recording = Self { scenario: String::new(), version: String::new(), events: Vec::new() };
        for line in file.lines() {
            let LineHeader { t, ts, s } = serde_json::from_str(line).expect("a time");
            let parsed = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if let RecordedLine::Meta { scenario, vsn } = parsed {
                (recording.scenario, recording.version) = (scenario, vsn);
                continue;
            }
            let socket = s.unwrap_or_default();
            let kind = recording.kind(&socket, parsed);
            recording.events.push(Event { t, at: ts, socket, kind });
        }
        recording
    }

    /// Returns the serializer version of a socket: from its path, or else from the scenario.
    fn version_of(&self, socket: &str) -> SerializerVersion {
        let path = self.events.iter().find_map(|event| match &event.kind {
            Kind::Connect { path, .. } if event.socket == socket => Some(path.clone()),
            _ => None,
        });
        version_in(&path.unwrap_or_default())
    }

    fn kind(&self, socket: &str, line: RecordedLine) -> Kind {
        let version = self.version_of(socket);
        match line {
            RecordedLine::Meta { .. } => unreachable!("read before"),
            RecordedLine::Note { m } => Kind::Note(m),
            RecordedLine::Connect { path, headers } => Kind::Connect { path, headers },
            RecordedLine::Open => Kind::Opened,
            RecordedLine::Refused { status, body } => Kind::Refused { status, body },
            RecordedLine::Send { data, bytes } => {
                let sent = || {
                    self.events
                        .iter()
                        .filter(|event| matches!(event.kind, Kind::Send { .. }) && event.socket == socket)
                        .count()
                };
                let end = match version {
                    SerializerVersion::V1 => format!(r#""}}}},"ref":"{}","join_ref":"1"}}"#, sent() + 1),
                    SerializerVersion::V2 => r#""}}]"#.to_owned(),
                };
                Kind::Send { text: untruncated(data, bytes, &end), split: None }
            }
            RecordedLine::SendFragmented { data, at } => Kind::Send { text: data, split: Some(at) },
            RecordedLine::SendBin { hex } => Kind::SendBytes(decode_hex(&hex)),
            RecordedLine::SendPing { hex } => Kind::Ping(decode_hex(&hex)),
            RecordedLine::Pong { hex } => Kind::Pong(decode_hex(&hex)),
            RecordedLine::Recv { data, bytes } => {
                let end = match version {
                    SerializerVersion::V1 => r#""},"type":"broadcast"},"topic":"realtime:big"}"#,
                    SerializerVersion::V2 => r#""},"type":"broadcast"}]"#,
                };
                Kind::Received(frame_from_text(version, &untruncated(data, bytes, end)))
            }
            RecordedLine::RecvBin { hex } => Kind::Received(frame_from_bytes(&decode_hex(&hex))),
            RecordedLine::CloseByClient { code } => Kind::Close(code),
            RecordedLine::TerminateByClient => Kind::Terminate,
            RecordedLine::Close { code } => Kind::Closed(code),
            RecordedLine::Sql { q, error } => Kind::Sql { statement: q, failed: error.is_some() },
            RecordedLine::HttpReq { method, path, headers, body } => {
                Kind::Request { method, path, headers, body: body.map(untruncated_body) }
            }
            RecordedLine::HttpRes { status, headers, body } => Kind::Response { status, headers, body },
        }
    }
}

/// Returns the serializer version in a path.
pub fn version_in(path: &str) -> SerializerVersion {
    if path.contains("vsn=2.0.0") { SerializerVersion::V2 } else { SerializerVersion::V1 }
}

/// The recorder truncated long texts, which repeat one letter.
fn untruncated(text: String, length: Option<usize>, end: &str) -> String {
    let (Some(length), Some(start)) = (length, text.strip_suffix('…')) else { return text };
    let missing = length - start.len() - end.len();
    format!("{start}{}{end}", "x".repeat(missing))
}

/// The recorder truncated long bodies inside a text of one letter: `{"s":"xxx...(3200064 bytes)`.
fn untruncated_body(body: String) -> String {
    let cut = body.rsplit_once("...(").and_then(|(start, rest)| {
        let length: usize = rest.strip_suffix(" bytes)")?.parse().ok()?;
        Some((start, length))
    });
    let Some((start, length)) = cut else { return body };
    let end = if start.contains("messages") { r#""}}]}"# } else { r#""}"# };
    untruncated(format!("{start}…"), Some(length), end)
}

/// Supabase Realtime forwards some frames that are not JSON, if a client sent such a payload.
fn frame_from_text(version: SerializerVersion, text: &str) -> Frame {
    let broken =
        [("{not json", r#""{not json""#), (r#"%{error: "unable to parse response"}"#, r#""%{error}""#)];
    let text = broken.iter().fold(text.to_owned(), |text, (bad, good)| text.replace(bad, good));
    Frame::from_text(version, &text)
}

fn frame_from_bytes(bytes: &[u8]) -> Frame {
    let payload = |payload: &[u8]| Value::from(String::from_utf8_lossy(payload));
    if bytes.first() == Some(&testkit::phoenix::USER_BROADCAST) && !bytes.ends_with(b"{not json") {
        return Frame::from_bytes(bytes);
    }
    // Clients cannot decode this frame; deviations match it by its text.
    Frame {
        join_ref: Value::Null,
        reference: Value::Null,
        topic: "unreadable".into(),
        event: "unreadable".into(),
        payload: payload(bytes),
        data: Some(bytes.to_vec()),
        text: String::new(),
    }
}

fn decode_hex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}
