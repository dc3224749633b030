//! Routes for entities.

use axum::{extract::State, response::Response};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    super::{
        ApiError, HttpState, Path, Query, ValidJson,
        field_errors::{given, nullable},
        ids::Success,
    },
    LibraryCaller, Page, PageQuery, Stored, UserQuery,
};
use crate::model::milliseconds;

/// Returns the routes under `/api/v1/entities`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(update, remove))
}

/// A person, project, organization, tool or concept.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Entity {
    /// ID of the entity (UUID).
    id: Uuid,
    /// Name of the entity that never changes.
    slug: String,
    /// Name of the entity: 1 to 255 characters.
    name: String,
    /// Other names of the entity: at most 50 of at most 255 characters.
    aliases: Vec<String>,
    /// Relationship to the user: at most 255 characters.
    #[schema(required)]
    relationship: Option<String>,
    /// Importance of the entity from 0 to 1.
    importance: f32,
    /// Type: `person`, `project`, `organization`, `tool` or `concept`.
    entity_type: String,
    /// Number of units that mention the entity.
    mention_count: i32,
    /// Number of conversations that mention the entity.
    conversation_count: i32,
    /// Time of the newest unit that mentions it.
    #[schema(required)]
    #[serde(serialize_with = "milliseconds::option")]
    last_mentioned_at: Option<Timestamp>,
    /// Time at which the entity was stored.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
}

impl Stored for Entity {
    const LIST: &'static str = include_str!("../../../sql/library/list_entities.sql");
    const CREATE: &'static str = "";
    const UPDATE: &'static str = include_str!("../../../sql/library/update_entity.sql");
    const DELETE: &'static str = include_str!("../../../sql/library/delete_entity.sql");
}

/// Returns the caller's entities, newest first.
///
/// The roll-up creates entities from units.
#[utoipa::path(
    get, path = "/api/v1/entities", operation_id = "listEntities", tag = "Memory", params(UserQuery, PageQuery),
    responses((status = 200, description = "One page of entities.", body = Page<Entity>, example = json!({
        "data": [{"id": "d0000000-0000-4000-8000-000000000007", "slug": "mara", "name": "Mara", "aliases": [], "relationship": null, "importance": 0.5, "entityType": "person", "mentionCount": 0, "conversationCount": 0, "lastMentionedAt": null, "createdAt": "2026-11-21T12:00:00.000Z"}], "nextCursor": null,
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    super::list::<Entity>(&state, caller, &page, &()).await
}

/// Changes of an entity. Absent fields stay.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct EntityChanges {
    /// Name of the entity: 1 to 255 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 255)))]
    #[schema(nullable = false, min_length = 1, max_length = 255)]
    name: Option<String>,
    /// Other names of the entity: at most 50 of at most 255 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(max = 50), inner(length(chars, min = 1, max = 255))))]
    #[schema(nullable = false, max_items = 50)]
    aliases: Option<Vec<String>>,
    /// Relationship to the user: at most 255 characters.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(length(chars, max = 255))))]
    #[schema(value_type = Option<String>, max_length = 255)]
    relationship: Option<Option<String>>,
    /// Importance of the entity from 0 to 1.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schema(nullable = false, minimum = 0.0, maximum = 1.0)]
    importance: Option<f32>,
}

/// Changes an entity of the caller.
#[utoipa::path(
    patch, path = "/api/v1/entities/{id}", operation_id = "updateEntity", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the entity (UUID).", example = "d0000000-0000-4000-8000-000000000007"), UserQuery),
    request_body(content = EntityChanges, example = json!({"name": "Mara"})),
    responses((status = 200, description = "The entity after the change.", body = Entity, example = json!({"id": "d0000000-0000-4000-8000-000000000007", "slug": "mara", "name": "Mara", "aliases": [], "relationship": null, "importance": 0.5, "entityType": "person", "mentionCount": 0, "conversationCount": 0, "lastMentionedAt": null, "createdAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn update(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
    ValidJson(body): ValidJson<EntityChanges>,
) -> Result<Response, ApiError> {
    super::update::<Entity>(&state, caller, id, &body).await
}

/// Deletes an entity of the caller.
#[utoipa::path(
    delete, path = "/api/v1/entities/{id}", operation_id = "deleteEntity", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the entity (UUID).", example = "d0000000-0000-4000-8000-000000000007"), UserQuery),
    responses((status = 200, description = "The entity was deleted.", body = Success, example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    super::remove::<Entity>(&state, caller, id).await
}
