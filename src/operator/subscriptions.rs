//! The subscriptions to changes of tables on this node.

use super::message::{MAX_ITEMS, Part, SubscriptionQuery};
use crate::{
    channels::postgres_changes::{PostgresChanges, SubscriptionInfo},
    model::{BindingState, ConnectionName, NodeId, SubscriptionState},
};

/// The subscriptions that match, in the order of connection and channel.
pub(super) fn list(
    node: NodeId,
    changes: &PostgresChanges,
    query: &SubscriptionQuery,
) -> Part<SubscriptionState> {
    let mut all = changes.subscriptions();
    all.retain(|info| matches(query, info));
    all.sort_by_key(|info| (info.conn, info.channel));
    let total = all.len();
    let is_after = |info: &SubscriptionInfo| match &query.after {
        Some((connection, channel)) if connection.node == node => {
            connection.number.parse().is_ok_and(|conn| (info.conn, info.channel.as_i64()) > (conn, *channel))
        }
        Some((connection, _)) => connection.node < node,
        None => true,
    };
    let page = all.into_iter().filter(is_after).take(query.limit.min(MAX_ITEMS));
    Part { items: page.map(|info| state(node, info)).collect(), total }
}

fn matches(query: &SubscriptionQuery, info: &SubscriptionInfo) -> bool {
    let is_named = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    query.user_id.is_none_or(|user| info.principal.user_id == Some(user))
        && (query.schema.is_none() && query.table.is_none()
            || info.params().any(|params| {
                is_named(&query.schema, &params.schema) && is_named(&query.table, &params.table)
            }))
}

fn state(node: NodeId, info: SubscriptionInfo) -> SubscriptionState {
    let connection_id = ConnectionName { node, number: info.conn.to_string() }.to_string();
    let bindings = info.params().map(|params| BindingState {
        event: params.event.as_str().to_owned(),
        schema: params.schema.to_string(),
        table: params.table.to_string(),
        filters: params.filters.iter().map(ToString::to_string).collect(),
        select: params.select.as_ref().map(|names| names.iter().map(ToString::to_string).collect()),
    });
    SubscriptionState {
        id: format!("{connection_id}/{}", info.channel),
        bindings: bindings.collect(),
        topic: info.topic().to_owned(),
        user_id: info.principal.user_id,
        role: info.principal.role.as_str().to_owned(),
        active: info.is_active,
        connection_id,
    }
}
