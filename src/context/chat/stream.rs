//! An answer piece by piece: from the provider into a small channel, from which the response takes them.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use serde::Serialize;
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, interval_at, timeout},
};
use uuid::Uuid;

use super::{Answer, ContextStats, Engine, Metadata, Turn};
use crate::context::{
    engine::ContextEngine,
    provider::{CompletionChunk, CompletionStream, ProviderError},
};

/// Pieces between provider and client: a client that does not read holds the provider back.
const BUFFERED_EVENTS: usize = 16;
/// The longest that an answer may take, and that a client may leave a piece unread.
const MAX_DURATION: Duration = Duration::from_secs(600);
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Between signs that the answer is being written; see `rollcall.open_answer`.
const TOUCH_INTERVAL: Duration = Duration::from_secs(45);
/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 900_000;

/// What a client hears.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChatEvent {
    /// How the prompt came about; the first.
    Context {
        /// Who assembled.
        engine: Engine,
        /// What the prompt consists of.
        #[serde(rename = "contextStats")]
        stats: Option<ContextStats>,
        /// How it came about.
        metadata: Metadata,
        /// The answer's row.
        #[serde(rename = "messageId")]
        message_id: Uuid,
    },
    /// More of the answer.
    Delta {
        /// The text.
        content: String,
    },
    /// The whole, once it is saved; the last of a good stream.
    Done(Box<Answer>),
    /// It broke off; what was said is saved as partial.
    Error {
        /// As in the error envelope.
        error: &'static str,
        /// For a person.
        message: String,
    },
}

/// The events of one answer.
pub type ChatEvents = mpsc::Receiver<ChatEvent>;

/// Reads the pieces in a task that outlives the request, so that what was said is saved.
pub(super) fn spawn(engine: &Arc<ContextEngine>, turn: Turn, pieces: CompletionStream) -> ChatEvents {
    let (events, receiver) = mpsc::channel(BUFFERED_EVENTS);
    let stop = engine.cancel_turns.clone();
    engine.turns.spawn(async move {
        let told = timeout(MAX_DURATION, run(turn, pieces, events, stop.cancelled_owned())).await;
        if told.is_err() {
            tracing::info!("an answer took too long and was broken off");
        }
    });
    receiver
}

async fn run(
    mut turn: Turn,
    mut pieces: CompletionStream,
    events: mpsc::Sender<ChatEvent>,
    stop: impl Future<Output = ()>,
) {
    let first = ChatEvent::Context {
        engine: turn.engine(),
        stats: turn.stats().cloned(),
        metadata: turn.metadata(),
        message_id: turn.answer_id(),
    };
    if send(&events, first).await.is_err() {
        return;
    }
    let mut touching = interval_at(Instant::now() + TOUCH_INTERVAL, TOUCH_INTERVAL);
    let mut written = 0;
    tokio::pin!(stop);
    let error = loop {
        let piece = select! {
            piece = pieces.next() => piece,
            // A client that goes away while the model is silent is noticed here; dropping the pieces ends the call.
            () = events.closed() => return,
            () = &mut stop => break ProviderError::InvalidResponse("the server is stopping".into()),
            _ = touching.tick() => {
                if let Err(error) = turn.touch().await {
                    tracing::debug!(error = ?error, "could not say that an answer is being written");
                }
                continue;
            }
        };
        match piece {
            Some(Ok(CompletionChunk::Text(text))) => {
                written += text.len();
                if written > MAX_ANSWER_BYTES {
                    break ProviderError::InvalidResponse("it is too long".into());
                }
                turn.append(&text);
                if send(&events, ChatEvent::Delta { content: text }).await.is_err() {
                    return;
                }
            }
            Some(Ok(CompletionChunk::Model(model))) => turn.set_model(model),
            Some(Ok(CompletionChunk::Usage(usage))) => turn.set_usage(usage),
            Some(Err(error)) => break error,
            None => {
                let last = match turn.complete().await {
                    Ok(answer) => ChatEvent::Done(Box::new(answer)),
                    Err(error) => {
                        tracing::warn!(error = ?error, "could not save an answer");
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
    tracing::info!(error = %error, "an answer broke off");
    turn.fail(&error);
    // Saved by now or soon after: a repeat of the request will find it.
    drop(turn);
    let message = "the model's answer broke off; what it said is saved".into();
    send(&events, ChatEvent::Error { error: "SERVICE_UNAVAILABLE", message }).await.ok();
}

/// Fails where the client is gone, or reads nothing for too long.
async fn send(events: &mpsc::Sender<ChatEvent>, event: ChatEvent) -> Result<(), ()> {
    timeout(SEND_TIMEOUT, events.send(event)).await.map_err(drop)?.map_err(drop)
}
