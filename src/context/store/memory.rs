//! What the server learns from messages. Messages are read as their author; the queue and what was learned are written
//! as the server.

use std::time::Duration;

use postgres_types::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::bundles::ReadError;
use crate::{
    auth::Principal,
    model::UserId,
    pg::{Database, PgError},
};

/// Messages of one user that this node has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub user: UserId,
    lease: Uuid,
    /// Number of attempts, this one included.
    pub attempts: i32,
    /// IDs of the queue entries.
    pub entries: Vec<i64>,
    /// IDs of the messages.
    pub messages: Vec<Uuid>,
}

/// Claims messages of up to `users` users whose ID is greater than `after`.
pub async fn claim(database: &Database, after: Uuid, users: i32) -> Result<Vec<Claim>, PgError> {
    let client = database.server_connection().await?;
    let rows =
        client.query(include_str!("../../../sql/context/claim_messages.sql"), &[&after, &users]).await?;
    let claims = rows.iter().map(|row| Claim {
        user: row.get("user_id"),
        lease: row.get("lease"),
        attempts: row.get("attempts"),
        entries: row.get("entries"),
        messages: row.get("messages"),
    });
    Ok(claims.collect())
}

/// Result of `rollcall.learning_sources`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct LearningSources {
    /// Messages that may be learned from, oldest first.
    pub messages: Vec<SourceMessage>,
    /// Memories that the messages may correct.
    pub memories: Vec<KnownMemory>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SourceMessage {
    pub id: Uuid,
    pub content: String,
    /// Date of the message.
    pub said_on: String,
    /// What the user and the model said just before, in reverse order of time.
    pub before: Vec<EarlierMessage>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct EarlierMessage {
    /// `user` or `assistant`.
    pub role: String,
    pub content: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct KnownMemory {
    pub id: Uuid,
    pub content: String,
    /// Date since which it is known.
    pub since: String,
}

/// Reads the caller's messages; also related memories if facts are to be found.
pub async fn sources(
    database: &Database,
    caller: &Principal,
    messages: &[Uuid],
    finds_facts: bool,
) -> Result<LearningSources, ReadError> {
    let statement = include_str!("../../../sql/context/learning_sources.sql");
    let rows = database.query_as(caller, statement, &[&messages, &finds_facts]).await?;
    let json: Value = rows.first().expect("the statement returns one row").get("found");
    Ok(serde_json::from_value(json)?)
}

/// What was learned from the messages of a claim.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Learned {
    pub messages: Vec<LearnedUnits>,
    pub memories: Vec<LearnedMemory>,
    pub forgotten: Vec<ForgottenMemories>,
}

#[derive(Debug, Clone, Serialize)]
pub struct LearnedUnits {
    /// ID of the message.
    pub id: Uuid,
    pub units: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearnedMemory {
    pub message_id: Uuid,
    pub content: String,
    pub category: &'static str,
    /// From 0 to 1.
    pub importance: f32,
    /// Memories that this one corrects.
    pub replaces: Vec<Uuid>,
}

/// Memories that a message asks to forget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForgottenMemories {
    pub message_id: Uuid,
    pub memories: Vec<Uuid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutcome {
    Stored,
    /// The lease expired, or the user was erased.
    Lost,
    /// Other transactions hold locks.
    Busy,
}

/// Stores what was learned and deletes the queue entries. Without entries, the claim remains.
pub async fn store(
    database: &Database,
    claim: &Claim,
    entries: &[i64],
    learned: &Learned,
) -> Result<StoreOutcome, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/store_learned.sql");
    let Claim { user, lease, messages, .. } = claim;
    let row = client.write_one(statement, &[user, lease, &entries, messages, &Json(learned)]).await?;
    Ok(match row.get("outcome") {
        "stored" => StoreOutcome::Stored,
        "busy" => StoreOutcome::Busy,
        _ => StoreOutcome::Lost,
    })
}

/// Releases a claim to be tried again after `delay`; gives up the entries in `drop`.
pub async fn postpone(
    database: &Database,
    claim: &Claim,
    error: &str,
    delay: Duration,
    drop: &[i64],
) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/postpone_learning.sql");
    client.query(statement, &[&claim.user, &claim.lease, &error, &delay.as_secs_f64(), &drop]).await?;
    Ok(())
}
