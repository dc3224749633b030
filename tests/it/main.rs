//! Integration tests: a real PostgreSQL, real servers, real sockets.
//!
//! One cluster serves the whole run ([`cluster`]); each test has a database and servers of its own ([`world`]) and
//! uses them as clients do ([`client`]). The modules after that go by way of use. Run some with
//! `cargo test --test it -- <part of a name>`.

mod client;
mod cluster;
mod desk;
mod model;
mod phoenix;
mod picture;
mod world;

mod bad_input;
mod changes;
mod changes_faults;
mod changes_rights;
mod changes_truth;
mod channel_bus;
mod channel_presence;
mod channels_authorization;
mod channels_broadcast;
mod channels_changes;
mod channels_core;
mod channels_frames;
mod channels_handshake;
mod channels_lifecycle;
mod channels_limits;
mod channels_presence;
mod channels_rights;
mod context_chat;
mod context_freshness;
mod context_meaning;
mod context_models;
mod context_quality;
mod context_routes;
mod described;
mod doctor;
mod edge_function;
mod faults;
mod invisible;
mod isolation;
mod operating;
mod pooler;
mod readme;
mod rest_lists;
mod rest_manage;
mod rest_people;
mod rest_presence;
mod rest_privacy;
mod revocation;
mod sockets_dialects;
mod sockets_presence;
mod sql_definitions;
mod sql_moves_sockets;
mod sql_surface;
mod supabase;
mod typing;

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, process::ExitCode, sync::Arc, time::Duration};

use futures_util::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{runtime::Runtime, sync::RwLock, time::timeout};

use crate::{cluster::Cluster, world::World};

/// Tests wait much more than they compute. The cluster has connections for about as many.
const TESTS_AT_ONCE: usize = 5;
/// The longest that a test may take; what it waits for has shorter deadlines of its own.
const TEST_DEADLINE: Duration = Duration::from_secs(120);

/// What a test does with its world.
pub type Body = fn(Arc<World>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A test.
pub struct Case {
    name: &'static str,
    body: Body,
    /// Whether it measures, and so wants the machine to itself.
    alone: bool,
}

impl Case {
    /// The same, run while no other test runs.
    pub const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

/// Lists async functions from a world as tests; the names are sentences.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        vec![$($crate::Case {
            name: concat!(module_path!(), "::", stringify!($name)),
            body: |world| Box::pin($name(world)),
            alone: false,
        }),+]
    };
}
pub(crate) use cases;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TESTS_AT_ONCE);
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    // Only once: reqwest comes without a provider of its own.
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");

    // Listing and filtering cost no cluster.
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
        rest_people::cases(),
        rest_privacy::cases(),
        sockets_dialects::cases(),
        sockets_presence::cases(),
        sql_definitions::cases(),
        sql_moves_sockets::cases(),
        sql_surface::cases(),
        supabase::cases(),
        revocation::cases(),
        bad_input::cases(),
        changes::cases(),
        changes_faults::cases(),
        changes_rights::cases(),
        changes_truth::cases(),
        channels_core::cases(),
        channels_rights::cases(),
        described::cases(),
        doctor::cases(),
        edge_function::cases(),
        faults::cases(),
        context_routes::cases(),
        context_chat::cases(),
        context_freshness::cases(),
        context_meaning::cases(),
        context_models::cases(),
        context_quality::cases(),
        invisible::cases(),
        isolation::cases(),
        operating::cases(),
        typing::cases(),
        channel_bus::cases(),
        channel_presence::cases(),
        channels_handshake::cases(),
        channels_frames::cases(),
        channels_lifecycle::cases(),
        channels_limits::cases(),
        channels_broadcast::cases(),
        channels_changes::cases(),
        channels_presence::cases(),
        channels_authorization::cases(),
    ];
    let quiet = Arc::new(RwLock::new(()));
    let trial = |Case { name, body, alone }| {
        let (runtime, cluster, quiet) = (runtime.clone(), cluster.cloned(), quiet.clone());
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        Trial::test(name, move || {
            let cluster = cluster.expect("is there, unless tests are only listed");
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

/// Runs a test in a world of its own, which goes again whatever becomes of the test.
async fn run(cluster: &Arc<Cluster>, body: Body) -> Result<(), Failed> {
    let world = World::new(cluster.clone()).await;
    let ended = timeout(TEST_DEADLINE, AssertUnwindSafe(body(world.clone())).catch_unwind()).await;
    let closed = world.close().await;
    match ended {
        Err(_) => Err(format!("did not end within {TEST_DEADLINE:?}").into()),
        Ok(Err(panic)) => Err(said(&*panic).into()),
        // Servers that limp or do not stop are a failure of their own.
        Ok(Ok(())) => closed.map_err(Failed::from),
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}
