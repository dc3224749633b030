//! The caller's contacts and blocks.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    auth::Principal,
    model::{Block, Contact, ContactStatus, UserId},
    pg::{Database, PgError},
};

impl From<&Row> for Contact {
    fn from(row: &Row) -> Self {
        let accepted_at: Option<Timestamp> = row.get("accepted_at");
        Self {
            user_id: row.get("user_id"),
            status: ContactStatus::from_request(row.get("asked_by_me"), accepted_at.is_some()),
            created_at: row.get("created_at"),
            accepted_at,
        }
    }
}

/// Result of a contact request.
#[derive(Debug, PartialEq, Eq)]
pub enum ContactRequest {
    /// A new request was created.
    Created(Contact),
    /// A contact or request existed. A request of the other side is accepted.
    Existing(Contact),
}

const LIST: &str = include_str!("../../../sql/contacts/list.sql");
const ACCEPT: &str = include_str!("../../../sql/contacts/accept.sql");

/// The caller's contacts and requests in both directions, oldest first.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn list(database: &Database, caller: &Principal) -> Result<Vec<Contact>, PgError> {
    let rows = database.query_as(caller, LIST, &[&None::<UserId>]).await?;
    Ok(rows.iter().map(Contact::from).collect())
}

/// Sends a contact request to a user, or accepts the user's request to the caller. `None` if the other side removed it
/// at the same time.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn request(
    database: &Database,
    caller: &Principal,
    user: UserId,
) -> Result<Option<ContactRequest>, PgError> {
    let tx = database.begin_as(caller).await?;
    let is_new = !tx.query(include_str!("../../../sql/contacts/ask.sql"), &[&user]).await?.is_empty();
    if !is_new {
        tx.query(ACCEPT, &[&user]).await?;
    }
    // A separate statement, so that it sees concurrent writes of the other side.
    let rows = tx.query(LIST, &[&Some(user)]).await?;
    tx.commit().await?;
    let contact = rows.first().map(Contact::from);
    Ok(contact.map(
        |contact| if is_new { ContactRequest::Created(contact) } else { ContactRequest::Existing(contact) },
    ))
}

/// Accepts a user's contact request. Returns an already accepted contact unchanged, and `None` if there is no request.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn accept(
    database: &Database,
    caller: &Principal,
    user: UserId,
) -> Result<Option<Contact>, PgError> {
    let tx = database.begin_as(caller).await?;
    tx.query(ACCEPT, &[&user]).await?;
    let rows = tx.query(LIST, &[&Some(user)]).await?;
    tx.commit().await?;
    Ok(rows.first().map(Contact::from).filter(|contact| contact.status == ContactStatus::Accepted))
}

/// Removes a contact, or declines or withdraws a request; `false` if there was none.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn remove(database: &Database, caller: &Principal, user: UserId) -> Result<bool, PgError> {
    let rows = database.write_as(caller, include_str!("../../../sql/contacts/remove.sql"), &[&user]).await?;
    Ok(!rows.is_empty())
}

/// The caller's blocks, oldest first.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn blocks(database: &Database, caller: &Principal) -> Result<Vec<Block>, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/blocks/list.sql"), &[]).await?;
    let block = |row: &Row| Block { user_id: row.get("blocked_id"), created_at: row.get("created_at") };
    Ok(rows.iter().map(block).collect())
}

/// Blocks a user; `false` if the user was already blocked.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn block(database: &Database, caller: &Principal, user: UserId) -> Result<bool, PgError> {
    let rows = database.write_as(caller, include_str!("../../../sql/blocks/add.sql"), &[&user]).await?;
    Ok(!rows.is_empty())
}

/// Removes a block; `false` if there was none.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn unblock(database: &Database, caller: &Principal, user: UserId) -> Result<bool, PgError> {
    let rows = database.write_as(caller, include_str!("../../../sql/blocks/remove.sql"), &[&user]).await?;
    Ok(!rows.is_empty())
}
