//! What goes straight to sockets, on whichever node they are.

use serde::Deserialize;
use tokio_postgres::Row;

use crate::{
    auth::{Principal, Role},
    model::{CustomEvent, DeviceId, UserId},
    pg::{Connection, Database, PgError},
};

/// Sends an event to every open socket of some users, at most once. Returns how many of them are connected.
/// Acts as the service: the caller has been found to be allowed to.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn send(database: &Database, event: &CustomEvent, recipients: &[UserId]) -> Result<i64, PgError> {
    let rows = database
        .query_as(
            &Principal::with_role(Role::ServiceRole),
            include_str!("../../../sql/broadcast/send.sql"),
            &[&event.category.as_str(), &event.event, &recipients, &event.payload.get()],
        )
        .await?;
    Ok(rows.first().expect("the statement returns one row").get("connected"))
}

/// What a node is told to do with the sockets of some users.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxMessage {
    /// Say this to them.
    SendEvent(Vec<UserId>, CustomEvent),
    /// Close those of this device, or of all.
    SignOff(Vec<UserId>, Option<DeviceId>),
    /// Close all of them, saying why. Nobody is signed off.
    Disconnect(Vec<UserId>, String),
}

#[derive(Deserialize)]
struct SignOffBody {
    device_id: Option<DeviceId>,
}

#[derive(Deserialize)]
struct DisconnectBody {
    reason: String,
}

/// Reads what nodes were told, in the order of `ids`. What cannot be read is left out, and logged.
///
/// # Errors
///
/// When the database does not answer.
pub async fn read(client: &Connection, ids: &[i64]) -> Result<Vec<OutboxMessage>, PgError> {
    let statement = include_str!("../../../sql/broadcast/read.sql");
    let rows = client.query(statement, &[&ids]).await?;
    let read = rows.iter().map(parse_row).inspect(|errand| {
        if let Err(error) = errand {
            tracing::warn!(%error, "an entry of rollcall.outbox makes no sense");
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
            OutboxMessage::Disconnect(recipients, serde_json::from_str::<DisconnectBody>(body)?.reason)
        }
        _ => OutboxMessage::SendEvent(recipients, serde_json::from_str(body)?),
    })
}
