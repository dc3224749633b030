//! The authenticated caller: user, database role, permissions and claims.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::AuthError;
use crate::model::UserId;

/// Database role that the principal's SQL runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A caller without a user.
    Anon,
    /// A user with a token; has a user ID.
    Authenticated,
    /// A backend service of the operator; bypasses row-level security.
    ServiceRole,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Anon, Self::Authenticated, Self::ServiceRole];

    /// Name in tokens and SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::Authenticated => "authenticated",
            Self::ServiceRole => "service_role",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not one of the three roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of anon, authenticated, service_role")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
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

/// An authenticated caller. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user; always set for [`Role::Authenticated`].
    pub user_id: Option<UserId>,
    pub role: Role,
    /// Permissions beyond the role.
    pub permissions: Arc<[Permission]>,
    /// Expiry; [`Timestamp::MAX`] for API keys and gateways.
    pub expires_at: Timestamp,
    /// JSON for `request.jwt.claims`: the payload of the token, with `sub` and `role` always set where there
    /// is a user, so that `auth.uid()` and `auth.role()` work. Do not log it.
    pub claims: Arc<str>,
}

impl Principal {
    /// A principal without a user, as for an opaque API key.
    #[must_use]
    pub fn with_role(role: Role) -> Self {
        Self {
            user_id: None,
            role,
            permissions: Arc::default(),
            expires_at: Timestamp::MAX,
            claims: serde_json::json!({ "role": role }).to_string().into(),
        }
    }

    /// A user without a token, identified by a trusted gateway or by a caller that may act for the user.
    #[must_use]
    pub fn for_user(user_id: UserId) -> Self {
        let role = Role::Authenticated;
        Self {
            user_id: Some(user_id),
            role,
            permissions: Arc::default(),
            expires_at: Timestamp::MAX,
            claims: serde_json::json!({ "sub": user_id, "role": role }).to_string().into(),
        }
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
