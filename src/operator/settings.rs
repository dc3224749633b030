//! Settings of the operator API.

use clap::ArgAction;

use crate::settings::{boolean, defaults};

/// Settings of the operator API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct OperatorSettings {
    /// Allow operators that watch a connection to read the payloads of its messages, without tokens
    #[arg(
        id = "operator-payloads",
        long = "operator-payloads",
        env = "OPERATOR_PAYLOADS",
        default_value = "false",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub payloads: bool,
}

impl Default for OperatorSettings {
    fn default() -> Self {
        defaults()
    }
}
