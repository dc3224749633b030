//! Presence in channels over nodes and as rows, with desks in place of whole servers: each has the parts that a node has
//! for this, on the real database, and members that reduce their frames as the official JavaScript client does.

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
        ChannelId, Room,
        bus::Neighbours,
        presence::{
            ChannelPresence, Outlet, Payload, Reserved, Seat,
            mirror::{Mirror, MirrorEars, MirrorInbox},
            rows::{Rows, RowsTask},
        },
    },
    clock::SystemClock,
    hub::HubStopped,
    model::NodeId,
    pg::{Database, listener, queries::node},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Case, cases,
    picture::Picture,
    world::{PATIENCE, User, World},
};

/// The tests.
pub fn cases() -> Vec<Case> {
    cases![
        what_is_tracked_is_a_row_until_it_is_taken_back,
        what_jsonb_cannot_hold_is_a_row_all_the_same,
        other_nodes_see_who_is_present_within_moments,
        a_node_that_starts_learns_who_is_there,
        a_node_that_takes_its_leave_is_gone_at_once,
        a_dead_nodes_people_leave_within_its_lease,
        rows_that_were_lost_are_written_again,
        presence_goes_on_while_the_database_is_away,
        rows_are_shown_by_policy,
    ]
}

/// How long a node counts as alive without a word.
const LEASE: Duration = Duration::from_secs(2);

/// Members of rooms, in place of sockets.
#[derive(Default)]
struct Seats(Mutex<HashMap<Room, Vec<Arc<Mutex<Picture>>>>>);

struct Place<'a>(&'a Seats);

impl Reserved for Place<'_> {
    fn send(self: Box<Self>, room: &Room, payload: Bytes) {
        for picture in self.0.0.lock().get(room).into_iter().flatten() {
            picture.lock().diff(&payload);
        }
    }
}

impl Outlet for Seats {
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn Reserved + '_>, HubStopped>> {
        let place: Box<dyn Reserved> = Box::new(Place(self));
        std::future::ready(Ok(place)).boxed()
    }
}

/// The parts of a node that presence in channels consists of.
struct Desk {
    node: NodeId,
    database: Database,
    presence: ChannelPresence,
    seats: Arc<Seats>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Desk {
    async fn open(world: &World) -> Self {
        let database = Database::new(&world.url, None, 4).expect("the URL is fine");
        let (node, stop, seats) = (NodeId::random(), CancellationToken::new(), Arc::<Seats>::default());
        let desk =
            |rows: &Rows| ChannelPresence::new(node, Arc::new(SystemClock), seats.clone(), rows.clone());
        let (rows, inbox) = (Rows::default(), Arc::<MirrorInbox>::default());
        let presence = desk(&rows);
        let own = database.own().await.expect("a connection");
        node::renew_lease(&own, node, LEASE).await.expect("a lease");
        let neighbours = Neighbours::new(LEASE);
        let mirror = Mirror::new(
            node,
            presence.clone(),
            rows.clone(),
            database.clone(),
            inbox.clone(),
            neighbours,
            LEASE,
        );
        let mut ready = mirror.ready();
        let write = RowsTask::new(rows, presence.clone(), database.clone(), node);
        let listen = listener::run(database.direct().clone(), MirrorEars(inbox), stop.clone());
        let renew = {
            let database = database.clone();
            async move {
                loop {
                    if let Ok(own) = database.own().await {
                        drop(node::renew_lease(&own, node, LEASE).await);
                    }
                    sleep(LEASE / 4).await;
                }
            }
        };
        let tasks = vec![
            tokio::spawn(write.run(stop.clone())),
            tokio::spawn(mirror.run(stop.clone())),
            tokio::spawn(listen),
            tokio::spawn(renew),
        ];
        ready.wait_for(|ready| *ready).await.expect("the mirror runs");
        Self { node, database, presence, seats, stop, tasks }
    }

    /// Somebody who watches a room.
    fn watch(&self, room: &Room) -> Arc<Mutex<Picture>> {
        let picture = Arc::<Mutex<Picture>>::default();
        self.presence.enter(room, |state| {
            picture.lock().state(&state);
            self.seats.0.lock().entry(room.clone()).or_default().push(picture.clone());
        });
        picture
    }

    async fn track(&self, seat: &Seat, payload: Value) {
        let payload = Payload::from_json(&payload.to_string()).expect("an object");
        self.presence.track(seat, payload).await.expect("it runs");
    }

    async fn untrack(&self, seat: &Seat) {
        self.presence.untrack(seat).await.expect("it runs");
    }

    /// What the node would tell a newcomer, without refs.
    fn state(&self, room: &Room) -> BTreeMap<String, Vec<Value>> {
        let mut picture = Picture::default();
        picture.state(&self.presence.state(room));
        picture.payloads()
    }

    /// Dies without a word.
    fn crash(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.crash();
        self.database.close();
    }
}

fn seat(room: &Room, key: &str) -> Seat {
    Seat { room: room.clone(), key: key.into(), channel: ChannelId::next(), user: None }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

fn only(key: &str, payload: Value) -> BTreeMap<String, Vec<Value>> {
    [(key.to_owned(), vec![payload])].into()
}

const ROWS: &str =
    "select coalesce(json_agg(json_build_array(p.topic, p.private, p.key, p.meta) order by p.key), '[]')
    from rollcall.channel_presence p";

async fn rows_become(world: &World, wanted: Value) {
    let started = Instant::now();
    loop {
        let rows: Value = world.row(ROWS, &[]).await.get(0);
        if rows == wanted {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{rows:#} instead of {wanted:#}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn what_is_tracked_is_a_row_until_it_is_taken_back(world: Arc<World>) {
    let desk = Desk::open(&world).await;
    let room = Room::private("lobby");
    let user = User::new();
    let ann = Seat { user: Some(user.id.into()), ..seat(&room, "ann") };

    desk.track(&ann, json!({"status": "online"})).await;
    rows_become(&world, json!([["lobby", true, "ann", {"status": "online"}]])).await;
    let first = world.row("select joined_at, phx_ref, user_id from rollcall.presence", &[]).await;
    assert_eq!(first.get::<_, uuid::Uuid>("user_id"), user.id);

    desk.track(&ann, json!({"status": "busy"})).await;
    rows_become(&world, json!([["lobby", true, "ann", {"status": "busy"}]])).await;
    let second = world
        .row("select joined_at, phx_ref, updated_at > joined_at as later from rollcall.presence", &[])
        .await;
    assert_eq!(second.get::<_, jiff::Timestamp>("joined_at"), first.get::<_, jiff::Timestamp>("joined_at"));
    assert_ne!(second.get::<_, String>("phx_ref"), first.get::<_, String>("phx_ref"));

    desk.untrack(&ann).await;
    rows_become(&world, json!([])).await;
}

async fn what_jsonb_cannot_hold_is_a_row_all_the_same(world: Arc<World>) {
    let desk = Desk::open(&world).await;
    let room = Room::public("lobby");
    let odd = Payload::from_json(r#"{"nul":"\u0000","half":"\ud800","huge":1e999999}"#).expect("an object");
    desk.presence.track(&seat(&room, "odd"), odd).await.expect("it runs");
    desk.presence
        .track(&seat(&room, "n\0l"), Payload::from_json("{}").expect("an object"))
        .await
        .expect("it runs");
    desk.track(&seat(&room, "plain"), json!({"n": 1})).await;
    rows_become(&world, json!([["lobby", false, "odd", null], ["lobby", false, "plain", {"n": 1}]])).await;
    let text: String = world.row("select payload from rollcall.presence where key = 'odd'", &[]).await.get(0);
    assert_eq!(text, r#"{"nul":"\u0000","half":"\ud800","huge":1e999999}"#);
}

async fn other_nodes_see_who_is_present_within_moments(world: Arc<World>) {
    let (here, there) = (Desk::open(&world).await, Desk::open(&world).await);
    let room = Room::public("lobby");
    let watcher = there.watch(&room);
    let (ann, bob) = (seat(&room, "ann"), seat(&room, "bob"));

    let started = Instant::now();
    here.track(&ann, json!({"big": 1})).await;
    until("the watcher sees ann", || watcher.lock().payloads() == only("ann", json!({"big": 1}))).await;
    println!("a track crossed the nodes in {:?}", started.elapsed());

    here.track(&bob, json!({})).await;
    for n in 0..50 {
        here.track(&ann, json!({"n": n})).await;
    }
    here.untrack(&bob).await;
    until("the watcher sees the last state", || watcher.lock().payloads() == only("ann", json!({"n": 49})))
        .await;
    assert_eq!(there.state(&room), here.state(&room));
    assert!(here.state(&Room::private("lobby")).is_empty());

    here.untrack(&ann).await;
    until("the watcher sees nobody", || watcher.lock().payloads().is_empty()).await;
}

async fn a_node_that_starts_learns_who_is_there(world: Arc<World>) {
    let room = Room::private("lobby");
    let here = Desk::open(&world).await;
    let raw = r#"{"z":12345678901234567890123, "a":1.0}"#;
    let seats: Vec<Seat> = (0..100).map(|n| seat(&room, &format!("key-{n}"))).collect();
    let walk = async {
        for (n, seat) in seats.iter().enumerate() {
            here.presence.track(seat, Payload::from_json(raw).expect("an object")).await.expect("it runs");
            if n % 3 == 0 {
                here.untrack(seat).await;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    // While people come and go.
    let (there, ()) = futures_util::join!(Desk::open(&world), walk);
    until("both agree", || there.state(&room) == here.state(&room)).await;
    let text = String::from_utf8(there.presence.state(&room).to_vec()).expect("text");
    assert!(text.contains(r#""z":12345678901234567890123, "a":1.0}"#), "as it was sent: {text}");
}

async fn a_node_that_takes_its_leave_is_gone_at_once(world: Arc<World>) {
    let (here, there) = (Desk::open(&world).await, Desk::open(&world).await);
    let room = Room::public("lobby");
    here.track(&seat(&room, "ann"), json!({})).await;
    until("ann is seen", || !there.state(&room).is_empty()).await;

    here.stop.cancel();
    let started = Instant::now();
    until("ann has gone", || there.state(&room).is_empty()).await;
    assert!(started.elapsed() < LEASE, "without waiting for the lease");
    rows_become(&world, json!([])).await;
}

async fn a_dead_nodes_people_leave_within_its_lease(world: Arc<World>) {
    let (here, there) = (Desk::open(&world).await, Desk::open(&world).await);
    let room = Room::public("lobby");
    let watcher = there.watch(&room);
    for n in 0..20 {
        here.track(&seat(&room, &format!("key-{n}")), json!({})).await;
    }
    until("all are seen", || watcher.lock().payloads().len() == 20).await;

    here.crash();
    let diffs = watcher.lock().diffs;
    until("all have gone", || watcher.lock().payloads().is_empty()).await;
    assert_eq!(watcher.lock().diffs, diffs + 1, "in one diff");
    world.run("select rollcall.sweep()", &[]).await;
    let left: i64 = world.row("select count(*) from rollcall.presence", &[]).await.get(0);
    assert_eq!(left, 0, "the sweep takes the rows along");
}

async fn rows_that_were_lost_are_written_again(world: Arc<World>) {
    let (here, there) = (Desk::open(&world).await, Desk::open(&world).await);
    let room = Room::public("lobby");
    let watcher = there.watch(&room);
    let row = json!([["lobby", false, "ann", {}]]);
    here.track(&seat(&room, "ann"), json!({})).await;
    until("ann is seen", || !watcher.lock().payloads().is_empty()).await;
    let diffs = watcher.lock().diffs;

    world.run("truncate rollcall.presence", &[]).await;
    rows_become(&world, row.clone()).await;
    // Taken for dead, as after a long pause of the process.
    world.run("delete from public.presence_nodes where id = $node", &[("node", here.node.0)]).await;
    rows_become(&world, row).await;
    until("ann is still there, or again", || there.state(&room) == here.state(&room)).await;
    assert!(watcher.lock().diffs <= diffs + 2, "at most once away and back");
}

async fn presence_goes_on_while_the_database_is_away(world: Arc<World>) {
    let (here, there) = (Desk::open(&world).await, Desk::open(&world).await);
    let room = Room::public("lobby");
    let (near, far) = (here.watch(&room), there.watch(&room));
    let (ann, bob) = (seat(&room, "ann"), seat(&room, "bob"));
    here.track(&ann, json!({"n": 0})).await;
    until("ann is seen", || !far.lock().payloads().is_empty()).await;

    // Every statement on the table fails or waits, and every connection is cut.
    world.run("alter table rollcall.presence rename to presence_away", &[]).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    world.run(cut, &[]).await;
    here.track(&ann, json!({"n": 1})).await;
    here.track(&bob, json!({})).await;
    here.untrack(&bob).await;
    assert_eq!(
        near.lock().payloads(),
        only("ann", json!({"n": 1})),
        "the own node's sockets hear it at once"
    );

    world.run("alter table rollcall.presence_away rename to presence", &[]).await;
    until("the other node hears of it", || far.lock().payloads() == only("ann", json!({"n": 1}))).await;
    rows_become(&world, json!([["lobby", false, "ann", {"n": 1}]])).await;
}

async fn rows_are_shown_by_policy(world: Arc<World>) {
    let desk = Desk::open(&world).await;
    let room = Room::private("lobby");
    let [mine, other] = [User::new(), User::new()];
    desk.track(&Seat { user: Some(mine.id.into()), ..seat(&room, "mine") }, json!({})).await;
    desk.track(&Seat { user: Some(other.id.into()), ..seat(&room, "other") }, json!({})).await;
    rows_become(&world, json!([["lobby", true, "mine", {}], ["lobby", true, "other", {}]])).await;

    let as_role = async |role: &str, relation: &str| -> Vec<String> {
        let mut client = world.connect().await;
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
            .expect("it may be asked");
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(as_role("anon", "rollcall.presence").await, [] as [&str; 0]);
    assert_eq!(as_role("authenticated", "rollcall.channel_presence").await, ["mine"]);
    assert_eq!(as_role("service_role", "rollcall.channel_presence").await, ["mine", "other"]);

    world
        .run(
            "create policy \"the lobby is open\" on rollcall.presence for select to anon using (topic = 'lobby')",
            &[],
        )
        .await;
    assert_eq!(as_role("anon", "rollcall.presence").await, ["mine", "other"]);
}
