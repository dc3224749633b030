//! Routes for operators, with the service role: what the nodes hold, actions, and their audit log.

mod actions;
mod audit;
mod channels;
mod connections;
mod explain;
mod live;
mod nodes;

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{ApiError, Authenticated, HttpState, middleware::RequestId, page};
use crate::{
    auth::Principal,
    model::NodeId,
    operator::{
        Answers,
        message::{Answer, Part},
    },
};

/// Routes under `/api/v1/system` for operators.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .merge(connections::routes())
        .merge(live::routes())
        .merge(channels::routes())
        .merge(nodes::routes())
        .merge(actions::routes())
        .merge(audit::routes())
}

/// Routes for operators that need the module presence.
pub fn presence_routes() -> OpenApiRouter<HttpState> {
    nodes::presence_routes().merge(explain::routes())
}

/// A caller with the service role.
pub(super) struct Operator {
    pub(super) caller: Principal,
    /// `x-request-id` of the request.
    request_id: String,
}

impl FromRequestParts<HttpState> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Self::Rejection> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        if !caller.is_service() {
            return Err(ApiError::forbidden("this route requires role service_role"));
        }
        let request_id = parts.extensions.get::<RequestId>().map(|RequestId(id)| id.clone());
        Ok(Self { caller, request_id: request_id.unwrap_or_default() })
    }
}

/// One page of a list of all nodes.
#[derive(Serialize, ToSchema)]
struct NodesPage<T> {
    /// Items of the page.
    data: Vec<T>,
    /// Number of items in all pages. A channel counts once for each node and hub shard that has members.
    total: usize,
    /// Cursor of the next page; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
    /// IDs of nodes that did not answer: their items are missing.
    #[schema(value_type = Vec<uuid::Uuid>)]
    unanswered: Vec<NodeId>,
}

impl<T> NodesPage<T> {
    /// Keeps the first `limit` items; the cursor is that of the last one.
    fn new(
        NodesList { mut data, total, unanswered }: NodesList<T>,
        limit: usize,
        cursor: impl Fn(&T) -> String,
    ) -> Self {
        let next_cursor = page::cut(&mut data, limit, cursor);
        Self { data, total, next_cursor, unanswered }
    }
}

/// The items of all nodes that answered, ordered by node.
struct NodesList<T> {
    data: Vec<T>,
    total: usize,
    unanswered: Vec<NodeId>,
}

impl<T> NodesList<T> {
    /// Collects the parts of the answers. A node whose answer has none has not answered.
    fn new(Answers { answers, unanswered, .. }: Answers, part: impl Fn(Answer) -> Option<Part<T>>) -> Self {
        let mut list = Self { data: Vec::new(), total: 0, unanswered };
        for (node, answer) in answers {
            match part(answer) {
                Some(part) => {
                    list.data.extend(part.items);
                    list.total += part.total;
                }
                None => list.unanswered.push(node),
            }
        }
        list
    }
}

fn checked_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    page::checked_limit(limit, page::DEFAULT_ROWS.into())
}

/// A filter text: at most `max` characters.
fn checked_text(field: &str, text: Option<String>, max: usize) -> Result<Option<String>, ApiError> {
    match text {
        Some(text) if text.chars().count() > max => {
            Err(ApiError::invalid(field, format!("must have at most {max} characters")))
        }
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}
