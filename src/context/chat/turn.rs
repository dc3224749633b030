//! An answer in progress, which is saved exactly once.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::answer::{Answer, ContextStats, Engine, Metadata, PreparedPrompt, answer_metadata};
use crate::{
    context::{
        engine::ContextEngine,
        provider::{ProviderError, Usage},
        store::turns::{self, AnswerStatus},
        tokens,
    },
    lifecycle::ErrorChain,
    pg::PgError,
};

/// One answer. If it is dropped before completion, it is saved as partial, or removed if it has no text.
pub(in crate::context) struct Turn {
    engine: Arc<ContextEngine>,
    answer_id: Uuid,
    prompt: Option<PreparedPrompt>,
    provider: String,
    model: String,
    text: String,
    usage: Option<Usage>,
    error: Option<String>,
    ended: bool,
}

impl Turn {
    pub(super) fn new(engine: &Arc<ContextEngine>, answer_id: Uuid) -> Self {
        Self {
            engine: engine.clone(),
            answer_id,
            prompt: None,
            provider: String::new(),
            model: String::new(),
            text: String::new(),
            usage: None,
            error: None,
            ended: false,
        }
    }

    pub(super) fn set_prompt(&mut self, prepared: PreparedPrompt, provider: &str) {
        self.prompt = Some(prepared);
        provider.clone_into(&mut self.provider);
    }

    pub(super) const fn answer_id(&self) -> Uuid {
        self.answer_id
    }

    pub(super) fn append(&mut self, text: &str) {
        self.text += text;
    }

    pub(super) fn set_model(&mut self, model: String) {
        self.model = model;
    }

    pub(super) const fn set_usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
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

    pub(super) fn metadata(&self) -> Metadata {
        let empty = Metadata { assembly_time_ms: 0.0, cache_hit_rate: 0.0, bundles_used: 0 };
        self.prompt.as_ref().map_or(empty, |prepared| prepared.metadata)
    }

    /// Usage reported by the provider, or counted with the tokenizer.
    fn usage(&self) -> Usage {
        self.usage.unwrap_or_else(|| {
            let messages = self.prompt.iter().flat_map(|prepared| &prepared.messages);
            let prompt_tokens = messages.map(|message| tokens::count(&message.content) as u64).sum();
            let completion_tokens = tokens::count(&self.text) as u64;
            Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
        })
    }

    /// Saves the complete answer.
    pub(super) async fn complete(mut self) -> Result<Answer, PgError> {
        let saved = self.save(AnswerStatus::Complete).await;
        self.ended = saved.is_ok();
        saved?;
        let stats = self.prompt.as_ref().map(|prepared| prepared.stats.clone());
        Ok(Answer {
            usage: self.usage(),
            engine: self.engine(),
            content: std::mem::take(&mut self.text),
            model: std::mem::take(&mut self.model),
            context_stats: stats.expect("the prompt is set before the provider is called"),
            message_id: self.answer_id,
            replayed: false,
            partial: false,
        })
    }

    fn metadata_json(&self) -> Value {
        answer_metadata(self.engine(), &self.provider, &self.model, self.usage(), self.error.as_deref())
    }

    async fn save(&self, status: AnswerStatus) -> Result<(), PgError> {
        let tokens = i32::try_from(tokens::count(&self.text)).unwrap_or(i32::MAX);
        // PostgreSQL cannot store U+0000.
        let text = self.text.replace('\0', "");
        turns::end(&self.engine.database, self.answer_id, status, &text, tokens, &self.metadata_json())
            .await?;
        Ok(())
    }

    /// Marks the answer's row as still in progress.
    pub(super) async fn touch(&self) -> Result<(), PgError> {
        turns::touch(&self.engine.database, self.answer_id).await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        let turn = Self {
            engine: self.engine.clone(),
            answer_id: self.answer_id,
            prompt: self.prompt.take(),
            provider: std::mem::take(&mut self.provider),
            model: std::mem::take(&mut self.model),
            text: std::mem::take(&mut self.text),
            usage: self.usage,
            error: self.error.take().or_else(|| Some("the client disconnected".into())),
            ended: true,
        };
        let status = if turn.text.is_empty() { AnswerStatus::Failed } else { AnswerStatus::Partial };
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
