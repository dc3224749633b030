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
    access::{by_principal, principal_ids},
    fan_out::{FanOut, render_in_database},
    filter_evaluator::FilterEvaluator,
    registry::RegistrySnapshot,
    rls_check::check_rows,
    rls_executor::RlsExecutor,
    row_change::RowChange,
    slow_queue::SlowQueue,
    table_batch::{TableBatch, fetch_toasted_columns, group_by_table},
    types::TypeCache,
};
use crate::{
    hub::{ConnId, Delivery, Encodable, Hub},
    pg::{
        Connector, PgError,
        queries::postgres_changes::{self, TableAccess},
    },
    protocol::phoenix::TopicMessage,
};

/// One frame for some channels of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The topic without its prefix.
    pub topic: Arc<str>,
    /// `postgres_changes`, or the operation for channels whose topic is the subscription.
    pub event: &'static str,
    /// JSON.
    pub payload: Box<str>,
    /// The channels' sockets.
    pub recipients: Vec<ConnId>,
}

/// Who delivers.
pub trait DeliverySink: Send + Sync + 'static {
    /// Delivers in order, waiting for room.
    fn deliver(&self, told: Vec<ChangeEvent>) -> BoxFuture<'_, ()>;
}

impl DeliverySink for Hub {
    fn deliver(&self, told: Vec<ChangeEvent>) -> BoxFuture<'_, ()> {
        let delivery = |ChangeEvent { topic, event, payload, recipients: to }| {
            let message = Encodable::new(TopicMessage { topic, event: event.into(), payload });
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
pub struct ChangePipeline {
    connector: Connector,
    client: Option<Client>,
    types: TypeCache,
    filter_evaluator: FilterEvaluator,
    rls_executor: RlsExecutor,
    sink: Arc<dyn DeliverySink>,
    slow_queue: SlowQueue,
}

impl ChangePipeline {
    /// Asks the database through `connector`, and hands frames to `sink`.
    #[must_use]
    pub fn new(
        connector: Connector,
        askers: RlsExecutor,
        slow: SlowQueue,
        sink: Arc<dyn DeliverySink>,
    ) -> Self {
        let (types, sieve) = (TypeCache::default(), FilterEvaluator::default());
        Self {
            connector,
            client: None,
            types,
            filter_evaluator: sieve,
            rls_executor: askers,
            sink,
            slow_queue: slow,
        }
    }

    /// Tells everybody in the snapshot what they asked for and may see.
    ///
    /// # Errors
    /// When the database is out of reach. Nothing has been told then, and the batch may be told again.
    pub fn process<'a>(
        &'a mut self,
        batch: &'a mut [RowChange],
        snapshot: &'a RegistrySnapshot,
    ) -> BoxFuture<'a, Result<(), PgError>> {
        async move {
            let Some(mut lots) = group_by_table(batch, snapshot) else { return Ok(()) };
            let client = self.take_or_connect().await?;
            let told = self.process_with(&client, batch, snapshot, &mut lots).await;
            if told.is_ok() {
                self.client = Some(client);
            }
            told
        }
        .boxed()
    }

    async fn take_or_connect(&mut self) -> Result<Client, PgError> {
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

    async fn process_with(
        &mut self,
        client: &Client,
        batch: &mut [RowChange],
        snapshot: &RegistrySnapshot,
        lots: &mut [TableBatch<'_>],
    ) -> Result<(), PgError> {
        let access = self.load_access(client, batch, snapshot, lots).await?;
        fetch_toasted_columns(client, batch, lots, &access).await?;
        for lot in &mut *lots {
            self.filter_evaluator.evaluate(client, &self.types, batch, lot).await?;
            lot.match_subscriptions(batch);
        }
        let viewers = principal_ids(snapshot);
        let rights: Vec<_> =
            lots.iter().map(|lot| by_principal(&access, lot.relation(batch), snapshot, &viewers)).collect();
        let seen =
            check_rows(&mut self.rls_executor, &self.slow_queue, batch, snapshot, lots, &rights).await?;
        let opaque = render_in_database(client, &self.types, batch, lots).await?;
        let letters = FanOut {
            batch,
            tables: lots,
            access: &rights,
            rls: &seen,
            types: &self.types,
            database_rendered: &opaque,
        };
        let (told, later) = letters.build();
        self.sink.deliver(told).await;
        self.slow_queue.enqueue(later);
        Ok(())
    }

    /// What the roles may read, after the batch's transactions have become visible.
    async fn load_access(
        &mut self,
        client: &Client,
        batch: &[RowChange],
        snapshot: &RegistrySnapshot,
        lots: &[TableBatch<'_>],
    ) -> Result<HashMap<(u32, String), TableAccess>, PgError> {
        let places = || lots.iter().flat_map(|lot| lot.change_indexes.iter().map(|at| &batch[*at]));
        let xids: HashSet<i64> = places().map(|changed| i64::from(changed.xid)).collect();
        let xids: Vec<i64> = xids.into_iter().collect();
        let oids: HashSet<u32> = places().map(|changed| changed.relation.oid).collect();
        let oids: Vec<u32> = oids.into_iter().collect();
        let members = lots.iter().flat_map(|lot| &lot.groups).flat_map(|group| &group.members);
        let roles: HashSet<&str> =
            members.map(|member| &*snapshot.principals[member.principal].role).collect();
        let roles: Vec<&str> = roles.into_iter().collect();
        // Sent together; the second begins when the first has been answered.
        let ((), access) = try_join(
            postgres_changes::wait_until_visible(client, &xids),
            postgres_changes::table_access(client, &oids, &roles),
        )
        .await?;
        let columns: HashSet<u32> = places()
            .flat_map(|changed| changed.relation.columns.iter().map(|column| column.type_oid))
            .collect();
        self.types.load(client, &columns).await?;
        Ok(access)
    }
}
