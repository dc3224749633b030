//! Calls to models in the background, and the record of every call.

use std::collections::HashMap;

use super::{
    message::ChatMessage,
    provider::{Completion, CompletionRequest, Provider, ProviderError, Purpose, Usage},
    store::usage::{self, UsageRecord},
    tokens,
};
use crate::{lifecycle::ErrorChain, model::UserId, pg::Database, settings::ParseResult};

/// Prices per million tokens, by model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices(HashMap<String, Price>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Price {
    prompt: f64,
    completion: f64,
}

impl Prices {
    /// Parses `model=prompt/completion`, comma-separated.
    ///
    /// # Errors
    /// When an entry is malformed.
    pub fn parse(text: &str) -> ParseResult<Self> {
        let price =
            |text: &str| text.trim().parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
        let entry = |entry: &str| {
            let (model, prices) = entry.rsplit_once('=')?;
            let (prompt, completion) = prices.split_once('/')?;
            let price = Price { prompt: price(prompt)?, completion: price(completion)? };
            Some((model.trim().to_owned(), price)).filter(|(model, _)| !model.is_empty())
        };
        let entries = crate::settings::comma_separated(text).map(|text| {
            entry(text)
                .ok_or_else(|| format!("must be model=prompt/completion, comma-separated (got \"{text}\")"))
        });
        Ok(Self(entries.collect::<ParseResult<_>>()?))
    }

    fn cost(&self, model: &str, usage: Usage) -> Option<String> {
        let Price { prompt, completion } = self.0.get(model)?;
        let cost = prompt * usage.prompt_tokens as f64 + completion * usage.completion_tokens as f64;
        Some(format!("{:.8}", cost / 1_000_000.0))
    }
}

/// Records one call. A failure is logged: the call itself has succeeded.
pub async fn record_call(
    database: &Database,
    prices: &Prices,
    user: UserId,
    purpose: Purpose,
    (provider, model): (&str, &str),
    usage: Usage,
) {
    let record = UsageRecord {
        purpose: purpose.as_str(),
        provider,
        model,
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        cost: prices.cost(model, usage),
    };
    if let Err(error) = usage::record(database, user, &record).await {
        tracing::warn!(error = %ErrorChain(&error), "recording the usage of a model failed");
    }
}

/// The model of background calls, for the data of one user.
pub struct BackgroundCalls<'a> {
    pub database: &'a Database,
    pub prices: &'a Prices,
    pub user: UserId,
    pub provider: &'a Provider,
    /// `None` means the provider's default.
    pub model: Option<String>,
}

impl BackgroundCalls<'_> {
    /// Calls the model and records the call.
    pub async fn complete(&self, request: CompletionRequest) -> Result<Completion, ProviderError> {
        let request = CompletionRequest { model: self.model.clone(), ..request };
        let answer = self.provider.complete(&request).await?;
        let usage = answer.usage.unwrap_or_else(|| counted_usage(&request.messages, &answer.content));
        let called = request.model.as_deref().unwrap_or_else(|| self.provider.default_model());
        let names = (self.provider.name(), called);
        record_call(self.database, self.prices, self.user, request.purpose, names, usage).await;
        Ok(answer)
    }
}

/// Usage by the tokenizer, if the provider reports none.
#[must_use]
pub fn counted_usage(messages: &[ChatMessage], answer: &str) -> Usage {
    let prompt_tokens = messages.iter().map(|message| message.tokens() as u64).sum();
    let completion_tokens = tokens::count(answer) as u64;
    Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_give_the_cost_of_a_call() {
        let prices = Prices::parse("small=0.15/0.60, a/b:c=1/2").expect("prices");
        let usage = Usage { prompt_tokens: 1_000_000, completion_tokens: 500_000, total_tokens: 1_500_000 };
        assert_eq!(prices.cost("small", usage).as_deref(), Some("0.45000000"));
        assert_eq!(prices.cost("a/b:c", usage).as_deref(), Some("2.00000000"));
        assert_eq!(prices.cost("other", usage), None);
        for malformed in ["small", "small=1", "small=1/x", "small=-1/2", "=1/2", "small=nan/1"] {
            assert!(Prices::parse(malformed).is_err(), "{malformed}");
        }
    }
}
