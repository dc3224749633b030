//! Route that reports a changed source. Triggers detect changes of the built-in tables; this route is for
//! other sources.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{ApiError, FieldError, HttpState, Json, ValidJson, ids::always_false},
    Done,
    context_user::ContextUser,
};
use crate::{
    context::bundle::BundleType,
    context::store::bundles::{self, RelatedIds},
    model::UserId,
    protocol::ErrorCode,
};

/// Event types and the bundle types that each makes dirty.
const EVENTS: [(&str, &[BundleType]); 14] = {
    use BundleType::{Conversation, Entity, GlobalPrefs, IdentityCore, Topic};
    [
        ("memory_created", &[IdentityCore, GlobalPrefs, Topic]),
        ("memory_updated", &[IdentityCore, GlobalPrefs, Topic]),
        ("memory_deleted", &[IdentityCore, GlobalPrefs, Topic]),
        ("instruction_changed", &[GlobalPrefs, Topic]),
        ("instruction_deleted", &[GlobalPrefs, Topic]),
        ("message_created", &[Conversation]),
        ("message_updated", &[Conversation]),
        ("acu_created", &[Topic, Entity]),
        ("acu_updated", &[Topic, Entity]),
        ("topic_updated", &[Topic]),
        ("topic_deleted", &[Topic]),
        ("entity_updated", &[Entity]),
        ("entity_deleted", &[Entity]),
        ("conversation_updated", &[Conversation]),
    ]
};

/// A change of a source.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub(in crate::http) struct InvalidateBody {
    /// Type of the change, for example `memory_updated`. The error for an unknown type lists all types in `validTypes`.
    event_type: String,
    /// IDs of what changed. Without IDs, all bundles of the affected types are marked.
    #[serde(default)]
    related_ids: RelatedIdsBody,
}

/// IDs of the changed source and of what it belongs to.
#[derive(Deserialize, ToSchema, Default)]
#[serde(rename_all = "camelCase", default)]
struct RelatedIdsBody {
    /// ID of the topic (UUID).
    topic_id: Option<Uuid>,
    /// ID of the entity (UUID).
    entity_id: Option<Uuid>,
    /// ID of the conversation (UUID).
    conversation_id: Option<Uuid>,
    /// ID of the memory (UUID).
    memory_id: Option<Uuid>,
    /// ID of the instruction (UUID).
    instruction_id: Option<Uuid>,
}

/// Reports that a source of bundles changed.
///
/// Triggers detect changes of the built-in tables. This route is for sources that the database does not see.
#[utoipa::path(
    post, path = "/api/v1/context/invalidate/{user_id}", operation_id = "invalidate", tag = "Context",
    params(("user_id" = UserId, Path, description = "ID of the user (UUID). Another user than the caller requires role `service_role` or permission `context:admin`.",
        example = "a0000000-0000-4000-8000-000000000001")),
    request_body(content = InvalidateBody, example = json!({
        "eventType": "conversation_updated", "relatedIds": { "conversationId": "c0000000-0000-4000-8000-000000000001" },
    })),
    responses(
        (status = 200, description = "The invalidation was queued.", body = Done,
            example = json!({ "success": true, "message": "Invalidation queued" })),
        (status = 400, description = "The request is malformed, or the event type is unknown; then `validTypes` lists all.",
            body = UnknownEventType, example = json!({
                "success": false, "error": "INVALID_REQUEST", "message": "eventType: must be one of memory_created",
                "statusCode": 400, "doc_url": "/docs/errors#INVALID_REQUEST", "validTypes": ["memory_created"],
                "details": [{ "field": "eventType", "message": "must be one of memory_created" }],
            })),
    ),
    extensions(("x-rate-limit" = json!("context"))),
)]
pub(super) async fn invalidate(
    State(state): State<HttpState>,
    ContextUser { caller, allowance, .. }: ContextUser,
    ValidJson(InvalidateBody { event_type, related_ids }): ValidJson<InvalidateBody>,
) -> Result<Response, ApiError> {
    let Some((event, types)) = EVENTS.iter().find(|(event, _)| *event == event_type) else {
        return Ok((allowance, unknown_event_type()).into_response());
    };
    let RelatedIdsBody { topic_id, entity_id, conversation_id, memory_id, instruction_id } = related_ids;
    let related = RelatedIds {
        topic: topic_id,
        entity: entity_id,
        conversation: conversation_id,
        memory: memory_id,
        instruction: instruction_id,
    };
    bundles::invalidate(&state.database, &caller, event, types, related).await?;
    Ok((allowance, Json(Done { success: true, message: "Invalidation queued" })).into_response())
}

/// The error envelope, with the valid event types if the type is unknown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UnknownEventType {
    /// Always `false` in an error.
    #[schema(schema_with = always_false)]
    success: bool,
    /// Stable code of the error, for programs.
    error: &'static str,
    /// English text for people.
    message: String,
    /// HTTP status of the response.
    status_code: u16,
    /// Page with cause and cure of the error, relative to the server.
    #[serde(rename = "doc_url")]
    doc_url: String,
    /// The invalid fields of the request.
    #[schema(value_type = Vec<FieldError>, required = false)]
    details: [FieldError; 1],
    /// All event types. Present only if the type is unknown.
    #[schema(value_type = Vec<String>, required = false)]
    valid_types: Vec<&'static str>,
}

/// The error envelope with the valid event types in `validTypes`.
fn unknown_event_type() -> Response {
    let valid: Vec<&'static str> = EVENTS.iter().map(|(event, _)| *event).collect();
    let reason = format!("must be one of {}", valid.join(", "));
    let body = UnknownEventType {
        success: false,
        error: ErrorCode::InvalidRequest.as_str(),
        message: format!("eventType: {reason}"),
        status_code: 400,
        doc_url: ErrorCode::InvalidRequest.doc_url(),
        details: [FieldError::new("eventType", reason)],
        valid_types: valid,
    };
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
