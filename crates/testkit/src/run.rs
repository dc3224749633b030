//! Runs one test with its own database, a timeout and bounded concurrency.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Once},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    runtime::Builder,
    sync::{RwLock, Semaphore},
    time::timeout,
};
use tracing_subscriber::EnvFilter;

use crate::{cluster::Cluster, harness::TestDatabase};

/// Tests mostly wait. The cluster accepts connections for about this many.
const MAX_CONCURRENT_TESTS: usize = 5;
/// Waits inside a test have shorter timeouts.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Time for the tasks that a test left running.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

static SLOTS: Semaphore = Semaphore::const_new(MAX_CONCURRENT_TESTS);
/// Exclusive tests write, the others read.
static EXCLUSION: RwLock<()> = RwLock::const_new(());

/// The arguments of [`testkit::test`](crate::test).
#[derive(Debug, Clone, Copy, Default)]
pub struct TestOptions {
    /// Whether no other test of the process may run at the same time.
    pub exclusive: bool,
    /// Whether the test may take longer than [`TEST_TIMEOUT`].
    pub no_timeout: bool,
}

/// Runs a test on this thread and panics if it fails. The test runner prints the log of a failed test.
///
/// The test has its own runtime: its threads inherit the captured output of this thread.
pub fn run_test(body: fn(Arc<TestDatabase>) -> BoxFuture<'static, ()>, options: TestOptions) {
    static LOG: Once = Once::new();
    LOG.call_once(|| {
        let filter =
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,rollcall=info"));
        tracing_subscriber::fmt().with_test_writer().with_ansi(false).with_env_filter(filter).init();
    });
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(async {
        let run = async {
            let db = TestDatabase::new(Cluster::shared().await).await;
            let body = AssertUnwindSafe(body(db.clone())).catch_unwind();
            let ended = if options.no_timeout { Ok(body.await) } else { timeout(TEST_TIMEOUT, body).await };
            // The database is dropped in any case.
            (ended, db.close().await)
        };
        if options.exclusive {
            let _alone = EXCLUSION.write().await;
            run.await
        } else {
            let _slot = SLOTS.acquire().await.expect("never closed");
            let _together = EXCLUSION.read().await;
            run.await
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    match outcome {
        (Err(_), _) => panic!("did not end within {TEST_TIMEOUT:?}"),
        (Ok(Err(panic)), _) => resume_unwind(panic),
        (Ok(Ok(())), Err(failure)) => panic!("{failure}"),
        (Ok(Ok(())), Ok(())) => {}
    }
}
