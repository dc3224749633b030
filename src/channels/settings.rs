//! Settings of channels.

use clap::ArgAction;

use super::{
    bus::nats::NatsSettings, history::HistorySettings, limits::ChannelLimits,
    postgres_changes::PostgresChangesSettings,
};
use crate::settings::boolean;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Channels")]
pub struct ChannelSettings {
    /// Reject joins of public channels
    #[arg(
        id = "realtime-private-only",
        long = "realtime-private-only",
        env = "REALTIME_PRIVATE_ONLY",
        default_value = "false",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub private_only: bool,
    /// Send presence to channels whose join has no presence.enabled, as clients before July 2025
    #[arg(
        id = "realtime-presence-default",
        long = "realtime-presence-default",
        env = "REALTIME_PRESENCE_DEFAULT",
        default_value = "true",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub presence_by_default: bool,
    #[command(flatten)]
    pub history: HistorySettings,
    #[command(flatten)]
    pub postgres_changes: PostgresChangesSettings,
    #[command(flatten)]
    pub limits: ChannelLimits,
    #[command(flatten)]
    pub nats: NatsSettings,
}
