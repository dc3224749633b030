//! Processes a batch of changes: from row changes to delivered events.
//!
//! The number of queries depends on the tables, roles and principals of the batch, not on the number of subscribers:
//! 1. wait until the batch's transactions are visible, and load the access of the subscribers' roles to its tables;
//! 2. fetch the TOASTed columns that the WAL omits, and evaluate filters (`filter::evaluator`);
//! 3. check row-level security (`rls`) once per principal and table, for all rows that match the principal's
//!    filters. Policies that only compare the row's owner with the principal are evaluated in memory (`access`);
//! 4. render each row once, build each payload once, and deliver the events (`fan_out`).

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
    delivery::DeliverySink,
    fan_out::{FanOut, render_in_database},
    filter::evaluator::FilterEvaluator,
    registry::RegistrySnapshot,
    rls::{check::check_rows, executor::RlsExecutor, slow_queue::SlowQueue},
    table_batch::{TableBatch, group_by_table},
    toast::fetch_toasted_columns,
    types::TypeCache,
};
use crate::pg::{
    Connector, PgError,
    queries::postgres_changes::{self, TableAccess},
    replication::RowChange,
};

/// Processes batches of changes.
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
    /// Creates a pipeline that queries the database through `connector` and delivers events to `sink`.
    #[must_use]
    pub fn new(
        connector: Connector,
        rls_executor: RlsExecutor,
        slow_queue: SlowQueue,
        sink: Arc<dyn DeliverySink>,
    ) -> Self {
        let (types, filter_evaluator) = (TypeCache::default(), FilterEvaluator::default());
        Self { connector, client: None, types, filter_evaluator, rls_executor, sink, slow_queue }
    }

    /// Delivers each change to the subscribers in the snapshot that requested it and may see it.
    ///
    /// # Errors
    /// If the database is unavailable. In that case nothing was delivered, and the batch can be processed again.
    pub fn process<'a>(
        &'a mut self,
        batch: &'a mut [RowChange],
        snapshot: &'a RegistrySnapshot,
    ) -> BoxFuture<'a, Result<(), PgError>> {
        async move {
            let Some(mut tables) = group_by_table(batch, snapshot) else { return Ok(()) };
            let client = self.take_or_connect().await?;
            let result = self.process_with(&client, batch, snapshot, &mut tables).await;
            if result.is_ok() {
                self.client = Some(client);
            }
            result
        }
        .boxed()
    }

    async fn take_or_connect(&mut self) -> Result<Client, PgError> {
        match self.client.take() {
            Some(client) if !client.is_closed() => Ok(client),
            _ => {
                let client = self.connector.client("changes").await?;
                // Values are compared and rendered in the text forms that the WAL uses.
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
        tables: &mut [TableBatch<'_>],
    ) -> Result<(), PgError> {
        let access = self.load_access(client, batch, snapshot, tables).await?;
        fetch_toasted_columns(client, batch, tables, &access).await?;
        for table in &mut *tables {
            self.filter_evaluator.evaluate(client, &self.types, batch, table).await?;
            table.match_subscriptions(batch);
        }
        let principal_ids = principal_ids(snapshot);
        let principal_access: Vec<_> = tables
            .iter()
            .map(|table| by_principal(&access, table.relation(batch), snapshot, &principal_ids))
            .collect();
        let rls =
            check_rows(&mut self.rls_executor, &self.slow_queue, batch, snapshot, tables, &principal_access)
                .await?;
        let database_rendered = render_in_database(client, &self.types, batch, tables).await?;
        let fan_out = FanOut {
            batch,
            tables,
            access: &principal_access,
            rls: &rls,
            types: &self.types,
            database_rendered: &database_rendered,
        };
        let (events, deferred) = fan_out.build();
        self.sink.deliver(events).await;
        self.slow_queue.enqueue(deferred);
        Ok(())
    }

    /// Loads the access of the subscribers' roles, once the batch's transactions are visible.
    async fn load_access(
        &mut self,
        client: &Client,
        batch: &[RowChange],
        snapshot: &RegistrySnapshot,
        tables: &[TableBatch<'_>],
    ) -> Result<HashMap<(u32, String), TableAccess>, PgError> {
        let changes =
            || tables.iter().flat_map(|table| table.change_indexes.iter().map(|index| &batch[*index]));
        let xids: HashSet<i64> = changes().map(|change| i64::from(change.transaction.xid)).collect();
        let xids: Vec<i64> = xids.into_iter().collect();
        let oids: HashSet<u32> = changes().map(|change| change.relation.oid).collect();
        let oids: Vec<u32> = oids.into_iter().collect();
        let members = tables.iter().flat_map(|table| &table.groups).flat_map(|group| &group.members);
        let roles: HashSet<&str> =
            members.map(|member| &*snapshot.principals[member.principal].role).collect();
        let roles: Vec<&str> = roles.into_iter().collect();
        // Both queries are sent at once; the second runs after the first has finished.
        let ((), access) = try_join(
            postgres_changes::wait_until_visible(client, &xids),
            postgres_changes::table_access(client, &oids, &roles),
        )
        .await?;
        let columns: HashSet<u32> = changes()
            .flat_map(|change| change.relation.columns.iter().map(|column| column.type_oid))
            .collect();
        self.types.load(client, &columns).await?;
        Ok(access)
    }
}
