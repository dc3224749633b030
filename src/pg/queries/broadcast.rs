//! Messages to the sockets of users on all nodes, sent through `rollcall_internal.outbox`.

use serde::Deserialize;
use tokio_postgres::Row;

use crate::{
    auth::{Principal, Role},
    lifecycle::ErrorChain,
    model::{CustomEvent, DeviceId, UserId},
    pg::{Connection, Database, PgError},
};

/// Sends an event to all open sockets of some users, at most once. Returns how many of the users are
/// connected. Acts as the service role: the caller must have been authorized.
///
/// # Errors
///
/// See [`Database::query_as`].
pub async fn send(database: &Database, event: &CustomEvent, recipients: &[UserId]) -> Result<i64, PgError> {
    let rows = database
        .write_as(
            &Principal::with_role(Role::ServiceRole),
            include_str!("../../../sql/broadcast/send.sql"),
            &[&event.category.as_str(), &event.event, &recipients, &event.payload.get()],
        )
        .await?;
    Ok(rows.first().expect("the statement returns one row").get("connected"))
}

/// A command for the sockets of some users.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxMessage {
    SendEvent(Vec<UserId>, CustomEvent),
    /// Close the sockets of a device, or all, and sign the user off.
    SignOff(Vec<UserId>, Option<DeviceId>),
    /// Close the sockets of a device, or all, with a reason, without signing the user off.
    Disconnect(Vec<UserId>, Option<DeviceId>, String),
}

#[derive(Deserialize)]
struct SignOffBody {
    device_id: Option<DeviceId>,
}

#[derive(Deserialize)]
struct DisconnectBody {
    reason: String,
    #[serde(default)]
    device_id: Option<DeviceId>,
}

/// Reads outbox messages, in the order of `ids`. Messages that cannot be decoded are logged and left out.
///
/// # Errors
///
/// The database does not respond.
pub async fn read(client: &Connection, ids: &[i64]) -> Result<Vec<OutboxMessage>, PgError> {
    let statement = include_str!("../../../sql/broadcast/read.sql");
    let rows = client.query(statement, &[&ids]).await?;
    let read = rows.iter().map(parse_row).inspect(|message| {
        if let Err(error) = message {
            tracing::warn!(error = %ErrorChain(error), "cannot decode an entry of rollcall_internal.outbox");
        }
    });
    Ok(read.flatten().collect())
}

fn parse_row(row: &Row) -> Result<OutboxMessage, serde_json::Error> {
    let (recipients, body): (Vec<UserId>, &str) = (row.get("recipients"), row.get("body"));
    Ok(match row.get("kind") {
        "sign_off" => {
            OutboxMessage::SignOff(recipients, serde_json::from_str::<SignOffBody>(body)?.device_id)
        }
        "disconnect" => {
            let DisconnectBody { reason, device_id } = serde_json::from_str(body)?;
            OutboxMessage::Disconnect(recipients, device_id, reason)
        }
        _ => OutboxMessage::SendEvent(recipients, serde_json::from_str(body)?),
    })
}
