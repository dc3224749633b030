//! Answers queries about this node.

use std::{collections::HashSet, sync::Arc};

use jiff::SignedDuration;
use tokio::{task::consume_budget, time::Instant};

use super::{
    event::describe,
    history::History,
    message::{Answer, ChannelQuery, ConnectionQuery, MAX_ITEMS, Part, Query, WatchedPart},
    subscriptions,
    watches::{TooMany, Watches},
};
use crate::{
    channels::postgres_changes::PostgresChanges,
    clock::Clock,
    hub::{ConnId, Connection, Hub, TopicQuery, UserIndex},
    model::{ChannelState, ConnectionName, ConnectionState, NodeId, NodeReport, Topic},
    presence::channel_users::ChannelUsers,
    transport::CloseCode,
};

/// The state of this node that operators see.
pub struct LocalNode {
    pub node: NodeId,
    pub hub: Hub,
    pub user_index: UserIndex,
    pub channel_users: ChannelUsers,
    pub changes: PostgresChanges,
    pub clock: Arc<dyn Clock>,
    pub history: History,
    started: Instant,
    watches: Watches,
}

impl LocalNode {
    #[must_use]
    pub fn new(
        node: NodeId,
        hub: Hub,
        user_index: UserIndex,
        channel_users: ChannelUsers,
        changes: PostgresChanges,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let history = History::default();
        let (started, watches) = (Instant::now(), Watches::default());
        Self { node, hub, user_index, channel_users, changes, clock, history, started, watches }
    }

    /// Answers a query about this node.
    pub async fn answer(&self, query: Query) -> Answer {
        match query {
            Query::Report => Answer::Report(NodeReport {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_seconds: self.started.elapsed().as_secs(),
                connections: self.hub.connection_count(),
            }),
            Query::History => Answer::History(self.history.samples()),
            Query::Connections(query) => Answer::Connections(self.connections(&query).await),
            Query::Channels(query) => self.channels(query).await,
            Query::Subscriptions(query) => {
                Answer::Subscriptions(subscriptions::list(self.node, &self.changes, &query))
            }
            Query::Disconnect { connection, reason } => {
                Answer::Disconnected(self.disconnect(&connection, &reason))
            }
            Query::Watch { connection, position, payloads } => self.watch(&connection, position, payloads),
        }
    }

    /// Drops what operators have stopped to use.
    pub(super) fn tidy(&self) {
        self.watches.drop_idle();
    }

    /// The number of a connection of this node.
    fn local_id(&self, name: &ConnectionName) -> Option<ConnId> {
        (name.node == self.node).then(|| name.number.parse().ok()).flatten()
    }

    async fn connections(&self, query: &ConnectionQuery) -> Part<ConnectionState> {
        let after = match &query.after {
            Some(after) if after.node == self.node => after.number.parse::<ConnId>().ok(),
            Some(after) if after.node > self.node => None,
            _ => Some(ConnId::MIN),
        };
        let users_connections = query.user_id.map(|user| {
            let mut ids: HashSet<ConnId> = self.user_index.connections_of(&[user]).into_iter().collect();
            ids.extend(self.channel_users.connections_of(user));
            ids
        });
        let mut part = Part { items: Vec::new(), total: 0 };
        for connection in self.hub.connections().flatten() {
            consume_budget().await;
            let id = connection.id();
            if users_connections.as_ref().is_some_and(|ids| !ids.contains(&id))
                || !self.matches(query, &connection)
            {
                continue;
            }
            part.total += 1;
            let is_on_page = after.is_some_and(|after| id > after);
            if is_on_page && part.items.len() < query.limit.min(MAX_ITEMS) {
                part.items.push(self.state(&connection));
            }
        }
        part
    }

    fn matches(&self, query: &ConnectionQuery, connection: &Connection) -> bool {
        query.dialect.as_ref().is_none_or(|dialect| connection.dialect().as_str() == dialect)
            && query
                .address
                .as_ref()
                .is_none_or(|address| connection.peer().to_string().starts_with(address.as_str()))
            && query.min_queued_bytes.is_none_or(|minimum| connection.queued_bytes() >= minimum)
            && query.device_id.as_ref().is_none_or(|device| {
                self.user_index.owner(connection.id()).is_some_and(|(_, owned)| owned == *device)
            })
    }

    fn state(&self, connection: &Connection) -> ConnectionState {
        let id = connection.id();
        let (user, device_id) = self.user_index.owner(id).unzip();
        let mut user_ids = self.channel_users.users_of(id);
        user_ids.extend(user);
        let traffic = connection.traffic();
        let (queued_messages, queued_bytes) = connection.backlog();
        let age = SignedDuration::from_millis(i64::try_from(traffic.age_ms).unwrap_or_default());
        let now = self.clock.now();
        ConnectionState {
            id: ConnectionName { node: self.node, number: id.to_string() }.to_string(),
            node: self.node,
            dialect: connection.dialect().as_str().to_owned(),
            remote_address: connection.peer().to_string(),
            user_ids,
            device_id,
            connected_at: now.checked_sub(age).unwrap_or(now),
            idle_seconds: connection.idle_time().as_secs(),
            messages_received: traffic.received,
            messages_sent: traffic.sent,
            received_per_second: rounded(traffic.received_per_second),
            sent_per_second: rounded(traffic.sent_per_second),
            queued_messages,
            queued_bytes,
        }
    }

    async fn channels(&self, ChannelQuery { search, after, limit }: ChannelQuery) -> Answer {
        let query = TopicQuery {
            search: search.map(Into::into),
            after: after.map(|(name, private)| Topic { name: name.into(), private }),
            limit: limit.min(MAX_ITEMS),
        };
        let Ok(counts) = self.hub.count_topics(&query).await else { return Answer::Refused };
        let items = counts.topics.into_iter().map(|(topic, members)| ChannelState {
            topic: topic.name.to_string(),
            private: topic.private,
            members,
        });
        Answer::Channels(Part { items: items.collect(), total: counts.total })
    }

    /// Closes a connection; returns whether it was open.
    fn disconnect(&self, name: &ConnectionName, reason: &str) -> bool {
        let Some(connection) = self.local_id(name).and_then(|id| self.hub.connection(id)) else {
            return false;
        };
        let was_open = connection.is_open();
        connection.close(CloseCode::Disconnected, reason);
        was_open
    }

    fn watch(&self, name: &ConnectionName, position: u64, payloads: bool) -> Answer {
        let Some(id) = self.local_id(name) else { return Answer::Watched(None) };
        match self.watches.get(&self.hub, id) {
            Err(TooMany) => Answer::Refused,
            Ok(None) => Answer::Watched(None),
            Ok(Some(watch)) => {
                let page = watch.page(position);
                let messages = page.messages.iter().map(|message| describe(message, payloads)).collect();
                Answer::Watched(Some(WatchedPart { messages, dropped: page.dropped, next: page.next }))
            }
        }
    }
}

/// The rate with two decimals.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}
