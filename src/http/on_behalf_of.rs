//! Extractors for whom a request is about: oneself, or somebody else where the caller may act for them.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use serde::Deserialize;

use super::{ApiError, Authenticated, GatewayPolicy, Query};
use crate::{
    auth::{Permission, Principal, Verifier},
    limits::{Allowance, LimitClass, RateLimiter},
    model::UserId,
};

/// Whom a presence request acts for: the caller, or `?user_id=` where the caller is the service or holds
/// `presence:admin`. The SQL of somebody acted for runs as that user, so that it does exactly what they could do.
#[derive(Debug, Clone)]
pub struct OnBehalfOf {
    /// As whom the SQL runs.
    pub caller: Principal,
    /// Which user.
    pub user: UserId,
}

impl OnBehalfOf {
    /// The caller acting for `named`, or without one for itself.
    ///
    /// # Errors
    ///
    /// [`ApiError::Forbidden`] for somebody else's id; [`ApiError::Auth`] for a caller who is no user and names none.
    pub fn new(caller: Principal, named: Option<UserId>) -> Result<Self, ApiError> {
        Self::with_permission(caller, named, Permission::PresenceAdmin)
    }

    /// The same where another permission than `presence:admin` lets a caller act for others.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_permission(
        caller: Principal,
        named: Option<UserId>,
        permission: Permission,
    ) -> Result<Self, ApiError> {
        match named {
            Some(user) if caller.user_id == Some(user) => Ok(Self { caller, user }),
            Some(user) if caller.may_act_for(user, permission) => {
                Ok(Self { caller: Principal::for_user(user), user })
            }
            Some(_) => Err(ApiError::forbidden("that is another user")),
            None => {
                let user = caller.require_user()?;
                Ok(Self { caller, user })
            }
        }
    }
}

#[derive(Deserialize)]
struct UserIdQuery {
    #[serde(alias = "userId")]
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

/// [`Acting`] for a write that counts against [`LimitClass::Manage`] of whom it is for. The service has no limit.
#[derive(Debug)]
pub struct RateLimitedWrite {
    /// As whom the SQL runs.
    pub caller: Principal,
    /// Which user.
    pub user: UserId,
    /// What is left; for the response's headers.
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
        assert_eq!(OnBehalfOf::new(user.clone(), None).expect("oneself").user, me);
        assert_eq!(OnBehalfOf::new(user.clone(), Some(me)).expect("oneself, by name").caller, user);
        assert!(matches!(OnBehalfOf::new(user.clone(), Some(other)), Err(ApiError::Forbidden(_))));

        let admin = Principal { permissions: Arc::new([Permission::PresenceAdmin]), ..user };
        for allowed in [admin, Principal::with_role(Role::ServiceRole)] {
            let acting = OnBehalfOf::new(allowed, Some(other)).expect("may");
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
