//! Users with tokens, and how they are related.

use anyhow::Result;
use rollcall::auth::token;
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

/// The secret of the benchmarks' tokens.
pub const SECRET: &str = "benchmarks-only-0123456789abcdef";

/// A user with a token.
#[derive(Debug, Clone)]
pub struct BenchUser {
    /// The user's id.
    pub id: Uuid,
    /// Valid for an hour.
    pub token: String,
}

impl BenchUser {
    /// Somebody new.
    pub fn new() -> Result<Self> {
        Self::with_id(Uuid::new_v4())
    }

    /// Somebody who is in the database already.
    pub fn with_id(id: Uuid) -> Result<Self> {
        let expiry = jiff::Timestamp::now().as_second() + 3_600;
        let claims = json!({"sub": id, "role": "authenticated", "exp": expiry});
        Ok(Self { id, token: token::mint(SECRET, &claims)? })
    }

    /// So many new ones.
    pub fn many(count: usize) -> Result<Vec<Self>> {
        (0..count).map(|_| Self::new()).collect()
    }
}

/// Makes accepted contacts, pair by pair.
pub async fn add_contacts(client: &Client, pairs: &[(Uuid, Uuid)]) -> Result<()> {
    let (ones, others): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
    client.execute(include_str!("sql/befriend.sql"), &[&ones, &others]).await?;
    Ok(())
}
