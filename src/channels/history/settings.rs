//! Settings of the history.

use super::HistoryRules;
use crate::settings::small_count;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Channels")]
pub struct HistorySettings {
    /// Channels whose broadcasts are kept for clients that return, by topic or prefix*: the maximum number and age,
    /// in memory or as rows of realtime.messages. The longest matching entry applies. Default: none
    #[arg(
        id = "channel-history",
        long = "channel-history",
        env = "CHANNEL_HISTORY",
        default_value = "",
        hide_default_value = true,
        value_parser = HistoryRules::parse
    )]
    pub rules: HistoryRules,
    /// Maximum memory of all channel histories on this node in MiB (1,048,576 bytes); beyond it the messages that
    /// would expire first are dropped
    #[arg(
        id = "channel-history-memory-mb",
        long = "channel-history-memory-mb",
        env = "CHANNEL_HISTORY_MEMORY_MB",
        default_value = "64",
        value_parser = small_count::<usize>(1..=65_536)
    )]
    pub memory_mb: usize,
}
