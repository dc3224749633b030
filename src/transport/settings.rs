//! Settings of the accept loop.

use std::time::Duration;

use crate::settings::{Limit, defaults, duration_within, limit, small_count};

/// Limits of the accept loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct AcceptSettings {
    /// Maximum open sockets on this node; further ones get 503. The limit of file descriptors lowers it
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "20000", value_parser = small_count::<usize>(1..=10_000_000))]
    pub max_connections: usize,
    /// Maximum connections per IP address (IPv6: per /64) that have sent no request, or no message on a channel socket; the oldest is closed for each further one. 0 means no limit
    #[arg(
        id = "max-silent-connections-per-address",
        long = "max-silent-connections-per-address",
        env = "MAX_SILENT_CONNECTIONS_PER_ADDRESS",
        default_value = "4096",
        value_parser = limit
    )]
    pub silent_per_address: Limit,
    /// Timeout for the head of a connection's first request
    #[arg(
        long,
        env = "FIRST_REQUEST_TIMEOUT",
        default_value = "10s",
        value_parser = duration_within(Duration::from_millis(100)..=Duration::from_secs(75))
    )]
    pub first_request_timeout: Duration,
    /// Time that the server waits in total for a client that sends a request body, or reads a response, with less than 4 KiB per second; then the connection is closed
    #[arg(
        long,
        env = "STALL_TIMEOUT",
        default_value = "20s",
        value_parser = duration_within(Duration::from_millis(100)..=Duration::from_secs(600))
    )]
    pub stall_timeout: Duration,
    /// Timeout for the head of each further request, including the idle time before it. It is longer than the idle
    /// timeout of common proxies (60 s), so that a proxy closes the connection first.
    #[arg(skip = Duration::from_secs(75))]
    pub header_timeout: Duration,
    /// Time for requests to finish after the shutdown signal.
    #[arg(skip = Duration::from_secs(10))]
    pub drain_timeout: Duration,
}

impl Default for AcceptSettings {
    fn default() -> Self {
        defaults()
    }
}
