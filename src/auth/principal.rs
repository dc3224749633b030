//! The authenticated caller: user, database role, permissions and claims.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{AuthError, ChannelTokenError};
use crate::model::UserId;

/// Database role that the principal's SQL runs as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A caller without a user.
    Anon,
    /// A user with a token; has a user ID.
    Authenticated,
    /// A backend service of the operator; bypasses row-level security.
    ServiceRole,
    /// Another role, which only channel tokens can have. The database may lack it.
    Custom(Arc<str>),
    /// Role of a channel token whose `role` is not allowed. It has no rights.
    Denied,
}

impl Role {
    /// The roles of tokens for the REST API.
    pub const API: [Self; 3] = [Self::Anon, Self::Authenticated, Self::ServiceRole];

    /// The role with this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        name.parse().unwrap_or_else(|UnknownRole| Self::Custom(name.into()))
    }

    /// Name in tokens and SQL. That of [`Role::Denied`] is empty, as no role of PostgreSQL is.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Anon => "anon",
            Self::Authenticated => "authenticated",
            Self::ServiceRole => "service_role",
            Self::Custom(name) => name,
            Self::Denied => "",
        }
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not one of [`Role::API`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of anon, authenticated, service_role")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::API.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// Permissions in a token's `permissions` claim that the server knows. Policies can read others from the
/// claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// `presence:admin`: presence routes for any user, and sending custom events to sockets.
    PresenceAdmin,
    /// `context:admin`: context routes for any user.
    ContextAdmin,
}

impl Permission {
    /// Parses a permission; `None` for one that the server does not know.
    #[must_use]
    pub fn from_claim(text: &str) -> Option<Self> {
        match text {
            "presence:admin" => Some(Self::PresenceAdmin),
            "context:admin" => Some(Self::ContextAdmin),
            _ => None,
        }
    }
}

/// An authenticated caller of the REST API or of a socket. Cheap to clone.
///
/// Two principals are equal if no policy can distinguish them: equal principals share authorization results. `Debug`
/// leaves out the claims.
#[derive(Clone)]
pub struct Principal {
    /// The user. REST requires it for [`Role::Authenticated`]; a channel token may have another `sub` or none.
    pub user_id: Option<UserId>,
    /// The token's `sub`, for `request.jwt.claim.sub`.
    pub sub: Option<Box<str>>,
    pub role: Role,
    /// Permissions beyond the role.
    pub permissions: Arc<[Permission]>,
    /// Expiry; [`Timestamp::MAX`] for API keys and gateways.
    pub expires_at: Timestamp,
    /// JSON for `request.jwt.claims`: the payload of the token. For REST, `sub` and `role` are always set where there
    /// is a user, so that `auth.uid()` and `auth.role()` work. Do not log it.
    pub claims: Arc<str>,
    /// Request headers that policies of channels can read, as a JSON object, for `request.headers`.
    pub headers: Arc<str>,
}

/// No headers, as JSON.
const NO_HEADERS: &str = "{}";

impl Principal {
    /// A principal without a user, as for an opaque API key.
    #[must_use]
    pub fn with_role(role: Role) -> Self {
        let claims = serde_json::json!({ "role": role }).to_string();
        Self::with_claims(role, None, claims.into())
    }

    /// A principal with the claims, without permissions, headers and expiry. A `sub` that is an ID names the user.
    #[must_use]
    pub fn with_claims(role: Role, sub: Option<&str>, claims: Arc<str>) -> Self {
        Self {
            user_id: sub.and_then(|sub| sub.parse().ok()),
            sub: sub.map(Box::from),
            role,
            permissions: Arc::default(),
            expires_at: Timestamp::MAX,
            claims,
            headers: NO_HEADERS.into(),
        }
    }

    /// The same principal in a request with these headers, a JSON object.
    #[must_use]
    pub fn with_headers(&self, headers: Arc<str>) -> Self {
        Self { headers, ..self.clone() }
    }

    /// A user without a token, identified by a trusted gateway or by a caller that may act for the user.
    #[must_use]
    pub fn for_user(user_id: UserId) -> Self {
        let role = Role::Authenticated;
        let claims = serde_json::json!({ "sub": user_id, "role": role }).to_string();
        Self::with_claims(role, Some(&user_id.to_string()), claims.into())
    }

    /// The user, where one is required.
    ///
    /// # Errors
    /// [`AuthError::UserRequired`] for an anon key or a service token without a user.
    pub fn require_user(&self) -> Result<UserId, AuthError> {
        self.user_id.ok_or(AuthError::UserRequired)
    }

    /// Whether this principal may act for `user`: it is that user, the service role, or has `permission`.
    #[must_use]
    pub fn may_act_for(&self, user: UserId, permission: Permission) -> bool {
        self.is_service() || self.user_id == Some(user) || self.has_permission(permission)
    }

    #[must_use]
    pub fn has_permission(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Whether the role is [`Role::ServiceRole`].
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.role == Role::ServiceRole
    }

    /// Checks that a channel token has not expired, without leeway.
    ///
    /// # Errors
    /// The token has expired; the error has the seconds since then.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), ChannelTokenError> {
        if self.expires_at > now {
            return Ok(());
        }
        Err(ChannelTokenError::Expired(now.as_second() - self.expires_at.as_second()))
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.role == other.role && self.claims == other.claims && self.headers == other.headers
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.role, &self.claims, &self.headers).hash(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("role", &self.role).field("sub", &self.sub).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acting_for_others_requires_the_permission() {
        let (me, other) = (UserId::random(), UserId::random());
        let mut caller = Principal::for_user(me);
        assert!(caller.may_act_for(me, Permission::PresenceAdmin));
        assert!(!caller.may_act_for(other, Permission::PresenceAdmin));

        caller.permissions = Arc::new([Permission::PresenceAdmin]);
        assert!(caller.may_act_for(other, Permission::PresenceAdmin));
        assert!(!caller.may_act_for(other, Permission::ContextAdmin));

        assert!(Principal::with_role(Role::ServiceRole).may_act_for(other, Permission::ContextAdmin));
        assert!(!Principal::with_role(Role::Anon).may_act_for(other, Permission::ContextAdmin));
    }

    #[test]
    fn claims_without_a_token_are_valid_json() {
        assert_eq!(&*Principal::with_role(Role::ServiceRole).claims, r#"{"role":"service_role"}"#);
        let id: UserId = "6f1c2b1e-0000-4000-8000-000000000001".parse().expect("a UUID");
        assert_eq!(
            &*Principal::for_user(id).claims,
            r#"{"role":"authenticated","sub":"6f1c2b1e-0000-4000-8000-000000000001"}"#
        );
    }

    #[test]
    fn anon_key_has_no_user() {
        assert!(matches!(Principal::with_role(Role::Anon).require_user(), Err(AuthError::UserRequired)));
    }
}
