//! Channel presence across nodes and as rows. A [`PresenceHarness`] has the components a node uses for this, on a real
//! database, with members that reduce frames like the official JavaScript client.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use rollcall::{
    channels::{
        bus::Peers,
        presence::{
            ChannelPresence, DiffSink, Occupancy, PresencePayload, PresenceRef, ReservedDiff,
            remote::{RemoteChanges, RemotePresence, RemotePresenceNotifications},
            store::{PresenceRowWriter, PresenceStore},
        },
    },
    clock::SystemClock,
    hub::HubStopped,
    model::{ChannelId, NodeId, Topic},
    pg::{Database, listener, queries::node},
};
use serde_json::{Value, json};
use testkit::{
    harness::{TestDatabase, User, WAIT_TIMEOUT, wait_until},
    presence_client_state::PresenceClientState,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Time without a renewal after which a node counts as dead.
const LEASE: Duration = Duration::from_secs(2);

/// Topic members in place of sockets.
#[derive(Default)]
struct LocalMembers(Mutex<HashMap<Topic, Vec<Arc<Mutex<PresenceClientState>>>>>);

struct LocalDiffTarget<'a>(&'a LocalMembers);

impl ReservedDiff for LocalDiffTarget<'_> {
    fn send(self: Box<Self>, topic: &Topic, payload: Bytes) {
        for state in self.0.0.lock().get(topic).into_iter().flatten() {
            state.lock().apply_diff(&serde_json::from_slice(&payload).expect("JSON"));
        }
    }

    fn send_occupancy(self: Box<Self>, _topic: &Topic, _occupancy: Occupancy) {
        unreachable!("nobody watches the occupancy");
    }
}

impl DiffSink for LocalMembers {
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn ReservedDiff + '_>, HubStopped>> {
        let target: Box<dyn ReservedDiff> = Box::new(LocalDiffTarget(self));
        std::future::ready(Ok(target)).boxed()
    }
}

/// The components of a node that implement channel presence.
struct PresenceHarness {
    node: NodeId,
    database: Database,
    presence: ChannelPresence,
    members: Arc<LocalMembers>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl PresenceHarness {
    async fn open(db: &TestDatabase) -> Self {
        let database = Database::new(&db.url, None, 4).expect("a valid URL");
        let (node, stop, members) =
            (NodeId::random(), CancellationToken::new(), Arc::<LocalMembers>::default());
        let new_presence = |rows: &PresenceStore| {
            ChannelPresence::new(node, Arc::new(SystemClock), members.clone(), rows.clone())
        };
        let (rows, inbox) = (PresenceStore::default(), Arc::<RemoteChanges>::default());
        let presence = new_presence(&rows);
        let own = database.server_connection().await.expect("a connection");
        node::renew_lease(&own, node, LEASE).await.expect("a lease");
        let peers = Peers::new(LEASE);
        let remote = RemotePresence::new(
            node,
            presence.clone(),
            rows.clone(),
            database.clone(),
            inbox.clone(),
            peers,
            LEASE,
        );
        let mut ready = remote.ready();
        let write = PresenceRowWriter::new(rows, presence.clone(), database.clone(), node);
        let listen = listener::run(
            database.direct_connector().clone(),
            RemotePresenceNotifications(inbox),
            stop.clone(),
        );
        let renew = {
            let database = database.clone();
            async move {
                loop {
                    if let Ok(own) = database.server_connection().await {
                        drop(node::renew_lease(&own, node, LEASE).await);
                    }
                    sleep(LEASE / 4).await;
                }
            }
        };
        let tasks = vec![
            tokio::spawn(write.run(stop.clone())),
            tokio::spawn(remote.run(stop.clone())),
            tokio::spawn(listen),
            tokio::spawn(renew),
        ];
        ready.wait_for(|ready| *ready).await.expect("remote presence is ready");
        Self { node, database, presence, members, stop, tasks }
    }

    /// Adds a member to a topic; returns its presence state.
    fn watch(&self, topic: &Topic) -> Arc<Mutex<PresenceClientState>> {
        let member = Arc::<Mutex<PresenceClientState>>::default();
        self.presence.with_state(topic, |state| {
            member.lock().apply_state(&serde_json::from_slice(&state).expect("JSON"));
            self.members.0.lock().entry(topic.clone()).or_default().push(member.clone());
        });
        member
    }

    async fn track(&self, entry: &PresenceRef, payload: Value) {
        let payload = PresencePayload::from_json(&payload.to_string()).expect("an object");
        self.presence.track(entry, payload).await.expect("it runs");
    }

    async fn untrack(&self, entry: &PresenceRef) {
        self.presence.untrack(entry).await.expect("it runs");
    }

    /// Returns the state that a new member would receive, without refs.
    fn state(&self, topic: &Topic) -> BTreeMap<String, Vec<Value>> {
        let state = serde_json::from_slice(&self.presence.encoded_state(topic)).expect("JSON");
        PresenceClientState::of_state(&state).payloads()
    }

    /// Stops without cleaning up.
    fn crash(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for PresenceHarness {
    fn drop(&mut self) {
        self.crash();
        self.database.close();
    }
}

fn presence_ref(topic: &Topic, key: &str) -> PresenceRef {
    PresenceRef { topic: topic.clone(), key: key.into(), channel: ChannelId::next(), user: None }
}

fn single_entry(key: &str, payload: Value) -> BTreeMap<String, Vec<Value>> {
    [(key.to_owned(), vec![payload])].into()
}

const SELECT_ROWS: &str =
    "select coalesce(json_agg(json_build_array(p.topic, p.private, p.key, p.meta) order by p.key), '[]')
    from rollcall.channel_presence p";

async fn wait_for_rows(db: &TestDatabase, wanted: Value) {
    let started = Instant::now();
    loop {
        let rows: Value = db.query_row(SELECT_ROWS, &[]).await.get(0);
        if rows == wanted {
            return;
        }
        assert!(started.elapsed() < WAIT_TIMEOUT, "{rows:#} instead of {wanted:#}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[testkit::test]
async fn a_tracked_payload_is_a_row_until_untracked(db: Arc<TestDatabase>) {
    let harness = PresenceHarness::open(&db).await;
    let topic = Topic::private("lobby");
    let user = User::new();
    let ann = PresenceRef { user: Some(user.id.into()), ..presence_ref(&topic, "ann") };

    harness.track(&ann, json!({"status": "online"})).await;
    wait_for_rows(&db, json!([["lobby", true, "ann", {"status": "online"}]])).await;
    let first = db.query_row("select joined_at, phx_ref, user_id from rollcall.presence", &[]).await;
    assert_eq!(first.get::<_, uuid::Uuid>("user_id"), user.id);

    harness.track(&ann, json!({"status": "busy"})).await;
    wait_for_rows(&db, json!([["lobby", true, "ann", {"status": "busy"}]])).await;
    let second = db
        .query_row("select joined_at, phx_ref, updated_at > joined_at as later from rollcall.presence", &[])
        .await;
    assert_eq!(second.get::<_, jiff::Timestamp>("joined_at"), first.get::<_, jiff::Timestamp>("joined_at"));
    assert_ne!(second.get::<_, String>("phx_ref"), first.get::<_, String>("phx_ref"));

    harness.untrack(&ann).await;
    wait_for_rows(&db, json!([])).await;
}

#[testkit::test]
async fn payloads_that_jsonb_cannot_store_still_get_a_row(db: Arc<TestDatabase>) {
    let harness = PresenceHarness::open(&db).await;
    let topic = Topic::public("lobby");
    let odd =
        PresencePayload::from_json(r#"{"nul":"\u0000","half":"\ud800","huge":1e999999}"#).expect("an object");
    harness.presence.track(&presence_ref(&topic, "odd"), odd).await.expect("it runs");
    harness
        .presence
        .track(&presence_ref(&topic, "n\0l"), PresencePayload::from_json("{}").expect("an object"))
        .await
        .expect("it runs");
    harness.track(&presence_ref(&topic, "plain"), json!({"n": 1})).await;
    wait_for_rows(&db, json!([["lobby", false, "odd", null], ["lobby", false, "plain", {"n": 1}]])).await;
    let text: String =
        db.query_row("select payload from rollcall.presence where key = 'odd'", &[]).await.get(0);
    assert_eq!(text, r#"{"nul":"\u0000","half":"\ud800","huge":1e999999}"#);
}

#[testkit::test]
async fn other_nodes_see_presence_shortly(db: Arc<TestDatabase>) {
    let (here, there) = (PresenceHarness::open(&db).await, PresenceHarness::open(&db).await);
    let topic = Topic::public("lobby");
    let watcher = there.watch(&topic);
    let (ann, bob) = (presence_ref(&topic, "ann"), presence_ref(&topic, "bob"));

    let started = Instant::now();
    here.track(&ann, json!({"big": 1})).await;
    wait_until("the watcher sees ann", || {
        watcher.lock().payloads() == single_entry("ann", json!({"big": 1}))
    })
    .await;
    println!("a track crossed the nodes in {:?}", started.elapsed());

    here.track(&bob, json!({})).await;
    for n in 0..50 {
        here.track(&ann, json!({"n": n})).await;
    }
    here.untrack(&bob).await;
    wait_until("the watcher sees the last state", || {
        watcher.lock().payloads() == single_entry("ann", json!({"n": 49}))
    })
    .await;
    assert_eq!(there.state(&topic), here.state(&topic));
    assert!(here.state(&Topic::private("lobby")).is_empty());

    here.untrack(&ann).await;
    wait_until("the watcher sees no entry", || watcher.lock().payloads().is_empty()).await;
}

#[testkit::test]
async fn a_starting_node_loads_existing_presence(db: Arc<TestDatabase>) {
    let topic = Topic::private("lobby");
    let here = PresenceHarness::open(&db).await;
    let raw = r#"{"z":12345678901234567890123, "a":1.0}"#;
    let members: Vec<PresenceRef> = (0..100).map(|n| presence_ref(&topic, &format!("key-{n}"))).collect();
    let walk = async {
        for (n, entry) in members.iter().enumerate() {
            here.presence
                .track(entry, PresencePayload::from_json(raw).expect("an object"))
                .await
                .expect("it runs");
            if n % 3 == 0 {
                here.untrack(entry).await;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    // Other members come and go meanwhile.
    let (there, ()) = futures_util::join!(PresenceHarness::open(&db), walk);
    wait_until("both agree", || there.state(&topic) == here.state(&topic)).await;
    let text = String::from_utf8(there.presence.encoded_state(&topic).to_vec()).expect("text");
    assert!(text.contains(r#""z":12345678901234567890123, "a":1.0}"#), "unchanged: {text}");
}

#[testkit::test]
async fn entries_of_a_stopped_node_leave_at_once(db: Arc<TestDatabase>) {
    let (here, there) = (PresenceHarness::open(&db).await, PresenceHarness::open(&db).await);
    let topic = Topic::public("lobby");
    here.track(&presence_ref(&topic, "ann"), json!({})).await;
    wait_until("ann is visible", || !there.state(&topic).is_empty()).await;

    here.stop.cancel();
    let started = Instant::now();
    wait_until("ann has left", || there.state(&topic).is_empty()).await;
    assert!(started.elapsed() < LEASE, "without waiting for the lease");
    wait_for_rows(&db, json!([])).await;
}

#[testkit::test]
async fn entries_of_a_dead_node_leave_when_its_lease_expires(db: Arc<TestDatabase>) {
    let (here, there) = (PresenceHarness::open(&db).await, PresenceHarness::open(&db).await);
    let topic = Topic::public("lobby");
    let watcher = there.watch(&topic);
    for n in 0..20 {
        here.track(&presence_ref(&topic, &format!("key-{n}")), json!({})).await;
    }
    wait_until("all are visible", || watcher.lock().payloads().len() == 20).await;

    here.crash();
    let diffs = watcher.lock().diff_count;
    wait_until("all have left", || watcher.lock().payloads().is_empty()).await;
    assert_eq!(watcher.lock().diff_count, diffs + 1, "in one diff");
    db.execute("select rollcall.sweep()", &[]).await;
    let left: i64 = db.query_row("select count(*) from rollcall.presence", &[]).await.get(0);
    assert_eq!(left, 0, "the sweep deletes the rows");
}

#[testkit::test]
async fn deleted_rows_are_rewritten(db: Arc<TestDatabase>) {
    let (here, there) = (PresenceHarness::open(&db).await, PresenceHarness::open(&db).await);
    let topic = Topic::public("lobby");
    let watcher = there.watch(&topic);
    let row = json!([["lobby", false, "ann", {}]]);
    here.track(&presence_ref(&topic, "ann"), json!({})).await;
    wait_until("ann is visible", || !watcher.lock().payloads().is_empty()).await;
    let diffs = watcher.lock().diff_count;

    db.execute("truncate rollcall_internal.channel_presence", &[]).await;
    wait_for_rows(&db, row.clone()).await;
    // The node is considered dead, as after a long pause of its process.
    db.execute("delete from rollcall.presence_nodes where id = $node", &[("node", here.node.0)]).await;
    wait_for_rows(&db, row).await;
    wait_until("ann is still there, or again", || there.state(&topic) == here.state(&topic)).await;
    assert!(watcher.lock().diff_count <= diffs + 2, "at most one leave and join");
}

#[testkit::test]
async fn presence_works_without_the_database(db: Arc<TestDatabase>) {
    let (here, there) = (PresenceHarness::open(&db).await, PresenceHarness::open(&db).await);
    let topic = Topic::public("lobby");
    let (near, far) = (here.watch(&topic), there.watch(&topic));
    let (ann, bob) = (presence_ref(&topic, "ann"), presence_ref(&topic, "bob"));
    here.track(&ann, json!({"n": 0})).await;
    wait_until("ann is visible", || !far.lock().payloads().is_empty()).await;

    // Every statement on the table fails or blocks, and every connection is cut.
    db.execute("alter table rollcall_internal.channel_presence rename to presence_away", &[]).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    db.execute(cut, &[]).await;
    here.track(&ann, json!({"n": 1})).await;
    here.track(&bob, json!({})).await;
    here.untrack(&bob).await;
    assert_eq!(
        near.lock().payloads(),
        single_entry("ann", json!({"n": 1})),
        "sockets of the same node receive it at once"
    );

    db.execute("alter table rollcall_internal.presence_away rename to channel_presence", &[]).await;
    wait_until("the other node receives it", || {
        far.lock().payloads() == single_entry("ann", json!({"n": 1}))
    })
    .await;
    wait_for_rows(&db, json!([["lobby", false, "ann", {"n": 1}]])).await;
}

#[testkit::test]
async fn rows_are_visible_by_policy(db: Arc<TestDatabase>) {
    let harness = PresenceHarness::open(&db).await;
    let topic = Topic::private("lobby");
    let [mine, other] = [User::new(), User::new()];
    harness
        .track(&PresenceRef { user: Some(mine.id.into()), ..presence_ref(&topic, "mine") }, json!({}))
        .await;
    harness
        .track(&PresenceRef { user: Some(other.id.into()), ..presence_ref(&topic, "other") }, json!({}))
        .await;
    wait_for_rows(&db, json!([["lobby", true, "mine", {}], ["lobby", true, "other", {}]])).await;

    let as_role = async |role: &str, relation: &str| -> Vec<String> {
        let mut client = db.connect().await;
        let tx = client.transaction().await.expect("a transaction");
        let claims = json!({"sub": mine.id, "role": role}).to_string();
        tx.execute(
            "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
            &[&role, &claims],
        )
        .await
        .expect("a role");
        let rows = tx
            .query(&format!("select key from {relation} order by key"), &[])
            .await
            .expect("the query is allowed");
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(as_role("anon", "rollcall.presence").await, [] as [&str; 0]);
    assert_eq!(as_role("authenticated", "rollcall.channel_presence").await, ["mine"]);
    assert_eq!(as_role("service_role", "rollcall.channel_presence").await, ["mine", "other"]);

    db.execute(
        "create policy \"the lobby is open\" on rollcall_internal.channel_presence for select to anon using (topic = 'lobby')",
        &[],
    )
    .await;
    assert_eq!(as_role("anon", "rollcall.presence").await, ["mine", "other"]);
}
