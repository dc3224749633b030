//! Routes for device signals and the warm-up of bundles.

use axum::{extract::State, response::IntoResponse};
use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{
    super::{ApiError, HttpState, Json, OptionalJson, ValidJson, field_errors::nullable},
    SuccessEnvelope,
    context_user::ContextUser,
};
use crate::{
    context::warm_up::BundleCounts,
    model::{ConversationId, DeviceContext, DeviceId, LocalTime, NotebookId, PersonaId, UserId},
    protocol::{ContextUpdate, StatusUpdate, max_chars},
};

/// Signals of a device. An absent field is kept, `null` clears it.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub(in crate::http) struct SignalsBody {
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

/// Session of a device.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SessionData {
    /// ID of the session. It is the same for every request of the same user and device.
    #[schema(value_type = uuid::Uuid)]
    session_id: String,
}

/// Reports what the user does on a device.
///
/// A warm-up of the bundles that the signals predict starts in the background. Sockets receive `bundle_ready` for each
/// compiled bundle.
#[utoipa::path(
    post, path = "/api/v1/context/presence/{user_id}", operation_id = "noteContext", tag = "Context",
    params(("user_id" = UserId, Path, description = "ID of the user (UUID). Another user than the caller requires role `service_role` or permission `context:admin`.",
        example = "a0000000-0000-4000-8000-000000000001")),
    request_body(content = SignalsBody, example = json!({
        "deviceId": "web", "localTime": "14:30", "activeConversationId": "c0000000-0000-4000-8000-000000000001",
    })),
    responses((status = 200, description = "The signals were stored.", body = SuccessEnvelope<SessionData>,
        example = json!({
            "success": true, "message": "Presence updated",
            "data": { "sessionId": "c0000000-0000-4000-8000-000000000001" },
        }))),
    extensions(("x-errors" = json!([409])), ("x-rate-limit" = json!("context"))),
)]
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
    let done = SuccessEnvelope::new("Presence updated", SessionData { session_id: session.to_string() });
    Ok((allowance, Json(done)))
}

fn session_bytes(user: UserId, device: &DeviceId) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new().chain_update(user.0.as_bytes()).chain_update(device.as_str()).finalize();
    std::array::from_fn(|at| digest[at])
}

/// Options of a warm-up.
#[derive(Deserialize, Validate, ToSchema, Default)]
#[serde(rename_all = "camelCase", default)]
#[garde(allow_unvalidated)]
pub(super) struct WarmUpBody {
    /// ID of the device whose signals count, by default the device that reported last.
    device_id: Option<DeviceId>,
    /// Whether fresh bundles are compiled too.
    force: bool,
}

/// Compiles the bundles that the user will probably need.
///
/// The response comes after the warm-up. Users without reported signals get 404.
#[utoipa::path(
    post, path = "/api/v1/context/warmup/{user_id}", operation_id = "warmUp", tag = "Context",
    params(("user_id" = UserId, Path, description = "ID of the user (UUID). Another user than the caller requires role `service_role` or permission `context:admin`.",
        example = "a0000000-0000-4000-8000-000000000001")),
    request_body(content = WarmUpBody, example = json!({ "deviceId": "web" })),
    responses((status = 200, description = "State of the bundles after the warm-up.", body = SuccessEnvelope<BundleCounts>,
        example = json!({
            "success": true, "message": "Warm-up done",
            "data": {
                "freshTopicBundles": 0, "freshEntityBundles": 0, "freshConversationBundles": 0, "dirtyBundles": 0,
                "totalFreshBundles": 0,
            },
        }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("context")), ("x-optional-body" = json!(true))),
)]
pub(super) async fn warm_up(
    State(state): State<HttpState>,
    ContextUser { user, allowance, .. }: ContextUser,
    OptionalJson(WarmUpBody { device_id, force }): OptionalJson<WarmUpBody>,
) -> Result<impl IntoResponse, ApiError> {
    let warmed = state.context.warm_up(user, device_id.as_ref().map(DeviceId::as_str), force).await?;
    Ok((allowance, Json(SuccessEnvelope::new("Warm-up done", warmed.ok_or(ApiError::NotFound)?))))
}
