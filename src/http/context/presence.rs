//! Routes for device signals and the warm-up of bundles.

use axum::{extract::State, response::IntoResponse};
use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{
    super::{ApiError, HttpState, Json, ValidJson, extract::parse_json, field_errors::nullable},
    SuccessEnvelope,
    context_user::ContextUser,
};
use crate::{
    model::{ConversationId, DeviceContext, DeviceId, LocalTime, NotebookId, PersonaId},
    protocol::{ContextUpdate, StatusUpdate, max_chars},
};

/// Signals of a device. An absent field is kept, `null` clears it.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub(super) struct SignalsBody {
    /// ID of the device that reports the signals.
    #[serde(alias = "device_id")]
    device_id: DeviceId,
    /// ID of the conversation that is open.
    #[serde(default, deserialize_with = "nullable", alias = "active_conversation_id")]
    #[schema(value_type = Option<ConversationId>)]
    active_conversation_id: Option<Option<ConversationId>>,
    /// IDs of the visible conversations: at most 100.
    #[serde(default, deserialize_with = "list_or_null", alias = "visible_conversation_ids")]
    #[garde(inner(length(max = DeviceContext::MAX_VISIBLE)))]
    #[schema(max_items = 100)]
    visible_conversation_ids: Option<Vec<ConversationId>>,
    /// ID of the notebook that is open.
    #[serde(default, deserialize_with = "nullable", alias = "active_notebook_id")]
    #[schema(value_type = Option<uuid::Uuid>)]
    active_notebook_id: Option<Option<NotebookId>>,
    /// ID of the persona that is selected.
    #[serde(default, deserialize_with = "nullable", alias = "active_persona_id")]
    #[schema(value_type = Option<uuid::Uuid>)]
    active_persona_id: Option<Option<PersonaId>>,
    /// Page in the application: at most 2,048 characters after trimming. The last ten are kept.
    #[serde(default, deserialize_with = "nullable", alias = "last_navigation_path")]
    #[garde(inner(inner(custom(max_chars::<{ StatusUpdate::MAX_PAGE_CHARS }>))))]
    #[schema(value_type = Option<String>)]
    last_navigation_path: Option<Option<String>>,
    /// Local time of the user: 14:30, or with a date and an offset.
    #[serde(deserialize_with = "local_time", alias = "local_time")]
    #[schema(value_type = String)]
    local_time: LocalTime,
}

/// `null` reads as an empty list.
fn list_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<ConversationId>>, D::Error> {
    Option::deserialize(deserializer).map(|list: Option<Vec<_>>| Some(list.unwrap_or_default()))
}

fn local_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LocalTime, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionData {
    session_id: String,
}

/// Stores the device's signals. The warm-up that they trigger runs in the background.
pub(super) async fn record_signals(
    State(state): State<HttpState>,
    ContextUser { caller, user, allowance }: ContextUser,
    ValidJson(body): ValidJson<SignalsBody>,
) -> Result<impl IntoResponse, ApiError> {
    let update = ContextUpdate {
        device_id: body.device_id,
        active_conversation_id: body.active_conversation_id,
        visible_conversation_ids: body.visible_conversation_ids,
        active_notebook_id: body.active_notebook_id,
        active_persona_id: body.active_persona_id,
        last_navigation_path: body.last_navigation_path,
        local_time: Some(Some(body.local_time)),
    };
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
