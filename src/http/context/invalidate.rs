//! Route that reports a changed source. Triggers detect changes of the built-in tables; this route is for
//! other sources.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    super::{ApiError, FieldError, HttpState, Json},
    SuccessEnvelope,
    context_user::ContextUser,
};
use crate::{
    context::bundle::BundleType,
    context::store::bundles::{self, RelatedIds},
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InvalidateBody {
    event_type: String,
    #[serde(default)]
    related_ids: RelatedIdsBody,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RelatedIdsBody {
    topic_id: Option<Uuid>,
    entity_id: Option<Uuid>,
    conversation_id: Option<Uuid>,
    memory_id: Option<Uuid>,
    instruction_id: Option<Uuid>,
}

pub(super) async fn invalidate(
    State(state): State<HttpState>,
    ContextUser { caller, allowance, .. }: ContextUser,
    Json(InvalidateBody { event_type, related_ids }): Json<InvalidateBody>,
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
    let done = SuccessEnvelope::<()> { success: true, message: Some("Invalidation queued"), data: None };
    Ok((allowance, Json(done)).into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UnknownEventType {
    success: bool,
    error: &'static str,
    message: String,
    status_code: u16,
    details: [FieldError; 1],
    valid_types: Vec<&'static str>,
}

/// The error envelope with the valid event types in `validTypes`.
fn unknown_event_type() -> Response {
    let valid: Vec<&'static str> = EVENTS.iter().map(|(event, _)| *event).collect();
    let reason = format!("must be one of {}", valid.join(", "));
    let body = UnknownEventType {
        success: false,
        error: "INVALID_REQUEST",
        message: format!("eventType: {reason}"),
        status_code: 400,
        details: [FieldError::new("eventType", reason)],
        valid_types: valid,
    };
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
