//! Routes for the devices of a user.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::IntoResponse,
};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError, GatewayPolicy, HttpState, Json, Path, body,
    detached::DetachedWrites,
    extract::parse_valid_json,
    identity::authenticate,
    ids::Success,
    on_behalf_of::{OnBehalfOf, RateLimitedWrite, UserIdQuery},
};
use crate::{
    auth::Verifier,
    limits::{LimitClass, RateLimiter},
    model::{Device, DeviceId},
    pg::{Database, queries::devices},
};

/// Routes `/api/presence/devices`, and `/api/presence/sign-off` for pages that are closing.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(sign_off))
        .routes(routes!(sign_off_by_beacon))
}

/// Returns the caller's devices.
#[utoipa::path(
    get, path = "/api/presence/devices", operation_id = "devices", tag = "Presence", params(UserIdQuery),
    responses((status = 200, description = "Devices of the caller, most recently live first.", body = Vec<Device>,
        example = json!([{
            "device_id": "laptop", "device_name": null, "device_type": null, "platform": null,
            "app_version": null, "status": "online", "last_heartbeat_at": "2026-11-21T12:00:00.000Z",
            "idle_since": null, "session_started_at": "2026-11-21T11:00:00.000Z", "connected": false,
        }]))),
)]
async fn list(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(devices::list(&database, &caller).await?))
}

/// Signs a device off.
///
/// The device is offline at once, and its sockets are closed.
#[utoipa::path(
    delete, path = "/api/presence/devices/{device_id}", operation_id = "signOffDevice", tag = "Presence",
    params(("device_id" = DeviceId, Path, description = "ID of the device to sign off.", example = "laptop"),
        UserIdQuery),
    responses((status = 200, description = "The device was signed off.", body = Success,
        example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn sign_off(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(device): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let device =
        DeviceId::try_from(device).map_err(|error| ApiError::invalid("device_id", error.to_string()))?;
    let existed = devices::sign_off(&database, &caller, &device).await?;
    if existed { Ok((allowance, Success::response())) } else { Err(ApiError::NotFound) }
}

/// A sign-off of a device by a page that is closing.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
struct SignOffBody {
    /// ID of the device to sign off.
    #[serde(alias = "deviceId")]
    device_id: DeviceId,
    /// Token of the user, if the request has no header `Authorization`.
    token: Option<String>,
}

/// Signs a device off while its page is closing.
///
/// For `navigator.sendBeacon`, which cannot set headers or read the response: the token may be in the body, whose media
/// type is ignored. The device is offline at once, and its sockets are closed.
// The Edge Function accepts the same request.
#[utoipa::path(
    post, path = "/api/presence/sign-off", operation_id = "signOff", tag = "Presence",
    request_body(content = SignOffBody, example = json!({ "device_id": "laptop" })),
    responses((status = 204, description = "The device was signed off, or did not exist.")),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn sign_off_by_beacon(
    State(database): State<Database>,
    State(verifier): State<Arc<Verifier>>,
    State(gateway): State<Arc<GatewayPolicy>>,
    State(limits): State<Arc<RateLimiter>>,
    State(detached): State<DetachedWrites>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(Request::from_parts(parts.clone(), body)).await?;
    let SignOffBody { device_id, token } = parse_valid_json(&bytes)?;
    let caller = authenticate(&parts, &verifier, &gateway, token.as_deref()).await?;
    let user = caller.require_user()?;
    let allowance = limits.check(LimitClass::Manage, user)?;
    // A closing page or a phone that ends the browser may close the connection before the response.
    let write = async move { devices::sign_off(&database, &caller, &device_id).await };
    detached.run(write).await?;
    Ok((allowance, StatusCode::NO_CONTENT))
}
