//! Replays sessions recorded from Supabase Realtime against Rollcall. Clients must receive the recorded frames, except
//! for the listed [`deviations`].
//!
//! Each recording is a test, so the tests are not functions. Run some with
//! `cargo test --test recorded -- <part of a scenario's name>`.

mod compare;
mod deviations;
mod recording;
mod replay;
mod tokens;

use std::{panic::AssertUnwindSafe, process::ExitCode, sync::Arc, time::Duration};

use futures_util::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{runtime::Runtime, time::timeout};

use testkit::{cluster::Cluster, harness::TestDatabase};

use crate::recording::Recording;

/// Concurrent replays. They mostly wait.
const CONCURRENT_REPLAYS: usize = 6;
/// The longest recording has a minute of silence.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CONCURRENT_REPLAYS);
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let cluster = (!arguments.list).then(|| runtime.block_on(Cluster::shared()));

    let mut trials = vec![Trial::test("every_deviation_is_of_a_recording", || {
        deviations::check(&Recording::all()).map_err(Failed::from)
    })];
    // Long recordings first, so that the others run in parallel.
    let mut recordings = Recording::all();
    recordings.sort_by_key(|recording| recording.scenario != "idle_timeout");
    for recording in recordings {
        let (runtime, cluster) = (runtime.clone(), cluster.clone());
        let name = format!("{}::vsn_{}", recording.scenario, recording.version);
        let reason = deviations::reason_not_replayed(&recording.scenario);
        let trial = Trial::test(name, move || {
            let cluster = cluster.expect("a cluster, unless tests are only listed");
            runtime.block_on(run(cluster, recording))
        });
        trials.push(match reason {
            Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
            None => trial,
        });
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

async fn run(cluster: Arc<Cluster>, recording: Recording) -> Result<(), Failed> {
    let db = TestDatabase::new(cluster).await;
    let setup = include_str!("recordings/schema.sql");
    db.sql.batch_execute(setup).await.map_err(|error| format!("schema.sql: {error:?}"))?;
    let recording = deviations::apply(recording);
    let replayed =
        timeout(REPLAY_TIMEOUT, AssertUnwindSafe(replay::replay(&db, &recording)).catch_unwind()).await;
    let closed = db.close().await;
    let wrong = match replayed {
        Err(_) => return Err(format!("did not end within {REPLAY_TIMEOUT:?}").into()),
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map_or("panicked", String::as_str);
            return Err(text.into());
        }
        Ok(Ok(wrong)) => wrong,
    };
    closed?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}
