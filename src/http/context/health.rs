//! Health route of the context engine.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{ApiError, Authenticated, HttpState, Json};
use crate::{
    context::store::bundles::{self, ReadError},
    lifecycle::ErrorChain,
    limits::LimitClass,
    pg::PgError,
};

/// Numbers of stored rows; `null` if the dynamic engine is unavailable.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Counts {
    topic_profiles: Option<i64>,
    entity_profiles: Option<i64>,
    context_bundles: Option<i64>,
    dirty_bundles: Option<i64>,
    invalidation_queue: Option<i64>,
    dead_letters: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContextHealth {
    status: &'static str,
    new_engine_available: bool,
    old_engine_available: bool,
    timestamp: Timestamp,
    #[serde(flatten)]
    counts: Counts,
}

/// Answers 200 if both engines work, 206 if one does, 503 if none does. The counts are the caller's own; for
/// the service role they cover all users.
pub(super) async fn health(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
) -> Result<Response, ApiError> {
    let allowance = match caller.user_id.filter(|_| !caller.is_service()) {
        Some(user) => Some(state.limits.check(LimitClass::Context, user)?),
        None => None,
    };
    let counts: Result<Counts, ReadError> = bundles::counts(&state.database, &caller).await;
    let simple = bundles::check_simple_engine(&state.database, &caller).await;
    let (status, text) = match (&counts, &simple) {
        (Ok(_), Ok(())) => (StatusCode::OK, "healthy"),
        (Err(_), Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "down"),
        _ => (StatusCode::PARTIAL_CONTENT, "degraded"),
    };
    // An unreachable database fails both checks with the same cause; report it once.
    if let (Err(ReadError::Database(PgError::Unavailable(_))), Err(error)) = (&counts, simple) {
        return Err(error.into());
    }
    if let Err(error) = &counts {
        tracing::warn!(error = %ErrorChain(error), "dynamic context engine health check failed");
    }
    let body = ContextHealth {
        status: text,
        new_engine_available: counts.is_ok(),
        old_engine_available: status != StatusCode::SERVICE_UNAVAILABLE
            && (text == "healthy" || counts.is_err()),
        timestamp: state.clock.now(),
        counts: counts.unwrap_or_default(),
    };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((status, allowance, no_store, Json(body)).into_response())
}
