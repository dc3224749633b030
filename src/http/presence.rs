//! Routes for presence status, heartbeats and typing.

use std::sync::Arc;

use axum::{extract::State, response::IntoResponse};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError, Authenticated, DeviceHeader, HttpState, Json, OptionalJson, Path, Query, ValidJson,
    field_errors::nullable,
    ids::{Success, always_true, parse_user_ids},
    on_behalf_of::{OnBehalfOf, UserIdQuery},
};
use crate::{
    clock::Clock,
    model::{ConversationKey, DeviceId, Presence, Status, UserId, milliseconds, sanitize},
    presence::{PresenceService, devices::HEARTBEAT_INTERVAL},
    protocol::{Background, Rfc3339, StatusUpdate, background_fits, max_chars, presence::PresenceJson},
};

/// Routes under `/api/presence` and the typing routes.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(set_status, own_status))
        .routes(routes!(list_users))
        .routes(routes!(get_user))
        .routes(routes!(heartbeat))
        .routes(routes!(set_typing, list_typing))
}

/// A status with its optional fields.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
pub(super) struct StatusBody {
    /// New status. Any other value is answered with 422.
    status: Status,
    /// ID of the device that reports the status; without it the header `X-Device-ID` counts.
    #[serde(alias = "deviceId")]
    device_id: Option<DeviceId>,
    /// Custom status text: at most 140 characters after trimming. Control characters, direction overrides and markup
    /// are neutralized. `null` clears the text.
    #[serde(default, deserialize_with = "nullable", alias = "customStatus")]
    #[schema(value_type = Option<String>, extensions(("x-max-length-after-trimming" = json!(140))))]
    #[garde(inner(inner(custom(max_chars::<{ StatusUpdate::MAX_TEXT_CHARS }>))))]
    custom_status: Option<Option<String>>,
    /// Time at which the custom status expires. `null` clears the time.
    #[serde(default, deserialize_with = "nullable", alias = "customStatusExpiresAt")]
    #[schema(value_type = Option<Timestamp>)]
    custom_status_expires_at: Option<Option<Rfc3339>>,
    /// Activity text: at most 140 characters after trimming. `null` clears the text.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, extensions(("x-max-length-after-trimming" = json!(140))))]
    #[garde(inner(inner(custom(max_chars::<{ StatusUpdate::MAX_TEXT_CHARS }>))))]
    activity: Option<Option<String>>,
    /// Page that the user is on: at most 2,048 characters after trimming. `null` clears the page.
    #[serde(default, deserialize_with = "nullable", alias = "currentPage")]
    #[schema(value_type = Option<String>, extensions(("x-max-length-after-trimming" = json!(2_048))))]
    #[garde(inner(inner(custom(max_chars::<{ StatusUpdate::MAX_PAGE_CHARS }>))))]
    current_page: Option<Option<String>>,
    /// Whether the app goes to the background: its device stays `away` for `background_seconds` after its socket closed
    /// or its last heartbeat, then it is offline. Only with status `away`, `busy`, `dnd` or `invisible`; `away` then
    /// keeps the user's choice of the others. A new socket, a status without `background`, or a heartbeat with `active`
    /// ends it.
    #[garde(custom(background_fits(self.status, Background::from_fields(self.background, self.background_seconds))))]
    background: Option<bool>,
    /// Seconds in the background; without it, the server's setting `BACKGROUND_GRACE` counts.
    #[serde(alias = "backgroundSeconds")]
    #[schema(minimum = 1, maximum = 86_400)]
    #[garde(inner(range(min = 1, max = Background::MAX_SECONDS)))]
    background_seconds: Option<u32>,
    /// ID of the user to act for. Requires role `service_role` or permission `presence:admin`.
    #[serde(alias = "userId")]
    user_id: Option<UserId>,
}

/// Sets the status of the caller.
///
/// `busy`, `dnd` and `invisible` hold on all devices until changed; `online`, `away` and `offline` are the state of
/// the device. An absent text is kept, `null` clears it. Repeating the same status within 5 s changes nothing.
#[utoipa::path(
    post, path = "/api/presence/status", operation_id = "setStatus", tag = "Presence",
    params(("X-Device-ID" = Option<DeviceId>, Header, description = "ID of the device, unless the body names it.")),
    request_body(content = StatusBody, example = json!({
        "status": "busy", "custom_status": "Writing", "device_id": "laptop",
    })),
    responses((status = 200, description = "The new presence, as the user sees it.", body = PresenceJson<'static>,
        example = json!({
            "user_id": "a0000000-0000-4000-8000-000000000001", "status": "online",
            "availability": "busy", "last_seen": "2026-11-21T12:00:00.000Z", "custom_status": "Writing",
        }))),
    extensions(("x-errors" = json!([409, 422])), ("x-rate-limit" = json!("presence"))),
)]
async fn set_status(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    DeviceHeader(device): DeviceHeader,
    ValidJson(body): ValidJson<StatusBody>,
) -> Result<impl IntoResponse, ApiError> {
    let OnBehalfOf { user, .. } = OnBehalfOf::new(caller, body.user_id)?;
    let update = StatusUpdate {
        status: body.status,
        device_id: None,
        custom_status: body.custom_status,
        custom_status_expires_at: body.custom_status_expires_at.map(|time| time.map(|time| time.0)),
        activity: body.activity,
        current_page: body.current_page,
        background: Background::from_fields(body.background, body.background_seconds),
    };

    let (own, allowance) = presence.set_status(user, body.device_id.or(device), false, update).await?;
    Ok((allowance, Json(PresenceJson::from(&*own)).into_response()))
}

/// Returns the caller's own status.
///
/// Users without a presence row get status `offline`. Fields that are not shared with others are included.
#[utoipa::path(
    get, path = "/api/presence/status", operation_id = "ownStatus", tag = "Presence", params(UserIdQuery),
    responses((status = 200, description = "The caller's own presence.", body = PresenceJson<'static>,
        example = json!({
            "user_id": "a0000000-0000-4000-8000-000000000001", "status": "online",
            "availability": "busy", "last_seen": "2026-11-21T12:00:00.000Z", "custom_status": "Writing",
        }))),
)]
async fn own_status(
    State(presence): State<Arc<PresenceService>>,
    OnBehalfOf { caller, user }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    let own = presence.list(&caller, Some(&[user])).await?;
    // A user without a presence row is `offline`.
    let offline = || Arc::new(Presence::hidden(user));
    let own = own.first().map_or_else(offline, |own| own.face.presence.clone());
    Ok(Json(PresenceJson::from(&*own)).into_response())
}

/// The users that a read is about.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UsersQuery {
    /// IDs of the users, separated by commas (1 to 1,000). Without it, all users related to the caller are returned.
    #[param(
        pattern = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(,[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}){0,999}$",
        example = "a0000000-0000-4000-8000-000000000002",
        nullable = false
    )]
    pub(super) user_ids: Option<String>,
}

/// A page that users are on.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Returns only users whose `current_page` this is.
    #[serde(alias = "currentPage")]
    #[param(nullable = false)]
    current_page: Option<String>,
}

/// Returns the presence of several users.
///
/// Without `user_ids`: contacts, team members and participants of shared conversations. Unknown and invisible users
/// are left out. With `current_page`: who of them is on that page, as far as they share it.
#[utoipa::path(
    get, path = "/api/presence/users", operation_id = "users", tag = "People", params(UsersQuery, PageQuery),
    responses((status = 200, description = "Presences of the visible users.", body = Vec<PresenceJson<'static>>,
        example = json!([{
            "user_id": "a0000000-0000-4000-8000-000000000002", "status": "offline", "availability": "offline",
            "last_seen": "2026-11-21T11:40:00.000Z", "is_typing": false, "custom_status": "At lunch",
        }]))),
)]
async fn list_users(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<UsersQuery>,
    Query(PageQuery { current_page }): Query<PageQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let requested = query.user_ids.as_deref().map(parse_user_ids).transpose()?;
    if requested.is_none() {
        caller.require_user()?;
    }
    // As pages are stored.
    let page = current_page.map(|page| sanitize(&page));
    let presences = presence.list(&caller, requested.as_deref()).await?;
    let shown: Vec<_> = presences
        .iter()
        .filter(|one| page.is_none() || one.face.presence.current_page == page)
        .map(|one| PresenceJson::from(&*one.face.presence).with_typing(one.is_typing))
        .collect();
    Ok(Json(shown).into_response())
}

/// Returns the presence of one user.
#[utoipa::path(
    get, path = "/api/presence/users/{user_id}", operation_id = "user", tag = "People",
    params(("user_id" = UserId, Path, description = "ID of the user (UUID).",
        example = "a0000000-0000-4000-8000-000000000002")),
    responses((status = 200, description = "Presence of the user.", body = PresenceJson<'static>, example = json!({
        "user_id": "a0000000-0000-4000-8000-000000000002", "status": "offline", "availability": "offline",
        "last_seen": "2026-11-21T11:40:00.000Z", "is_typing": false, "custom_status": "At lunch",
    }))),
    extensions(("x-errors" = json!([404]))),
)]
async fn get_user(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    let presences = presence.list(&caller, Some(&[user])).await?;
    let one = presences.first().ok_or(ApiError::NotFound)?;
    Ok(Json(PresenceJson::from(&*one.face.presence).with_typing(one.is_typing)).into_response())
}

/// A heartbeat of a device.
#[derive(Default, Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
pub(super) struct HeartbeatBody {
    /// ID of the device; without it the header `X-Device-ID` counts.
    #[serde(alias = "deviceId")]
    device_id: Option<DeviceId>,
    /// Whether the device is in use.
    active: Option<bool>,
    /// ID of the user to act for. Requires role `service_role` or permission `presence:admin`.
    #[serde(alias = "userId")]
    user_id: Option<UserId>,
}

/// Response to a heartbeat.
#[derive(Serialize, ToSchema)]
struct HeartbeatAnswer {
    /// Always `true` in this response.
    #[schema(schema_with = always_true)]
    success: bool,
    /// Current time of the server.
    #[serde(serialize_with = "milliseconds::serialize")]
    server_time: Timestamp,
    /// Milliseconds until the next heartbeat is due.
    next_heartbeat_ms: u64,
}

/// Keeps a device without a socket live.
///
/// Other users are notified only if the heartbeat brings the device back. `active` reports that the device is in use, and
/// ends its time in the background. The body may be left out.
#[utoipa::path(
    post, path = "/api/presence/heartbeat", operation_id = "heartbeat", tag = "Presence",
    params(("X-Device-ID" = Option<DeviceId>, Header, description = "ID of the device, unless the body names it.")),
    request_body(content = Option<HeartbeatBody>, example = json!({ "device_id": "laptop", "active": true })),
    responses((status = 200, description = "The heartbeat was recorded.", body = HeartbeatAnswer, example = json!({
        "success": true, "server_time": "2026-11-21T12:00:00.000Z", "next_heartbeat_ms": 10_000,
    }))),
    extensions(("x-errors" = json!([409])), ("x-rate-limit" = json!("heartbeat"))),
)]
async fn heartbeat(
    State(presence): State<Arc<PresenceService>>,
    State(clock): State<Arc<dyn Clock>>,
    Authenticated(caller): Authenticated,
    DeviceHeader(device): DeviceHeader,
    OptionalJson(body): OptionalJson<HeartbeatBody>,
) -> Result<impl IntoResponse, ApiError> {
    let OnBehalfOf { user, .. } = OnBehalfOf::new(caller, body.user_id)?;
    let allowance = presence.heartbeat(user, body.device_id.or(device), body.active.unwrap_or(false)).await?;
    let answer = HeartbeatAnswer {
        success: true,
        server_time: clock.now(),
        next_heartbeat_ms: u64::try_from(HEARTBEAT_INTERVAL.as_millis()).unwrap_or(u64::MAX),
    };
    Ok((allowance, Json(answer)))
}

/// Typing of the caller in a conversation.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
pub(super) struct TypingBody {
    /// Whether the caller is typing: `false` after stopping.
    #[serde(alias = "isTyping")]
    is_typing: bool,
}

/// Reports that the caller started or stopped typing.
///
/// Typing ends after 5 s unless it is refreshed. A repeat within 2 s refreshes it without notifying others. Users who
/// do not participate in the conversation get 404.
#[utoipa::path(
    post, path = "/api/conversations/{conversation_id}/typing", operation_id = "setTyping", tag = "Conversations",
    params(("conversation_id" = String, Path, min_length = 1, max_length = 255, description = "ID of the conversation in the table of participants: a UUID in the built-in table.",
        example = "c0000000-0000-4000-8000-000000000001")),
    request_body(content = TypingBody, example = json!({ "is_typing": true })),
    responses((status = 200, description = "The typing state was recorded.", body = Success,
        example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("typing"))),
)]
async fn set_typing(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Path(conversation): Path<ConversationKey>,
    ValidJson(body): ValidJson<TypingBody>,
) -> Result<impl IntoResponse, ApiError> {
    let user = caller.require_user()?;
    let allowance = presence.set_typing(&caller, user, &conversation, body.is_typing).await?;
    Ok((allowance, Success::response()))
}

/// A user who is typing.
#[derive(Serialize, ToSchema)]
#[schema(as = Typing)]
struct TypingEntry {
    /// ID of the user who is typing (UUID).
    user_id: UserId,
    /// Time at which the typing was last reported.
    #[serde(serialize_with = "milliseconds::serialize")]
    updated_at: Timestamp,
}

/// Returns who is typing in a conversation.
#[utoipa::path(
    get, path = "/api/conversations/{conversation_id}/typing", operation_id = "typing", tag = "Conversations",
    params(("conversation_id" = String, Path, min_length = 1, max_length = 255, description = "ID of the conversation in the table of participants: a UUID in the built-in table.",
        example = "c0000000-0000-4000-8000-000000000001")),
    responses((status = 200, description = "Users who are typing, as far as the caller may see it.",
        body = Vec<TypingEntry>, example = json!([{
            "user_id": "a0000000-0000-4000-8000-000000000002", "updated_at": "2026-11-21T12:00:00.000Z",
        }]))),
    extensions(("x-errors" = json!([404]))),
)]
async fn list_typing(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Path(conversation): Path<ConversationKey>,
) -> Result<impl IntoResponse, ApiError> {
    caller.require_user()?;
    let typing = presence.typing(&caller, &conversation).await?;
    let typing: Vec<_> =
        typing.into_iter().map(|(user_id, updated_at)| TypingEntry { user_id, updated_at }).collect();
    Ok(Json(typing))
}
