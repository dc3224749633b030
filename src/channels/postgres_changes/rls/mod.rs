//! Row-level security checks: which rows of a table each principal may see.
//!
//! [`check`] selects the rows and collects the results, [`query`] builds the statements, [`executor`] runs them as the
//! principal, and [`slow_queue`] takes the checks that exceed the timeout of the shared queue.

pub mod check;
pub mod executor;
pub mod query;
pub mod slow_queue;
