//! What a user does on a device, and warming up for it.

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

/// Notes the signals; the warm-up that they set off keeps nobody waiting.
pub(super) async fn record_signals(
    State(state): State<HttpState>,
    ContextUser { caller, user, allowance }: ContextUser,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let update = context_update(&body, "")?;
    if update.local_time.as_ref().is_none_or(Option::is_none) {
        return Err(ApiError::invalid("localTime", "is missing"));
    }
    // One device of one user is one session: the same until it is erased.
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

/// Warms up and says how the bundles stand.
pub(super) async fn warm_up(
    State(state): State<HttpState>,
    ContextUser { user, allowance, .. }: ContextUser,
    body: bytes::Bytes,
) -> Result<impl IntoResponse, ApiError> {
    // Everything in it may be left out, and so may the whole.
    let WarmUpBody { device_id, force } =
        if body.is_empty() { WarmUpBody::default() } else { parse_json(&body)? };
    if let Some(device) = &device_id {
        DeviceId::try_from(device.as_str())
            .map_err(|error| ApiError::invalid("deviceId", error.to_string()))?;
    }
    let warmed = state.context.warm_up(user, device_id.as_deref(), force).await?;
    Ok((allowance, Json(SuccessEnvelope::new(Some("Warm-up done"), warmed.ok_or(ApiError::NotFound)?))))
}
