//! Work that may have to wait for something: done at once where it does not, else beside the session, so that the
//! socket's heartbeats and other channels go on.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{ChannelsSession, events::SessionEvent};
use crate::transport::Connection;

/// The longest that work may take; each wait in it has a bound of its own.
const WORK_TIMEOUT: Duration = Duration::from_secs(20);

/// How work went on.
pub(super) enum Started {
    /// It is done.
    Done(SessionEvent),
    /// It runs; the event will be in the inbox. Dropping this ends it.
    Running(AbortOnDropHandle<()>),
}

impl ChannelsSession {
    /// Begins work. Should it crash or take too long, what comes of it is `otherwise`.
    pub(super) fn start_work(
        &mut self,
        work: impl Future<Output = SessionEvent> + Send + 'static,
        otherwise: SessionEvent,
        conn: &Arc<Connection>,
    ) -> Started {
        self.start_work_with_timeout(WORK_TIMEOUT, work, otherwise, conn)
    }

    /// The same, with a limit of its own.
    pub(super) fn start_work_with_timeout(
        &mut self,
        limit: Duration,
        work: impl Future<Output = SessionEvent> + Send + 'static,
        otherwise: SessionEvent,
        conn: &Arc<Connection>,
    ) -> Started {
        let mut work = Box::pin(work);
        if let Some(event) = (&mut work).now_or_never() {
            return Started::Done(event);
        }
        let inbox = self.events(conn);
        let task = self.services.tasks.spawn(async move {
            let ended = AssertUnwindSafe(timeout(limit, work)).catch_unwind().await;
            inbox.push(match ended {
                Ok(Ok(event)) => event,
                Ok(Err(_)) | Err(_) => otherwise,
            });
        });
        Started::Running(AbortOnDropHandle::new(task))
    }
}
