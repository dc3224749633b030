//! A provider for development that answers with a summary of the prompt and needs no API key.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{Completion, CompletionChunk, CompletionRequest, CompletionStream, Usage};
use crate::context::{message::ChatMessage, tokens};

/// Delay between words of a stream.
const WORD_DELAY: Duration = Duration::from_millis(5);
pub(super) const MODEL: &str = "echo";

pub(super) fn complete(request: &CompletionRequest) -> Completion {
    let content = digest(request);
    let usage = usage(request, &content);
    let choice =
        json!({"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"});
    Completion {
        raw: json!({"object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}),
        content,
        finish_reason: Some("stop".into()),
        model: MODEL.into(),
        usage: Some(usage),
        ..Completion::default()
    }
}

pub(super) fn stream(request: &CompletionRequest) -> CompletionStream {
    let content = digest(request);
    let usage = usage(request, &content);
    let chunk = |delta: Value, finish_reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
        json!({"object": "chat.completion.chunk", "model": MODEL, "choices": [choice]})
    };
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    chunks.extend(content.split_inclusive(' ').map(|word| chunk(json!({"content": word}), Value::Null)));
    chunks.push(chunk(json!({}), json!("stop")));
    chunks.push(json!({"object": "chat.completion.chunk", "model": MODEL, "choices": [], "usage": usage}));
    let delayed = stream::iter(chunks).then(|chunk| async {
        tokio::time::sleep(WORD_DELAY).await;
        Ok(CompletionChunk::from_raw(chunk))
    });
    delayed.boxed()
}

fn digest(request: &CompletionRequest) -> String {
    let messages_of =
        |role: &str| request.messages.iter().filter(|message| message.role() == role).collect::<Vec<_>>();
    let system = messages_of("system");
    let system: Vec<_> = system.iter().map(|message| message.text()).collect();
    let headings: Vec<_> =
        system.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("## ")).collect();
    let question = messages_of("user").last().map_or_else(String::new, |message| message.text().into_owned());
    let known = if headings.is_empty() { "nothing".to_owned() } else { headings.join(" · ") };
    let tokens: usize = request.messages.iter().map(ChatMessage::tokens).sum();
    format!(
        "You said: \"{question}\". Context ({tokens} tokens, {} messages): {known}.",
        request.messages.len()
    )
}

fn usage(request: &CompletionRequest, content: &str) -> Usage {
    let prompt = request.messages.iter().map(ChatMessage::tokens).sum::<usize>() as u64;
    let completion = tokens::count(content) as u64;
    Usage { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
}
