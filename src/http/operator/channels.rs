//! The lists of channels and of subscriptions to changes of tables.

use std::collections::BTreeMap;

use axum::{extract::State, response::IntoResponse};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{ApiError, HttpState, Json, Query},
    NodesList, NodesPage, Operator, checked_limit, checked_text,
};
use crate::{
    model::{ChannelState, ConnectionName, NodeId, SubscriptionState, UserId},
    operator::{
        NodeExchange,
        message::{self, Answer, ChannelQuery, SubscriptionQuery},
    },
};

/// Maximum characters of a filter.
const MAX_FILTER_CHARS: usize = 255;

/// Returns the routes `/api/v1/system/channels` and `/api/v1/system/subscriptions`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list_channels)).routes(routes!(list_subscriptions))
}

/// Filters and page of a list of channels.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ChannelsQuery {
    /// Only channels whose topic contains this text.
    #[param(nullable = false, max_length = 255)]
    search: Option<String>,
    /// Only channels and members of this node (UUID).
    #[param(nullable = false, value_type = Option<uuid::Uuid>)]
    node: Option<NodeId>,
    /// Maximum number of channels: 1 to 200, by default 50.
    #[param(nullable = false, minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// Value of `next_cursor` of the page before.
    #[param(nullable = false)]
    cursor: Option<String>,
}

/// Returns the channels that have members, in the order of their topics, with their members on all nodes.
#[utoipa::path(
    get, path = "/api/v1/system/channels", operation_id = "listChannels", tag = "System", params(ChannelsQuery),
    responses((status = 200, description = "One page of channels.", body = NodesPage<ChannelState>,
        example = json!({
            "data": [{ "topic": "harbour", "private": false, "members": 2 }],
            "total": 1, "next_cursor": null, "unanswered": [],
        }))),
    extensions(("x-access" = json!("service"))),
)]
async fn list_channels(
    State(exchange): State<NodeExchange>,
    _: Operator,
    Query(query): Query<ChannelsQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let limit = checked_limit(query.limit)?;
    let after = match query.cursor.as_deref().map(|cursor| cursor.split_once(':')) {
        None => None,
        Some(Some(("private", topic))) => Some((topic.to_owned(), true)),
        Some(Some(("public", topic))) => Some((topic.to_owned(), false)),
        Some(_) => return Err(ApiError::invalid("cursor", "must be the next_cursor of a page")),
    };
    let search = checked_text("search", query.search, MAX_FILTER_CHARS)?;
    let wanted = message::Query::Channels(ChannelQuery { search, after, limit: limit + 1 });
    let answers = exchange.ask(wanted, query.node).await?;
    let NodesList { data, total, unanswered } = NodesList::new(answers, |answer| match answer {
        Answer::Channels(part) => Some(part),
        _ => None,
    });
    let mut channels = BTreeMap::new();
    for channel in data {
        *channels.entry((channel.topic, channel.private)).or_insert(0) += channel.members;
    }
    let channel = |((topic, private), members)| ChannelState { topic, private, members };
    let data = channels.into_iter().map(channel).collect();
    let cursor =
        |last: &ChannelState| format!("{}:{}", if last.private { "private" } else { "public" }, last.topic);
    Ok(Json(NodesPage::new(NodesList { data, total, unanswered }, limit, cursor)))
}

/// Filters and page of a list of subscriptions.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SubscriptionsQuery {
    /// Only subscriptions of this user (UUID).
    #[param(nullable = false)]
    user_id: Option<UserId>,
    /// Only subscriptions to tables of this schema.
    #[param(nullable = false, max_length = 255)]
    schema: Option<String>,
    /// Only subscriptions to tables with this name.
    #[param(nullable = false, max_length = 255)]
    table: Option<String>,
    /// Only subscriptions on this node (UUID).
    #[param(nullable = false, value_type = Option<uuid::Uuid>)]
    node: Option<NodeId>,
    /// Maximum number of subscriptions: 1 to 200, by default 50.
    #[param(nullable = false, minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// Value of `next_cursor` of the page before.
    #[param(nullable = false, max_length = 128)]
    cursor: Option<String>,
}

/// Returns the subscriptions to changes of tables on all nodes, in the order of their connections.
#[utoipa::path(
    get, path = "/api/v1/system/subscriptions", operation_id = "listSubscriptions", tag = "System",
    params(SubscriptionsQuery),
    responses((status = 200, description = "One page of subscriptions.", body = NodesPage<SubscriptionState>,
        example = json!({
            "data": [{
                "id": "0b7f2f0e-0000-4000-8000-000000000000.0.3.12/7",
                "connection_id": "0b7f2f0e-0000-4000-8000-000000000000.0.3.12", "topic": "todos",
                "user_id": "a0000000-0000-4000-8000-000000000001", "role": "authenticated", "active": true,
                "bindings": [{
                    "event": "*", "schema": "public", "table": "todos", "filters": ["list_id=eq.7"], "select": null,
                }],
            }],
            "total": 1, "next_cursor": null, "unanswered": [],
        }))),
    extensions(("x-access" = json!("service"))),
)]
async fn list_subscriptions(
    State(exchange): State<NodeExchange>,
    _: Operator,
    Query(query): Query<SubscriptionsQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let limit = checked_limit(query.limit)?;
    let parse = |cursor: &str| {
        let (connection, channel) = cursor.split_once('/')?;
        Some((connection.parse::<ConnectionName>().ok()?, channel.parse::<i64>().ok()?))
    };
    let after = query.cursor.map(|cursor| {
        parse(&cursor).ok_or_else(|| ApiError::invalid("cursor", "must be the next_cursor of a page"))
    });
    let wanted = message::Query::Subscriptions(SubscriptionQuery {
        user_id: query.user_id,
        schema: checked_text("schema", query.schema, MAX_FILTER_CHARS)?,
        table: checked_text("table", query.table, MAX_FILTER_CHARS)?,
        after: after.transpose()?,
        limit: limit + 1,
    });
    let answers = exchange.ask(wanted, query.node).await?;
    let list = NodesList::new(answers, |answer| match answer {
        Answer::Subscriptions(part) => Some(part),
        _ => None,
    });
    Ok(Json(NodesPage::<SubscriptionState>::new(list, limit, |last| last.id.clone())))
}
