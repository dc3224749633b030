//! From a batch of changes to frames.
//!
//! One pass over a batch asks the database in as few round trips as there are kinds of questions, never once per subscriber
//! where subscribers have anything in common:
//! 1. wait until the batch's transactions are visible, and read what the subscribers' roles may read of its tables;
//! 2. fetch what the log does not repeat, decide filters (`sieve`);
//! 3. ask row-level security (`judge`), once per claimant and table for all rows that passed that claimant's filters,
//!    unless all it does is to compare the row's owner with the viewer, which is decided here (`rights`);
//! 4. render each row once, put together each view of it once, and tell (`letters`).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, try_join},
};
use tokio_postgres::Client;

use super::{
    asker::Askers,
    judge::judge,
    letters::{Letters, render_opaque},
    lot::{Lot, complete, lots},
    registry::Snapshot,
    rights::{by_claimant, viewers},
    row::Changed,
    sieve::Sieve,
    slow::SlowLane,
    types::Types,
};
use crate::{
    hub::{ConnId, Delivery, Encodable, Hub},
    pg::{
        Connector, PgError,
        queries::changes::{self, Access},
    },
    protocol::phoenix::Said,
};

/// One frame for some channels of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The topic without its prefix.
    pub topic: Arc<str>,
    /// `postgres_changes`, or the operation for channels whose topic is the subscription.
    pub event: &'static str,
    /// JSON.
    pub payload: Box<str>,
    /// The channels' sockets.
    pub to: Vec<ConnId>,
}

/// Who delivers.
pub trait Sink: Send + Sync + 'static {
    /// Delivers in order, waiting for room.
    fn tell(&self, told: Vec<Told>) -> BoxFuture<'_, ()>;
}

impl Sink for Hub {
    fn tell(&self, told: Vec<Told>) -> BoxFuture<'_, ()> {
        let delivery = |Told { topic, event, payload, to }| {
            let message = Encodable::new(Said { topic, event: event.into(), payload });
            Delivery { key: None, message, to }
        };
        let deliveries: Vec<_> = told.into_iter().map(delivery).collect();
        async move {
            // It fails only when the server stops, and then the connections end too.
            let _ = self.fan_out(deliveries).await;
        }
        .boxed()
    }
}

/// Turns batches of changes into frames.
pub struct Teller {
    connector: Connector,
    client: Option<Client>,
    types: Types,
    sieve: Sieve,
    askers: Askers,
    sink: Arc<dyn Sink>,
    slow: SlowLane,
}

impl Teller {
    /// Asks the database through `connector`, and hands frames to `sink`.
    #[must_use]
    pub fn new(connector: Connector, askers: Askers, slow: SlowLane, sink: Arc<dyn Sink>) -> Self {
        let (types, sieve) = (Types::default(), Sieve::default());
        Self { connector, client: None, types, sieve, askers, sink, slow }
    }

    /// Tells everybody in the snapshot what they asked for and may see.
    ///
    /// # Errors
    /// When the database is out of reach. Nothing has been told then, and the batch may be told again.
    pub fn tell<'a>(
        &'a mut self,
        batch: &'a mut [Changed],
        snapshot: &'a Snapshot,
    ) -> BoxFuture<'a, Result<(), PgError>> {
        async move {
            let Some(mut lots) = lots(batch, snapshot) else { return Ok(()) };
            let client = self.client().await?;
            let told = self.tell_with(&client, batch, snapshot, &mut lots).await;
            if told.is_ok() {
                self.client = Some(client);
            }
            told
        }
        .boxed()
    }

    async fn client(&mut self) -> Result<Client, PgError> {
        match self.client.take() {
            Some(client) if !client.is_closed() => Ok(client),
            _ => {
                let client = self.connector.client("changes").await?;
                // Values are compared and shown in the forms in which the log has them.
                client
                    .batch_execute("set timezone = 'UTC'; set datestyle = 'ISO'; set statement_timeout = '30s'; set jit = off")
                    .await?;
                Ok(client)
            }
        }
    }

    async fn tell_with(
        &mut self,
        client: &Client,
        batch: &mut [Changed],
        snapshot: &Snapshot,
        lots: &mut [Lot<'_>],
    ) -> Result<(), PgError> {
        let access = self.look_around(client, batch, snapshot, lots).await?;
        complete(client, batch, lots, &access).await?;
        for lot in &mut *lots {
            self.sieve.sift(client, &self.types, batch, lot).await?;
            lot.settle(batch);
        }
        let viewers = viewers(snapshot);
        let rights: Vec<_> =
            lots.iter().map(|lot| by_claimant(&access, lot.relation(batch), snapshot, &viewers)).collect();
        let seen = judge(&mut self.askers, &self.slow, batch, snapshot, lots, &rights).await?;
        let opaque = render_opaque(client, &self.types, batch, lots).await?;
        let letters =
            Letters { batch, lots, rights: &rights, seen: &seen, types: &self.types, opaque: &opaque };
        let (told, later) = letters.write();
        self.sink.tell(told).await;
        self.slow.take_on(later);
        Ok(())
    }

    /// What the roles may read, after the batch's transactions have become visible.
    async fn look_around(
        &mut self,
        client: &Client,
        batch: &[Changed],
        snapshot: &Snapshot,
        lots: &[Lot<'_>],
    ) -> Result<HashMap<(u32, String), Access>, PgError> {
        let places = || lots.iter().flat_map(|lot| lot.places.iter().map(|at| &batch[*at]));
        let xids: HashSet<i64> = places().map(|changed| i64::from(changed.xid)).collect();
        let xids: Vec<i64> = xids.into_iter().collect();
        let oids: HashSet<u32> = places().map(|changed| changed.relation.oid).collect();
        let oids: Vec<u32> = oids.into_iter().collect();
        let members = lots.iter().flat_map(|lot| &lot.groups).flat_map(|group| &group.members);
        let roles: HashSet<&str> = members.map(|member| &*snapshot.claimants[member.claimant].role).collect();
        let roles: Vec<&str> = roles.into_iter().collect();
        // Sent together; the second begins when the first has been answered.
        let ((), access) =
            try_join(changes::await_commits(client, &xids), changes::access(client, &oids, &roles)).await?;
        let columns: HashSet<u32> = places()
            .flat_map(|changed| changed.relation.columns.iter().map(|column| column.type_oid))
            .collect();
        self.types.learn(client, &columns).await?;
        Ok(access)
    }
}
