//! Read and write rights in private topics, decided only by the policies on `realtime.messages`.
//!
//! - [`Authorizer`] answers sessions and routes from the cache or the database and notifies them of changes.
//! - [`cache`] holds results, waiting requests, subscriptions and due rechecks. It does no I/O.
//! - [`AuthorizationWorker`] is the task that runs the checks: many callers per statement, rolled back
//!   afterwards.
//! - [`AuthorizationNotifications`] invalidates results on notification; `policy_poller` finds changes that
//!   are not announced.
//!
//! A result is used only if nothing it depends on was announced as changed while the check ran; a loss of
//! rights is always used. While the listener is disconnected nothing is answered from the cache. After it has
//! reconnected all subscriptions are checked again.

mod authorizer;
mod cache;
mod error;
mod policy_poller;
mod rights;
mod subscriber;
mod worker;

pub use authorizer::{Authorizer, RightsSubscription};
pub use error::AuthorizationError;
pub use rights::{ReadRights, WriteRights};
pub use subscriber::RightsSubscriber;
pub use worker::{AuthorizationNotifications, AuthorizationWorker};
