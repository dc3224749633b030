//! Work that may have to wait for something: done at once where it does not, else beside the session, so that the
//! socket's heartbeats and other channels go on.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{ChannelsSession, inbox::Event};
use crate::transport::Connection;

/// The longest that work may take; each wait in it has a bound of its own.
const WORK_WITHIN: Duration = Duration::from_secs(20);

/// How work went on.
pub(super) enum Begun {
    /// It is done.
    Done(Event),
    /// It runs; the event will be in the inbox. Dropping this ends it.
    Running(AbortOnDropHandle<()>),
}

impl ChannelsSession {
    /// Begins work. Should it crash or take too long, what comes of it is `otherwise`.
    pub(super) fn begin(
        &mut self,
        work: impl Future<Output = Event> + Send + 'static,
        otherwise: Event,
        conn: &Arc<Connection>,
    ) -> Begun {
        self.begin_within(WORK_WITHIN, work, otherwise, conn)
    }

    /// The same, with a limit of its own.
    pub(super) fn begin_within(
        &mut self,
        limit: Duration,
        work: impl Future<Output = Event> + Send + 'static,
        otherwise: Event,
        conn: &Arc<Connection>,
    ) -> Begun {
        let mut work = Box::pin(work);
        if let Some(event) = (&mut work).now_or_never() {
            return Begun::Done(event);
        }
        let inbox = self.inbox(conn);
        let task = self.services.tasks.spawn(async move {
            let ended = AssertUnwindSafe(timeout(limit, work)).catch_unwind().await;
            inbox.put(match ended {
                Ok(Ok(event)) => event,
                Ok(Err(_)) | Err(_) => otherwise,
            });
        });
        Begun::Running(AbortOnDropHandle::new(task))
    }
}
