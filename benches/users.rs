//! Benchmark users with tokens and contacts.

use anyhow::Result;
use rollcall::auth::token;
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

/// Secret that signs the benchmark tokens.
pub const SECRET: &str = "benchmarks-only-0123456789abcdef";

#[derive(Debug, Clone)]
pub struct BenchUser {
    pub id: Uuid,
    /// Token that is valid for one hour.
    pub token: String,
}

impl BenchUser {
    /// Creates a user with a random ID.
    pub fn new() -> Result<Self> {
        Self::with_id(Uuid::new_v4())
    }

    /// Creates a token for an existing user.
    pub fn with_id(id: Uuid) -> Result<Self> {
        let expiry = jiff::Timestamp::now().as_second() + 3_600;
        let claims = json!({"sub": id, "role": "authenticated", "exp": expiry});
        Ok(Self { id, token: token::mint(SECRET, &claims)? })
    }

    /// Creates `count` users with random IDs.
    pub fn many(count: usize) -> Result<Vec<Self>> {
        (0..count).map(|_| Self::new()).collect()
    }
}

pub async fn add_contacts(client: &Client, pairs: &[(Uuid, Uuid)]) -> Result<()> {
    let (ones, others): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
    client.execute(include_str!("sql/add_contacts.sql"), &[&ones, &others]).await?;
    Ok(())
}
