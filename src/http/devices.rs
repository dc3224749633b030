//! Routes for the devices of a user.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::IntoResponse,
    routing::{delete, get, post},
};
use serde::Deserialize;

use super::{
    ApiError, GatewayPolicy, HttpState, Json, Path, body,
    extract::parse_json,
    identity::authenticate,
    ids::success,
    on_behalf_of::{OnBehalfOf, RateLimitedWrite},
};
use crate::{
    auth::Verifier,
    limits::{LimitClass, RateLimiter},
    model::DeviceId,
    pg::{Database, queries::devices},
};

/// Routes `/api/presence/devices`, and `/api/presence/sign-off` for pages that are closing.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/presence/devices", get(list))
        .route("/api/presence/devices/{device_id}", delete(sign_off))
        .route("/api/presence/sign-off", post(sign_off_by_beacon))
}

async fn list(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(devices::list(&database, &caller).await?))
}

/// Sets the device offline. Each node closes the device's sockets when it is notified.
async fn sign_off(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(device): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let device =
        DeviceId::try_from(device).map_err(|error| ApiError::invalid("device_id", error.to_string()))?;
    let existed = devices::sign_off(&database, &caller, &device).await?;
    if existed { Ok((allowance, success())) } else { Err(ApiError::NotFound) }
}

/// Body of a sign-off by `navigator.sendBeacon`.
#[derive(Deserialize)]
struct SignOffBody {
    #[serde(alias = "deviceId")]
    device_id: String,
    token: Option<String>,
}

/// Signs a device off with `navigator.sendBeacon`, which cannot set headers or read the response: the token
/// may be in the body, whose media type is ignored. The Edge Function accepts the same request.
async fn sign_off_by_beacon(
    State(database): State<Database>,
    State(verifier): State<Arc<Verifier>>,
    State(gateway): State<Arc<GatewayPolicy>>,
    State(limits): State<Arc<RateLimiter>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(Request::from_parts(parts.clone(), body)).await?;
    let SignOffBody { device_id, token } = parse_json(&bytes)?;
    let caller = authenticate(&parts, &verifier, &gateway, token.as_deref()).await?;
    let user = caller.require_user()?;
    let device =
        DeviceId::try_from(device_id).map_err(|error| ApiError::invalid("device_id", error.to_string()))?;
    let allowance = limits.check(LimitClass::Manage, user)?;
    devices::sign_off(&database, &caller, &device).await?;
    Ok((allowance, StatusCode::NO_CONTENT))
}
