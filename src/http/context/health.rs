//! Health route of the context engine.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::super::{ApiError, Authenticated, HttpState, Json};
use crate::{
    context::store::bundles::{self, ReadError},
    lifecycle::ErrorChain,
    limits::LimitClass,
    pg::PgError,
};

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
    let counts: Result<Value, ReadError> = bundles::counts(&state.database, &caller).await;
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
    let mut body = json!({
        "status": text,
        "newEngineAvailable": counts.is_ok(),
        "oldEngineAvailable": status != StatusCode::SERVICE_UNAVAILABLE && (text == "healthy" || counts.is_err()),
        "timestamp": state.clock.now(),
    });
    let counts = counts.unwrap_or_default();
    for name in [
        "topicProfiles",
        "entityProfiles",
        "contextBundles",
        "dirtyBundles",
        "invalidationQueue",
        "deadLetters",
    ] {
        body[name] = counts.get(name).cloned().unwrap_or(Value::Null);
    }
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((status, allowance, no_store, Json(body)).into_response())
}
