//! Records of calls to models.

use crate::{
    model::UserId,
    pg::{Database, PgError},
};

/// One call to a model.
#[derive(Debug, Clone)]
pub struct UsageRecord<'a> {
    pub purpose: &'static str,
    pub provider: &'a str,
    pub model: &'a str,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Decimal number in the currency of the prices; `None` without a price.
    pub cost: Option<String>,
}

/// Stores the record of one call.
pub async fn record(database: &Database, user: UserId, record: &UsageRecord<'_>) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let UsageRecord { purpose, provider, model, prompt_tokens, completion_tokens, cost } = record;
    let (prompt, completion) = (count(*prompt_tokens), count(*completion_tokens));
    let statement = include_str!("../../../sql/context/record_usage.sql");
    client.query(statement, &[&user, purpose, provider, model, &prompt, &completion, cost]).await?;
    Ok(())
}

/// Tokens that models used for a user since midnight UTC.
pub async fn tokens_used_today(database: &Database, user: UserId) -> Result<i64, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/tokens_used_today.sql");
    Ok(client.query_one(statement, &[&user]).await?.get("tokens"))
}
