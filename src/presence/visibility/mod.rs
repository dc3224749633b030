//! Who may see whom, as row-level security says, and what each viewer has been told.
//!
//! - [`inbox`]: what the listener heard, merged, so that a burst costs no more than a set of ids.
//! - [`sight`]: viewers, subjects and the edges between them; plain data, no I/O.
//! - [`pump`]: the one task that reads changes in snapshots, asks row-level security, and hands frames to the hub.
//!
//! The rule that everything here serves: faces and the log of visibility changes are read in **one snapshot**. An
//! edge that the log names is void, and nothing is delivered on a void edge until row-level security has been asked
//! again. What that answer holds may be told as it is: it is what `select` as that viewer returned. So whatever a
//! viewer hears was, in commit order, theirs to see.

mod graph;
mod pending;
mod task;

pub use pending::{PendingChanges, VisibilityNotifications};
pub use task::{Visibility, VisibilityTask, visibility};
