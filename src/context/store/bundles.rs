//! Bundles and the context engine's queue. A user's data is read as that user; bundles and queue are written as the
//! server.

use std::time::Duration;

use postgres_types::Json;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    auth::Principal,
    context::bundle::{BundleType, CompiledBundle, ReadPoint, Subject, WantedBundles},
    model::{ConversationId, UserId},
    pg::{Connection, Database, PgError},
};

/// Timeout of deleting expired rows.
const PURGE_TIMEOUT: Duration = Duration::from_secs(120);

/// A statement failed, or its JSON result has an unexpected shape.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Database(#[from] PgError),
    /// Schema and server are probably of different versions.
    #[error("the result of the database has an unexpected format")]
    Decode(#[from] serde_json::Error),
}

fn decode_found<T: DeserializeOwned>(rows: &[Row]) -> Result<Option<T>, ReadError> {
    let json: Option<Json<&RawValue>> = rows.first().and_then(|row| row.get("found"));
    Ok(json.map(|Json(text)| serde_json::from_str(text.get())).transpose()?)
}

/// Reads everything that the prompt for one message needs, as the caller, in one round trip. `None` if the caller
/// cannot see the conversation.
pub async fn assemble<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    conversation: ConversationId,
    message: &str,
    history: i32,
    vector: Option<&str>,
) -> Result<Option<T>, ReadError> {
    let statement = include_str!("../../../sql/context/assemble.sql");
    decode_found(&database.query_as(caller, statement, &[&conversation, &message, &history, &vector]).await?)
}

/// As [`assemble`], for the simple engine.
pub async fn assemble_simple<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    conversation: ConversationId,
    history: i32,
) -> Result<Option<T>, ReadError> {
    let statement = include_str!("../../../sql/context/assemble_simply.sql");
    decode_found(&database.query_as(caller, statement, &[&conversation, &history]).await?)
}

/// Reads the caller's bundles of these subjects in one round trip: content of fresh ones, sources of others.
pub async fn wanted(
    database: &Database,
    caller: &Principal,
    subjects: &[Subject],
    force: bool,
) -> Result<WantedBundles, ReadError> {
    let statement = include_str!("../../../sql/context/wanted.sql");
    let rows = database.query_as(caller, statement, &[&Json(subjects), &force]).await?;
    Ok(decode_found(&rows)?.expect("the statement returns one row that is not null"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBundle {
    pub id: Uuid,
    pub bundle_type: BundleType,
    /// Increases with each compilation.
    pub version: i64,
    /// A source changed between reading and storing; the bundle is queued again.
    pub dirty: bool,
}

/// Stores compiled bundles, with `notify` announces them to the user's sockets, and returns the bundles that no newer
/// compilation had replaced.
pub async fn store(
    database: &Database,
    user: UserId,
    bundles: &[CompiledBundle],
    point: &ReadPoint,
    notify: bool,
) -> Result<Vec<StoredBundle>, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/keep.sql");
    let rows = client
        .query(statement, &[&user, &Json(bundles), &point.seeing, &point.read_at, &notify, &point.access])
        .await?;
    let stored = rows.iter().filter_map(|row| {
        Some(StoredBundle {
            id: row.get("id"),
            bundle_type: BundleType::parse(row.get("bundle_type"))?,
            version: row.get("version"),
            dirty: row.get("dirty"),
        })
    });
    Ok(stored.collect())
}

/// Adds usage counts: `hits[n]` and `misses[n]` belong to `ids[n]`.
pub async fn count_uses(
    database: &Database,
    ids: &[Uuid],
    hits: &[i32],
    misses: &[i32],
) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/count_uses.sql");
    client.query(statement, &[&ids, &hits, &misses]).await?;
    Ok(())
}

/// Local time of one of the caller's devices, or of the device with the newest signals. The outer `None` means no such
/// device.
pub async fn local_time(
    database: &Database,
    caller: &Principal,
    device: Option<&str>,
) -> Result<Option<Option<String>>, PgError> {
    let rows =
        database.query_as(caller, include_str!("../../../sql/context/local_time.sql"), &[&device]).await?;
    Ok(rows.first().map(|row| row.get("local_time")))
}

/// Reads the signals that predict which bundles the caller needs. `None` without a device.
pub async fn context_signals<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    device: Option<&str>,
    hour: Option<i32>,
) -> Result<Option<T>, ReadError> {
    decode_found(
        &database
            .query_as(caller, include_str!("../../../sql/context/signals.sql"), &[&device, &hour])
            .await?,
    )
}

/// Stores the predicted topics and entities in the device's row.
pub async fn store_predictions(
    database: &Database,
    user: UserId,
    device: &str,
    topics: &[Uuid],
    entities: &[Uuid],
) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/note_predictions.sql");
    client.query(statement, &[&user, &device, &topics, &entities]).await?;
    Ok(())
}

/// Counts bundles by state: the caller's, or all users' for the service role.
pub async fn counts<T: DeserializeOwned>(database: &Database, caller: &Principal) -> Result<T, ReadError> {
    let rows = database.query_as(caller, include_str!("../../../sql/context/counts.sql"), &[]).await?;
    Ok(decode_found(&rows)?.expect("the statement returns one row that is not null"))
}

/// Fails if the simple engine's tables cannot be read.
pub async fn check_simple_engine(database: &Database, caller: &Principal) -> Result<(), PgError> {
    database.query_as(caller, include_str!("../../../sql/context/simple_engine.sql"), &[]).await?;
    Ok(())
}

/// Applies pending invalidations. Returns how many bundles became dirty, and the triggers that should record changes of
/// sources and do not fire.
pub async fn mark_stale(database: &Database) -> Result<(i64, Vec<String>), PgError> {
    let client = database.server_connection().await?;
    let row = client.query_one(include_str!("../../../sql/context/settle.sql"), &[]).await?;
    Ok((row.get("marked"), row.get("silent")))
}

/// Deletes expired rows; returns how many.
pub async fn purge(database: &Database) -> Result<i64, PgError> {
    let statement = include_str!("../../../sql/context/tidy.sql");
    let purge = |client: Connection| async move { Ok(client.query_one(statement, &[]).await?.get(0)) };
    database.within(PURGE_TIMEOUT, purge).await
}

/// A queue entry that this node has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedAction {
    pub id: Uuid,
    pub user: UserId,
    /// The bundle to compile again; `None` for a warm-up.
    pub subject: Option<Subject>,
    /// Number of attempts, this one included.
    pub attempts: i32,
}

/// Claims up to `limit` due entries.
pub async fn claim_actions(database: &Database, limit: i32) -> Result<Vec<QueuedAction>, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/take.sql");
    let rows = client.query(statement, &[&limit]).await?;
    let action = |row: &Row| {
        let name: Option<&str> = row.get("bundle_type");
        let bundle_type = name.and_then(BundleType::parse);
        QueuedAction {
            id: row.get("id"),
            user: row.get("user_id"),
            subject: bundle_type.map(|bundle_type| Subject { bundle_type, ref_id: row.get("ref") }),
            attempts: row.get("attempts"),
        }
    };
    Ok(rows.iter().map(action).collect())
}

/// Removes completed entries from the queue.
pub async fn complete_actions(database: &Database, actions: &[Uuid]) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/complete.sql");
    client.query(statement, &[&actions]).await?;
    Ok(())
}

/// Schedules another attempt after `delay`, or moves the entry to the dead letters after `max_attempts`.
pub async fn fail_action(
    database: &Database,
    action: Uuid,
    error: &str,
    delay: std::time::Duration,
    max_attempts: i32,
) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/fail.sql");
    client.query(statement, &[&action, &error, &delay.as_secs_f64(), &max_attempts]).await?;
    Ok(())
}

/// IDs that restrict a manual invalidation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelatedIds {
    pub topic: Option<Uuid>,
    pub entity: Option<Uuid>,
    pub conversation: Option<Uuid>,
    pub memory: Option<Uuid>,
    pub instruction: Option<Uuid>,
}

/// Marks the caller's bundles of these types as dirty, restricted to the related IDs if any is set; returns how many.
pub async fn invalidate(
    database: &Database,
    caller: &Principal,
    event: &str,
    types: &[BundleType],
    related: RelatedIds,
) -> Result<i64, PgError> {
    let types: Vec<&str> = types.iter().map(|bundle_type| bundle_type.as_str()).collect();
    let RelatedIds { topic, entity, conversation, memory, instruction } = related;
    let rows = database
        .write_as(
            caller,
            include_str!("../../../sql/context/invalidate.sql"),
            &[&event, &types, &topic, &entity, &conversation, &memory, &instruction],
        )
        .await?;
    Ok(rows.first().expect("the statement returns one row").get(0))
}
