//! How a connection ended.

use std::io;

use super::CloseCode;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer sent a close frame, with this code if it had one.
    Peer(Option<u16>),
    /// The peer disconnected without a close frame.
    Lost,
    Failed(io::ErrorKind),
    /// The server closed it.
    Server(CloseCode),
    /// Two pings went unanswered.
    PingTimeout,
    Panicked,
    /// The hub aborted it after the shutdown timeout, or because its place was needed before its first message.
    Aborted,
}

impl CloseReason {
    /// The label in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer(_) => "peer",
            Self::Lost => "lost",
            Self::Failed(_) => "failed",
            Self::Server(_) => "ours",
            Self::PingTimeout => "dead",
            Self::Panicked => "panicked",
            Self::Aborted => "aborted",
        }
    }
}
