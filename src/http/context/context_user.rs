//! Extractor for the user of a context request, with the rate limit applied.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use serde::Deserialize;

use super::super::{ApiError, Authenticated, HttpState, Path, on_behalf_of::OnBehalfOf};
use crate::{
    auth::{Permission, Principal},
    limits::{Allowance, LimitClass, RateLimiter},
    model::UserId,
};

/// The user in the path and the principal that the SQL runs as. Counts against [`LimitClass::Context`],
/// except for the service role.
#[derive(Debug)]
pub(super) struct ContextUser {
    pub(super) caller: Principal,
    pub(super) user: UserId,
    pub(super) allowance: Option<Allowance>,
}

#[derive(Deserialize)]
struct UserPath {
    user_id: UserId,
}

impl FromRequestParts<HttpState> for ContextUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Self::Rejection> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let Path(UserPath { user_id }) = Path::from_request_parts(parts, state).await?;
        let (OnBehalfOf { caller, user }, allowance) =
            authorize_and_count(state, caller, Some(user_id), LimitClass::Context)?;
        Ok(Self { caller, user, allowance })
    }
}

/// Authorizes the caller to act for `user_id` and counts the request against `class`, except for the service
/// role.
pub(in crate::http) fn authorize_and_count(
    state: &HttpState,
    caller: Principal,
    user_id: Option<UserId>,
    class: LimitClass,
) -> Result<(OnBehalfOf, Option<Allowance>), ApiError> {
    let is_service = caller.is_service();
    let acting = OnBehalfOf::with_permission(caller, user_id, Permission::ContextAdmin)?;
    let limits = Arc::<RateLimiter>::from_ref(state);
    let allowance = if is_service { None } else { Some(limits.check(class, acting.user)?) };
    Ok((acting, allowance))
}
