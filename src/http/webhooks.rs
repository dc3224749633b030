//! Routes for webhooks, for the service role. In SQL: the table `rollcall.webhooks`.

use std::time::Instant;

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    ApiError, HttpState, Json, OptionalJson, Path, Query, ValidJson,
    field_errors::{given, nullable},
    ids::Success,
    operator::Operator,
};
use crate::{
    auth::Principal,
    pg::{Database, queries::webhooks},
    webhooks::{Outcome, WebhookClient, is_secret, new_secret},
};

/// Routes under `/api/v1/system/webhooks`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(update, remove))
        .routes(routes!(dead_letters))
        .routes(routes!(resend))
        .routes(routes!(test))
}

/// What happened to a user or in a channel.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
enum EventType {
    #[serde(rename = "user.online")]
    UserOnline,
    #[serde(rename = "user.offline")]
    UserOffline,
    #[serde(rename = "user.status")]
    UserStatus,
    #[serde(rename = "channel.occupied")]
    ChannelOccupied,
    #[serde(rename = "channel.vacated")]
    ChannelVacated,
    #[serde(rename = "member.joined")]
    MemberJoined,
    #[serde(rename = "member.left")]
    MemberLeft,
}

const ALL_EVENTS: [EventType; 7] = [
    EventType::UserOnline,
    EventType::UserOffline,
    EventType::UserStatus,
    EventType::ChannelOccupied,
    EventType::ChannelVacated,
    EventType::MemberJoined,
    EventType::MemberLeft,
];

/// Which events a webhook receives. An absent list passes all.
#[derive(Debug, Default, Serialize, Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
struct EventFilter {
    /// Names of channels; a `*` at the end stands for any end. Events without a channel pass.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(max = 1000), inner(length(chars, max = 255))))]
    #[schema(nullable = false, max_items = 1000)]
    topics: Option<Vec<String>>,
    /// IDs of users (UUIDs). Events without a user pass.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(max = 1000)))]
    #[schema(nullable = false, max_items = 1000)]
    user_ids: Option<Vec<Uuid>>,
}

/// How far a webhook is.
#[derive(Serialize, Deserialize, ToSchema)]
struct WebhookState {
    /// Number of events that wait for the webhook, counted up to 10,000.
    pending: i64,
    /// Seconds for which the oldest of them waits.
    lag_seconds: f64,
    /// Failed requests with the current events.
    attempts: i32,
    /// Time of the next request after a failure.
    #[schema(required, format = DateTime)]
    next_attempt_at: Option<String>,
    /// Time of the last request that was accepted.
    #[schema(required, format = DateTime)]
    last_delivered_at: Option<String>,
    /// Time of the last request that failed.
    #[schema(required, format = DateTime)]
    last_failed_at: Option<String>,
    /// HTTP status of the last request; `null` without a response.
    #[schema(required)]
    last_status: Option<i32>,
    /// Why the last request failed; `null` if it did not.
    #[schema(required)]
    last_error: Option<String>,
    /// Number of dead letters.
    dead_letters: i64,
    /// Number of events that were deleted before the webhook received them, because of the bounds in
    /// `rollcall.event_settings`.
    dropped: i64,
}

/// A webhook and how far it is.
#[derive(Serialize, Deserialize, ToSchema)]
struct Webhook {
    /// ID of the webhook (UUID).
    id: Uuid,
    /// URL that receives the events.
    url: String,
    /// Events that it receives.
    events: Vec<EventType>,
    /// Which of these events it receives.
    filter: EventFilter,
    /// Whether events are delivered. Those that happen meanwhile wait within the bounds of `rollcall.event_settings`.
    enabled: bool,
    /// Text for operators that names the webhook.
    description: String,
    /// Time at which the webhook was created.
    #[schema(format = DateTime)]
    created_at: String,
    /// Time of the last change.
    #[schema(format = DateTime)]
    updated_at: String,
    /// Secret that signs requests: `whsec_` and base64. Only in the response to its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<String>,
    /// How far the webhook is. Only in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    state: Option<WebhookState>,
}

/// A webhook to create. Absent fields have their defaults.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
struct NewWebhook {
    /// URL that receives the events: https with a public host, unless `WEBHOOK_ALLOW_PRIVATE` is set.
    #[garde(length(chars, min = 1, max = 2048))]
    #[schema(min_length = 1, max_length = 2048)]
    url: String,
    /// Secret that signs requests: `whsec_` and the base64 text of 24 to 64 bytes. Default: a random one.
    #[serde(default, deserialize_with = "given")]
    #[garde(inner(custom(secret_form)))]
    #[schema(nullable = false, pattern = "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$")]
    secret: Option<String>,
    /// Events that it receives. Default: all.
    #[serde(default, deserialize_with = "given")]
    #[garde(inner(length(min = 1, max = 16)))]
    #[schema(nullable = false, min_items = 1, max_items = 16)]
    events: Option<Vec<EventType>>,
    /// Which of these events it receives. Default: all.
    #[serde(default, deserialize_with = "given")]
    #[garde(dive)]
    #[schema(nullable = false)]
    filter: Option<EventFilter>,
    /// Whether events are delivered. Default: true.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Text for operators, at most 255 characters.
    #[serde(default, deserialize_with = "given")]
    #[garde(inner(length(chars, max = 255)))]
    #[schema(nullable = false, max_length = 255)]
    description: Option<String>,
}

/// Changes of a webhook. Absent fields are kept.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
struct WebhookChanges {
    /// URL that receives the events.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 2048)))]
    #[schema(nullable = false, min_length = 1, max_length = 2048)]
    url: Option<String>,
    /// Secret that signs requests.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(secret_form)))]
    #[schema(nullable = false, pattern = "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$")]
    secret: Option<String>,
    /// Secret that signs as well, while receivers change to the new one; `null` ends that.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(custom(secret_form))))]
    #[schema(value_type = Option<String>, required = false, pattern = "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$")]
    previous_secret: Option<Option<String>>,
    /// Events that it receives.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(min = 1, max = 16)))]
    #[schema(nullable = false, min_items = 1, max_items = 16)]
    events: Option<Vec<EventType>>,
    /// Which of these events it receives.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    #[schema(nullable = false)]
    filter: Option<EventFilter>,
    /// Whether events are delivered.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Text for operators, at most 255 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, max = 255)))]
    #[schema(nullable = false, max_length = 255)]
    description: Option<String>,
}

fn secret_form(secret: &str, _: &()) -> garde::Result {
    if is_secret(secret) {
        return Ok(());
    }
    Err(garde::Error::new("must be whsec_ and the base64 text of 24 to 64 bytes"))
}

fn check_url(client: &WebhookClient, url: &str) -> Result<(), ApiError> {
    client.check_url(url).map(drop).map_err(|error| ApiError::invalid("url", error.to_string()))
}

/// Returns all webhooks with their state.
#[utoipa::path(
    get, path = "/api/v1/system/webhooks", operation_id = "webhooks", tag = "System",
    responses((status = 200, description = "The webhooks, oldest first, without secrets.", body = Vec<Webhook>,
        example = json!([{
            "id": "d0000000-0000-4000-8000-000000000001", "url": "https://example.com/events",
            "events": ["user.online", "user.offline"], "filter": {}, "enabled": true, "description": "billing",
            "created_at": "2026-11-21T12:00:00.000Z", "updated_at": "2026-11-21T12:00:00.000Z",
            "state": {
                "pending": 0, "lag_seconds": 0.0, "attempts": 0, "next_attempt_at": null,
                "last_delivered_at": "2026-11-21T12:00:00.000Z", "last_failed_at": null, "last_status": 204,
                "last_error": null, "dead_letters": 0, "dropped": 0,
            },
        }]))),
    extensions(("x-access" = json!("service"))),
)]
async fn list(
    State(database): State<Database>,
    Operator { caller, .. }: Operator,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(webhooks::list::<Webhook>(&database, &caller).await?))
}

/// Creates a webhook.
///
/// It receives what happens from now on. The response is the only one with the secret.
#[utoipa::path(
    post, path = "/api/v1/system/webhooks", operation_id = "createWebhook", tag = "System",
    request_body(content = NewWebhook, example = json!({
        "url": "https://example.com/events", "events": ["user.online", "user.offline"], "description": "billing",
    })),
    responses((status = 201, description = "The webhook was created.", body = Webhook, example = json!({
        "id": "d0000000-0000-4000-8000-000000000001", "url": "https://example.com/events",
        "events": ["user.online", "user.offline"], "filter": {}, "enabled": true, "description": "billing",
        "created_at": "2026-11-21T12:00:00.000Z", "updated_at": "2026-11-21T12:00:00.000Z",
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }))),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([422]))),
)]
async fn create(
    State(database): State<Database>,
    State(client): State<WebhookClient>,
    Operator { caller, .. }: Operator,
    ValidJson(new): ValidJson<NewWebhook>,
) -> Result<impl IntoResponse, ApiError> {
    check_url(&client, &new.url)?;
    let webhook = json!({
        "url": new.url,
        "secret": new.secret.unwrap_or_else(|| new_secret().expose().to_owned()),
        "events": new.events.unwrap_or_else(|| ALL_EVENTS.to_vec()),
        "filter": new.filter.unwrap_or_default(),
        "enabled": new.enabled.unwrap_or(true),
        "description": new.description.unwrap_or_default(),
    });
    let created = webhooks::create::<Webhook>(&database, &caller, &webhook).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Changes a webhook.
///
/// To change the secret without a gap, set `previous_secret` to the old one at the same time, and to `null` when the
/// receiver knows the new one.
#[utoipa::path(
    patch, path = "/api/v1/system/webhooks/{id}", operation_id = "updateWebhook", tag = "System",
    params(("id" = Uuid, Path, description = "ID of the webhook (UUID).", example = "d0000000-0000-4000-8000-000000000001")),
    request_body(content = WebhookChanges, example = json!({ "enabled": false })),
    responses((status = 200, description = "The webhook as it is now.", body = Webhook, example = json!({
        "id": "d0000000-0000-4000-8000-000000000001", "url": "https://example.com/events",
        "events": ["user.online", "user.offline"], "filter": {}, "enabled": false, "description": "billing",
        "created_at": "2026-11-21T12:00:00.000Z", "updated_at": "2026-11-21T12:30:00.000Z",
    }))),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([404, 422]))),
)]
async fn update(
    State(database): State<Database>,
    State(client): State<WebhookClient>,
    Operator { caller, .. }: Operator,
    Path(id): Path<Uuid>,
    ValidJson(changes): ValidJson<WebhookChanges>,
) -> Result<impl IntoResponse, ApiError> {
    if let Some(url) = &changes.url {
        check_url(&client, url)?;
    }
    let changes: Value = serde_json::to_value(changes).map_err(anyhow::Error::new)?;
    let changed = webhooks::update::<Webhook>(&database, &caller, id, &changes).await?;
    Ok(Json(changed.ok_or(ApiError::NotFound)?))
}

/// Deletes a webhook with its dead letters.
#[utoipa::path(
    delete, path = "/api/v1/system/webhooks/{id}", operation_id = "deleteWebhook", tag = "System",
    params(("id" = Uuid, Path, description = "ID of the webhook (UUID).", example = "d0000000-0000-4000-8000-000000000001")),
    responses((status = 200, description = "The webhook was deleted.", body = Success,
        example = json!({ "success": true }))),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([404]))),
)]
async fn remove(
    State(database): State<Database>,
    Operator { caller, .. }: Operator,
    Path(id): Path<Uuid>,
) -> Result<impl IntoResponse, ApiError> {
    if !webhooks::delete(&database, &caller, id).await? {
        return Err(ApiError::NotFound);
    }
    Ok(Success::response())
}

/// Which dead letters to return.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DeadLetterQuery {
    /// Continues behind the event with this ID.
    #[param(nullable = false, minimum = 0)]
    after: Option<i64>,
    /// Number of dead letters: 1 to 1,000, by default 100.
    #[param(nullable = false, minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// An event that a webhook did not accept.
#[derive(Serialize, Deserialize, ToSchema)]
struct DeadLetter {
    /// ID of the dead letter (UUID).
    id: Uuid,
    /// ID of the event.
    event_id: String,
    /// What happened, such as `user.online`.
    #[serde(rename = "type")]
    event_type: String,
    /// Content of the event.
    #[schema(value_type = Object, additional_properties = true)]
    data: Value,
    /// Time at which it happened.
    #[schema(format = DateTime)]
    occurred_at: String,
    /// Number of requests that failed.
    attempts: i32,
    /// HTTP status of the last request; `null` without a response.
    #[schema(required)]
    last_status: Option<i32>,
    /// Why the last request failed.
    last_error: String,
    /// Time of the last request.
    #[schema(format = DateTime)]
    failed_at: String,
    /// Time since which it waits to be sent again; `null` if it does not.
    #[schema(required, format = DateTime)]
    resend_at: Option<String>,
}

/// Returns the dead letters of a webhook, in the order of their events.
#[utoipa::path(
    get, path = "/api/v1/system/webhooks/{id}/dead-letters", operation_id = "webhookDeadLetters", tag = "System",
    params(
        ("id" = Uuid, Path, description = "ID of the webhook (UUID).", example = "d0000000-0000-4000-8000-000000000001"),
        DeadLetterQuery,
    ),
    responses((status = 200, description = "The dead letters, oldest event first.", body = Vec<DeadLetter>, example = json!([{
        "id": "d0000000-0000-4000-8000-000000000002", "event_id": "7", "type": "user.online",
        "data": { "user_id": "a0000000-0000-4000-8000-000000000002", "status": "online" },
        "occurred_at": "2026-11-21T12:00:00.000Z", "attempts": 12, "last_status": 500, "last_error": "status 500",
        "failed_at": "2026-11-21T12:30:00.000Z", "resend_at": null,
    }]))),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([404]))),
)]
async fn dead_letters(
    State(database): State<Database>,
    Operator { caller, .. }: Operator,
    Path(id): Path<Uuid>,
    Query(DeadLetterQuery { after, limit }): Query<DeadLetterQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let limit = limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(ApiError::invalid("limit", "must be from 1 to 1000"));
    }
    let after = after.unwrap_or(0);
    let letters: Option<Vec<DeadLetter>> =
        webhooks::dead_letters(&database, &caller, id, after, limit).await?;
    Ok(Json(letters.ok_or(ApiError::NotFound)?))
}

/// Which dead letters to send again.
#[derive(Default, Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
struct ResendBody {
    /// IDs of dead letters (UUIDs). Default: all of the webhook.
    #[serde(default, deserialize_with = "given")]
    #[garde(inner(length(min = 1, max = 1000)))]
    #[schema(nullable = false, min_items = 1, max_items = 1000)]
    ids: Option<Vec<Uuid>>,
}

/// How many dead letters are sent again.
#[derive(Serialize, ToSchema)]
struct Resent {
    /// Number of dead letters that wait to be sent again from now on.
    resent: i64,
}

/// Sends dead letters once more.
///
/// Those that are accepted are deleted. The others stay dead letters.
#[utoipa::path(
    post, path = "/api/v1/system/webhooks/{id}/dead-letters/resend", operation_id = "resendDeadLetters", tag = "System",
    params(("id" = Uuid, Path, description = "ID of the webhook (UUID).", example = "d0000000-0000-4000-8000-000000000001")),
    request_body(content = ResendBody, example = json!({})),
    responses((status = 200, description = "They are sent soon.", body = Resent, example = json!({ "resent": 1 }))),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([404]))),
)]
async fn resend(
    State(database): State<Database>,
    Operator { caller, .. }: Operator,
    Path(id): Path<Uuid>,
    OptionalJson(ResendBody { ids }): OptionalJson<ResendBody>,
) -> Result<impl IntoResponse, ApiError> {
    let resent = webhooks::resend(&database, &caller, id, ids.as_deref()).await?;
    Ok(Json(Resent { resent: resent.ok_or(ApiError::NotFound)? }))
}

/// What became of a test event.
#[derive(Serialize, ToSchema)]
struct TestResult {
    /// Whether the receiver accepted it.
    delivered: bool,
    /// HTTP status of the response; `null` without one.
    #[schema(required)]
    status: Option<u16>,
    /// Why it failed; `null` if it did not.
    #[schema(required)]
    error: Option<String>,
    /// Time of the request in milliseconds.
    duration_ms: u64,
}

/// Sends one event of the type `webhook.test` now.
///
/// A failure changes nothing and is not repeated.
#[utoipa::path(
    post, path = "/api/v1/system/webhooks/{id}/test", operation_id = "testWebhook", tag = "System",
    params(("id" = Uuid, Path, description = "ID of the webhook (UUID).", example = "d0000000-0000-4000-8000-000000000001")),
    responses((status = 200, description = "What became of it.", body = TestResult, example = json!({
        "delivered": true, "status": 204, "error": null, "duration_ms": 87,
    }))),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([404]))),
)]
async fn test(
    State(database): State<Database>,
    State(client): State<WebhookClient>,
    Operator { caller, .. }: Operator,
    Path(id): Path<Uuid>,
) -> Result<impl IntoResponse, ApiError> {
    let (url, secrets) = target(&database, &caller, id).await?;
    let started = Instant::now();
    let outcome = client.send_test(&url, &secrets).await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, error) = match outcome {
        Outcome::Delivered(status) => (Some(status), None),
        Outcome::Gone => (Some(410), Some("status 410".to_owned())),
        Outcome::Failed { status, error, .. } => (status, Some(error)),
    };
    Ok(Json(TestResult { delivered: error.is_none(), status, error, duration_ms }))
}

async fn target(
    database: &Database,
    caller: &Principal,
    id: Uuid,
) -> Result<(String, Vec<crate::model::Secret>), ApiError> {
    webhooks::target(database, caller, id).await?.ok_or(ApiError::NotFound)
}
