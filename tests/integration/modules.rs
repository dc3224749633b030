//! Modules: what each combination installs, serves and removes, and modules that are added later.

use std::sync::Arc;

use rollcall::{
    app::openapi_document,
    config::Secret,
    model::{Module, Modules},
    pg::{
        doctor::{run_checks, suggest},
        migrate::{MigrationTarget, Sources, dry_run, prepare, remove},
    },
};
use serde_json::json;
use testkit::{
    client::HttpResponse,
    cluster::{Cluster, connect},
    dump::Dump,
    harness::{TestDatabase, TestServer, User, service_user},
    phoenix::{SerializerVersion, broadcast},
};
use tokio_postgres::Client;

/// Tables outside of the schemas that `channels` alone may use, except those of webhooks, which operators write.
const OUTSIDE: &str = "select coalesce(array_agg(n.nspname || '.' || c.relname order by 1), '{}')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname !~ '^pg_'
      and n.nspname not in ('information_schema', 'realtime', 'rollcall_internal')
      and (n.nspname, c.relname) not in (('rollcall', 'webhooks'), ('rollcall', 'event_settings'))";

struct Installation {
    cluster: Cluster,
    url: String,
    admin: Client,
}

impl Installation {
    async fn start(name: &str) -> Self {
        let cluster = Cluster::start_bare(name).await;
        let server = connect(&cluster.admin_url("postgres")).await;
        server.batch_execute("create database app owner postgres").await.expect("a database");
        let (url, admin) = (cluster.url("app"), connect(&cluster.admin_url("app")).await);
        Self { cluster, url, admin }
    }

    fn target(&self) -> MigrationTarget {
        MigrationTarget {
            url: Secret::new(self.url.clone()),
            admin_url: Some(Secret::new(self.cluster.admin_url("app"))),
        }
    }

    async fn install(&self, modules: Option<Module>) -> Vec<String> {
        let sources = Sources::of_modules(modules.map(Modules::up_to));
        prepare(&self.target(), &sources, false).await.expect("it installs").applied
    }

    async fn tables_outside(&self) -> Vec<String> {
        self.admin.query_one(OUTSIDE, &[]).await.expect("tables").get(0)
    }

    async fn count(&self, sql: &str) -> i64 {
        self.admin.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    async fn failed_checks(&self) -> Vec<String> {
        let checks = run_checks(&Secret::new(self.url.clone()), None, &Sources::built_in()).await;
        checks.iter().filter(|check| !check.ok).map(|check| format!("{check:?}")).collect()
    }

    async fn dump(&self) -> Dump {
        Dump::of(&self.cluster.admin_url("app"), &[]).await
    }
}

/// Whether a response is the one for a module that is not installed.
fn names_module(response: &HttpResponse, module: Module) -> bool {
    let sentence = format!("the module {} is not installed in this database", module.as_str());
    response.status == 404
        && response.body["error"] == "NOT_FOUND"
        && response.body["message"].as_str().is_some_and(|message| message.starts_with(&sentence))
}

/// Broadcast, presence, private channels and changes of rows.
async fn use_channels(app: &Installation, node: &TestServer) {
    let user = User::new();
    let owner = connect(&app.url).await;
    owner
        .batch_execute(
            "create policy everyone on realtime.messages for all to authenticated using (realtime.topic() = 'open')
               with check (realtime.topic() = 'open');
             create table public.todos (id int primary key); grant select on public.todos to authenticated;
             alter publication supabase_realtime add table public.todos;
             insert into rollcall.change_settings values ('public.todos', true)",
        )
        .await
        .expect("a policy and a table");
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let denied = json!({"config": {"private": true}, "access_token": user.token});
    socket.join_error("realtime:closed", denied).await;
    socket.join_private("realtime:open", &user.token, json!({"broadcast": {"self": true}})).await;
    socket.track("realtime:open", json!({"here": true})).await;
    owner.batch_execute("select realtime.send('{\"id\": 1}', 'from_sql', 'open', true)").await.expect("sent");
    let sent = socket.next_broadcast("realtime:open").await;
    assert_eq!(sent["event"], "from_sql");
    socket.broadcast("realtime:open", "e", json!({})).await;
    assert_eq!(socket.next_broadcast("realtime:open").await, broadcast("e", json!({})));
    let present = "select count(*) from rollcall.channel_presence where topic = 'open'";
    let started = std::time::Instant::now();
    while app.count(present).await == 0 {
        assert!(started.elapsed() < testkit::harness::WAIT_TIMEOUT, "presence is not written");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let changes = json!([{"event": "*", "schema": "public", "table": "todos"}]);
    let join = json!({"config": {"postgres_changes": changes}, "access_token": user.token});
    assert_eq!(socket.try_join("realtime:todos", join).await["status"], "ok");
    assert_eq!(socket.wait_for("realtime:todos", "system").await.payload["status"], "ok");
    owner.batch_execute("insert into public.todos values (1)").await.expect("a row");
    socket.wait_for("realtime:todos", "postgres_changes").await;
}

/// Each route of the API description either works or names the module that it belongs to; none fails.
async fn check_routes(node: &TestServer, modules: Modules) -> (usize, usize) {
    let (mut of_presence, mut of_context) = (0, 0);
    let document = openapi_document();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        // The descriptions contain examples, and streams do not end.
        if path.ends_with(".json") || path.ends_with("/events") || path.ends_with("/sse") {
            continue;
        }
        let url = path.replace(['{', '}'], "");
        for method in operations.as_object().expect("operations").keys() {
            let Ok(method) = method.to_uppercase().parse() else { continue };
            let response = node.send_json(method, &service_user(), &url, Some(json!({}))).await;
            assert!(response.status.as_u16() < 500, "{path}: {} {}", response.status, response.body);
            let (presence, context) =
                (names_module(&response, Module::Presence), names_module(&response, Module::Context));
            assert!(!presence || !modules.contains(Module::Presence), "{path}: {}", response.body);
            assert!(!context || !modules.contains(Module::Context), "{path}: {}", response.body);
            of_presence += usize::from(presence);
            of_context += usize::from(context);
        }
    }
    (of_presence, of_context)
}

#[testkit::test]
async fn channels_alone_install_no_table_outside_of_their_schemas(_: Arc<TestDatabase>) {
    let app = Installation::start("channels-only").await;
    let before = app.dump().await;
    let sources = Sources::of_modules(Some(Modules::CHANNELS));
    let script = dry_run(&app.target(), &sources).await.expect("a script");
    assert!(script.contains("realtime.messages") && !script.contains("presence_devices"), "{script}");
    assert_eq!(app.dump().await, before, "a dry run changes nothing");
    let seeded = prepare(&app.target(), &sources, true).await.expect_err("demo data needs all modules");
    assert!(seeded.to_string().contains("only channels are to be installed"), "{seeded}");
    assert_eq!(app.dump().await, before);

    assert_eq!(app.install(Some(Module::Channels)).await, ["20261128000000_channels.sql"]);
    assert_eq!(app.tables_outside().await, [] as [&str; 0]);
    assert_eq!(app.failed_checks().await, [] as [&str; 0]);
    let unsuggested = suggest(&Secret::new(app.url.clone())).await.expect_err("no relations");
    assert!(unsuggested.to_string().contains("the module presence is not installed"), "{unsuggested}");

    let node = TestServer::start(&app.url, |_| {}).await;
    use_channels(&app, &node).await;
    let (of_presence, of_context) = check_routes(&node, Modules::CHANNELS).await;
    assert!(of_presence > 30 && of_context > 5, "{of_presence} {of_context}");
    for (path, module) in [
        ("/api/presence/status", Module::Presence),
        ("/api/contacts", Module::Presence),
        ("/ws?token=x", Module::Presence),
        ("/v1/models", Module::Context),
    ] {
        let response = node.get(&User::new(), path).await;
        assert!(names_module(&response, module), "{path}: {} {}", response.status, response.body);
    }
    assert!(node.socket_for_token(&User::new().token, "").await.is_err(), "no presence sockets");
    node.get(&User::new(), "/readyz").await.expect_status(200);
    node.stop().await.expect("stops");
    assert_eq!(app.count("select count(*) from rollcall.presence_nodes").await, 0, "the lease is released");

    app.admin
        .batch_execute("drop table public.todos; drop policy everyone on realtime.messages")
        .await
        .expect("it is the application's");
    assert_eq!(remove(&app.target()).await.expect("it is removed").kept, []);
    assert_eq!(app.dump().await, before);

    // The script of a dry run installs the same.
    app.admin.batch_execute(&script).await.expect("the script runs");
    assert_eq!(app.tables_outside().await, [] as [&str; 0]);
    assert_eq!(app.install(None).await, [] as [&str; 0], "an upgrade adds no module");
    assert_eq!(remove(&app.target()).await.expect("it is removed").kept, []);
    assert_eq!(app.dump().await, before);
    app.cluster.stop().await;
}

#[testkit::test]
async fn modules_are_added_later(_: Arc<TestDatabase>) {
    let app = Installation::start("added-modules").await;
    let before = app.dump().await;
    app.install(Some(Module::Channels)).await;
    connect(&app.url)
        .await
        .batch_execute(
            "create policy everyone on realtime.messages for select to authenticated using (true);
             insert into rollcall.change_settings values ('realtime.messages', true)",
        )
        .await
        .expect("what must stay");
    assert_eq!(app.install(Some(Module::Presence)).await, ["20261128000001_presence.sql"]);
    assert_eq!(app.install(None).await, [] as [&str; 0]);
    assert_eq!(app.install(Some(Module::Channels)).await, [] as [&str; 0], "no module is removed");
    assert_eq!(app.failed_checks().await, [] as [&str; 0]);
    assert_eq!(app.count("select count(*) from rollcall.change_settings").await, 1);
    let node = TestServer::start(&app.url, |_| {}).await;
    let (viewer, subject) = (User::new(), User::new());
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let owner = connect(&app.url).await;
    let contact = format!("insert into rollcall.contacts values ('{}', '{}', now())", viewer.id, subject.id);
    owner.batch_execute(&contact).await.expect("a contact");
    node.put(&subject, "/api/presence/status", json!({"status": "online"})).await;
    owner
        .batch_execute(&format!("select rollcall.set_status('{}', 'online')", subject.id))
        .await
        .expect("online");
    socket.wait_until("a contact", |socket| socket.shows_online(subject.id)).await;
    let (of_presence, of_context) = check_routes(&node, Modules::up_to(Module::Presence)).await;
    assert!(of_presence == 0 && of_context > 5, "{of_presence} {of_context}");
    node.stop().await.expect("stops");

    assert_eq!(app.install(Some(Module::Context)).await, ["20261128000002_context.sql"]);
    assert_eq!(app.failed_checks().await, [] as [&str; 0]);
    let seeded = prepare(&app.target(), &Sources::built_in(), true).await.expect("the demo data");
    assert!(seeded.seeded && seeded.applied.is_empty(), "{seeded:?}");
    let node = TestServer::start(&app.url, |_| {}).await;
    assert_eq!(check_routes(&node, Modules::ALL).await, (0, 0));
    node.stop().await.expect("stops");

    app.admin
        .batch_execute("drop policy everyone on realtime.messages")
        .await
        .expect("it is the application's");
    assert_eq!(remove(&app.target()).await.expect("it is removed").kept, []);
    assert_eq!(app.dump().await, before);
    // A new database gets everything.
    assert_eq!(app.install(None).await.len(), 3);
    app.cluster.stop().await;
}
