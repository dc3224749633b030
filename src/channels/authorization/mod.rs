//! Who may read and write in private rooms: the policies on `realtime.messages`, and nothing else.
//!
//! - [`Authorizer`] answers sessions, from memory where an answer is known, and tells them when it changes.
//! - [`verdicts`] is what is remembered: answers, who waits, who watches, what is to be asked again; plain data.
//! - [`Asker`] is the one task that asks the database, many callers in one statement that is rolled back.
//! - [`RightsEars`] hears that answers became void; `lookout` looks for what nobody announces.
//!
//! An answer is only believed if nothing that it depends on was announced as changed between the question and the
//! answer; a loss of rights is believed always. While announcements are missed nothing is answered from memory, and
//! after that everybody who watches is asked again.

mod authorizer;
mod cache;
mod error;
mod policy_poller;
mod rights;
mod worker;

pub use authorizer::{Authorizer, RightsSubscriber, RightsSubscription};
pub use error::AuthorizationError;
pub use rights::{ReadRights, WriteRights};
pub use worker::{AuthorizationNotifications, AuthorizationWorker, authorizer};
