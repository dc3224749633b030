//! Extractors for the user that a request acts for: the caller, or another user if the caller may act for
//! that user.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{ApiError, Authenticated, GatewayPolicy, Query};
use crate::{
    auth::{Permission, Principal, Verifier},
    limits::{Allowance, LimitClass, RateLimiter},
    model::UserId,
};

/// The user that a presence request acts for: the caller, or `?user_id=` if the caller is the service role or
/// has `presence:admin`. SQL for another user runs as that user, so row-level security applies as for that
/// user.
#[derive(Debug, Clone)]
pub struct OnBehalfOf {
    /// Principal that the SQL runs as.
    pub caller: Principal,
    pub user: UserId,
}

impl OnBehalfOf {
    /// The caller acting for `user_id`, or for itself without one.
    ///
    /// # Errors
    ///
    /// [`ApiError::Forbidden`] for another user without permission; [`ApiError::Auth`] if no user is named
    /// and the caller is not a user.
    pub fn new(caller: Principal, user_id: Option<UserId>) -> Result<Self, ApiError> {
        Self::with_permission(caller, user_id, Permission::PresenceAdmin)
    }

    /// Like [`new`](Self::new), with another permission than `presence:admin`.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_permission(
        caller: Principal,
        user_id: Option<UserId>,
        permission: Permission,
    ) -> Result<Self, ApiError> {
        match user_id {
            Some(user) if caller.user_id == Some(user) => Ok(Self { caller, user }),
            Some(user) if caller.may_act_for(user, permission) => {
                Ok(Self { caller: Principal::for_user(user), user })
            }
            Some(_) => Err(ApiError::forbidden(
                "you cannot act for another user; use a token with role service_role or an admin permission",
            )),
            None => {
                let user = caller.require_user()?;
                Ok(Self { caller, user })
            }
        }
    }
}

/// The user that a request acts for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UserIdQuery {
    /// ID of the user to act for, by default the caller. Another user requires role `service_role` or permission
    /// `presence:admin`. The request then runs with the rights of that user.
    #[serde(alias = "userId")]
    #[param(nullable = false)]
    user_id: Option<UserId>,
}

impl<S> FromRequestParts<S> for OnBehalfOf
where
    S: Send + Sync,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let Query(UserIdQuery { user_id }) = Query::from_request_parts(parts, state).await?;
        Self::new(caller, user_id)
    }
}

/// [`OnBehalfOf`] for a write that counts against the [`LimitClass::Manage`] limit of the user. The service
/// role has no limit.
#[derive(Debug)]
pub struct RateLimitedWrite {
    /// Principal that the SQL runs as.
    pub caller: Principal,
    pub user: UserId,
    /// Remaining allowance, for the response headers.
    pub allowance: Option<Allowance>,
}

impl<S> FromRequestParts<S> for RateLimitedWrite
where
    S: Send + Sync,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
    Arc<RateLimiter>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let Query(UserIdQuery { user_id }) = Query::from_request_parts(parts, state).await?;
        let is_service = caller.is_service();
        let OnBehalfOf { caller, user } = OnBehalfOf::new(caller, user_id)?;
        let limits = Arc::<RateLimiter>::from_ref(state);
        let allowance = if is_service { None } else { Some(limits.check(LimitClass::Manage, user)?) };
        Ok(Self { caller, user, allowance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    #[test]
    fn acting_for_another_user_requires_admin() {
        let (me, other) = (UserId::random(), UserId::random());
        let user = Principal::for_user(me);
        assert_eq!(OnBehalfOf::new(user.clone(), None).expect("own user").user, me);
        assert_eq!(OnBehalfOf::new(user.clone(), Some(me)).expect("own user ID").caller, user);
        assert!(matches!(OnBehalfOf::new(user.clone(), Some(other)), Err(ApiError::Forbidden(_))));

        let admin = Principal { permissions: Arc::new([Permission::PresenceAdmin]), ..user };
        for allowed in [admin, Principal::with_role(Role::ServiceRole)] {
            let acting = OnBehalfOf::new(allowed, Some(other)).expect("is allowed");
            assert_eq!((acting.user, acting.caller.role), (other, Role::Authenticated));
        }
        assert!(matches!(
            OnBehalfOf::new(Principal::with_role(Role::ServiceRole), None),
            Err(ApiError::Auth(_))
        ));
        assert!(matches!(
            OnBehalfOf::new(Principal::with_role(Role::Anon), Some(me)),
            Err(ApiError::Forbidden(_))
        ));
    }
}
