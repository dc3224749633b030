//! Why a join is refused or a channel ended: the texts of the original, which clients show and compare.

use std::{sync::Arc, time::Duration};

use crate::{
    auth::ChannelTokenError,
    channels::{authorization::AuthorizationError, postgres_changes::SubscribeError},
    hub::HubStopped,
};

use super::config::InvalidJoin;

/// A join is refused. The `Display` is the reply's `reason`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JoinError {
    /// The server is stopping.
    #[error("RealtimeRestarting: Realtime is restarting, please standby")]
    Restarting,
    /// `realtime:` and nothing behind it.
    #[error("TopicNameRequired: You must provide a topic name")]
    TopicNameRequired,
    /// The payload cannot be read.
    #[error(transparent)]
    Invalid(#[from] InvalidJoin),
    /// Joins of the whole node come too fast.
    #[error("ClientJoinRateLimitReached: Too many joins per second")]
    TooManyJoins,
    /// This socket has as many channels as it may.
    #[error("ChannelRateLimitReached: Too many channels")]
    TooManyChannels,
    /// The token is not believed.
    #[error("{code}: {0}", code = .0.code())]
    Token(#[from] ChannelTokenError),
    /// The server takes no public joins.
    #[error("PrivateOnly: This project only allows private channels")]
    PrivateOnly,
    /// Policies do not let the claimant read there, or cannot be asked.
    #[error("{reason}", reason = .0.join_reason(.1))]
    Rights(AuthorizationError, Arc<str>),
    /// Replay of a room that stores nothing.
    #[error("UnableToReplayMessages: Replay is not allowed for public channels")]
    ReplayOfPublic,
    /// Replay asked for in a way that cannot be understood.
    #[error("UnableToReplayMessages: Replay params are not valid")]
    ReplayInvalid,
    /// The database did not say what there was.
    #[error("UnableToReplayMessages: Realtime was unable to replay messages")]
    ReplayFailed,
    /// It was to be answered once its changes are told, and they are not.
    #[error("{code}: {0}", code = changes_code(.0))]
    Changes(SubscribeError),
    /// The same: not in the time that it wanted to wait.
    #[error("PostgresChangesSubscribeTimeout: changes are not told after {} ms", .0.as_millis())]
    ChangesTimeout(Duration),
    /// The join's own task failed.
    #[error("join crashed")]
    Crashed,
}

const fn changes_code(error: &SubscribeError) -> &'static str {
    match error {
        SubscribeError::Refused(_) => "RealtimeDisabledForConfiguration",
        SubscribeError::Unavailable(_) => "UnableToSubscribeToPostgres",
    }
}

impl From<HubStopped> for JoinError {
    fn from(_: HubStopped) -> Self {
        Self::Restarting
    }
}
