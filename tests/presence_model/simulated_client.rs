//! One client with one channel that behaves like the official JavaScript client: it keeps its presence state over lost
//! sockets and ignores frames of other joins.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{
    harness::{WAIT_TIMEOUT, mint_token, unix_time_in},
    presence_client_state::PresenceClientState,
};
use tokio::{
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// State shared by the reader task and the client.
#[derive(Default)]
struct ClientState {
    presence: PresenceClientState,
    /// Reference of the current join.
    join_ref: Option<String>,
    replies: HashMap<String, oneshot::Sender<Value>>,
    frames: usize,
}

struct Connection {
    sink: SplitSink<Stream, Message>,
    reader: JoinHandle<()>,
    uses_v1: bool,
}

pub struct SimulatedClient {
    topic: String,
    key: String,
    /// The tracked payload, if any.
    pub tracked: Option<Value>,
    connection: Option<Connection>,
    state: Arc<Mutex<ClientState>>,
    last_ref: u32,
}

impl SimulatedClient {
    /// Creates a disconnected client.
    pub fn new(topic_name: &str, key: String) -> Self {
        let topic = format!("realtime:{topic_name}");
        Self { topic, key, tracked: None, connection: None, state: Arc::default(), last_ref: 0 }
    }

    /// The client's presence key.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub const fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether the channel is joined.
    pub fn is_joined(&self) -> bool {
        self.connection.is_some() && self.state.lock().join_ref.is_some()
    }

    /// Returns the presence state as the client sees it.
    pub fn presence(&self) -> PresenceClientState {
        self.state.lock().presence.clone()
    }

    /// Number of received frames.
    pub fn frame_count(&self) -> usize {
        self.state.lock().frames
    }

    /// Opens a socket with serializer 1 or 2.
    pub async fn connect(&mut self, address: SocketAddr, objects: bool) {
        let token = mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}));
        let version = if objects { "1.0.0" } else { "2.0.0" };
        let url = format!("ws://{address}/realtime/v1/websocket?apikey={token}&vsn={version}");
        let (stream, _) = tokio_tungstenite::connect_async(url).await.expect("the socket opens");
        let (sink, stream) = stream.split();
        let reader = tokio::spawn(read(stream, self.topic.clone(), self.state.clone(), objects));
        self.connection = Some(Connection { sink, reader, uses_v1: objects });
    }

    /// Joins, or joins again. Does not wait for the reply if `hasty`.
    pub async fn join(&mut self, no_wait: bool) {
        self.tracked = None;
        let reference = self.next_ref();
        {
            let mut shared = self.state.lock();
            shared.join_ref = Some(reference.clone());
            shared.presence.synced = false;
        }
        let config = json!({"presence": {"key": self.key, "enabled": true}});
        let response = self.push(reference, "phx_join", json!({"config": config})).await;
        if !no_wait {
            assert_eq!(await_reply(response).await["status"], "ok", "the join of {}", self.topic);
        }
    }

    pub async fn track(&mut self, payload: Value) {
        let (name, reference) = ("presence", self.next_ref());
        let push = json!({"type": "presence", "event": "track", "payload": payload});
        let response = self.push(reference, name, push).await;
        assert_eq!(await_reply(response).await["status"], "ok", "a track");
        self.tracked = Some(payload);
    }

    pub async fn untrack(&mut self) {
        let reference = self.next_ref();
        let response =
            self.push(reference, "presence", json!({"type": "presence", "event": "untrack"})).await;
        assert_eq!(await_reply(response).await["status"], "ok", "an untrack");
        self.tracked = None;
    }

    /// Leaves the topic. Does not wait for the reply if `hasty`. The presence state is dropped with the channel.
    pub async fn leave(&mut self, no_wait: bool) {
        let reference = self.next_ref();
        let response = self.push(reference, "phx_leave", json!({})).await;
        if !no_wait {
            assert_eq!(await_reply(response).await["status"], "ok", "a leave");
        }
        self.tracked = None;
        let mut shared = self.state.lock();
        shared.join_ref = None;
        shared.presence = PresenceClientState::default();
    }

    /// Closes the socket, with or without a close frame.
    pub async fn disconnect(&mut self, with_close_frame: bool) {
        // The official client keeps diffs that wait for a state across a lost socket and applies them after the next
        // join, where they may add entries that no longer exist. A server cannot prevent this, so the test waits for
        // them here.
        let started = Instant::now();
        while self.is_joined() && !self.state.lock().presence.synced {
            assert!(started.elapsed() < WAIT_TIMEOUT, "a state in time");
            pause_ms(1).await;
        }
        let Some(mut line) = self.connection.take() else { return };
        if with_close_frame {
            drop(line.sink.send(Message::Close(None)).await);
        }
        line.reader.abort();
        // The socket closes once both of its halves are dropped.
        drop(line.reader.await);
        drop(line.sink);
        self.tracked = None;
        let mut shared = self.state.lock();
        shared.join_ref = None;
        shared.replies.clear();
    }

    fn next_ref(&mut self) -> String {
        self.last_ref += 1;
        self.last_ref.to_string()
    }

    async fn push(&mut self, reference: String, event: &str, payload: Value) -> oneshot::Receiver<Value> {
        let (reply, response) = oneshot::channel();
        let join_ref = {
            let mut shared = self.state.lock();
            shared.replies.insert(reference.clone(), reply);
            shared.join_ref.clone()
        };
        let line = self.connection.as_mut().expect("it is connected");
        let frame = if line.uses_v1 {
            json!({"topic": self.topic, "event": event, "payload": payload, "ref": reference, "join_ref": join_ref})
        } else {
            json!([join_ref, reference, self.topic, event, payload])
        };
        line.sink.send(Message::text(frame.to_string())).await.expect("the socket is open");
        response
    }
}

async fn await_reply(response: oneshot::Receiver<Value>) -> Value {
    timeout(WAIT_TIMEOUT, response).await.expect("a reply in time").expect("the socket stays open")
}

async fn read(
    mut stream: SplitStream<Stream>,
    topic: String,
    shared: Arc<Mutex<ClientState>>,
    objects: bool,
) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        let [join_ref, reference, of, event, payload] = if objects {
            [&Value::Null, &frame["ref"], &frame["topic"], &frame["event"], &frame["payload"]]
        } else {
            [&frame[0], &frame[1], &frame[2], &frame[3], &frame[4]]
        };
        assert_eq!(of, &topic, "a frame of a topic that was never joined");
        let mut shared = shared.lock();
        shared.frames += 1;
        // A frame of another join is not for this channel.
        let is_current = join_ref.is_null() || join_ref.as_str() == shared.join_ref.as_deref();
        match event.as_str() {
            Some("phx_reply") => {
                let reply = reference.as_str().and_then(|reference| shared.replies.remove(reference));
                // The receiver may be gone.
                if let Some(reply) = reply {
                    drop(reply.send(payload.clone()));
                }
            }
            Some("presence_state") if is_current && shared.join_ref.is_some() => {
                shared.presence.apply_state(&payload);
            }
            Some("presence_diff") if is_current && shared.join_ref.is_some() => {
                shared.presence.apply_diff(&payload);
            }
            _ => {}
        }
    }
}

/// Pauses long enough for a frame to arrive and short enough to interleave actions.
pub async fn pause_ms(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}
