//! Settings of webhooks.

use std::time::Duration;

use clap::ArgAction;

use crate::settings::{boolean, duration_within, small_count};

/// Bounds of the time of a request.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Configuration of the delivery of webhooks.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookSettings {
    /// Maximum time of a request to a webhook, with connection and response
    #[arg(
        id = "webhook-timeout",
        long = "webhook-timeout",
        env = "WEBHOOK_TIMEOUT",
        default_value = "10s",
        value_parser = duration_within(MIN_TIMEOUT..=MAX_TIMEOUT)
    )]
    pub timeout: Duration,
    /// Failed requests after which the events of a webhook become dead letters, and the next events follow
    #[arg(
        id = "webhook-max-attempts",
        long = "webhook-max-attempts",
        env = "WEBHOOK_MAX_ATTEMPTS",
        default_value = "12",
        value_parser = small_count::<i32>(1..=100)
    )]
    pub max_attempts: i32,
    /// Deliver webhooks to private, loopback and link-local addresses, and without TLS
    #[arg(
        id = "webhook-allow-private",
        long = "webhook-allow-private",
        env = "WEBHOOK_ALLOW_PRIVATE",
        default_value = "false",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub allow_private: bool,
}
