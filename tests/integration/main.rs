//! Integration tests with a real PostgreSQL, real servers and real sockets.
//!
//! One cluster serves the whole run ([`cluster`]). Each test has its own database and servers ([`harness`]) and uses
//! them like clients ([`client`]). Run some with `cargo test --test integration -- <part of a name>`.

mod changes_harness;
mod client;
mod cluster;
mod fake_llm;
mod harness;
mod phoenix;
mod presence_client_state;

mod bad_input;
mod channel_authorizer;
mod channel_bus;
mod channel_presence_service;
mod channels_authorization;
mod channels_basics;
mod channels_broadcast;
mod channels_frames;
mod channels_handshake;
mod channels_lifecycle;
mod channels_limits;
mod channels_postgres_changes;
mod channels_presence;
mod context_chat;
mod context_embeddings;
mod context_freshness;
mod context_llm;
mod context_openai;
mod context_passthrough;
mod context_quality;
mod context_routes;
mod doctor;
mod edge_function;
mod faults;
mod invisible;
mod isolation;
mod openapi_examples;
mod operations;
mod pooler;
mod postgres_changes;
mod postgres_changes_authorization;
mod postgres_changes_faults;
mod postgres_changes_random;
mod readme;
mod rest_devices_and_users;
mod rest_lists;
mod rest_manage;
mod rest_presence;
mod rest_privacy;
mod revocation;
mod sockets_dialects;
mod sockets_presence;
mod sql_interface;
mod sql_schema_changes;
mod sql_to_sockets;
mod supabase;
mod typing;

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, process::ExitCode, sync::Arc, time::Duration};

use futures_util::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{runtime::Runtime, sync::RwLock, time::timeout};

use crate::{cluster::Cluster, harness::TestDatabase};

/// Tests mostly wait. The cluster accepts connections for about this many.
const MAX_CONCURRENT_TESTS: usize = 5;
/// Waits inside a test have shorter timeouts.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// The async function of a test.
pub type TestBody = fn(Arc<TestDatabase>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct TestCase {
    name: &'static str,
    body: TestBody,
    /// Whether the test measures time and must run without others.
    exclusive: bool,
}

impl TestCase {
    /// Marks the test to run without others.
    pub const fn exclusive(self) -> Self {
        Self { exclusive: true, ..self }
    }
}

/// Registers async functions that take a [`TestDatabase`] as tests.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        vec![$($crate::TestCase {
            name: concat!(module_path!(), "::", stringify!($name)),
            body: |db| Box::pin($name(db)),
            exclusive: false,
        }),+]
    };
}
pub(crate) use cases;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(MAX_CONCURRENT_TESTS);
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    // Installed once: reqwest has no default provider.
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");

    // Listing tests starts no cluster.
    let cluster = (!arguments.list).then(|| Arc::new(runtime.block_on(Cluster::start())));
    let conclusion = libtest_mimic::run(&arguments, trials(&runtime, cluster.as_ref()));
    if let Some(cluster) = cluster {
        runtime.block_on(cluster.stop());
    }
    conclusion.exit_code()
}

fn trials(runtime: &Arc<Runtime>, cluster: Option<&Arc<Cluster>>) -> Vec<Trial> {
    let cases = [
        pooler::cases(),
        readme::cases(),
        rest_presence::cases(),
        rest_lists::cases(),
        rest_manage::cases(),
        rest_devices_and_users::cases(),
        rest_privacy::cases(),
        sockets_dialects::cases(),
        sockets_presence::cases(),
        sql_schema_changes::cases(),
        sql_to_sockets::cases(),
        sql_interface::cases(),
        supabase::cases(),
        revocation::cases(),
        bad_input::cases(),
        postgres_changes::cases(),
        postgres_changes_faults::cases(),
        postgres_changes_authorization::cases(),
        postgres_changes_random::cases(),
        channels_basics::cases(),
        channel_authorizer::cases(),
        openapi_examples::cases(),
        doctor::cases(),
        edge_function::cases(),
        faults::cases(),
        context_routes::cases(),
        context_chat::cases(),
        context_freshness::cases(),
        context_embeddings::cases(),
        context_llm::cases(),
        context_openai::cases(),
        context_passthrough::cases(),
        context_quality::cases(),
        invisible::cases(),
        isolation::cases(),
        operations::cases(),
        typing::cases(),
        channel_bus::cases(),
        channel_presence_service::cases(),
        channels_handshake::cases(),
        channels_frames::cases(),
        channels_lifecycle::cases(),
        channels_limits::cases(),
        channels_broadcast::cases(),
        channels_postgres_changes::cases(),
        channels_presence::cases(),
        channels_authorization::cases(),
    ];
    let quiet = Arc::new(RwLock::new(()));
    let trial = |TestCase { name, body, exclusive: alone }| {
        let (runtime, cluster, quiet) = (runtime.clone(), cluster.cloned(), quiet.clone());
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        Trial::test(name, move || {
            let cluster = cluster.expect("a cluster, unless tests are only listed");
            runtime.block_on(async {
                if alone {
                    let _alone = quiet.write().await;
                    run(&cluster, body).await
                } else {
                    let _together = quiet.read().await;
                    run(&cluster, body).await
                }
            })
        })
    };
    cases.into_iter().flatten().map(trial).collect()
}

/// Runs a test with its own database, which is dropped in any case.
async fn run(cluster: &Arc<Cluster>, body: TestBody) -> Result<(), Failed> {
    let db = TestDatabase::new(cluster.clone()).await;
    let ended = timeout(TEST_TIMEOUT, AssertUnwindSafe(body(db.clone())).catch_unwind()).await;
    let closed = db.close().await;
    match ended {
        Err(_) => Err(format!("did not end within {TEST_TIMEOUT:?}").into()),
        Ok(Err(panic)) => Err(panic_text(&*panic).into()),
        // A server that failed or did not stop fails the test.
        Ok(Ok(())) => closed.map_err(Failed::from),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}
