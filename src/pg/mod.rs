//! PostgreSQL: connections, statements as the caller, notifications, replication, migrations, the embedded cluster.
//!
//! Statements are files in `sql/`; [`queries`] has a typed function for each. Other modules do not access the database
//! directly.

mod connect;
mod connection;
mod connection_string;
mod database;
mod disk_space;
pub mod doctor;
pub mod embedded;
mod error;
mod failing_policies;
pub mod ident;
pub mod listener;
pub mod migrate;
pub mod notification;
mod password_file;
mod policy_errors;
pub mod queries;
pub mod relay;
pub mod replication;
mod session;
mod settings;
mod tx;

pub use connect::{ConnectError, Connector};
pub use connection::Connection;
pub use connection_string::complete as complete_connection_string;
pub use database::{AUTHORIZATION_CONNECTIONS, Database, Writability};
pub use error::PgError;
pub use session::within;
pub use settings::DatabaseSettings;
pub use tx::CallerTx;
