//! A provider for development that answers with a summary of the prompt and needs no API key.

use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::{Completion, CompletionChunk, CompletionRequest, CompletionStream, Usage};
use crate::context::tokens;

/// Delay between words of a stream.
const WORD_DELAY: Duration = Duration::from_millis(5);
const MODEL: &str = "echo";

pub(super) fn complete(request: &CompletionRequest) -> Completion {
    let content = digest(request);
    Completion { usage: Some(usage(request, &content)), content, model: MODEL.into() }
}

pub(super) fn stream(request: &CompletionRequest) -> CompletionStream {
    let content = digest(request);
    let usage = usage(request, &content);
    let words: Vec<_> =
        content.split_inclusive(' ').map(|word| Ok(CompletionChunk::Text(word.to_owned()))).collect();
    let words = stream::iter(words).then(|word| async {
        tokio::time::sleep(WORD_DELAY).await;
        word
    });
    stream::iter([Ok(CompletionChunk::Model(MODEL.into()))])
        .chain(words)
        .chain(stream::iter([Ok(CompletionChunk::Usage(usage))]))
        .boxed()
}

fn digest(request: &CompletionRequest) -> String {
    let messages_of =
        |role: &str| request.messages.iter().filter(|message| message.role == role).collect::<Vec<_>>();
    let system = messages_of("system");
    let headings: Vec<_> = system
        .iter()
        .flat_map(|message| message.content.lines())
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let question = messages_of("user").last().map_or("", |message| message.content.as_str()).to_owned();
    let known = if headings.is_empty() { "nothing".to_owned() } else { headings.join(" · ") };
    let tokens: usize = request.messages.iter().map(|message| tokens::count(&message.content)).sum();
    format!(
        "You said: \"{question}\". Context ({tokens} tokens, {} messages): {known}.",
        request.messages.len()
    )
}

fn usage(request: &CompletionRequest, content: &str) -> Usage {
    let prompt = request.messages.iter().map(|message| tokens::count(&message.content)).sum::<usize>() as u64;
    let completion = tokens::count(content) as u64;
    Usage { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
}
