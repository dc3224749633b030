//! The principal of a channel.

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

/// The role and claims with which a channel acts in the database. Two principals are equal if no policy can
/// distinguish them: equal principals share authorization results. `Debug` leaves out the claims.
#[derive(Clone)]
pub struct ChannelPrincipal {
    /// The token's `role`, or [`NO_ROLE`](crate::auth::NO_ROLE). May be unknown to the database.
    pub role: Box<str>,
    /// The token's complete payload as JSON, for `request.jwt.claims`.
    pub claims: Arc<str>,
    /// The token's `sub`, for `request.jwt.claim.sub`.
    pub sub: Option<Box<str>>,
    /// Request headers visible to policies as a JSON object, for `request.headers`.
    pub headers: Arc<str>,
    /// When the token expires; [`Timestamp::MAX`] for opaque keys.
    pub expires_at: Timestamp,
}

impl ChannelPrincipal {
    /// The principal of a verified token and the headers of its request.
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

    /// The user, if `sub` is a user ID.
    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        self.sub.as_deref()?.parse().ok()
    }

    /// Checks that the token has not expired.
    ///
    /// # Errors
    ///
    /// The token has expired; the error has the seconds since then.
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
        f.debug_struct("ChannelPrincipal")
            .field("role", &self.role)
            .field("sub", &self.sub)
            .finish_non_exhaustive()
    }
}
