//! The nodes and their load.

use std::collections::HashMap;

use axum::{extract::State, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{ApiError, HttpState, Json},
    Operator,
};
use crate::{
    model::{LoadSample, NodeId, NodeState},
    operator::{
        NodeExchange,
        message::{Answer, Query},
    },
    pg::{Database, queries::operator},
};

/// Returns the route `/api/v1/system/history`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(history))
}

/// Returns the route `/api/v1/system/nodes`, which counts devices.
pub(super) fn presence_routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(nodes))
}

/// Returns the nodes that serve this database.
///
/// The fields of a live node that does not answer within two seconds are `null`.
#[utoipa::path(
    get, path = "/api/v1/system/nodes", operation_id = "nodes", tag = "System",
    responses((status = 200, description = "The nodes, oldest first.", body = Vec<NodeState>, example = json!([{
        "id": "0b7f2f0e-0000-4000-8000-000000000000", "started_at": "2026-11-21T12:00:00.000Z",
        "renewed_at": "2026-11-21T12:00:00.000Z", "lease_expires_at": "2026-11-21T12:00:00.000Z",
        "alive": true, "devices": 3, "version": "0.1.0", "uptime_seconds": 60, "connections": 4,
    }]))),
    extensions(("x-access" = json!("service"))),
)]
async fn nodes(
    State(database): State<Database>,
    State(exchange): State<NodeExchange>,
    Operator { caller, .. }: Operator,
) -> Result<impl IntoResponse, ApiError> {
    let mut nodes = operator::nodes(&database, &caller).await?;
    let answers = exchange.ask(Query::Report, None).await?;
    let mut reports: HashMap<NodeId, Answer> = answers.answers.into_iter().collect();
    for node in &mut nodes {
        let Some(Answer::Report(report)) = reports.remove(&node.id) else { continue };
        node.version = Some(report.version);
        node.uptime_seconds = Some(report.uptime_seconds);
        node.connections = Some(report.connections);
    }
    Ok(Json::<Vec<NodeState>>(nodes))
}

/// Load of a node over the last hour.
#[derive(Serialize, ToSchema)]
struct NodeHistory {
    /// ID of the node (UUID).
    #[schema(value_type = uuid::Uuid)]
    node: NodeId,
    /// Samples every ten seconds, oldest first: at most 360.
    samples: Vec<LoadSample>,
}

/// Load of the nodes over the last hour.
#[derive(Serialize, ToSchema)]
struct HistoryAnswer {
    /// The nodes that answered.
    nodes: Vec<NodeHistory>,
    /// IDs of nodes that did not answer.
    #[schema(value_type = Vec<uuid::Uuid>)]
    unanswered: Vec<NodeId>,
}

/// Returns the load of all nodes over the last hour.
#[utoipa::path(
    get, path = "/api/v1/system/history", operation_id = "history", tag = "System",
    responses((status = 200, description = "Samples of each node.", body = HistoryAnswer, example = json!({
        "nodes": [{
            "node": "0b7f2f0e-0000-4000-8000-000000000000",
            "samples": [{
                "at": "2026-11-21T12:00:00.000Z", "connections": 3, "deliveries_per_second": 1.5,
                "bytes_per_second": 300.0, "slow_closed_per_second": 0.0,
            }],
        }],
        "unanswered": [],
    }))),
    extensions(("x-access" = json!("service"))),
)]
async fn history(State(exchange): State<NodeExchange>, _: Operator) -> Result<impl IntoResponse, ApiError> {
    let answers = exchange.ask(Query::History, None).await?;
    let (mut nodes, mut unanswered) = (Vec::new(), answers.unanswered);
    for (node, answer) in answers.answers {
        match answer {
            Answer::History(samples) => nodes.push(NodeHistory { node, samples }),
            _ => unanswered.push(node),
        }
    }
    Ok(Json(HistoryAnswer { nodes, unanswered }))
}
