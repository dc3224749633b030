//! A model's API of our own, that answers well, slowly, in part, or not at all, as a test wants.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

/// How the model answers one request.
#[derive(Debug, Clone, Copy)]
pub enum Mood {
    /// Well: says `words` words.
    Well { words: usize },
    /// Well, in these words.
    Says(&'static str),
    /// Streams so many words and breaks the connection.
    Breaks { after: usize },
    /// Streams a word every so many milliseconds and never ends.
    Endless { every_ms: u64 },
    /// Says nothing.
    Silent,
    /// Answers with a status.
    Status(u16),
    /// Too many requests; come back at once.
    Busy,
    /// Something that is no answer.
    Nonsense,
}

/// How it turns texts into vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// By what they are about: vehicles, bread, anything else.
    Good,
    /// Vectors of another length.
    Crooked,
    /// Not at all.
    Gone,
}

struct Inner {
    sense: Mutex<Sense>,
    moods: Mutex<VecDeque<Mood>>,
    requests: Mutex<Vec<Value>>,
    /// Streams that are being read at the moment.
    open: AtomicUsize,
}

/// The running API.
pub struct Model {
    address: SocketAddr,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

impl Drop for Model {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Model {
    /// Starts one that answers well.
    pub async fn start() -> Self {
        let inner = Arc::new(Inner {
            sense: Mutex::new(Sense::Good),
            moods: Mutex::default(),
            requests: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/embeddings", post(embed))
            .with_state(inner.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { address, inner, server }
    }

    /// For `LLM_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How it answers the next requests, one each; after them well.
    pub fn will(&self, moods: impl IntoIterator<Item = Mood>) {
        self.inner.moods.lock().extend(moods);
    }

    /// Answers well from now on.
    pub fn recovers(&self) {
        self.inner.moods.lock().clear();
    }

    /// How it turns texts into vectors from now on.
    pub fn senses(&self, sense: Sense) {
        *self.inner.sense.lock() = sense;
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Value> {
        self.inner.requests.lock().clone()
    }

    /// How many streams are being read.
    pub fn open(&self) -> usize {
        self.inner.open.load(Ordering::SeqCst)
    }
}

async fn embed(State(inner): State<Arc<Inner>>, axum::Json(request): axum::Json<Value>) -> Response {
    let sense = *inner.sense.lock();
    if sense == Sense::Gone {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let vector = |text: &str| -> Vec<f64> {
        let about = |words: &[&str]| f64::from(words.iter().any(|word| text.contains(word)));
        let (vehicles, bread) =
            (about(&["car", "automobile", "vehicle"]), about(&["bread", "loaf", "sourdough"]));
        let else_ = f64::from(vehicles + bread == 0.0);
        if sense == Sense::Crooked { vec![vehicles, bread] } else { vec![vehicles, bread, else_, 0.1] }
    };
    let texts =
        request["input"].as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"));
    let data = texts.enumerate().map(|(index, text)| json!({"index": index, "embedding": vector(text)}));
    // Nobody promises their order.
    axum::Json(json!({"data": data.rev().collect::<Vec<_>>()})).into_response()
}

/// Counts down when a stream is dropped, whoever drops it.
struct Open(Arc<Inner>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn complete(State(inner): State<Arc<Inner>>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).expect("the server sends JSON");
    let streams = request["stream"] == true;
    inner.requests.lock().push(request);
    let mood = inner.moods.lock().pop_front().unwrap_or(Mood::Well { words: 5 });
    match mood {
        Mood::Status(status) => {
            (StatusCode::from_u16(status).expect("a status"), "{\"error\":\"no\"}").into_response()
        }
        Mood::Busy => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], "busy").into_response(),
        Mood::Nonsense => "this is no JSON".into_response(),
        Mood::Silent => {
            sleep(Duration::from_secs(600)).await;
            StatusCode::OK.into_response()
        }
        Mood::Well { words } if !streams => {
            let content: Vec<String> = (0..words).map(|n| format!("word{n}")).collect();
            whole(&content.join(" "))
        }
        Mood::Says(content) => whole(content),
        Mood::Well { words } => events(inner, words, false, 1),
        Mood::Breaks { after } => events(inner, after, true, 1),
        Mood::Endless { every_ms } => events(inner, usize::MAX, false, every_ms),
    }
}

fn whole(content: &str) -> Response {
    let answer = json!({
        "model": "model-of-our-own", "choices": [{"message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    });
    axum::Json(answer).into_response()
}

fn events(inner: Arc<Inner>, words: usize, breaks: bool, every_ms: u64) -> Response {
    inner.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(inner);
    let chunks = stream::unfold((0_usize, open), move |(at, open)| async move {
        sleep(Duration::from_millis(every_ms)).await;
        let event = |event: Value| format!("data: {event}\n\n");
        let said = |text: &str| {
            event(json!({"model": "model-of-our-own", "choices": [{"delta": {"content": text}}]}))
        };
        let chunk: Result<String, std::io::Error> = if at < words {
            Ok(said(&format!("word{at} ")))
        } else if breaks {
            if at > words {
                return None;
            }
            Err(std::io::Error::other("broken"))
        } else {
            match at - words {
                0 => Ok(event(json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}))),
                1 => Ok(event(
                    json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}}),
                ) + "data: [DONE]\n\n"),
                _ => return None,
            }
        };
        Some((chunk, (at + 1, open)))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(chunks)).into_response()
}
