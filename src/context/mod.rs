//! The context engine: the right prompt, ready before it is typed, and never stale.
//!
//! What is known of a user is compiled ahead of time into [`bundle`]s. [`predict`] guesses from presence which will be
//! wanted, and [`warm_up`] compiles those; a change of a source makes a bundle dirty in the same transaction (in SQL,
//! `context_freshness`), and the warm-up's workers compile it again. [`assemble`] fetches what one message needs in one
//! round trip and fits it into a [`budget`]; [`legacy`] is the simple engine that answers when that fails. [`chat`]
//! talks to a [`provider`] and saves what was said; [`roll_up`] makes profiles of units.

pub mod assemble;
pub mod budget;
pub mod bundle;
pub mod chat;
pub mod compile;
mod embeddings;
pub mod engine;
pub mod extract;
pub mod predict;
pub mod provider;
pub mod roll_up;
pub mod simple;
pub mod store;
pub mod tokens;
pub mod warm_up;

pub use engine::{ContextEngine, ContextError, ContextSettings, ContextTasks, context_engine};
