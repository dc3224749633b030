//! Writes that go on when their client disconnects.

use std::{future::Future, sync::Arc};

use tokio::sync::Semaphore;

/// Writes that go on at the same time without a client, at most.
const MAX_DETACHED: usize = 256;

/// Runs writes as tasks of their own. The server drops the handler of a request when its connection is closed; such a
/// write goes on. The database's timeouts bound its duration.
#[derive(Clone)]
pub struct DetachedWrites {
    permits: Arc<Semaphore>,
}

impl Default for DetachedWrites {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_DETACHED)) }
    }
}

impl DetachedWrites {
    /// Runs a write and returns its result. Over the maximum, the write depends on the connection as usual.
    pub async fn run<F>(&self, write: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return write.await };
        let task = tokio::spawn(async move {
            let output = write.await;
            drop(permit);
            output
        });
        match task.await {
            Ok(output) => output,
            // The task is never aborted.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_write_goes_on_when_its_caller_is_dropped() {
        let writes = DetachedWrites::default();
        let (start, started) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let mut caller = Box::pin(writes.run(async move {
            started.await.expect("started");
            end.send(()).expect("the test waits");
        }));
        assert!(futures_util::poll!(&mut caller).is_pending());
        drop(caller);
        start.send(()).expect("the write waits");
        ended.await.expect("the write ended");
    }

    #[tokio::test]
    async fn over_the_maximum_a_write_depends_on_its_caller() {
        let writes = DetachedWrites::default();
        let _permits = Arc::clone(&writes.permits).acquire_many_owned(MAX_DETACHED as u32).await;
        let (start, started) = oneshot::channel::<()>();
        let mut caller = Box::pin(writes.run(started));
        assert!(futures_util::poll!(&mut caller).is_pending());
        drop(caller);
        assert!(start.send(()).is_err(), "the write was dropped");
    }
}
