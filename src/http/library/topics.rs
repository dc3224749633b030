//! Routes for topics.

use axum::{extract::State, response::Response};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    super::{ApiError, HttpState, Path, Query, ValidJson, field_errors::given, ids::Success},
    LibraryCaller, Page, PageQuery, Stored, UserQuery,
};
use crate::model::milliseconds;

/// Returns the routes under `/api/v1/topics`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(update, remove))
}

/// A topic that a user talks about.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Topic {
    /// ID of the topic (UUID).
    id: Uuid,
    /// Name of the topic that never changes.
    slug: String,
    /// Name of the topic: 1 to 255 characters.
    label: String,
    /// Other names of the topic: at most 50 of at most 255 characters.
    aliases: Vec<String>,
    /// Importance of the topic from 0 to 1.
    importance: f32,
    /// Domain of the topic, such as `engineering`.
    #[schema(required)]
    domain: Option<String>,
    /// How well the user knows the topic.
    proficiency: String,
    /// Number of units of the topic.
    unit_count: i32,
    /// Number of conversations about the topic.
    conversation_count: i32,
    /// Time of the newest unit of the topic.
    #[schema(required)]
    #[serde(serialize_with = "milliseconds::option")]
    last_engaged_at: Option<Timestamp>,
    /// Time at which the topic was stored.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
}

impl Stored for Topic {
    const LIST: &'static str = include_str!("../../../sql/library/list_topics.sql");
    const CREATE: &'static str = "";
    const UPDATE: &'static str = include_str!("../../../sql/library/update_topic.sql");
    const DELETE: &'static str = include_str!("../../../sql/library/delete_topic.sql");
}

/// Returns the caller's topics, newest first.
///
/// The roll-up creates topics from units.
#[utoipa::path(
    get, path = "/api/v1/topics", operation_id = "listTopics", tag = "Memory", params(UserQuery, PageQuery),
    responses((status = 200, description = "One page of topics.", body = Page<Topic>, example = json!({
        "data": [{"id": "d0000000-0000-4000-8000-000000000006", "slug": "tides", "label": "Tides", "aliases": ["ebb"], "importance": 0.5, "domain": null, "proficiency": "unknown", "unitCount": 0, "conversationCount": 0, "lastEngagedAt": null, "createdAt": "2026-11-21T12:00:00.000Z"}], "nextCursor": null,
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    super::list::<Topic>(&state, caller, &page, &()).await
}

/// Changes of a topic. Absent fields stay.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct TopicChanges {
    /// Name of the topic: 1 to 255 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 255)))]
    #[schema(nullable = false, min_length = 1, max_length = 255)]
    label: Option<String>,
    /// Other names of the topic: at most 50 of at most 255 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(max = 50), inner(length(chars, min = 1, max = 255))))]
    #[schema(nullable = false, max_items = 50)]
    aliases: Option<Vec<String>>,
    /// Importance of the topic from 0 to 1.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schema(nullable = false, minimum = 0.0, maximum = 1.0)]
    importance: Option<f32>,
}

/// Changes a topic of the caller.
#[utoipa::path(
    patch, path = "/api/v1/topics/{id}", operation_id = "updateTopic", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the topic (UUID).", example = "d0000000-0000-4000-8000-000000000006"), UserQuery),
    request_body(content = TopicChanges, example = json!({"label": "Tides"})),
    responses((status = 200, description = "The topic after the change.", body = Topic, example = json!({"id": "d0000000-0000-4000-8000-000000000006", "slug": "tides", "label": "Tides", "aliases": ["ebb"], "importance": 0.5, "domain": null, "proficiency": "unknown", "unitCount": 0, "conversationCount": 0, "lastEngagedAt": null, "createdAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn update(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
    ValidJson(body): ValidJson<TopicChanges>,
) -> Result<Response, ApiError> {
    super::update::<Topic>(&state, caller, id, &body).await
}

/// Deletes a topic of the caller.
#[utoipa::path(
    delete, path = "/api/v1/topics/{id}", operation_id = "deleteTopic", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the topic (UUID).", example = "d0000000-0000-4000-8000-000000000006"), UserQuery),
    responses((status = 200, description = "The topic was deleted.", body = Success, example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    super::remove::<Topic>(&state, caller, id).await
}
