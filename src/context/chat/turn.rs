//! An answer in progress, which is saved exactly once.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::{Answer, ContextStats, Engine, PreparedPrompt};
use crate::{
    context::{
        background::counted_usage,
        engine::ContextEngine,
        message::ChatMessage,
        provider::{Completion, CompletionChunk, ProviderError, Usage},
        store::turns::{self, AnswerStatus},
        tokens,
    },
    lifecycle::ErrorChain,
    model::UserId,
    pg::PgError,
};

/// Tool calls of one answer. More are not saved.
const MAX_TOOL_CALLS: usize = 256;

/// One answer. If it is dropped before completion, it is saved as partial, or removed if it has no text.
pub(in crate::context) struct Turn {
    engine: Arc<ContextEngine>,
    user: UserId,
    answer_id: Uuid,
    prompt: Option<PreparedPrompt>,
    provider: String,
    content: Content,
    error: Option<String>,
    /// The answer is saved, or it is not to be saved.
    ended: bool,
    /// The call to the model is in the usage records.
    is_recorded: bool,
}

/// What the provider has sent so far.
#[derive(Default)]
struct Content {
    text: String,
    tool_calls: Vec<Value>,
    finish_reason: Option<String>,
    model: String,
    usage: Option<Usage>,
    raw: Value,
}

impl Turn {
    /// The answer in the row `answer_id`; `None` if the answer is not saved.
    pub(super) fn new(engine: &Arc<ContextEngine>, user: UserId, answer_id: Option<Uuid>) -> Self {
        Self {
            engine: engine.clone(),
            user,
            answer_id: answer_id.unwrap_or_else(Uuid::new_v4),
            prompt: None,
            provider: String::new(),
            content: Content::default(),
            error: None,
            ended: answer_id.is_none(),
            is_recorded: false,
        }
    }

    pub(super) fn set_prompt(&mut self, prepared: PreparedPrompt) {
        self.prompt = Some(prepared);
    }

    pub(super) fn set_provider(&mut self, provider: &str) {
        provider.clone_into(&mut self.provider);
    }

    pub(super) const fn answer_id(&self) -> Uuid {
        self.answer_id
    }

    /// Takes a complete answer.
    pub(super) fn set_completion(&mut self, completion: Completion) {
        let Completion { content: text, tool_calls, finish_reason, model, usage, raw } = completion;
        self.content = Content { text, tool_calls, finish_reason, model, usage, raw };
    }

    /// Takes the next part of a streamed answer.
    pub(super) fn append(&mut self, chunk: &CompletionChunk) {
        self.content.text += &chunk.text;
        chunk.tool_calls.iter().for_each(|part| append_tool_call(&mut self.content.tool_calls, part));
        if let Some(model) = &chunk.model {
            self.content.model.clone_from(model);
        }
        if chunk.finish_reason.is_some() {
            self.content.finish_reason.clone_from(&chunk.finish_reason);
        }
        self.content.usage = chunk.usage.or(self.content.usage);
    }

    /// Records the error that interrupted the answer.
    pub(super) fn fail(&mut self, error: &ProviderError) {
        self.error = Some(error.to_string());
    }

    pub(super) fn engine(&self) -> Engine {
        self.prompt.as_ref().map_or(Engine::Simple, |prepared| prepared.engine)
    }

    pub(super) fn stats(&self) -> Option<&ContextStats> {
        self.prompt.as_ref().map(|prepared| &prepared.stats)
    }

    /// Usage reported by the provider, or counted with the tokenizer.
    fn usage(&self) -> Usage {
        self.content.usage.unwrap_or_else(|| {
            let messages = self.prompt.as_ref().map_or(&[][..], |prepared| &prepared.messages);
            counted_usage(messages, &self.content.text)
        })
    }

    /// Records the call to the model, once, in the background. Without an answering provider there is none.
    fn record_call(&mut self) {
        if self.provider.is_empty() || std::mem::replace(&mut self.is_recorded, true) {
            return;
        }
        let (engine, user, usage) = (self.engine.clone(), self.user, self.usage());
        let (provider, model) = (self.provider.clone(), self.content.model.clone());
        self.engine.turns.spawn(async move { engine.record_chat(user, &provider, &model, usage).await });
    }

    /// Saves the complete answer.
    pub(super) async fn complete(mut self) -> Result<Answer, PgError> {
        self.record_call();
        if !self.ended {
            let saved = self.save(AnswerStatus::Complete).await;
            self.ended = saved.is_ok();
            saved?;
        }
        let stats = self.prompt.as_ref().map(|prepared| prepared.stats.clone());
        let (usage, engine) = (self.usage(), self.engine());
        let Content { text, tool_calls, finish_reason, model, raw, .. } = std::mem::take(&mut self.content);
        Ok(Answer {
            content: text,
            tool_calls,
            finish_reason,
            model,
            usage,
            engine,
            context_stats: stats.expect("the prompt is set before the provider is called"),
            message_id: self.answer_id,
            replayed: false,
            partial: false,
            raw,
        })
    }

    /// Metadata that is stored with the answer.
    fn metadata_json(&self) -> Value {
        let Content { tool_calls, finish_reason, model, .. } = &self.content;
        let mut metadata = json!({"engine": self.engine(), "provider": self.provider, "model": model,
            "usage": self.usage(), "finish_reason": finish_reason, "error": self.error});
        if !tool_calls.is_empty() {
            metadata["tool_calls"] = without_nul(json!(tool_calls));
        }
        metadata
    }

    async fn save(&self, status: AnswerStatus) -> Result<(), PgError> {
        let tokens = i32::try_from(tokens::count(&self.content.text)).unwrap_or(i32::MAX);
        // PostgreSQL cannot store U+0000.
        let text = self.content.text.replace('\0', "");
        turns::end(&self.engine.database, self.answer_id, status, &text, tokens, &self.metadata_json())
            .await?;
        Ok(())
    }

    /// Marks the answer's row as still in progress.
    pub(super) async fn touch(&self) -> Result<(), PgError> {
        if self.ended { Ok(()) } else { turns::touch(&self.engine.database, self.answer_id).await }
    }
}

/// Joins the parts of a streamed tool call: text of the same field is concatenated.
fn append_tool_call(calls: &mut Vec<Value>, part: &Value) {
    let index = part["index"].as_u64().unwrap_or(calls.len() as u64);
    let Some(index) = usize::try_from(index).ok().filter(|index| *index < MAX_TOOL_CALLS) else { return };
    if calls.len() <= index {
        calls.resize_with(index + 1, || Value::Object(Map::new()));
    }
    merge(&mut calls[index], part, &["index", "id", "type"]);
}

fn merge(target: &mut Value, part: &Value, replaced: &[&str]) {
    let (Some(target), Some(part)) = (target.as_object_mut(), part.as_object()) else { return };
    for (name, value) in part.iter().filter(|(name, _)| name.as_str() != "index") {
        match (target.get_mut(name), value) {
            (Some(Value::String(known)), Value::String(more)) if !replaced.contains(&name.as_str()) => {
                known.push_str(more);
            }
            (Some(known @ Value::Object(_)), Value::Object(_)) => merge(known, value, &["name"]),
            (Some(_), Value::Null) => {}
            _ => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace('\0', "").into(),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| (name.replace('\0', ""), without_nul(value));
            fields.into_iter().map(field).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.record_call();
        if self.ended {
            return;
        }
        self.ended = true;
        let turn = Self {
            engine: self.engine.clone(),
            user: self.user,
            answer_id: self.answer_id,
            prompt: self.prompt.take(),
            provider: std::mem::take(&mut self.provider),
            content: std::mem::take(&mut self.content),
            error: self.error.take().or_else(|| Some("the client disconnected".into())),
            ended: true,
            is_recorded: true,
        };
        let Content { text, .. } = &turn.content;
        let status = if text.is_empty() { AnswerStatus::Failed } else { AnswerStatus::Partial };
        tracing::info!(answer = %turn.answer_id, error = turn.error, "answer interrupted");
        self.engine.turns.spawn(async move {
            // Retries a short database failure. If all attempts fail, maintenance removes the abandoned answer later.
            for delay in [0, 200, 1_000, 3_000] {
                tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
                match turn.save(status).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(error = %ErrorChain(&error), "saving an interrupted answer failed")
                    }
                }
            }
        });
    }
}

/// Tokens of all messages together.
pub(super) fn tokens_of(messages: &[ChatMessage]) -> usize {
    messages.iter().map(ChatMessage::tokens).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_tool_calls_are_joined() {
        let mut calls = Vec::new();
        for part in [
            json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}),
            json!({"index": 0, "function": {"arguments": "{\"city\":"}}),
            json!({"index": 1, "id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}),
            json!({"index": 0, "function": {"arguments": "\"Quito\"}"}}),
            json!({"index": 9_999_999_999_u64, "id": "too many"}),
        ] {
            append_tool_call(&mut calls, &part);
        }
        assert_eq!(
            json!(calls),
            json!([
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Quito\"}"}},
                {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ])
        );
    }
}
