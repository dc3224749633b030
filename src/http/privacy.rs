//! Routes for export and erasure of a user's data.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse,
    routing::{delete, get},
};
use serde_json::json;

use super::{
    ApiError, HttpState, Json,
    on_behalf_of::{OnBehalfOf, RateLimitedWrite},
};
use crate::{
    clock::Clock,
    pg::{Database, queries::privacy},
};

/// Routes `/api/presence/export` and `/api/presence/me`.
pub fn routes() -> Router<HttpState> {
    Router::new().route("/api/presence/export", get(export)).route("/api/presence/me", delete(erase))
}

async fn export(
    State(database): State<Database>,
    State(clock): State<Arc<dyn Clock>>,
    OnBehalfOf { caller, user }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    let data = privacy::export(&database, &caller).await?;
    let exported_at = format!("{:.3}", clock.now());
    // Caches must not keep personal data.
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Json(json!({ "user_id": user, "exported_at": exported_at, "data": data }))))
}

/// Erases the user's data and closes the user's sockets, because an open socket would soon report presence
/// again.
async fn erase(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
) -> Result<impl IntoResponse, ApiError> {
    let erased = privacy::erase(&database, &caller).await?;
    Ok((allowance, Json(json!({ "success": true, "user_id": user, "erased": erased }))))
}
