//! Streams an answer from the provider through a small channel to the response.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, interval_at, timeout},
};
use uuid::Uuid;

use super::{
    answer::{Answer, ContextStats, Engine},
    turn::Turn,
};
use crate::context::{
    engine::ContextEngine,
    provider::{CompletionChunk, CompletionStream, ProviderError},
};
use crate::lifecycle::ErrorChain;

/// Buffered events; when the buffer is full, reading from the provider pauses.
const BUFFERED_EVENTS: usize = 16;
/// Maximum duration of an answer, and of a client not reading an event.
const MAX_DURATION: Duration = Duration::from_secs(600);
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval of keep-alives in the answer's row; see `rollcall.open_answer`.
const TOUCH_INTERVAL: Duration = Duration::from_secs(45);
const MAX_ANSWER_BYTES: usize = 900_000;

/// Events of a streamed answer. Each API has a format of its own for them.
#[derive(Debug, Clone)]
pub enum ChatEvent {
    /// First event: how the prompt was assembled.
    Context {
        /// Engine that assembled the prompt.
        engine: Engine,
        stats: Option<ContextStats>,
        /// Message ID of the answer.
        message_id: Uuid,
    },
    /// The next part of the answer.
    Chunk(Box<CompletionChunk>),
    /// Last event of a successful stream: the saved answer.
    Done(Box<Answer>),
    /// Last event of a failed stream: the answer was interrupted and is saved as partial.
    Error {
        /// Error code, as in error responses.
        error: &'static str,
        message: String,
    },
}

/// Receiver of the events of one answer.
pub type ChatEvents = mpsc::Receiver<ChatEvent>;

/// Reads the provider's stream in a task that outlives the request, so that the answer is saved.
pub(super) fn spawn(engine: &Arc<ContextEngine>, turn: Turn, chunks: CompletionStream) -> ChatEvents {
    let (events, receiver) = mpsc::channel(BUFFERED_EVENTS);
    let stop = engine.cancel_turns.clone();
    engine.turns.spawn(async move {
        let result = timeout(MAX_DURATION, run(turn, chunks, events, stop.cancelled_owned())).await;
        if result.is_err() {
            tracing::info!("answer interrupted: it took too long");
        }
    });
    receiver
}

async fn run(
    mut turn: Turn,
    mut chunks: CompletionStream,
    events: mpsc::Sender<ChatEvent>,
    stop: impl Future<Output = ()>,
) {
    let first = ChatEvent::Context {
        engine: turn.engine(),
        stats: turn.stats().cloned(),
        message_id: turn.answer_id(),
    };
    if send(&events, first).await.is_err() {
        return;
    }
    let mut touch = interval_at(Instant::now() + TOUCH_INTERVAL, TOUCH_INTERVAL);
    let mut written = 0;
    tokio::pin!(stop);
    let error = loop {
        let chunk = select! {
            chunk = chunks.next() => chunk,
            // Detects a client that disconnects while the model is silent; dropping the stream cancels the call.
            () = events.closed() => return,
            () = &mut stop => break ProviderError::Stopping,
            _ = touch.tick() => {
                if let Err(error) = turn.touch().await {
                    tracing::debug!(error = %ErrorChain(&error), "answer keep-alive failed");
                }
                continue;
            }
        };
        match chunk {
            Some(Ok(chunk)) => {
                written +=
                    chunk.text.len() + chunk.tool_calls.iter().map(|it| it.to_string().len()).sum::<usize>();
                if written > MAX_ANSWER_BYTES {
                    break ProviderError::InvalidResponse("the answer is too long".into());
                }
                turn.append(&chunk);
                if send(&events, ChatEvent::Chunk(Box::new(chunk))).await.is_err() {
                    return;
                }
            }
            Some(Err(error)) => break error,
            None => {
                let last = match turn.complete().await {
                    Ok(answer) => ChatEvent::Done(Box::new(answer)),
                    Err(error) => {
                        tracing::warn!(error = %ErrorChain(&error), "saving an answer failed");
                        ChatEvent::Error {
                            error: "DATABASE_CONNECTION_ERROR",
                            message: "the answer could not be saved".into(),
                        }
                    }
                };
                send(&events, last).await.ok();
                return;
            }
        }
    };
    turn.fail(&error);
    // Dropping saves the partial answer in the background, so that a repeated request finds it.
    drop(turn);
    let message = "the model's answer was interrupted; the received part is saved".into();
    send(&events, ChatEvent::Error { error: "SERVICE_UNAVAILABLE", message }).await.ok();
}

/// Fails if the client has disconnected or does not read within [`SEND_TIMEOUT`].
async fn send(events: &mpsc::Sender<ChatEvent>, event: ChatEvent) -> Result<(), ()> {
    timeout(SEND_TIMEOUT, events.send(event)).await.map_err(drop)?.map_err(drop)
}
