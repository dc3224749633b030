//! Policies that raise an error, and when they were evaluated last.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_postgres::Row;

/// A policy that raises an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingPolicy {
    /// Qualified name of the table.
    pub relation: String,
    pub policy: String,
    /// SQLSTATE of the error.
    pub state: String,
    pub message: String,
}

impl From<&Row> for FailingPolicy {
    fn from(row: &Row) -> Self {
        Self {
            relation: row.get("relation"),
            policy: row.get("policy"),
            state: row.get("error"),
            message: row.get("message"),
        }
    }
}

/// The policies are evaluated at most once in this time, because requests decide how often statements fail. Other failures
/// with the same SQLSTATE get the same answer.
const INTERVAL: Duration = Duration::from_secs(5);

/// When the policies were evaluated, and those that raised an error.
#[derive(Debug, Default)]
pub(super) struct LastEvaluation(Mutex<Option<(Instant, Arc<[FailingPolicy]>)>>);

impl LastEvaluation {
    /// The result of the last evaluation if it is recent. Otherwise the caller evaluates, and others meanwhile find none.
    pub(super) fn claim(&self) -> Option<Arc<[FailingPolicy]>> {
        let mut last = self.0.lock();
        match &*last {
            Some((at, found)) if at.elapsed() < INTERVAL => Some(Arc::clone(found)),
            _ => {
                *last = Some((Instant::now(), Arc::from([])));
                None
            }
        }
    }

    pub(super) fn store(&self, found: Arc<[FailingPolicy]>) {
        *self.0.lock() = Some((Instant::now(), found));
    }
}
