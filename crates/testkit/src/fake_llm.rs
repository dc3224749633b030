//! A fake LLM API that answers correctly, slowly, partially or not at all, as a test requires.

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

/// How the API answers one request.
#[derive(Debug, Clone, Copy)]
pub enum LlmBehavior {
    /// A correct answer of `words` words.
    Answers {
        words: usize,
    },
    /// A correct answer with this text.
    AnswersWith(&'static str),
    /// Streams this many words and breaks the connection.
    BreaksOff {
        after: usize,
    },
    /// Streams one word per interval and never ends.
    Endless {
        every_ms: u64,
    },
    NeverAnswers,
    /// Answers with this HTTP status.
    Status(u16),
    /// Answers 429 with `retry-after: 0`.
    RateLimited,
    /// Answers 429 with this `retry-after` in seconds.
    RateLimitedFor(u64),
    /// Answers 400 with an error in OpenAI's format.
    Rejects(&'static str),
    /// Calls the tool `weather`.
    CallsTool,
    /// Answers one word and stops because of the maximum of tokens.
    StopsAtLength,
    /// Answers 200 with a body that is not JSON.
    InvalidBody,
}

/// How the API answers embedding requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingBehavior {
    /// Vectors by subject: vehicles, bread, anything else.
    Topical,
    /// Vectors of another length.
    WrongLength,
    /// Answers 503.
    Unavailable,
}

/// Answers a request for the memory: from its text to the text of the answer; `None` is status 500.
pub type MemoryRule = Box<dyn Fn(&str) -> Option<String> + Send>;

/// First words of the request for facts in messages.
const MEMORY_TASK: &str = "You keep the long-term memory";

struct FakeLlmState {
    embedding_behavior: Mutex<EmbeddingBehavior>,
    next_behaviors: Mutex<VecDeque<LlmBehavior>>,
    requests: Mutex<Vec<Value>>,
    memory_requests: Mutex<Vec<Value>>,
    /// Finds the facts in requests for the memory.
    memory_rule: Mutex<Option<MemoryRule>>,
    /// Streams that are currently being read.
    open_streams: AtomicUsize,
}

pub struct FakeLlm {
    address: SocketAddr,
    state: Arc<FakeLlmState>,
    server: JoinHandle<()>,
}

impl Drop for FakeLlm {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeLlm {
    /// Starts an API that answers correctly.
    pub async fn start() -> Self {
        let state = Arc::new(FakeLlmState {
            embedding_behavior: Mutex::new(EmbeddingBehavior::Topical),
            next_behaviors: Mutex::default(),
            requests: Mutex::default(),
            memory_requests: Mutex::default(),
            memory_rule: Mutex::default(),
            open_streams: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/v1/chat/completions", post(complete_chat))
            .route("/v1/embeddings", post(create_embeddings))
            .with_state(state.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { address, state, server }
    }

    /// URL for `LLM_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Queues the behaviors of the next requests. After them the API answers correctly.
    pub fn enqueue(&self, behaviors: impl IntoIterator<Item = LlmBehavior>) {
        self.state.next_behaviors.lock().extend(behaviors);
    }

    /// Clears the queue, so that the API answers correctly.
    pub fn clear_queue(&self) {
        self.state.next_behaviors.lock().clear();
    }

    /// Sets the behavior of embedding requests.
    pub fn set_embedding_behavior(&self, behavior: EmbeddingBehavior) {
        *self.state.embedding_behavior.lock() = behavior;
    }

    /// Returns the requests received so far.
    pub fn requests(&self) -> Vec<Value> {
        self.state.requests.lock().clone()
    }

    /// Sets how requests for the memory are answered; without a rule there are no facts.
    pub fn set_memory_rule(&self, rule: impl Fn(&str) -> Option<String> + Send + 'static) {
        *self.state.memory_rule.lock() = Some(Box::new(rule));
    }

    /// Requests for the memory received so far; they are not in [`requests`](Self::requests) and take no behavior.
    pub fn memory_requests(&self) -> Vec<Value> {
        self.state.memory_requests.lock().clone()
    }

    /// Number of streams that are being read.
    pub fn open_streams(&self) -> usize {
        self.state.open_streams.load(Ordering::SeqCst)
    }
}

async fn create_embeddings(
    State(state): State<Arc<FakeLlmState>>,
    axum::Json(request): axum::Json<Value>,
) -> Response {
    let behavior = *state.embedding_behavior.lock();
    if behavior == EmbeddingBehavior::Unavailable {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let vector = |text: &str| -> Vec<f64> {
        let about = |words: &[&str]| f64::from(words.iter().any(|word| text.contains(word)));
        let (vehicles, bread) =
            (about(&["car", "automobile", "vehicle"]), about(&["bread", "loaf", "sourdough"]));
        let else_ = f64::from(vehicles + bread == 0.0);
        if behavior == EmbeddingBehavior::WrongLength {
            vec![vehicles, bread]
        } else {
            vec![vehicles, bread, else_, 0.1]
        }
    };
    let texts =
        request["input"].as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"));
    let data = texts.enumerate().map(|(index, text)| json!({"index": index, "embedding": vector(text)}));
    // Clients must not rely on their order.
    axum::Json(json!({"data": data.rev().collect::<Vec<_>>()})).into_response()
}

/// Decrements the number of open streams when dropped.
struct OpenStreamGuard(Arc<FakeLlmState>);

impl Drop for OpenStreamGuard {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn complete_chat(State(state): State<Arc<FakeLlmState>>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).expect("the server sends JSON");
    let streams = request["stream"] == true;
    if request["messages"][0]["content"].as_str().is_some_and(|task| task.starts_with(MEMORY_TASK)) {
        let text = request["messages"][1]["content"].as_str().unwrap_or_default().to_owned();
        state.memory_requests.lock().push(request);
        let answer = match &*state.memory_rule.lock() {
            Some(rule) => rule(&text),
            None => Some("{\"facts\": []}".to_owned()),
        };
        return match answer {
            Some(answer) => completion_response(&answer),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
    }
    state.requests.lock().push(request);
    let behavior = state.next_behaviors.lock().pop_front().unwrap_or(LlmBehavior::Answers { words: 5 });
    match behavior {
        LlmBehavior::Status(status) => {
            (StatusCode::from_u16(status).expect("a status"), "{\"error\":\"no\"}").into_response()
        }
        LlmBehavior::RateLimited => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], "busy").into_response()
        }
        LlmBehavior::RateLimitedFor(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())], "busy").into_response()
        }
        LlmBehavior::Rejects(message) => {
            (StatusCode::BAD_REQUEST, axum::Json(json!({"error": {"message": message}}))).into_response()
        }
        LlmBehavior::CallsTool if streams => events_response(
            &[
                json!({"role": "assistant", "content": null, "tool_calls": [
                {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]}),
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"city\":"}}]}),
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"Quito\"}"}}]}),
            ],
            "tool_calls",
        ),
        LlmBehavior::CallsTool => choice_response(
            json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Quito\"}"}}]}),
            "tool_calls",
        ),
        LlmBehavior::StopsAtLength if streams => events_response(&[json!({"content": "Once"})], "length"),
        LlmBehavior::StopsAtLength => {
            choice_response(json!({"role": "assistant", "content": "Once"}), "length")
        }
        LlmBehavior::InvalidBody => "this is no JSON".into_response(),
        LlmBehavior::NeverAnswers => {
            sleep(Duration::from_secs(600)).await;
            StatusCode::OK.into_response()
        }
        LlmBehavior::Answers { words } if !streams => {
            let content: Vec<String> = (0..words).map(|n| format!("word{n}")).collect();
            completion_response(&content.join(" "))
        }
        LlmBehavior::AnswersWith(content) => completion_response(content),
        LlmBehavior::Answers { words } => streamed_response(state, words, false, 1),
        LlmBehavior::BreaksOff { after } => streamed_response(state, after, true, 1),
        LlmBehavior::Endless { every_ms } => streamed_response(state, usize::MAX, false, every_ms),
    }
}

fn completion_response(content: &str) -> Response {
    choice_response(json!({"role": "assistant", "content": content}), "stop")
}

/// A stream of these deltas.
fn events_response(deltas: &[Value], finish_reason: &str) -> Response {
    let chunk = |delta: &Value, reason: Value| json!({"model": "model-of-our-own", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}});
    let mut chunks: Vec<Value> = deltas.iter().map(|delta| chunk(delta, Value::Null)).collect();
    chunks.extend([chunk(&json!({}), json!(finish_reason)), usage]);
    let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    ([("content-type", "text/event-stream")], text + "data: [DONE]\n\n").into_response()
}

fn choice_response(message: Value, finish_reason: &str) -> Response {
    let response = json!({
        "model": "model-of-our-own", "choices": [{"message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    });
    axum::Json(response).into_response()
}

fn streamed_response(state: Arc<FakeLlmState>, words: usize, breaks: bool, every_ms: u64) -> Response {
    state.open_streams.fetch_add(1, Ordering::SeqCst);
    let open = OpenStreamGuard(state);
    let chunks = stream::unfold((0_usize, open), move |(at, open)| async move {
        sleep(Duration::from_millis(every_ms)).await;
        let event = |event: Value| format!("data: {event}\n\n");
        let chunk_event = |text: &str| {
            event(json!({"model": "model-of-our-own", "choices": [{"delta": {"content": text}}]}))
        };
        let chunk: Result<String, std::io::Error> = if at < words {
            Ok(chunk_event(&format!("word{at} ")))
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
