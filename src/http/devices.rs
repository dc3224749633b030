//! A user's own devices.

use axum::{
    Router,
    extract::State,
    response::IntoResponse,
    routing::{delete, get},
};

use super::{
    ApiError, HttpState, Json, Path,
    acting::{Acting, Managing},
    ids::done,
};
use crate::{
    model::DeviceId,
    pg::{Database, queries::devices},
};

/// `/api/presence/devices`.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/presence/devices", get(list))
        .route("/api/presence/devices/{device_id}", delete(sign_off))
}

async fn list(
    State(database): State<Database>,
    Acting { caller, .. }: Acting,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(devices::list(&database, &caller).await?))
}

/// Offline at once; every node closes the device's sockets as soon as it hears of it.
async fn sign_off(
    State(database): State<Database>,
    Managing { caller, allowance, .. }: Managing,
    Path(device): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let device =
        DeviceId::try_from(device).map_err(|error| ApiError::invalid("device_id", error.to_string()))?;
    let was_there = devices::sign_off(&database, &caller, &device).await?;
    if was_there { Ok((allowance, done())) } else { Err(ApiError::NotFound) }
}
