//! Whom a context request is about, and how much is left of their allowance.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use serde::Deserialize;

use super::super::{ApiError, Authenticated, HttpState, Path, acting::Acting};
use crate::{
    auth::{Caller, Permission},
    limits::{Allowance, LimitClass, Limits},
    model::UserId,
};

/// The user in the path, as whom the SQL runs; counted against [`LimitClass::Context`], but for the service.
#[derive(Debug)]
pub(super) struct About {
    pub(super) caller: Caller,
    pub(super) user: UserId,
    pub(super) allowance: Option<Allowance>,
}

#[derive(Deserialize)]
struct InPath {
    user_id: UserId,
}

impl FromRequestParts<HttpState> for About {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Self::Rejection> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let Path(InPath { user_id }) = Path::from_request_parts(parts, state).await?;
        let (Acting { caller, user }, allowance) =
            allowed(state, caller, Some(user_id), LimitClass::Context)?;
        Ok(Self { caller, user, allowance })
    }
}

/// Whom the caller acts for, counted against a class of `state`'s limits, but for the service.
pub(super) fn allowed(
    state: &HttpState,
    caller: Caller,
    named: Option<UserId>,
    class: LimitClass,
) -> Result<(Acting, Option<Allowance>), ApiError> {
    let is_service = caller.is_service();
    let acting = Acting::with_permission(caller, named, Permission::ContextAdmin)?;
    let limits = Arc::<Limits>::from_ref(state);
    let allowance = if is_service { None } else { Some(limits.check(class, acting.user)?) };
    Ok((acting, allowance))
}
