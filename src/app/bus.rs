//! Builds the bus between nodes: over NATS if `NATS_URL` is set, else over PostgreSQL.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::watch;

use crate::{
    channels::{
        ChannelLimits,
        bus::{
            Bus, BusSubscriber, Peers,
            nats::{NatsBus, NatsSettings, NatsStatus, NatsTasks},
            postgres::{BusNotifications, BusReader, BusWriter, PostgresBus},
        },
    },
    lifecycle::Tasks,
    model::NodeId,
    pg::{Database, queries::bus::identity},
};

/// Timeout of the query of the installation's identity.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(10);

/// Background tasks of the bus.
pub(super) enum BusTasks<H> {
    Postgres(Box<(BusWriter, BusReader<H>)>),
    Nats(Box<NatsTasks<H>>),
}

/// What is known of the other nodes. On NATS they do not announce themselves.
pub(super) fn peers(nats: &NatsSettings, lease: Duration) -> Peers {
    if nats.servers.is_some() { Peers::assumed(lease) } else { Peers::new(lease) }
}

/// Also returns the notification handler of the bus over PostgreSQL, or the status of NATS.
pub(super) async fn new<H: BusSubscriber>(
    node: NodeId,
    database: &Database,
    (nats, limits): (&NatsSettings, ChannelLimits),
    peers: Peers,
    subscriber: H,
) -> anyhow::Result<(Arc<dyn Bus>, Option<BusNotifications>, Option<NatsStatus>, BusTasks<H>)> {
    if nats.servers.is_none() {
        let (bus, handler, tasks) = PostgresBus::new(node, database, peers, subscriber);
        return Ok((Arc::new(bus), Some(handler), None, BusTasks::Postgres(Box::new(tasks))));
    }
    let read = |connection| async move { identity(&connection).await };
    let identity =
        database.within(IDENTITY_TIMEOUT, read).await.context("cannot read the key of the installation")?;
    let (bus, status, tasks) =
        NatsBus::new(node, nats, limits.payload_bytes(), &identity, subscriber).await?;
    Ok((Arc::new(bus), None, Some(status), BusTasks::Nats(Box::new(tasks))))
}

impl<H: BusSubscriber> BusTasks<H> {
    /// Becomes true once messages of the other nodes arrive, and stays true.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        match self {
            Self::Postgres(tasks) => tasks.1.ready(),
            Self::Nats(tasks) => tasks.receiver.ready(),
        }
    }

    pub(super) fn spawn(self, tasks: &Tasks) {
        match self {
            Self::Postgres(postgres) => {
                let (writer, reader) = *postgres;
                tasks.spawn_until_stopped("bus writer", |stop| writer.run(stop));
                tasks.spawn_until_stopped("bus reader", |stop| reader.run(stop));
            }
            Self::Nats(nats) => {
                let NatsTasks { writer, receiver, deliverer } = *nats;
                tasks.spawn_until_stopped("bus writer", |stop| writer.run(stop));
                tasks.spawn_until_stopped("bus receiver", |stop| receiver.run(stop));
                tasks.spawn_until_stopped("bus deliverer", |stop| deliverer.run(stop));
            }
        }
    }
}
