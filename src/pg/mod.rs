//! PostgreSQL: connections, acting as the caller, notifications, migrations, the embedded cluster.
//!
//! Statements live in `sql/`, one file each; [`queries`] gives each a typed function. Nothing else in the crate
//! speaks to the database.

mod connect;
mod connection;
mod database;
pub mod doctor;
pub mod embedded;
mod error;
pub mod listener;
pub mod migrate;
pub mod queries;
pub mod replication;
mod tx;

pub use connect::{ConnectError, Connector};
pub use connection::Connection;
pub use database::{AUTHORIZATION_CONNECTIONS, Database};
pub use error::PgError;
