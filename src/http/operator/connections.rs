//! The list of connections.

use axum::{extract::State, response::IntoResponse};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{ApiError, HttpState, Json, Query},
    NodesList, NodesPage, Operator, checked_limit, checked_text,
};
use crate::{
    model::{ConnectionName, ConnectionState, DeviceId, NodeId, UserId},
    operator::{
        NodeExchange,
        message::{self, Answer, ConnectionQuery},
    },
};

/// Returns the route `/api/v1/system/connections`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list_connections))
}

/// Dialect of a connection.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DialectName {
    Presence,
    PresenceEvents,
    Devices,
    Context,
    #[serde(rename = "phoenix_v1")]
    PhoenixV1,
    #[serde(rename = "phoenix_v2")]
    PhoenixV2,
    ChannelEvents,
}

impl DialectName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::PresenceEvents => "presence_events",
            Self::Devices => "devices",
            Self::Context => "context",
            Self::PhoenixV1 => "phoenix_v1",
            Self::PhoenixV2 => "phoenix_v2",
            Self::ChannelEvents => "channel_events",
        }
    }
}

/// Filters and page of a list of connections.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ConnectionsQuery {
    /// Only connections on which this user acts (UUID).
    #[param(nullable = false)]
    user_id: Option<UserId>,
    /// Only connections of devices with this ID.
    #[param(nullable = false)]
    device_id: Option<DeviceId>,
    /// Only connections with this dialect.
    #[param(nullable = false, inline)]
    dialect: Option<DialectName>,
    /// Only connections whose remote address begins with this text, such as `192.0.2.`.
    #[param(nullable = false, max_length = 64)]
    address: Option<String>,
    /// Only connections with at least this number of bytes that wait until the client reads.
    #[param(nullable = false)]
    min_queued_bytes: Option<usize>,
    /// Only connections of this node (UUID).
    #[param(nullable = false, value_type = Option<uuid::Uuid>)]
    node: Option<NodeId>,
    /// Maximum number of connections: 1 to 200, by default 50.
    #[param(nullable = false, minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// Value of `next_cursor` of the page before.
    #[param(nullable = false, max_length = 64)]
    cursor: Option<String>,
}

/// Returns the open connections of all nodes, in the order of their IDs.
#[utoipa::path(
    get, path = "/api/v1/system/connections", operation_id = "listConnections", tag = "System",
    params(ConnectionsQuery),
    responses((status = 200, description = "One page of connections.", body = NodesPage<ConnectionState>,
        example = json!({
            "data": [{
                "id": "0b7f2f0e-0000-4000-8000-000000000000.0.3.12", "node": "0b7f2f0e-0000-4000-8000-000000000000",
                "dialect": "presence", "remote_address": "192.0.2.7:50112",
                "user_ids": ["a0000000-0000-4000-8000-000000000001"], "device_id": "phone",
                "connected_at": "2026-11-21T12:00:00.000Z", "idle_seconds": 4, "messages_received": 12,
                "messages_sent": 80, "received_per_second": 0.1, "sent_per_second": 1.5, "queued_messages": 0,
                "queued_bytes": 0,
            }],
            "total": 1, "next_cursor": null, "unanswered": [],
        }))),
    extensions(("x-access" = json!("service"))),
)]
async fn list_connections(
    State(exchange): State<NodeExchange>,
    _: Operator,
    Query(query): Query<ConnectionsQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let limit = checked_limit(query.limit)?;
    let after = query.cursor.map(|cursor| cursor.parse::<ConnectionName>()).transpose();
    let after = after.map_err(|_| ApiError::invalid("cursor", "must be the next_cursor of a page"))?;
    let wanted = message::Query::Connections(ConnectionQuery {
        user_id: query.user_id,
        device_id: query.device_id,
        dialect: query.dialect.map(|dialect| dialect.as_str().to_owned()),
        address: checked_text("address", query.address, 64)?,
        min_queued_bytes: query.min_queued_bytes,
        after,
        // One more tells whether there is a next page.
        limit: limit + 1,
    });
    let answers = exchange.ask(wanted, query.node).await?;
    // Ordered by node, and within a node by number, as the IDs are.
    let list = NodesList::new(answers, |answer| match answer {
        Answer::Connections(part) => Some(part),
        _ => None,
    });
    Ok(Json(NodesPage::<ConnectionState>::new(list, limit, |last| last.id.clone())))
}
