//! Contacts of benchmark users.

use anyhow::Result;
use tokio_postgres::Client;
use uuid::Uuid;

pub async fn add_contacts(client: &Client, pairs: &[(Uuid, Uuid)]) -> Result<()> {
    let (ones, others): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
    client.execute(include_str!("sql/add_contacts.sql"), &[&ones, &others]).await?;
    Ok(())
}
