//! Delivers row changes of published tables (`postgres_changes`) to the subscribers that may see them.
//!
//! A change passes through these modules, in this order:
//! 1. [`crate::pg::replication`] streams the WAL. `reader` buffers the changes, bounded by bytes; `engine` runs the
//!    stream while there are subscriptions.
//! 2. `pipeline` processes the buffered changes as one batch. `table_batch` groups them by table, `toast` fetches the
//!    values that the WAL omits, `matching` finds the subscriptions by comparisons of constant cost, `access` and `rls` decide
//!    which rows each principal may see, and `fan_out` evaluates the other filters, of visible rows only, and builds the
//!    events from [`rendered_row`] and [`payload`]. `rls::lanes` delivers what must not delay the batch.
//! 3. A [`DeliverySink`] delivers the events to the connections.
//!
//! [`params`] parses what a client requests, `validator` checks it in the database, `budget` bounds it, and `registry` holds the
//! subscriptions. To
//! subscribe, call [`PostgresChanges::prepare`], then [`PreparedSubscription::activate`] with the reply to the join.
//! Dropping the [`Subscription`] ends it.
//!
//! Two guarantees: a subscriber receives what `select` returns for it after the commit, or would have returned if the
//! row has changed again (`rls::query`). And no gap is silent: after an interruption, confirmed subscribers get an
//! error before they are confirmed again.

mod access;
mod budget;
mod delivery;
mod engine;
mod fan_out;
pub mod filter;
mod inspect;
mod matching;
pub mod params;
pub mod payload;
mod pipeline;
mod reader;
mod registry;
pub mod render;
pub mod rendered_row;
mod rls;
mod slot;
mod state;
mod subscribe;
mod system_messages;
mod table_batch;
mod toast;
pub mod types;
mod validator;

pub use budget::SubscriptionLimits;
pub use delivery::{ChangeEvent, DeliverySink};
pub use engine::Engine;
pub use params::{ParamsError, RequestedBinding, SubscriptionParams, echo_bindings};
pub use registry::{SUBSCRIBED_MESSAGE, SubscriptionInfo, SystemMessageSink};
pub use state::{PostgresChangesSettings, StreamState};
pub use subscribe::{PostgresChanges, PreparedSubscription, Subscription};
pub use validator::SubscribeError;
