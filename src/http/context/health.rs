//! Health route of the context engine.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::{ApiError, Authenticated, HttpState, Json};
use crate::{
    context::store::bundles::{self, ReadError},
    lifecycle::ErrorChain,
    limits::LimitClass,
    model::milliseconds,
    pg::PgError,
};

/// Numbers of stored rows; `null` if the dynamic engine is unavailable.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
struct Counts {
    /// Number of profiles of topics.
    #[schema(required = true)]
    topic_profiles: Option<i64>,
    /// Number of profiles of entities.
    #[schema(required = true)]
    entity_profiles: Option<i64>,
    /// Number of stored bundles.
    #[schema(required = true)]
    context_bundles: Option<i64>,
    /// Number of bundles with changed sources.
    #[schema(required = true)]
    dirty_bundles: Option<i64>,
    /// Number of bundles that wait to be compiled again.
    #[schema(required = true)]
    invalidation_queue: Option<i64>,
    /// Number of compilations that failed too often.
    #[schema(required = true)]
    dead_letters: Option<i64>,
}

/// Health of the context engine.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ContextHealth {
    /// `healthy` if both engines work, `degraded` if one does, `down` if none does.
    #[schema(value_type = ContextStatus)]
    status: &'static str,
    /// Whether the dynamic engine works.
    new_engine_available: bool,
    /// Whether the simple engine works.
    old_engine_available: bool,
    /// Time of the response.
    #[serde(serialize_with = "milliseconds::serialize")]
    timestamp: Timestamp,
    #[serde(flatten)]
    counts: Counts,
}

/// Whether the engines work.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the values of `ContextHealth::status`")]
enum ContextStatus {
    Healthy,
    Degraded,
    Down,
}

/// Returns the health of the context engine.
///
/// The counts are the caller's own; for the service role they cover all users. They are `null` if the dynamic engine does
/// not work.
#[utoipa::path(
    get, path = "/api/v1/context/health", operation_id = "contextHealth", tag = "Context",
    responses(
        (status = 200, description = "Both context engines work.", body = ContextHealth, example = json!({
            "status": "healthy", "newEngineAvailable": true, "oldEngineAvailable": true, "topicProfiles": 0,
            "entityProfiles": 0, "contextBundles": 0, "dirtyBundles": 0, "invalidationQueue": 0, "deadLetters": 0,
            "timestamp": "2026-11-21T12:00:00.000Z",
        })),
        (status = 206, description = "Only one of the engines works.", body = ContextHealth, example = json!({
            "status": "degraded", "newEngineAvailable": false, "oldEngineAvailable": true, "topicProfiles": null,
            "entityProfiles": null, "contextBundles": null, "dirtyBundles": null, "invalidationQueue": null,
            "deadLetters": null, "timestamp": "2026-11-21T12:00:00.000Z",
        })),
    ),
    extensions(("x-rate-limit" = json!("context"))),
)]
pub(super) async fn health(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
) -> Result<Response, ApiError> {
    let allowance = if caller.is_service() {
        None
    } else {
        Some(state.limits.check(LimitClass::Context, caller.require_user()?)?)
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
