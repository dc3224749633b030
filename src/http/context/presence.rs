//! Routes for device signals and the warm-up of bundles.

use axum::{extract::State, response::IntoResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    super::{ApiError, HttpState, Json, extract::parse_json},
    SuccessEnvelope,
    context_user::ContextUser,
};
use crate::{model::DeviceId, protocol::context::context_update};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionData {
    session_id: String,
}

/// Stores the device's signals. The warm-up that they trigger runs in the background.
pub(super) async fn record_signals(
    State(state): State<HttpState>,
    ContextUser { caller, user, allowance }: ContextUser,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let update = context_update(&body, "")?;
    if update.local_time.as_ref().is_none_or(Option::is_none) {
        return Err(ApiError::invalid("localTime", "is required"));
    }
    // The session ID is derived from user and device, so it is stable.
    let session = uuid::Builder::from_custom_bytes(session_bytes(user, &update.device_id)).into_uuid();
    state.presence.set_context(&caller, user, update).await?;
    let done =
        SuccessEnvelope::new(Some("Presence updated"), SessionData { session_id: session.to_string() });
    Ok((allowance, Json(done)))
}

fn session_bytes(user: crate::model::UserId, device: &DeviceId) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new().chain_update(user.0.as_bytes()).chain_update(device.as_str()).finalize();
    std::array::from_fn(|at| digest[at])
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WarmUpBody {
    device_id: Option<String>,
    force: bool,
}

/// Warms up the user's bundles and returns their state.
pub(super) async fn warm_up(
    State(state): State<HttpState>,
    ContextUser { user, allowance, .. }: ContextUser,
    body: bytes::Bytes,
) -> Result<impl IntoResponse, ApiError> {
    // All fields and the body itself are optional.
    let WarmUpBody { device_id, force } =
        if body.is_empty() { WarmUpBody::default() } else { parse_json(&body)? };
    if let Some(device) = &device_id {
        DeviceId::try_from(device.as_str())
            .map_err(|error| ApiError::invalid("deviceId", error.to_string()))?;
    }
    let warmed = state.context.warm_up(user, device_id.as_deref(), force).await?;
    Ok((allowance, Json(SuccessEnvelope::new(Some("Warm-up done"), warmed.ok_or(ApiError::NotFound)?))))
}
