//! Settings of the database connections.

use std::error::Error;

use clap::ArgAction;

use super::Connector;
use crate::{
    model::Secret,
    settings::{ParseResult, boolean, small_count},
};

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseSettings {
    /// PostgreSQL URL or key=value list, as libpq takes it. Default: an embedded PostgreSQL is started in ROLLCALL_DATA_DIR
    #[arg(id = "database-url", long = "database-url", env = "DATABASE_URL", value_parser = database_url)]
    pub url: Option<Secret>,
    /// URL of the same database without a pooler, for LISTEN, replication and migrations. Default: DATABASE_URL
    #[arg(
        id = "database-direct-url",
        long = "database-direct-url",
        env = "DATABASE_DIRECT_URL",
        value_parser = database_url
    )]
    pub direct_url: Option<Secret>,
    /// Whether to start an embedded PostgreSQL without DATABASE_URL; true: also if variables of other programs name a
    /// database. Default: true, in containers false
    #[arg(id = "embedded-database", long = "embedded-database", env = "EMBEDDED_DATABASE", value_parser = boolean)]
    pub embedded: Option<bool>,
    /// Maximum connections in the pool
    #[arg(
        id = "database-pool-size",
        long = "database-pool-size",
        env = "DATABASE_POOL_SIZE",
        default_value = "8",
        value_parser = small_count::<usize>(1..=1_000)
    )]
    pub pool_size: usize,
    /// Let one node read notifications from the write-ahead log, so that commits of applications do not wait for each
    /// other; needs wal_level = logical and a role that may replicate
    #[arg(
        id = "notification-relay",
        long = "notification-relay",
        env = "NOTIFICATION_RELAY",
        default_value = "true",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub notification_relay: bool,
}

/// Parses a database URL. Errors do not repeat the value, which holds a password.
fn database_url(text: &str) -> ParseResult<Secret> {
    let is_url = text.starts_with("postgresql://") || text.starts_with("postgres://");
    if !is_url && (text.contains("://") || !text.contains('=')) {
        return Err(
            "must be a URL such as postgresql://user:password@host/name, or a list such as host=… dbname=…"
                .into(),
        );
    }
    match Connector::new(text) {
        Ok(_) => Ok(Secret::new(text)),
        Err(error) => Err(format!("must be a valid PostgreSQL URL: {}", root_cause(&error))),
    }
}

fn root_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}
