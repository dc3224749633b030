//! Route for searching memories and units.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    super::{ApiError, HttpState, Json, Query},
    LibraryCaller, UserQuery,
};
use crate::model::milliseconds;

/// Maximum length of a query in characters, because it is part of the URL.
const MAX_QUERY_CHARS: usize = 1_000;
const DEFAULT_HITS: u32 = 20;

/// Returns the search route.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(search))
}

/// What to search, and filters of the hits; `rollcall.search` reads the filters.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct SearchQuery {
    /// Text to search for: 1 to 1,000 characters.
    #[param(min_length = 1, max_length = 1_000, example = "tide")]
    q: String,
    /// Only memories or only units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false, inline)]
    kind: Option<HitKind>,
    /// Only hits of this notebook (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    notebook_id: Option<Uuid>,
    /// Only hits from this conversation (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    conversation_id: Option<Uuid>,
    /// Only hits that were stored at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    from: Option<Timestamp>,
    /// Only hits that were stored before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    until: Option<Timestamp>,
    /// Maximum number of hits: 1 to 200, by default 20.
    #[param(nullable = false, minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// What a hit is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum HitKind {
    Memory,
    Unit,
}

/// A memory or a unit that matches.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Hit {
    /// Kind of the hit: `memory` or `unit`.
    kind: String,
    /// ID of the memory or unit (UUID).
    id: Uuid,
    /// Text of the memory or unit.
    content: String,
    /// How well it matches, from 0 to 1.
    score: f32,
    /// ID of the conversation that it comes from (UUID).
    #[schema(required)]
    conversation_id: Option<Uuid>,
    /// ID of the message that it comes from (UUID).
    #[schema(required)]
    message_id: Option<Uuid>,
    /// ID of the notebook that it belongs to (UUID).
    #[schema(required)]
    notebook_id: Option<Uuid>,
    /// Time of the statement, or at which the memory was stored.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
}

/// Hits of a search.
#[derive(Serialize, ToSchema)]
struct Hits {
    /// Hits in the order of their score.
    data: Vec<Hit>,
}

/// Searches the caller's active memories and units.
///
/// By words and parts of words, and by meaning if an embeddings API and pgvector are there.
#[utoipa::path(
    get, path = "/api/v1/search", operation_id = "search", tag = "Memory", params(UserQuery, SearchQuery),
    responses((status = 200, description = "Hits in the order of their score.", body = Hits, example = json!({
        "data": [{
            "kind": "unit", "id": "d0000000-0000-4000-8000-000000000005", "content": "The tide turns at six.",
            "score": 1.0, "conversationId": null, "messageId": null, "notebookId": null,
            "createdAt": "2026-11-21T12:00:00.000Z",
        }],
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn search(
    State(state): State<HttpState>,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
    Query(query): Query<SearchQuery>,
) -> Result<Response, ApiError> {
    if !(1..=MAX_QUERY_CHARS).contains(&query.q.trim().chars().count()) {
        return Err(ApiError::invalid("q", format!("must have 1 to {MAX_QUERY_CHARS} characters")));
    }
    let limit = super::checked_limit(query.limit, DEFAULT_HITS)?;
    let data: Vec<Hit> = state.context.search(&caller, &query.q, &query, limit).await?;
    Ok((allowance, Json(Hits { data })).into_response())
}
