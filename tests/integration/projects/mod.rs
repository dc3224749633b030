//! Installation beside applications: each SQL file of this folder is a project in the shape of a typical Supabase
//! application. Its policies, helper functions and triggers keep working, and a removal leaves no trace.
//!
//! A file is SQL in blocks that blank lines separate, run in order as the role `postgres`, which is no superuser.
//! `:name` is the ID of a user. Lines that begin with `--!` are directives:
//!
//! - `on supabase` or `on postgres`: whether Supabase's services have their roles in the cluster. On plain PostgreSQL a
//!   superuser helps to install, so event triggers exist.
//! - `users a b c`: declares the users. `claims a {…}`: further claims of a user's tokens from here on.
//! - `superuser`: the rest of the block runs as the superuser.
//! - `install`: dumps the database, installs Rollcall and starts a server. The end of the file is the removal.
//! - `channel <topic> <user> rw|r|w|none`: what a user may do in a private channel.
//! - `raises <topic> <user> <SQLSTATE>`: the join is refused, and `rollcall.explain_channel` names the error.
//! - `online <user>…`: sets a status. `sees`, `hides <user> <other>…`: what the user's socket shows.
//! - `types <user> <conversation>`: the user may type there. `silent <user> <conversation>`: the user may not.
//! - `changes <schema>.<table> to <user>…`: an underscore in the schema stands for a space. The SQL of the rest of the block changes rows, and exactly these users receive it.
//! - `blocks <object>…`: the removal is refused and names these objects; a tilde stands for a space.
//! - `doctor <check>…`: exactly these checks of `rollcall doctor` fail.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, path::Path, sync::Arc};

use futures_util::{FutureExt, StreamExt};
use rollcall::{
    config::Secret,
    pg::{
        doctor::run_checks,
        migrate::{MigrationTarget, Sources, prepare, remove},
    },
};
use serde_json::{Value, json};
use testkit::{
    client::Socket,
    cluster::{Cluster, connect},
    dump::Dump,
    harness::{TestDatabase, TestServer, User, mint_token, unix_time_in},
    phoenix::{PhoenixClient, SerializerVersion},
};
use tokio_postgres::Client;
use uuid::Uuid;

/// What a new Supabase project has, without its roles.
const TEMPLATE: &str = "project_template";
const CONCURRENT_PROJECTS: usize = 3;
/// Rows of this table are changed after others, so that their arrival shows that nothing else is to come.
const SENTINEL: &str = "create schema sentinel; grant usage on schema sentinel to authenticated;
    create table sentinel.ticks (id int primary key);
    alter table sentinel.ticks enable row level security;
    create policy everyone on sentinel.ticks for select using (true);
    grant select on sentinel.ticks to authenticated;
    alter publication supabase_realtime add table sentinel.ticks";
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Supabase,
    Postgres,
}

/// Starts a cluster with a template database for projects.
async fn start_cluster(kind: Kind) -> Arc<Cluster> {
    let name = match kind {
        Kind::Supabase => "projects-supabase",
        Kind::Postgres => "projects-postgres",
    };
    let cluster = Cluster::start_bare(name).await;
    let server = connect(&cluster.admin_url("postgres")).await;
    server.batch_execute(&format!("create database {TEMPLATE} owner postgres")).await.expect("a template");
    let project = include_str!("../supabase/project.sql");
    let project = match kind {
        Kind::Supabase => project.to_owned(),
        // Then Rollcall does not take the database for one of Supabase.
        Kind::Postgres => project.replace("supabase_auth_admin", "app_auth_admin"),
    };
    let admin = connect(&cluster.admin_url(TEMPLATE)).await;
    admin.batch_execute(&project).await.expect("a project");
    let partition = "do $$ begin for i in -1 .. 1 loop
        execute format('create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
          to_char(current_date + i, '\"messages_\"YYYY_MM_DD'), current_date + i, current_date + i + 1);
        end loop; end $$";
    admin.batch_execute(partition).await.expect("a partition");
    Arc::new(cluster)
}

/// Roles, memberships and settings of a cluster, without roles of projects, whose names begin with `app_`.
async fn roles(cluster: &Cluster) -> String {
    let roles = "select string_agg(x, e'\n' order by x) from (
        select r.rolname || r.rolbypassrls || r.rolcreaterole || r.rolcanlogin as x from pg_roles r
        union all select m.roleid::regrole || ' ' || m.member::regrole from pg_auth_members m
        union all select s.setrole::regrole || array_to_string(s.setconfig, ',') from pg_db_role_setting s
          where s.setdatabase = 0) a
        where x !~ 'app_'";
    let server = connect(&cluster.admin_url("postgres")).await;
    server.query_one(roles, &[]).await.expect("roles").get(0)
}

/// Runs the projects of one kind of cluster; panics with the names of those that failed. `ROLLCALL_PROJECT` selects one.
async fn run_projects(kind: Kind) {
    let wanted = std::env::var("ROLLCALL_PROJECT").ok();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/projects");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the projects") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).expect("text").to_owned();
        let text = std::fs::read_to_string(&path).expect("a file");
        let is_supabase = text.contains("--! on supabase\n");
        assert!(is_supabase || text.contains("--! on postgres\n"), "{name}: names no kind of cluster");
        let is_meant = wanted.as_ref().is_none_or(|wanted| *wanted == name);
        if is_meant && is_supabase == (kind == Kind::Supabase) {
            files.push((name, text));
        }
    }
    files.sort();
    assert!(wanted.is_some() || files.len() >= 5, "only {} projects", files.len());
    let cluster = start_cluster(kind).await;
    let before = roles(&cluster).await;
    let server = connect(&cluster.admin_url("postgres")).await;
    let mut failed = Vec::new();
    for (name, _) in &files {
        let create = format!("create database {name} template {TEMPLATE} owner postgres");
        server.batch_execute(&create).await.unwrap_or_else(|error| panic!("{create}: {error:?}"));
    }
    let mut runs = futures_util::stream::iter(files.into_iter().map(|(name, text)| {
        let cluster = cluster.clone();
        async move {
            let run = run_project(&name, &text, cluster);
            AssertUnwindSafe(run).catch_unwind().await.err().map(|_| name)
        }
    }))
    .buffer_unordered(CONCURRENT_PROJECTS);
    while let Some(outcome) = runs.next().await {
        failed.extend(outcome);
    }
    drop(runs);
    assert!(failed.is_empty(), "failed: {failed:?}");
    assert_eq!(roles(&cluster).await, before);
    drop(server);
    cluster.stop().await;
}

async fn run_project(name: &str, text: &str, cluster: Arc<Cluster>) {
    let mut project = Project::open(name, cluster).await;
    for block in text.split("\n\n") {
        project.block(block.trim()).await;
    }
    project.remove().await;
}

#[testkit::test(no_timeout)]
async fn projects_on_supabase_keep_working_and_a_removal_leaves_no_trace(_: Arc<TestDatabase>) {
    run_projects(Kind::Supabase).await;
}

#[testkit::test(no_timeout)]
async fn projects_on_postgres_keep_working_and_a_removal_leaves_no_trace(_: Arc<TestDatabase>) {
    run_projects(Kind::Postgres).await;
}

struct Person {
    id: Uuid,
    claims: Value,
}

impl Person {
    fn user(&self) -> User {
        let mut claims = json!({"sub": self.id, "role": "authenticated", "exp": unix_time_in(3_600)});
        claims
            .as_object_mut()
            .expect("an object")
            .extend(self.claims.as_object().cloned().expect("an object"));
        User { id: self.id, token: mint_token(&claims) }
    }
}

struct Project {
    database: String,
    cluster: Arc<Cluster>,
    owner: Client,
    admin: Client,
    people: BTreeMap<String, Person>,
    node: Option<TestServer>,
    sockets: BTreeMap<String, Socket>,
    /// The schema before the installation.
    before: Option<Dump>,
    ticks: i32,
}

impl Project {
    /// Connects to a project's database, which exists.
    async fn open(name: &str, cluster: Arc<Cluster>) -> Self {
        Self {
            database: name.to_owned(),
            owner: connect(&cluster.url(name)).await,
            admin: connect(&cluster.admin_url(name)).await,
            cluster,
            people: BTreeMap::new(),
            node: None,
            sockets: BTreeMap::new(),
            before: None,
            ticks: 0,
        }
    }

    fn url(&self) -> String {
        self.cluster.url(&self.database)
    }

    fn target(&self) -> MigrationTarget {
        MigrationTarget {
            url: Secret::new(self.url()),
            admin_url: Some(Secret::new(self.cluster.admin_url(&self.database))),
        }
    }

    async fn dump(&self, options: &[&str]) -> Dump {
        Dump::of(&self.cluster.admin_url(&self.database), options).await
    }

    fn with_ids(&self, sql: &str) -> String {
        self.people.iter().fold(sql.to_owned(), |text, (name, person)| {
            text.replace(&format!(":{name}"), &format!("'{}'", person.id))
        })
    }

    async fn run(&self, client: &Client, sql: &str) {
        let sql = self.with_ids(sql);
        client
            .batch_execute(&sql)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}\n{sql}", self.database));
    }

    fn person(&self, name: &str) -> &Person {
        self.people.get(name).unwrap_or_else(|| panic!("{}: no user {name}", self.database))
    }

    fn node(&self) -> &TestServer {
        self.node.as_ref().unwrap_or_else(|| panic!("{}: is not installed", self.database))
    }

    async fn block(&mut self, block: &str) {
        let lines: Vec<&str> = block.lines().collect();
        let mut sql = String::new();
        for (index, line) in lines.iter().enumerate() {
            let Some(directive) = line.strip_prefix("--! ") else {
                sql.push_str(line);
                sql.push('\n');
                continue;
            };
            self.run(&self.owner, &sql).await;
            sql.clear();
            let (verb, rest) = directive.split_once(' ').unwrap_or((directive, ""));
            let words: Vec<&str> = rest.split_whitespace().collect();
            match verb {
                "superuser" => return self.run(&self.admin, &lines[index + 1..].join("\n")).await,
                "changes" => return self.changes(&words, &lines[index + 1..].join("\n")).await,
                "claims" => {
                    let claims = rest.split_once(' ').expect("a user and claims").1;
                    let person = self.people.get_mut(words[0]).expect("a user");
                    person.claims = serde_json::from_str(claims).expect("JSON");
                    self.sockets.remove(words[0]);
                }
                _ => self.directive(verb, &words).await,
            }
        }
        self.run(&self.owner, &sql).await;
    }

    async fn directive(&mut self, verb: &str, words: &[&str]) {
        match (verb, words) {
            ("on", _) => {}
            ("users", names) => {
                for (number, name) in names.iter().enumerate() {
                    let id = format!("a0000000-0000-4000-8000-{:012}", number + 1);
                    let person = Person { id: id.parse().expect("a UUID"), claims: json!({}) };
                    self.people.insert((*name).to_owned(), person);
                }
            }
            ("install", []) => self.install().await,
            ("channel", &[topic, user, rights]) => self.channel(topic, user, rights).await,
            ("raises", &[topic, user, state]) => self.raises(topic, user, state).await,
            ("online", names) => {
                for name in names {
                    self.run(&self.owner, &format!("select rollcall.set_status(:{name}, 'online')")).await;
                }
            }
            ("sees" | "hides", [user, others @ ..]) => self.presence(user, others, verb == "sees").await,
            ("types" | "silent", &[user, conversation]) => {
                let path = format!("/api/conversations/{conversation}/typing");
                let user = self.person(user).user();
                let response = self.node().post(&user, &path, json!({"is_typing": true})).await;
                let status = response.status.as_u16();
                assert_eq!(
                    status == 200,
                    verb == "types",
                    "{} {path}: {status} {}",
                    self.database,
                    response.body
                );
                assert!(status < 500, "{} {path}: {}", self.database, response.body);
            }
            ("blocks", parts) => {
                let error =
                    remove(&self.target()).await.expect_err("other objects depend on Rollcall").to_string();
                let missing: Vec<_> =
                    parts.iter().filter(|part| !error.contains(&part.replace('~', " "))).collect();
                assert!(missing.is_empty(), "{}: {missing:?}: {error}", self.database);
            }
            ("doctor", expected) => {
                let checks = run_checks(&Secret::new(self.url()), None, &Sources::built_in()).await;
                let failed: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
                let names: Vec<&str> = failed.iter().map(|check| check.name.as_str()).collect();
                assert_eq!(&names, expected, "{} {failed:#?}", self.database);
            }
            _ => panic!("{}: unknown directive {verb} {words:?}", self.database),
        }
    }

    async fn install(&mut self) {
        self.before = Some(self.dump(&["--schema-only"]).await);
        let outside = ["--exclude-schema=rollcall*"];
        let project = self.dump(&outside).await;
        let report = prepare(&self.target(), &Sources::built_in(), false).await;
        report.unwrap_or_else(|error| panic!("{}: {error} {error:?}", self.database));
        let installed = self.dump(&outside).await;
        let changed = project.lines_beyond(&installed);
        assert!(changed.is_empty(), "{}: changed: {changed:#?}", self.database);
        let names = "select array_agg(substring(name from '[^. (]+(?=\\(|$)')) from rollcall_internal.installed_objects";
        let recorded: Vec<String> = self.admin.query_one(names, &[]).await.expect("names").get(0);
        let ours =
            |object: &&str| object.contains("rollcall") || recorded.iter().any(|name| object.contains(name));
        let added = installed.objects_beyond(&project);
        let strange: Vec<_> = added.into_iter().filter(|object| !ours(object)).collect();
        assert!(strange.is_empty(), "{}: {strange:#?}", self.database);
        self.run(&self.owner, SENTINEL).await;
        self.node = Some(TestServer::start(&self.url(), |_| {}).await);
    }

    async fn channel(&self, topic: &str, name: &str, rights: &str) {
        let (context, token) =
            (format!("{}: {topic} {name} {rights}", self.database), self.person(name).user().token);
        let mut socket = self.node().channel_client(SerializerVersion::V2).await;
        let topic = format!("realtime:{topic}");
        let config = json!({"private": true, "broadcast": {"ack": true, "self": true}});
        let reply = socket.try_join(&topic, json!({"config": config, "access_token": token})).await;
        assert_eq!(reply["status"] == "ok", rights != "none", "{context}: {reply}");
        if rights == "none" {
            return;
        }
        let reference = socket.broadcast(&topic, "e", json!({"a": 1})).await;
        let reply = socket.wait_for_reply(&reference).await;
        assert_eq!(reply["status"] == "ok", rights.contains('w'), "{context}: {reply}");
        if rights == "rw" {
            assert_eq!(socket.next_broadcast(&topic).await["event"], "e", "{context}");
        }
    }

    async fn raises(&self, topic: &str, name: &str, state: &str) {
        self.channel(topic, name, "none").await;
        let mut claims = json!({"sub": self.person(name).id, "role": "authenticated"});
        let more = self.person(name).claims.as_object().cloned().expect("an object");
        claims.as_object_mut().expect("an object").extend(more);
        let explained =
            self.owner.query("select reason from rollcall.explain_channel($1, $2)", &[&claims, &topic]).await;
        let reasons: Vec<String> = explained.expect("reasons").iter().map(|row| row.get(0)).collect();
        assert!(reasons.iter().any(|reason| reason.contains(state)), "{}: {reasons:#?}", self.database);
    }

    async fn presence(&mut self, name: &str, others: &[&str], visible: bool) {
        let (database, user) = (self.database.clone(), self.person(name).user());
        let others: Vec<(&str, Uuid)> = others.iter().map(|other| (*other, self.person(other).id)).collect();
        if !self.sockets.contains_key(name) {
            let mut socket = self.node().socket(&user).await;
            socket.next_message().await;
            self.sockets.insert(name.to_owned(), socket);
        }
        let socket = self.sockets.get_mut(name).expect("a socket");
        for (other, id) in others {
            let what =
                format!("{database}: {name} {} {other}", if visible { "sees" } else { "does not see" });
            let shown = |socket: &Socket| if visible { socket.shows_online(id) } else { socket.hides(id) };
            socket.wait_until(&what, shown).await;
        }
    }

    async fn subscribe(&self, name: &str, schema: &str, table: &str) -> PhoenixClient {
        let mut socket = self.node().channel_client(SerializerVersion::V2).await;
        let changes = json!([{"event": "*", "schema": schema, "table": table},
            {"event": "*", "schema": "sentinel", "table": "ticks"}]);
        let join =
            json!({"config": {"postgres_changes": changes}, "access_token": self.person(name).user().token});
        let reply = socket.try_join("realtime:changes", join).await;
        assert_eq!(reply["status"], "ok", "{}: {reply}", self.database);
        let system = socket.wait_for("realtime:changes", "system").await;
        assert_eq!(system.payload["status"], "ok", "{}: {system:?}", self.database);
        socket
    }

    async fn changes(&mut self, words: &[&str], sql: &str) {
        let [table, "to", receivers @ ..] = words else { panic!("{words:?}: <table> to <user>…") };
        let (schema, table) = table.split_once('.').expect("a schema and a table");
        let schema = schema.replace('_', " ");
        let mut sockets = Vec::new();
        for name in self.people.keys() {
            sockets.push((name.clone(), self.subscribe(name, &schema, table).await));
        }
        self.run(&self.owner, sql).await;
        self.ticks += 1;
        self.run(&self.owner, &format!("insert into sentinel.ticks values ({})", self.ticks)).await;
        for (name, mut socket) in sockets {
            let mut received = Vec::new();
            loop {
                let frame = socket.wait_for("realtime:changes", "postgres_changes").await;
                if frame.payload["data"]["schema"] == "sentinel" {
                    break;
                }
                received.push(frame.payload);
            }
            let expected = receivers.contains(&&*name);
            assert_eq!(!received.is_empty(), expected, "{}: {table} to {name}: {received:?}", self.database);
        }
    }

    async fn remove(mut self) {
        self.sockets.clear();
        self.node.take().expect("it is installed").stop().await.expect("stops");
        self.run(&self.owner, "drop schema sentinel cascade").await;
        let outside = ["--data-only", "--exclude-schema=rollcall*", "--exclude-table=realtime.messages_*"];
        let data = self.dump(&outside).await;
        let removal = remove(&self.target()).await;
        let removal = removal.unwrap_or_else(|error| panic!("{}: {error}", self.database));
        assert_eq!(removal.kept, [], "{}", self.database);
        let before = self.before.take().expect("it is installed");
        self.dump(&["--schema-only"]).await.assert_equals(&before, &self.database);
        self.dump(&outside).await.assert_equals(&data, &self.database);
        let name = &self.database;
        let ours = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname ~ 'rollcall'";
        assert_eq!(self.admin.query_one(ours, &[]).await.expect("a count").get::<_, i64>(0), 0, "{name}");
    }
}
