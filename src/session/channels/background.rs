//! Runs work that may have to wait: inline if it completes at once, else in a background task, so that
//! heartbeats and other channels of the socket are not delayed.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{events::SessionEvent, state::ChannelsSession};
use crate::transport::Connection;

/// Maximum duration of a task; each wait in it has its own timeout.
const WORK_TIMEOUT: Duration = Duration::from_secs(20);

/// State of started work.
pub(super) enum Started {
    /// The work completed inline.
    Done(SessionEvent),
    /// The work runs in the background and will send its event. Dropping the handle aborts it.
    Running(AbortOnDropHandle<()>),
}

impl ChannelsSession {
    /// Starts work. If it panics or times out, its event is `fallback`.
    pub(super) fn start_work(
        &mut self,
        work: impl Future<Output = SessionEvent> + Send + 'static,
        fallback: SessionEvent,
        conn: &Arc<Connection>,
    ) -> Started {
        self.start_work_with_timeout(WORK_TIMEOUT, work, fallback, conn)
    }

    /// Like `start_work`, with another timeout.
    pub(super) fn start_work_with_timeout(
        &mut self,
        limit: Duration,
        work: impl Future<Output = SessionEvent> + Send + 'static,
        fallback: SessionEvent,
        conn: &Arc<Connection>,
    ) -> Started {
        let mut work = Box::pin(work);
        if let Some(event) = (&mut work).now_or_never() {
            return Started::Done(event);
        }
        let events = self.events(conn);
        let task = self.services.tasks.spawn(async move {
            let result = AssertUnwindSafe(timeout(limit, work)).catch_unwind().await;
            events.push(match result {
                Ok(Ok(event)) => event,
                Ok(Err(_)) | Err(_) => fallback,
            });
        });
        Started::Running(AbortOnDropHandle::new(task))
    }
}
