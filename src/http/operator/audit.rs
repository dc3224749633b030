//! The audit log.

use axum::{extract::State, response::IntoResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{ApiError, HttpState, Json, Query, page},
    Operator, checked_limit,
};
use crate::{
    model::{AuditEntry, UserId},
    pg::{Database, queries::operator},
};

/// Returns the route `/api/v1/system/audit`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list_audit))
}

/// Action of an operator.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    DisconnectUser,
    DisconnectDevice,
    DisconnectConnection,
    Publish,
    WatchConnection,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::DisconnectUser => "disconnect_user",
            Self::DisconnectDevice => "disconnect_device",
            Self::DisconnectConnection => "disconnect_connection",
            Self::Publish => "publish",
            Self::WatchConnection => "watch_connection",
        }
    }
}

/// Filters and page of the audit log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// Only entries of this action.
    #[param(nullable = false, inline)]
    action: Option<Action>,
    /// Only actions that concern this user (UUID).
    #[param(nullable = false)]
    user_id: Option<UserId>,
    /// Maximum number of entries: 1 to 200, by default 50.
    #[param(nullable = false, minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// Value of `next_cursor` of the page before.
    #[param(nullable = false)]
    cursor: Option<i64>,
}

/// One page of the audit log.
#[derive(Serialize, ToSchema)]
struct AuditPage {
    /// Entries of the page.
    data: Vec<AuditEntry>,
    /// Cursor of the next page; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<i64>,
}

/// Returns the actions of operators, newest first.
///
/// The same is the view `rollcall.operator_audit`. Entries cannot be changed; `rollcall.retention` says how long they
/// are kept.
#[utoipa::path(
    get, path = "/api/v1/system/audit", operation_id = "listAudit", tag = "System", params(AuditQuery),
    responses((status = 200, description = "One page of the audit log.", body = AuditPage, example = json!({
        "data": [{
            "id": 7, "at": "2026-11-21T12:00:00.000Z", "actor": "service_role", "role": "service_role",
            "login": "rollcall", "action": "disconnect_user", "user_id": "a0000000-0000-4000-8000-000000000001",
            "target": { "user_id": "a0000000-0000-4000-8000-000000000001" }, "reason": "Account suspended",
            "request_id": "0198c0de-0000-7000-8000-000000000000",
        }],
        "next_cursor": null,
    }))),
    extensions(("x-access" = json!("service"))),
)]
async fn list_audit(
    State(database): State<Database>,
    Operator { caller, .. }: Operator,
    Query(AuditQuery { action, user_id, limit, cursor }): Query<AuditQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let limit = checked_limit(limit)?;
    let filters = (action.map(Action::as_str), user_id);
    // One more tells whether there is a next page.
    let wanted = i32::try_from(limit + 1).expect("is at most 201");
    let mut data = operator::audit(&database, &caller, cursor, filters, wanted).await?;
    let next_cursor = page::cut(&mut data, limit, |last| last.id);
    Ok(Json(AuditPage { data, next_cursor }))
}
