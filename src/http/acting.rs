//! Extractors for whom a request is about: oneself, or somebody else where the caller may act for them.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use serde::Deserialize;

use super::{ApiError, Authenticated, GatewayPolicy, Query};
use crate::{
    auth::{Caller, Permission, Verifier},
    limits::{Allowance, LimitClass, Limits},
    model::UserId,
};

/// Whom a presence request acts for: the caller, or `?user_id=` where the caller is the service or holds
/// `presence:admin`. The SQL of somebody acted for runs as that user, so that it does exactly what they could do.
#[derive(Debug, Clone)]
pub struct Acting {
    /// As whom the SQL runs.
    pub caller: Caller,
    /// Which user.
    pub user: UserId,
}

impl Acting {
    /// The caller acting for `named`, or without one for itself.
    ///
    /// # Errors
    ///
    /// [`ApiError::Forbidden`] for somebody else's id; [`ApiError::Auth`] for a caller who is no user and names none.
    pub fn new(caller: Caller, named: Option<UserId>) -> Result<Self, ApiError> {
        Self::with_permission(caller, named, Permission::PresenceAdmin)
    }

    /// The same where another permission than `presence:admin` lets a caller act for others.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_permission(
        caller: Caller,
        named: Option<UserId>,
        permission: Permission,
    ) -> Result<Self, ApiError> {
        match named {
            Some(user) if caller.user_id == Some(user) => Ok(Self { caller, user }),
            Some(user) if caller.may_act_for(user, permission) => {
                Ok(Self { caller: Caller::vouched_for(user), user })
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
struct Named {
    #[serde(alias = "userId")]
    user_id: Option<UserId>,
}

impl<S> FromRequestParts<S> for Acting
where
    S: Send + Sync,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let Query(Named { user_id }) = Query::from_request_parts(parts, state).await?;
        Self::new(caller, user_id)
    }
}

/// [`Acting`] for a write that counts against [`LimitClass::Manage`] of whom it is for. The service has no limit.
#[derive(Debug)]
pub struct Managing {
    /// As whom the SQL runs.
    pub caller: Caller,
    /// Which user.
    pub user: UserId,
    /// What is left; for the response's headers.
    pub allowance: Option<Allowance>,
}

impl<S> FromRequestParts<S> for Managing
where
    S: Send + Sync,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
    Arc<Limits>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let Query(Named { user_id }) = Query::from_request_parts(parts, state).await?;
        let is_service = caller.is_service();
        let Acting { caller, user } = Acting::new(caller, user_id)?;
        let limits = Arc::<Limits>::from_ref(state);
        let allowance = if is_service { None } else { Some(limits.check(LimitClass::Manage, user)?) };
        Ok(Self { caller, user, allowance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    #[test]
    fn another_users_id_is_for_the_service_and_admins_only_and_runs_as_that_user() {
        let (me, other) = (UserId::random(), UserId::random());
        let user = Caller::vouched_for(me);
        assert_eq!(Acting::new(user.clone(), None).expect("oneself").user, me);
        assert_eq!(Acting::new(user.clone(), Some(me)).expect("oneself, by name").caller, user);
        assert!(matches!(Acting::new(user.clone(), Some(other)), Err(ApiError::Forbidden(_))));

        let admin = Caller { permissions: Arc::new([Permission::PresenceAdmin]), ..user };
        for allowed in [admin, Caller::with_role(Role::ServiceRole)] {
            let acting = Acting::new(allowed, Some(other)).expect("may");
            assert_eq!((acting.user, acting.caller.role), (other, Role::Authenticated));
        }
        assert!(matches!(Acting::new(Caller::with_role(Role::ServiceRole), None), Err(ApiError::Auth(_))));
        assert!(matches!(Acting::new(Caller::with_role(Role::Anon), Some(me)), Err(ApiError::Forbidden(_))));
    }
}
