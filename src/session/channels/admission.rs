//! Whether a join is admitted. Runs beside the session where it has to wait, so that a socket's heartbeats and other
//! channels never wait for a join.

use std::sync::Arc;

use super::{Opener, Services, config::Config, error::JoinError, tokens::hash};
use crate::channels::{Claimant, Room};

/// A join that has passed what can be decided without waiting.
#[derive(Debug, Clone)]
pub(super) struct Application {
    /// Where to.
    pub room: Room,
    /// What is wanted; `None` for a legacy join.
    pub config: Config,
    /// A token of its own.
    pub token: Option<Box<str>>,
    /// Who opened the socket.
    pub opener: Opener,
}

/// A join that is admitted.
#[derive(Debug)]
pub(super) struct Admitted {
    /// As whom.
    pub claimant: Arc<Claimant>,
    /// The hash of the token's text.
    pub token: u64,
    /// What was asked for.
    pub config: Config,
}

/// Decides.
pub(super) async fn decide(
    services: &Services,
    application: Application,
) -> Result<Box<Admitted>, JoinError> {
    let Application { room, config, token, opener } = application;
    let (claimant, token) = match token {
        None => opener.claimant.check_age(services.clock.now()).map(|()| (opener.claimant, opener.token))?,
        Some(text) => {
            let token = services.verifier.verify_channel(&text).await?;
            (Arc::new(Claimant::new(&token, opener.claimant.headers.clone())), hash(&text))
        }
    };
    if room.private {
        return Err(JoinError::Unauthorized((&*room.topic).into()));
    }
    if config.replay.is_some() {
        return Err(JoinError::ReplayOfPublic);
    }
    Ok(Box::new(Admitted { claimant, token, config }))
}
