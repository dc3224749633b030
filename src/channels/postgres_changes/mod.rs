//! Delivers row changes of published tables (`postgres_changes`) to the subscribers that may see them.
//!
//! A change passes through these modules, in this order:
//! 1. [`crate::pg::replication`] streams the WAL. `reader` buffers the changes, bounded by bytes; `engine` runs the
//!    stream while there are subscriptions.
//! 2. `pipeline` processes the buffered changes as one batch. `table_batch` groups them by table, `filter_evaluator`
//!    evaluates each [`filter`], `access` and `rls_check` decide which rows each principal may see (`rls_executor`
//!    runs the queries, `slow_queue` the slow ones), and `fan_out` builds the events from [`row_change`], [`render`]
//!    and [`payload`].
//! 3. A [`DeliverySink`] delivers the events to the connections.
//!
//! [`params`] parses what a client requests, `subscribe` validates it, and `registry` holds the subscriptions. To
//! subscribe, call [`PostgresChanges::prepare`], then [`PreparedSubscription::activate`] with the reply to the join.
//! Dropping the [`Subscription`] ends it.
//!
//! Two guarantees: a subscriber receives what `select` returns for it after the commit, or would have returned if the
//! row has changed again (`rls_query`). And no gap is silent: after an interruption, confirmed subscribers get an
//! error before they are confirmed again.

mod access;
mod engine;
mod fan_out;
pub mod filter;
mod filter_evaluator;
pub mod params;
pub mod payload;
mod pipeline;
mod reader;
mod registry;
pub mod render;
mod rls_check;
mod rls_executor;
mod rls_query;
pub mod row_change;
mod slot;
mod slow_queue;
mod subscribe;
mod table_batch;
pub mod types;

pub use engine::{Engine, PostgresChangesSettings, StreamState};
pub use params::{ParamsError, RequestedBinding, SubscriptionParams, echo_bindings};
pub use pipeline::{ChangeEvent, DeliverySink};
pub use registry::{SUBSCRIBED_MESSAGE, SystemMessageSink};
pub use subscribe::{PostgresChanges, PreparedSubscription, SubscribeError, Subscription};
