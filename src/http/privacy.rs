//! Routes for export and erasure of a user's data.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError, HttpState, Json,
    ids::always_true,
    on_behalf_of::{OnBehalfOf, RateLimitedWrite, UserIdQuery},
};
use crate::{
    clock::Clock,
    model::{UserId, milliseconds},
    pg::{Database, queries::privacy},
};

/// Routes `/api/presence/export` and `/api/presence/me`.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(export)).routes(routes!(erase))
}

/// All stored presence data of a user.
#[derive(Serialize, ToSchema)]
struct Export {
    /// ID of the user (UUID).
    user_id: UserId,
    /// Time of the export.
    #[serde(serialize_with = "milliseconds::serialize")]
    exported_at: Timestamp,
    /// Rows by the table that stores them.
    #[schema(value_type = Object, additional_properties = true)]
    data: Value,
}

/// Result of an erasure.
#[derive(Serialize, ToSchema)]
struct Erasure {
    /// Always `true` in this response.
    #[schema(schema_with = always_true)]
    success: bool,
    /// ID of the user (UUID).
    user_id: UserId,
    /// Number of erased rows by table.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    erased: Value,
}

/// Returns all stored presence data of the caller.
#[utoipa::path(
    get, path = "/api/presence/export", operation_id = "exportMine", tag = "Sharing", params(UserIdQuery),
    responses((status = 200, description = "All rows by table.", body = Export, example = json!({
        "user_id": "a0000000-0000-4000-8000-000000000001", "exported_at": "2026-11-21T12:00:00.000Z",
        "data": { "contacts": [], "presence_devices": [] },
    }))),
)]
async fn export(
    State(database): State<Database>,
    State(clock): State<Arc<dyn Clock>>,
    OnBehalfOf { caller, user }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    let data = privacy::export(&database, &caller).await?;
    // Caches must not keep personal data.
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Json(Export { user_id: user, exported_at: clock.now(), data })))
}

/// Erases the data of the caller.
///
/// Erases presence (settings, devices, last seen, typing, history) and content: messages and the answers to them,
/// memories, instructions, units, topics, entities, personas, notebooks, bundles and vectors. Closes the user's sockets.
/// The user then counts as never seen. Relations, memberships and conversations with other participants remain.
// An open socket would soon report presence again.
#[utoipa::path(
    delete, path = "/api/presence/me", operation_id = "forgetMe", tag = "Sharing", params(UserIdQuery),
    responses((status = 200, description = "The data was erased.", body = Erasure, example = json!({
        "success": true, "user_id": "a0000000-0000-4000-8000-000000000006", "erased": { "presence_devices": 1 },
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn erase(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
) -> Result<impl IntoResponse, ApiError> {
    let erased = privacy::erase(&database, &caller).await?;
    Ok((allowance, Json(Erasure { success: true, user_id: user, erased })))
}
