//! Processes a batch of changes: from row changes to delivered events.
//!
//! The number of queries depends on the tables, roles and principals of the batch, not on the number of subscribers:
//! 1. wait until the batch's transactions are visible, load the access of the subscribers' roles to its tables, and
//!    fetch the TOASTed columns that the WAL omits (`toast`);
//! 2. find the subscriptions by comparisons of constant cost (`matching`);
//! 3. check row-level security (`rls`) once per principal and table, for all rows that may match the principal's
//!    filters. Policies that only compare the row's owner with the principal are evaluated in memory (`access`);
//! 4. evaluate the other filters for visible rows, render each row once, build each payload once, and deliver the
//!    events (`fan_out`). Filters that need PostgreSQL and slow policies go to a lane of their own (`rls::lanes`).

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
    access::by_principal,
    delivery::DeliverySink,
    fan_out::{FanOut, render_in_database},
    matching::PlanCache,
    registry::RegistrySnapshot,
    rls::{check::check_rows, executor::RlsExecutor, lanes::Lanes},
    table_batch::{TableBatch, group_by_table},
    toast::fetch_toasted_columns,
    types::TypeCache,
};
use crate::{
    auth::Role,
    pg::{
        Connector, PgError,
        queries::postgres_changes::{self, TableAccess},
        replication::RowChange,
    },
};

/// Processes batches of changes.
pub(super) struct ChangePipeline {
    connector: Connector,
    client: Option<Client>,
    types: TypeCache,
    plans: PlanCache,
    rls_executor: RlsExecutor,
    sink: Arc<dyn DeliverySink>,
    lanes: Lanes,
}

impl ChangePipeline {
    /// Creates a pipeline that queries the database through `connector` and delivers events to `sink`.
    #[must_use]
    pub(super) fn new(
        connector: Connector,
        rls_executor: RlsExecutor,
        lanes: Lanes,
        sink: Arc<dyn DeliverySink>,
    ) -> Self {
        let (types, plans) = (TypeCache::default(), PlanCache::default());
        Self { connector, client: None, types, plans, rls_executor, sink, lanes }
    }

    /// Drops what subscriptions that no longer exist have left in caches.
    pub(super) fn retain(&mut self, snapshot: &Arc<RegistrySnapshot>) {
        self.plans.retain(snapshot);
    }

    /// Bytes of filters in caches.
    #[must_use]
    pub(super) fn cached_bytes(&self) -> usize {
        self.plans.size_bytes()
    }

    /// Delivers each change to the subscribers in the snapshot that requested it and may see it.
    ///
    /// # Errors
    /// If the database is unavailable. In that case nothing was delivered, and the batch can be processed again.
    pub(super) fn process<'a>(
        &'a mut self,
        batch: &'a mut [RowChange],
        snapshot: &'a Arc<RegistrySnapshot>,
    ) -> BoxFuture<'a, Result<(), PgError>> {
        async move {
            let mut tables = group_by_table(batch, snapshot);
            if tables.is_empty() {
                return Ok(());
            }
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
        snapshot: &Arc<RegistrySnapshot>,
        tables: &mut [TableBatch],
    ) -> Result<(), PgError> {
        let access = self.load_access(client, batch, snapshot, tables).await?;
        fetch_toasted_columns(client, batch, tables, &access).await?;
        self.plans.retain(snapshot);
        let mut principal_access = Vec::with_capacity(tables.len());
        for table in &mut *tables {
            let plan = self.plans.plan(client, &self.types, &table.relation, snapshot).await?;
            table.match_subscriptions(plan, batch, snapshot);
            let groups = (0..table.change_indexes.len()).flat_map(|row| table.matches(row));
            let groups: HashSet<usize> = groups.map(|matched| matched.group).collect();
            let members = groups.iter().flat_map(|group| &snapshot.groups[*group].members);
            let principals: HashSet<usize> = members.map(|member| member.principal).collect();
            principal_access.push(by_principal(&access, &table.relation, snapshot, principals));
        }
        let queued_owners = self.lanes.owners();
        let rls = check_rows(
            &mut self.rls_executor,
            &self.lanes,
            batch,
            snapshot,
            tables,
            &principal_access,
            &queued_owners,
        )
        .await?;
        let database_rendered = render_in_database(client, &self.types, batch, tables).await?;
        let fan_out = FanOut {
            batch,
            snapshot,
            tables,
            access: &principal_access,
            rls: &rls,
            types: &self.types,
            database_rendered: &database_rendered,
            queued_owners: &queued_owners,
        };
        let (events, deferred) = fan_out.build();
        self.sink.deliver(events).await;
        self.lanes.enqueue(deferred);
        Ok(())
    }

    /// Loads the access of the subscribers' roles, once the batch's transactions are visible.
    async fn load_access(
        &mut self,
        client: &Client,
        batch: &[RowChange],
        snapshot: &RegistrySnapshot,
        tables: &[TableBatch],
    ) -> Result<HashMap<(u32, String), TableAccess>, PgError> {
        let changes =
            || tables.iter().flat_map(|table| table.change_indexes.iter().map(|index| &batch[*index]));
        let xids: HashSet<i64> = changes().map(|change| i64::from(change.transaction.xid)).collect();
        let xids: Vec<i64> = xids.into_iter().collect();
        let oids: HashSet<u32> = changes().map(|change| change.relation.oid).collect();
        let oids: Vec<u32> = oids.into_iter().collect();
        let roles: Vec<&str> = snapshot.roles.iter().map(Role::as_str).collect();
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
