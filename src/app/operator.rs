//! Builds what operators use: queries to all nodes, and the history of this one.

use std::sync::Arc;

use super::{dependencies::Dependencies, presence::Presence};
use crate::{
    lifecycle::Tasks,
    operator::{ExchangeNotifications, ExchangeTask, LocalNode, NodeExchange},
    session::channels::Services,
};

/// Background tasks for operators.
pub(super) struct OperatorTasks {
    exchange: NodeExchange,
    task: ExchangeTask,
}

pub(super) fn new(
    deps: &Dependencies,
    presence: &Presence,
    channels: &Services,
) -> (NodeExchange, ExchangeNotifications, OperatorTasks) {
    let local = LocalNode::new(
        deps.node,
        deps.hub.clone(),
        deps.user_index.clone(),
        presence.channel_users.clone(),
        channels.changes.clone(),
        deps.clock.clone(),
    );
    let (exchange, notifications, task) = NodeExchange::new(deps.database.clone(), local);
    (exchange.clone(), notifications, OperatorTasks { exchange, task })
}

impl OperatorTasks {
    pub(super) fn spawn(self, tasks: &Tasks) {
        let Self { exchange, task } = self;
        let local = exchange.local();
        let (history, hub, clock) = (local.history.clone(), local.hub.clone(), Arc::clone(&local.clock));
        tasks.spawn_until_stopped("operator requests", |stop| task.run(stop));
        tasks.spawn_until_stopped("load history", |stop| history.run(hub, clock, stop));
    }
}
