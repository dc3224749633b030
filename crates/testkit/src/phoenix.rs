//! A minimal Phoenix client: supports both serializers, stores its joins, and buffers received frames.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::SocketAddr,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Error as SocketError, Message, client::IntoClientRequest, http::Response, protocol::CloseFrame,
    },
};

use crate::harness::{TestServer, WAIT_TIMEOUT, mint_token, unix_time_in};

/// Kind of a binary frame: a broadcast to the server.
pub const USER_BROADCAST_PUSH: u8 = 3;
/// Kind of a binary frame: a broadcast to clients. The only kind that clients decode.
pub const USER_BROADCAST: u8 = 4;

/// Serializer version of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SerializerVersion {
    /// `1.0.0`: JSON objects.
    V1,
    /// `2.0.0`: JSON arrays and binary broadcasts.
    V2,
}

impl SerializerVersion {
    pub const BOTH: [Self; 2] = [Self::V1, Self::V2];

    /// Value of `vsn` in the query string.
    pub fn query_value(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// A message from the server in either version.
#[derive(Clone, PartialEq)]
pub struct Frame {
    /// Null in version 1, which has none.
    pub join_ref: Value,
    /// Ref of the push that this frame replies to, if any.
    pub reference: Value,
    /// Topic with the prefix `realtime:`.
    pub topic: Value,
    pub event: String,
    /// The decoded payload. Opaque bytes of a binary frame are `{"$bytes": base64}`.
    pub payload: Value,
    /// The bytes after the header of a binary frame.
    pub data: Option<Vec<u8>>,
    /// The raw text of a text frame.
    pub text: String,
}

impl Frame {
    pub fn from_text(vsn: SerializerVersion, text: &str) -> Self {
        let frame: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let event = |event: &Value| event.as_str().expect("an event is text").to_owned();
        match vsn {
            SerializerVersion::V1 => {
                let keys = frame.as_object().expect("an object").len();
                assert_eq!(keys, 4, "topic, event, payload, ref and nothing else: {text}");
                Self {
                    join_ref: Value::Null,
                    reference: frame.get("ref").expect("a ref, possibly null").clone(),
                    topic: frame["topic"].clone(),
                    event: event(&frame["event"]),
                    payload: frame.get("payload").expect("a payload").clone(),
                    data: None,
                    text: text.to_owned(),
                }
            }
            SerializerVersion::V2 => {
                assert_eq!(frame.as_array().map(Vec::len), Some(5), "five elements: {text}");
                Self {
                    join_ref: frame[0].clone(),
                    reference: frame[1].clone(),
                    topic: frame[2].clone(),
                    event: event(&frame[3]),
                    payload: frame[4].clone(),
                    data: None,
                    text: text.to_owned(),
                }
            }
        }
    }

    /// Decodes a binary frame, which must be a broadcast to clients.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let [kind, topic, event, metadata, encoding, rest @ ..] = bytes else {
            panic!("too short: {bytes:?}")
        };
        assert_eq!(*kind, USER_BROADCAST, "clients cannot decode this kind: {bytes:?}");
        let (topic, rest) = rest.split_at((*topic).into());
        let (event, rest) = rest.split_at((*event).into());
        let (metadata, data) = rest.split_at((*metadata).into());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let content = match encoding {
            1 => serde_json::from_slice(data).expect("JSON, as the encoding says"),
            0 => json!({"$bytes": BASE64.encode(data)}),
            other => panic!("encoding {other}"),
        };
        let mut payload = json!({"type": "broadcast", "event": text(event), "payload": content});
        if !metadata.is_empty() {
            payload["meta"] = serde_json::from_slice(metadata).expect("metadata are JSON");
        }
        Self {
            join_ref: Value::Null,
            reference: Value::Null,
            topic: text(topic).into(),
            event: "broadcast".into(),
            payload,
            data: Some(data.to_vec()),
            text: String::new(),
        }
    }

    /// Whether the frame has this topic and event.
    pub fn is(&self, topic: &str, event: &str) -> bool {
        self.topic == topic && self.event == event
    }

    pub fn is_binary(&self) -> bool {
        self.data.is_some()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { join_ref, reference, topic, event, payload, data, .. } = self;
        let way = if data.is_some() { "binary " } else { "" };
        write!(formatter, "{way}[{join_ref},{reference},{topic},{event:?},{payload}]")
    }
}

/// A rejected WebSocket upgrade.
#[derive(Debug)]
pub struct RefusedUpgrade {
    /// HTTP status of the response.
    pub status: u16,
    /// The JSON body, or its text.
    pub body: Value,
}

/// Returns a token with role `anon`, as clients use for their API key.
pub fn anon_key() -> String {
    mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}))
}

impl TestServer {
    /// Opens a channel socket with the anonymous key.
    pub async fn channel_client(&self, vsn: SerializerVersion) -> PhoenixClient {
        self.channel_client_with_key(vsn, &anon_key()).await.expect("the socket opens")
    }

    /// Opens a channel socket with the given key.
    pub async fn channel_client_with_key(
        &self,
        vsn: SerializerVersion,
        key: &str,
    ) -> Result<PhoenixClient, RefusedUpgrade> {
        let path = format!("/realtime/v1/websocket?apikey={key}&vsn={}", vsn.query_value());
        open(self.address, vsn, &path, &[]).await
    }
}

/// Opens a channel socket by its path.
pub async fn open(
    address: SocketAddr,
    vsn: SerializerVersion,
    path: &str,
    headers: &[(&'static str, String)],
) -> Result<PhoenixClient, RefusedUpgrade> {
    let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().expect("a header's value"));
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((stream, _)) => Ok(PhoenixClient {
            stream,
            vsn,
            buffered: VecDeque::new(),
            next_ref: 1,
            join_refs: HashMap::new(),
            closed: None,
        }),
        Err(SocketError::Http(response)) => Err(refused_upgrade(*response)),
        Err(error) => panic!("{path}: {error}"),
    }
}

fn refused_upgrade(response: Response<Option<Vec<u8>>>) -> RefusedUpgrade {
    let status = response.status().as_u16();
    let text = String::from_utf8(response.into_body().unwrap_or_default()).expect("text");
    RefusedUpgrade { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

pub struct PhoenixClient {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    vsn: SerializerVersion,
    /// Received frames that were not returned yet.
    buffered: VecDeque<Frame>,
    next_ref: u32,
    join_refs: HashMap<String, String>,
    closed: Option<(u16, String)>,
}

impl PhoenixClient {
    /// Returns a new ref.
    pub fn new_ref(&mut self) -> String {
        let reference = self.next_ref;
        self.next_ref += 1;
        reference.to_string()
    }

    /// Returns the ref of the topic's last join.
    pub fn join_ref(&self, topic: &str) -> Option<&str> {
        self.join_refs.get(topic).map(String::as_str)
    }

    pub async fn send(&mut self, message: Message) {
        self.stream.send(message).await.expect("the frame is sent");
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Sends a push with all fields given.
    pub async fn push_as(
        &mut self,
        join_ref: Value,
        reference: Value,
        topic: &str,
        event: &str,
        payload: Value,
    ) {
        let frame = match self.vsn {
            SerializerVersion::V1 => json!({
                "topic": topic, "event": event, "payload": payload, "ref": reference, "join_ref": join_ref,
            }),
            SerializerVersion::V2 => json!([join_ref, reference, topic, event, payload]),
        };
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a push on a topic, joined or not; returns its ref.
    pub async fn push(&mut self, topic: &str, event: &str, payload: Value) -> String {
        let (join_ref, reference) = (self.join_ref(topic).map(Value::from), self.new_ref());
        self.push_as(join_ref.into(), json!(reference), topic, event, payload).await;
        reference
    }

    /// Sends a join without waiting; returns its ref.
    pub async fn send_join(&mut self, topic: &str, payload: Value) -> String {
        let reference = self.new_ref();
        self.join_refs.insert(topic.to_owned(), reference.clone());
        self.push_as(json!(reference), json!(reference), topic, "phx_join", payload).await;
        reference
    }

    /// Joins and returns `{"status", "response"}`.
    pub async fn try_join(&mut self, topic: &str, payload: Value) -> Value {
        let reference = self.send_join(topic, payload).await;
        self.wait_for_reply(&reference).await
    }

    /// Joins with a configuration. The join must succeed.
    pub async fn join(&mut self, topic: &str, config: Value) -> Value {
        let reply = self.try_join(topic, json!({"config": config})).await;
        assert_eq!(reply["status"], "ok", "{topic} {config}: {reply}");
        reply["response"].clone()
    }

    /// Joins a private channel with a token. The join must succeed.
    pub async fn join_private(&mut self, topic: &str, token: &str, mut config: Value) -> Value {
        config["private"] = json!(true);
        let reply = self.try_join(topic, json!({"config": config, "access_token": token})).await;
        assert_eq!(reply["status"], "ok", "{topic} {config}: {reply}");
        reply["response"].clone()
    }

    /// Joins and returns the reason of the rejection.
    pub async fn join_error(&mut self, topic: &str, payload: Value) -> String {
        let reply = self.try_join(topic, payload.clone()).await;
        assert_eq!(reply["status"], "error", "{topic} {payload}: {reply}");
        let response = reply["response"].as_object().expect("an object, as the Dart client requires");
        assert_eq!(response.len(), 1, "{reply}");
        response["reason"].as_str().expect("a reason").to_owned()
    }

    /// Broadcasts like the clients of this version: binary or text. Returns the ref.
    pub async fn broadcast(&mut self, topic: &str, event: &str, payload: Value) -> String {
        match self.vsn {
            SerializerVersion::V1 => {
                let message = json!({"type": "broadcast", "event": event, "payload": payload});
                self.push(topic, "broadcast", message).await
            }
            SerializerVersion::V2 => {
                self.broadcast_bytes(topic, event, 1, payload.to_string().as_bytes()).await
            }
        }
    }

    /// Broadcasts in binary. `encoding` 1 is JSON, 0 is bytes.
    pub async fn broadcast_bytes(&mut self, topic: &str, event: &str, encoding: u8, data: &[u8]) -> String {
        let (join_ref, reference) = (self.join_ref(topic).unwrap_or_default().to_owned(), self.new_ref());
        let frame = user_broadcast_push(&join_ref, &reference, topic, event, "", encoding, data);
        self.send(Message::binary(frame)).await;
        reference
    }

    /// Tracks a payload. The reply must be ok.
    pub async fn track(&mut self, topic: &str, payload: Value) {
        let reply = self.try_track(topic, payload).await;
        assert_eq!(reply, json!({"status": "ok", "response": {}}));
    }

    /// Tracks a payload and returns `{"status", "response"}`.
    pub async fn try_track(&mut self, topic: &str, payload: Value) -> Value {
        let message = json!({"type": "presence", "event": "track", "payload": payload});
        let reference = self.push(topic, "presence", message).await;
        self.wait_for_reply(&reference).await
    }

    /// Untracks. The reply must be ok.
    pub async fn untrack(&mut self, topic: &str) {
        let reference = self.push(topic, "presence", json!({"type": "presence", "event": "untrack"})).await;
        assert_eq!(self.wait_for_reply(&reference).await, json!({"status": "ok", "response": {}}));
    }

    /// Leaves and waits for the close.
    pub async fn leave(&mut self, topic: &str) {
        let reference = self.push(topic, "phx_leave", json!({})).await;
        assert_eq!(self.wait_for_reply(&reference).await, json!({"status": "ok", "response": {}}));
        self.wait_for(topic, "phx_close").await;
        self.join_refs.remove(topic);
    }

    /// Sends a new token to a channel. There is no reply on success.
    pub async fn set_token(&mut self, topic: &str, token: &str) {
        self.push(topic, "access_token", json!({"access_token": token})).await;
    }

    /// Sends a heartbeat; returns the time until its reply.
    pub async fn heartbeat(&mut self) -> Duration {
        let (reference, started) = (self.new_ref(), Instant::now());
        self.push_as(Value::Null, json!(reference), "phoenix", "heartbeat", json!({})).await;
        assert_eq!(self.wait_for_reply(&reference).await, json!({"status": "ok", "response": {}}));
        started.elapsed()
    }

    /// Waits for the reply to a push; returns its payload.
    pub async fn wait_for_reply(&mut self, reference: &str) -> Value {
        let frame = self
            .wait_for_match(&format!("a reply to {reference}"), |frame| {
                frame.event == "phx_reply" && frame.reference == reference
            })
            .await;
        frame.payload
    }

    /// Waits for the next frame of a topic and event. Other frames are buffered.
    #[track_caller]
    pub fn wait_for<'a>(&'a mut self, topic: &'a str, event: &'a str) -> impl Future<Output = Frame> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let what = format!("{event} of {topic} (expected at {caller})");
            self.wait_for_match(&what, |frame| frame.is(topic, event)).await
        }
    }

    /// Returns the payload of the next broadcast of a topic.
    #[track_caller]
    pub fn next_broadcast<'a>(&'a mut self, topic: &'a str) -> impl Future<Output = Value> + 'a {
        let found = self.wait_for(topic, "broadcast");
        async move { found.await.payload }
    }

    /// Waits for the next matching frame. Other frames are buffered.
    pub async fn wait_for_match(&mut self, what: &str, mut wanted: impl FnMut(&Frame) -> bool) -> Frame {
        if let Some(at) = self.buffered.iter().position(&mut wanted) {
            return self.buffered.remove(at).expect("was just found");
        }
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            match self.receive(deadline).await {
                Some(frame) if wanted(&frame) => return frame,
                Some(frame) => self.buffered.push_back(frame),
                None => {
                    panic!("not received: {what}; buffered {:?}, closed {:?}", self.buffered, self.closed)
                }
            }
        }
    }

    /// Returns the next frame, buffered or not.
    pub async fn next_frame(&mut self) -> Frame {
        if let Some(frame) = self.buffered.pop_front() {
            return frame;
        }
        let frame = self.receive(Instant::now() + WAIT_TIMEOUT).await;
        frame.unwrap_or_else(|| panic!("no frame arrived; closed {:?}", self.closed))
    }

    /// Returns all buffered frames and all that arrive within `time`.
    pub async fn frames_within(&mut self, time: Duration) -> Vec<Frame> {
        let deadline = Instant::now() + time;
        let mut all: Vec<_> = self.buffered.drain(..).collect();
        while let Some(frame) = self.receive(deadline).await {
            all.push(frame);
        }
        all
    }

    /// Checks that no frame is buffered, none arrives for a moment, and the socket stays open.
    #[track_caller]
    pub fn expect_no_frame(&mut self) -> impl Future<Output = ()> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let received = self.frames_within(QUIET_PERIOD).await;
            assert!(received.is_empty(), "{caller}: expected no frame, received {received:?}");
            assert_eq!(self.closed, None, "{caller}: the socket was closed");
        }
    }

    /// Waits for a system error and the close of the channel; returns the error message.
    #[track_caller]
    pub fn expect_channel_error<'a>(&'a mut self, topic: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let what = format!("a system error of {topic} ({caller})");
            let wanted = |frame: &Frame| frame.is(topic, "system") && frame.payload["status"] == "error";
            let system = self.wait_for_match(&what, wanted).await;
            let name = topic.strip_prefix("realtime:").expect("a topic prefix");
            assert_eq!(system.payload["extension"], "system", "{system:?}");
            assert_eq!(system.payload["channel"], name, "{system:?}");
            let close = self.wait_for(topic, "phx_close").await;
            assert_eq!(close.payload, json!({}));
            system.payload["message"].as_str().expect("a message").to_owned()
        }
    }

    /// Waits until the socket ends; returns code and reason. The code is 1006 without a close frame.
    pub async fn expect_close(&mut self) -> (u16, String) {
        self.expect_close_within(WAIT_TIMEOUT).await
    }

    /// [`expect_close`](Self::expect_close) with a timeout.
    pub async fn expect_close_within(&mut self, limit: Duration) -> (u16, String) {
        let deadline = Instant::now() + limit;
        while let Some(frame) = self.receive(deadline).await {
            self.buffered.push_back(frame);
        }
        self.closed
            .clone()
            .unwrap_or_else(|| panic!("still open after {limit:?}; buffered {:?}", self.buffered))
    }

    /// Drops the connection without a close frame.
    pub fn abort(self) {
        drop(self);
    }

    /// Returns the next frame that arrives before the deadline, ignoring buffered frames. Answers pings.
    pub async fn receive(&mut self, deadline: Instant) -> Option<Frame> {
        while self.closed.is_none() {
            match timeout_at(deadline, self.stream.next()).await.ok()? {
                Some(Ok(Message::Text(text))) => return Some(Frame::from_text(self.vsn, &text)),
                Some(Ok(Message::Binary(bytes))) => {
                    assert_eq!(self.vsn, SerializerVersion::V2, "version 1 has no binary frames: {bytes:?}");
                    return Some(Frame::from_bytes(&bytes));
                }
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    self.closed = Some((code.into(), reason.to_string()));
                }
                Some(Ok(Message::Close(None))) => self.closed = Some((1005, String::new())),
                Some(Ok(_)) => {}
                Some(Err(error)) => self.closed = Some((1006, error.to_string())),
                None => self.closed = Some((1006, "end of stream".into())),
            }
        }
        None
    }
}

/// Time without a frame after which none is expected any more.
pub const QUIET_PERIOD: Duration = Duration::from_millis(250);

/// Encodes a binary broadcast.
pub fn user_broadcast_push(
    join_ref: &str,
    reference: &str,
    topic: &str,
    event: &str,
    metadata: &str,
    encoding: u8,
    data: &[u8],
) -> Vec<u8> {
    let strings = [join_ref, reference, topic, event, metadata];
    let mut frame = vec![USER_BROADCAST_PUSH];
    frame.extend(strings.map(|text| u8::try_from(text.len()).expect("fits one byte")));
    frame.push(encoding);
    strings.iter().for_each(|text| frame.extend(text.as_bytes()));
    frame.extend(data);
    frame
}

/// Returns the payload of a broadcast as clients of both versions decode it.
pub fn broadcast(event: &str, payload: Value) -> Value {
    json!({"type": "broadcast", "event": event, "payload": payload})
}
