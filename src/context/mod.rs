//! The context engine: assembles prompts from precompiled knowledge about a user.
//!
//! Knowledge is compiled into [`bundle`]s ahead of time. [`predict`] guesses from presence which bundles will be needed,
//! and [`warm_up`] compiles them. A change of a source marks a bundle dirty in the same transaction (in SQL), and the
//! queue workers compile it again.
//!
//! [`assemble`] reads everything for one message in one round trip and fits it into a [`budget`]; [`simple`] is the
//! fallback engine. [`chat`] calls a [`provider`] and saves questions and answers. [`memory`] takes units and memories
//! from messages. [`roll_up`] derives topic and entity profiles from units.

pub mod assemble;
pub mod background;
pub mod budget;
pub mod bundle;
pub mod chat;
pub mod chat_limits;
pub mod compile;
mod embeddings;
pub mod engine;
pub mod extract;
pub mod history;
pub mod memory;
pub mod message;
pub mod predict;
pub mod provider;
pub mod quote;
pub mod roll_up;
pub mod sentences;
pub mod settings;
pub mod simple;
pub mod store;
pub mod tokens;
pub mod warm_up;
mod word_lists;

pub use engine::{ContextEngine, ContextError, ContextTasks};
pub use settings::ContextSettings;
