//! Row-level security checks: which rows of a table each principal may see.
//!
//! [`check`] selects the rows and collects the results, [`query`] builds the statements, [`executor`] runs them as the
//! principal, and [`lanes`] take the checks that exceed the timeout of the shared queue, and the
//! filters that only PostgreSQL can evaluate.

pub(super) mod check;
pub(super) mod executor;
pub(super) mod lanes;
pub(super) mod query;
