//! Webhooks: delivers events of presence and channels to URLs, signed as Standard Webhooks.
//!
//! The database records events and decides what is delivered next (`supabase/schemas/07_events.sql`); a node leases a
//! webhook, sends one batch, and reports the outcome. Deliveries use database connections and tasks of their own, so a
//! receiver that fails or hangs delays nobody but itself.

mod address;
mod client;
mod dispatcher;
mod settings;
mod signature;

pub use client::{InvalidUrl, Outcome, WebhookClient};
pub use dispatcher::Dispatcher;
pub use settings::WebhookSettings;
pub use signature::{is_secret, new_secret};
