//! Join errors, with the messages of Supabase Realtime, which clients show and compare.

use std::{sync::Arc, time::Duration};

use crate::{
    auth::ChannelTokenError,
    channels::{authorization::AuthorizationError, postgres_changes::SubscribeError},
    hub::HubStopped,
};

use super::config::InvalidJoin;

/// A join is rejected. The `Display` is the `reason` of the reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JoinError {
    /// The server is stopping.
    #[error("RealtimeRestarting: Realtime is restarting, please standby")]
    Restarting,
    /// The topic is `realtime:` without a name.
    #[error("TopicNameRequired: You must provide a topic name")]
    TopicNameRequired,
    /// The payload is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidJoin),
    /// The node exceeded its join rate.
    #[error("ClientJoinRateLimitReached: Too many joins per second")]
    TooManyJoins,
    /// The socket has its maximum of channels.
    #[error("ChannelRateLimitReached: Too many channels")]
    TooManyChannels,
    /// The token was rejected.
    #[error("{code}: {0}", code = .0.code())]
    Token(#[from] ChannelTokenError),
    /// The server accepts private channels only.
    #[error("PrivateOnly: This project only allows private channels")]
    PrivateOnly,
    /// The policies deny reading, or cannot be checked.
    #[error("{reason}", reason = .0.join_reason(.1))]
    Rights(AuthorizationError, Arc<str>),
    /// Replay of a public topic, which stores nothing.
    #[error("UnableToReplayMessages: Replay is not allowed for public channels")]
    ReplayOfPublic,
    /// The replay settings cannot be parsed.
    #[error("UnableToReplayMessages: Replay params are not valid")]
    ReplayInvalid,
    /// The stored broadcasts could not be read.
    #[error("UnableToReplayMessages: Realtime was unable to replay messages")]
    ReplayFailed,
    /// The join waits for its Postgres changes, and the subscription failed.
    #[error("{code}: {0}", code = changes_code(.0))]
    Changes(SubscribeError),
    /// The join waits for its Postgres changes, and they did not start in time.
    #[error("PostgresChangesSubscribeTimeout: Postgres changes did not start within {} ms", .0.as_millis())]
    ChangesTimeout(Duration),
    /// The task of the join panicked or timed out.
    #[error("join crashed")]
    Crashed,
}

const fn changes_code(error: &SubscribeError) -> &'static str {
    match error {
        SubscribeError::Refused(_) | SubscribeError::Unpublished(_) => "RealtimeDisabledForConfiguration",
        SubscribeError::Unavailable(_) => "UnableToSubscribeToPostgres",
    }
}

impl From<HubStopped> for JoinError {
    fn from(_: HubStopped) -> Self {
        Self::Restarting
    }
}
