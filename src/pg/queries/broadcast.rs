//! What goes straight to sockets, on whichever node they are.

use serde::Deserialize;
use tokio_postgres::Row;

use crate::{
    auth::{Caller, Role},
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
            &Caller::with_role(Role::ServiceRole),
            include_str!("../../../sql/broadcast/send.sql"),
            &[&event.category.as_str(), &event.event, &recipients, &event.payload.get()],
        )
        .await?;
    Ok(rows.first().expect("the statement returns one row").get("connected"))
}

/// What a node is told to do with the sockets of some users.
#[derive(Debug, Clone, PartialEq)]
pub enum Errand {
    /// Say this to them.
    Tell(Vec<UserId>, CustomEvent),
    /// Close those of this device, or of all.
    SignOff(Vec<UserId>, Option<DeviceId>),
    /// Close all of them, saying why. Nobody is signed off.
    Disconnect(Vec<UserId>, String),
}

#[derive(Deserialize)]
struct SignedOff {
    device_id: Option<DeviceId>,
}

#[derive(Deserialize)]
struct Disconnected {
    reason: String,
}

/// Reads what nodes were told, in the order of `ids`. What cannot be read is left out, and logged.
///
/// # Errors
///
/// When the database does not answer.
pub async fn read(client: &Connection, ids: &[i64]) -> Result<Vec<Errand>, PgError> {
    let statement = include_str!("../../../sql/broadcast/read.sql");
    let rows = client.query(statement, &[&ids]).await?;
    let read = rows.iter().map(errand).inspect(|errand| {
        if let Err(error) = errand {
            tracing::warn!(%error, "an entry of rollcall.outbox makes no sense");
        }
    });
    Ok(read.flatten().collect())
}

fn errand(row: &Row) -> Result<Errand, serde_json::Error> {
    let (recipients, body): (Vec<UserId>, &str) = (row.get("recipients"), row.get("body"));
    Ok(match row.get("kind") {
        "sign_off" => Errand::SignOff(recipients, serde_json::from_str::<SignedOff>(body)?.device_id),
        "disconnect" => Errand::Disconnect(recipients, serde_json::from_str::<Disconnected>(body)?.reason),
        _ => Errand::Tell(recipients, serde_json::from_str(body)?),
    })
}
