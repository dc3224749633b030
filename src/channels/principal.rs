//! As whom a channel acts.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    auth::{ChannelTokenError, VerifiedChannelToken},
    model::UserId,
};

/// Whose token a channel holds, as far as policies can see it. Two claimants are equal if no policy can tell them
/// apart: verdicts are shared between them. Not for logs.
#[derive(Clone)]
pub struct ChannelPrincipal {
    /// The token's `role`; any name, also one that the database does not know.
    pub role: Box<str>,
    /// The whole payload of the token as JSON, for `request.jwt.claims`.
    pub claims: Arc<str>,
    /// The token's `sub`, for `request.jwt.claim.sub`.
    pub sub: Option<Box<str>>,
    /// The headers that policies may see, as a JSON object, for `request.headers`.
    pub headers: Arc<str>,
    /// From this moment on the token does not count; [`Timestamp::MAX`] for opaque keys.
    pub expires_at: Timestamp,
}

impl ChannelPrincipal {
    /// Who holds a token and came with these headers.
    #[must_use]
    pub fn new(token: &VerifiedChannelToken, headers: Arc<str>) -> Self {
        let VerifiedChannelToken { role, claims, sub, expires_at } = token;
        Self {
            role: role.clone(),
            claims: claims.clone(),
            sub: sub.clone(),
            headers,
            expires_at: *expires_at,
        }
    }

    /// Which user it is, if it is one.
    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        self.sub.as_deref()?.parse().ok()
    }

    /// Whether the token still counts.
    ///
    /// # Errors
    /// It has expired, and how long ago.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), ChannelTokenError> {
        if self.expires_at > now {
            return Ok(());
        }
        Err(ChannelTokenError::Expired(now.as_second() - self.expires_at.as_second()))
    }
}

impl PartialEq for ChannelPrincipal {
    fn eq(&self, other: &Self) -> bool {
        self.role == other.role && self.claims == other.claims && self.headers == other.headers
    }
}

impl Eq for ChannelPrincipal {}

impl Hash for ChannelPrincipal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.role, &self.claims, &self.headers).hash(state);
    }
}

impl fmt::Debug for ChannelPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimant").field("role", &self.role).field("sub", &self.sub).finish_non_exhaustive()
    }
}
