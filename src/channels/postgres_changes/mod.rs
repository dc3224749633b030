//! `postgres_changes`: which rows of published tables changed, told to whoever may see them.
//!
//! A change travels through these modules, in this order:
//! 1. [`crate::pg::replication`] streams the write-ahead log; `reader` reads ahead, bounded, and `engine` keeps the
//!    stream running while somebody listens.
//! 2. `teller` takes what waits as one batch: `sieve` decides [`filter`]s, `judge` asks row-level security through
//!    `asker` (once a claimant, table and batch; the slow ones in the `slow` lane), and `letters` puts frames together
//!    from [`row`], [`render`] and [`frame`].
//! 3. A [`Sink`] delivers them to the sockets.
//!
//! What a client asks for is read in [`params`], checked in `subscribe`, and kept in the `registry`. To subscribe:
//! [`Changes::prepare`], then [`Prepared::activate`] with the reply to the join; dropping the [`Subscription`] ends it.
//!
//! Two rules. What a subscriber gets is what `select` as that subscriber returns, asked after the change was committed and
//! visible; of a row that has been changed again since, what `select` would have returned of it (`probe`). And nothing is missed in silence: whenever the stream had to be started anew, or a batch could not be
//! told, those who had been confirmed hear of it before they are confirmed again.

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
