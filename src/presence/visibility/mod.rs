//! Which viewers see which users according to row-level security, and what each viewer received.
//!
//! - [`pending`]: notifications, merged, so that a burst costs no more than a set of IDs.
//! - [`graph`]: viewers, subjects and the edges between them; plain data without I/O.
//! - [`pacing`]: how much a viewer receives before its client has read.
//! - [`recheck_budget`]: how much of the database lookups of everything may take.
//! - [`task`]: the task that reads changes in snapshots, queries row-level security, and passes messages to the hub.
//!
//! The invariant: faces and the log of visibility changes are read in **one snapshot**. The log invalidates edges, and
//! nothing is delivered on an invalid edge until row-level security was queried again. The result of that query may be
//! delivered as it is: it is what `select` as that viewer returned. So a viewer receives, in commit order, only what it
//! was allowed to see.

mod graph;
mod pacing;
mod pending;
mod recheck_budget;
mod task;

pub use graph::Interest;
pub use pending::{PendingChanges, VisibilityNotifications};
pub use task::{Resume, ResumeSettings, Visibility, VisibilityTask};
