//! What the tests and benchmarks share: a PostgreSQL cluster, databases and servers on it, and clients.
//!
//! An integration test is an async function that gets a database of its own:
//!
//! ```ignore
//! #[testkit::test]
//! async fn a_status_is_stored(db: Arc<TestDatabase>) {
//!     let server = db.start_server().await;
//!     …
//! }
//! ```
//!
//! All tests of a process use one cluster. It starts with the first test and is removed when the process exits.

#![deny(unreachable_pub)]

pub mod client;
pub mod cluster;
pub mod copied_cluster;
pub mod dump;
pub mod events;
pub mod fake_llm;
pub mod harness;
pub mod model;
pub mod nats;
pub mod pages;
pub mod phoenix;
pub mod presence_client_state;
mod run;
pub mod stopped_process;
pub mod wire;

pub use rollcall_testkit_macros::test;
pub use run::{TEST_TIMEOUT, TestOptions, run_test};
