//! One typed function per statement in `sql/`. Functions return [`PgError`](super::PgError) when the statement fails;
//! functions that take a `Caller` run as that caller (see [`Database::query_as`](super::Database::query_as)).

pub mod broadcast;
pub mod bus;
pub mod channel_presence;
pub mod contacts;
pub mod conversations;
pub mod devices;
pub mod messages;
pub mod node;
pub mod operator;
pub mod postgres_changes;
pub mod presence;
pub mod privacy;
pub mod relations;
pub mod relay;
pub mod rights;
pub mod settings;
pub mod typing;
pub mod webhooks;
