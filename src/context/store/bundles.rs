//! Bundles and the context engine's queue. What is read of a user is read as that user; what is written to bundles and
//! queue is the server's.

use postgres_types::Json;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    auth::Principal,
    context::bundle::{BundleType, CompiledBundle, ReadPoint, Subject, WantedBundles},
    model::{ConversationId, UserId},
    pg::{Database, PgError},
};

/// What a statement answered cannot be read: the two sides of a release do not fit.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The statement failed.
    #[error(transparent)]
    Database(#[from] PgError),
    /// Its answer is of another shape.
    #[error("the database's answer cannot be read")]
    Decode(#[from] serde_json::Error),
}

fn decode_found<T: DeserializeOwned>(rows: &[Row]) -> Result<Option<T>, ReadError> {
    let answer: Option<Json<&RawValue>> = rows.first().and_then(|row| row.get("found"));
    Ok(answer.map(|Json(text)| serde_json::from_str(text.get())).transpose()?)
}

/// Everything that the prompt for one message needs, as the caller may see it; `None` where the caller sees no such
/// conversation. One round trip.
///
/// # Errors
///
/// As [`Database::query_as`].
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

/// The same for the simple engine.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn assemble_simple<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    conversation: ConversationId,
    history: i32,
) -> Result<Option<T>, ReadError> {
    let statement = include_str!("../../../sql/context/assemble_simply.sql");
    decode_found(&database.query_as(caller, statement, &[&conversation, &history]).await?)
}

/// The caller's bundles about some things. One round trip.
///
/// # Errors
///
/// As [`Database::query_as`].
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

/// A bundle that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBundle {
    /// Its row.
    pub id: Uuid,
    /// What kind.
    pub bundle_type: BundleType,
    /// Which compilation.
    pub version: i64,
    /// A change came between reading and storing; it is queued again.
    pub dirty: bool,
}

/// Stores compiled bundles, tells the user's sockets where asked to, and returns those that were not overtaken.
///
/// # Errors
///
/// When the database does not take them.
pub async fn store(
    database: &Database,
    user: UserId,
    bundles: &[CompiledBundle],
    point: &ReadPoint,
    tell: bool,
) -> Result<Vec<StoredBundle>, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/keep.sql");
    let rows =
        client.query(statement, &[&user, &Json(bundles), &point.seeing, &point.read_at, &tell]).await?;
    let kept = rows.iter().filter_map(|row| {
        Some(StoredBundle {
            id: row.get("id"),
            bundle_type: BundleType::parse(row.get("bundle_type"))?,
            version: row.get("version"),
            dirty: row.get("dirty"),
        })
    });
    Ok(kept.collect())
}

/// Counts how often prompts used bundles: `hits[n]` and `misses[n]` are of `ids[n]`.
///
/// # Errors
///
/// When the database does not answer.
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

/// The time of day on one of the caller's devices, or on the one whose signals are newest; the outer `None` without a
/// device.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn local_time(
    database: &Database,
    caller: &Principal,
    device: Option<&str>,
) -> Result<Option<Option<String>>, PgError> {
    let rows =
        database.query_as(caller, include_str!("../../../sql/context/local_time.sql"), &[&device]).await?;
    Ok(rows.first().map(|row| row.get("local_time")))
}

/// What a warm-up of the caller is guessed from; `None` without a device.
///
/// # Errors
///
/// As [`Database::query_as`].
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

/// Keeps what a warm-up expected, on the device's row.
///
/// # Errors
///
/// When the database does not answer.
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

/// Bundles and their states, counted: the caller's, or everybody's for the service.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn counts<T: DeserializeOwned>(database: &Database, caller: &Principal) -> Result<T, ReadError> {
    let rows = database.query_as(caller, include_str!("../../../sql/context/counts.sql"), &[]).await?;
    Ok(decode_found(&rows)?.expect("the statement returns one row that is not null"))
}

/// Whether the simple engine's tables can be read.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn check_simple_engine(database: &Database, caller: &Principal) -> Result<(), PgError> {
    database.query_as(caller, include_str!("../../../sql/context/simple_engine.sql"), &[]).await?;
    Ok(())
}

/// Sets the dirty flags that changes left to be set; returns how many.
///
/// # Errors
///
/// When the database does not answer.
pub async fn mark_stale(database: &Database) -> Result<i64, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/settle.sql");
    Ok(client.query_one(statement, &[]).await?.get(0))
}

/// Keeps house; returns how many rows went.
///
/// # Errors
///
/// When the database does not answer.
pub async fn purge(database: &Database) -> Result<i64, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/tidy.sql");
    Ok(client.query_one(statement, &[]).await?.get(0))
}

/// Background work that this node has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedAction {
    /// Its entry in the queue.
    pub id: i64,
    /// Whose.
    pub user: UserId,
    /// The bundle to compile again; a warm-up has none.
    pub subject: Option<Subject>,
    /// How often it was taken, this time included.
    pub attempts: i32,
}

/// Takes what is due.
///
/// # Errors
///
/// When the database does not answer.
pub async fn claim_actions(database: &Database, most: i32) -> Result<Vec<QueuedAction>, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/take.sql");
    let rows = client.query(statement, &[&most]).await?;
    let action = |row: &Row| {
        let word: Option<&str> = row.get("bundle_type");
        let bundle_type = word.and_then(BundleType::parse);
        QueuedAction {
            id: row.get("id"),
            user: row.get("user_id"),
            subject: bundle_type.map(|bundle_type| Subject { bundle_type, ref_id: row.get("ref") }),
            attempts: row.get("attempts"),
        }
    };
    Ok(rows.iter().map(action).collect())
}

/// Ends actions that are done.
///
/// # Errors
///
/// When the database does not answer.
pub async fn complete_actions(database: &Database, actions: &[i64]) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/complete.sql");
    client.query(statement, &[&actions]).await?;
    Ok(())
}

/// Puts an action back for later, or among the dead letters after its last attempt.
///
/// # Errors
///
/// When the database does not answer.
pub async fn fail_action(
    database: &Database,
    action: i64,
    why: &str,
    wait: std::time::Duration,
    most_attempts: i32,
) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/fail.sql");
    client.query(statement, &[&action, &why, &wait.as_secs_f64(), &most_attempts]).await?;
    Ok(())
}

/// What a change that is told by hand is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelatedIds {
    /// A topic.
    pub topic: Option<Uuid>,
    /// An entity.
    pub entity: Option<Uuid>,
    /// A conversation.
    pub conversation: Option<Uuid>,
    /// A memory.
    pub memory: Option<Uuid>,
    /// An instruction.
    pub instruction: Option<Uuid>,
}

/// Flags the caller's bundles of these types as dirty, those about what is related where anything is; returns how many.
///
/// # Errors
///
/// As [`Database::query_as`].
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
        .query_as(
            caller,
            include_str!("../../../sql/context/invalidate.sql"),
            &[&event, &types, &topic, &entity, &conversation, &memory, &instruction],
        )
        .await?;
    Ok(rows.first().expect("the statement returns one row").get(0))
}
