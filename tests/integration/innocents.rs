//! Users who have no part in an attack: their requests are timed, and nothing that they are told about each other may
//! change.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::json;
use testkit::{
    client::{Socket, SocketEvent},
    harness::{TestDatabase, TestServer, User},
    phoenix::{PhoenixClient, SerializerVersion},
};
use tokio::{select, task::JoinSet};

const USERS: usize = 4;
const TOPIC: &str = "realtime:innocents";
/// Times below this are noise of a machine that builds and tests at the same time.
const NOISE: Duration = Duration::from_millis(100);

/// Times of requests.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    fn p99(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Whether the 99th percentile is less than twice that of `quiet`.
    pub fn is_as_fast_as(&self, quiet: &Self) -> bool {
        println!("p99 {:?} of {}, quiet {:?} of {}", self.p99(), self.0.len(), quiet.p99(), quiet.0.len());
        self.p99() < quiet.p99().max(NOISE) * 2
    }
}

/// Contacts of each other with a presence socket each, two of them also present in a channel.
pub struct Innocents {
    node: Arc<TestServer>,
    users: Vec<User>,
    /// What must not have happened.
    disturbances: Arc<Mutex<Vec<String>>>,
    watchers: JoinSet<()>,
}

impl Innocents {
    pub async fn start(db: &TestDatabase, node: &Arc<TestServer>) -> Self {
        let users = User::many(USERS);
        for (number, user) in users.iter().enumerate() {
            for other in &users[..number] {
                db.add_contact(user, other).await;
            }
        }
        let mut sockets = Vec::new();
        for user in &users {
            sockets.push(node.socket_with(user, "&device_id=phone").await);
        }
        let (disturbances, mut watchers) = (Arc::<Mutex<Vec<String>>>::default(), JoinSet::new());
        for (socket, user) in sockets.iter_mut().zip(&users) {
            let others: Vec<_> =
                users.iter().filter(|other| other.id != user.id).map(|user| user.id).collect();
            socket
                .wait_until("all are online", |socket| others.iter().all(|other| socket.shows_online(*other)))
                .await;
        }
        for socket in sockets {
            watchers.spawn(watch_presence(socket, disturbances.clone()));
        }
        let mut members = Vec::new();
        for number in 0..2 {
            let mut member = node.channel_client(SerializerVersion::V2).await;
            let presence = json!({"enabled": true, "key": format!("innocent-{number}")});
            member.join(TOPIC, json!({"presence": presence})).await;
            member.track(TOPIC, json!({"number": number})).await;
            members.push(member);
        }
        for member in members {
            watchers.spawn(watch_channel(member, disturbances.clone()));
        }
        Self { node: node.clone(), users, disturbances, watchers }
    }

    /// Sends requests of all users until `attack` is done, and returns their times.
    pub async fn times_during<T>(&self, attack: impl Future<Output = T>) -> (T, Times) {
        let times = Mutex::new(Times::default());
        let requests = async {
            loop {
                for user in &self.users {
                    let started = Instant::now();
                    let body = json!({"device_id": "phone", "active": true});
                    self.node.post(user, "/api/presence/heartbeat", body).await.expect_status(200);
                    times.lock().0.push(started.elapsed());
                    let started = Instant::now();
                    self.node.get(user, "/api/presence/status").await.expect_status(200);
                    times.lock().0.push(started.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let done = select! {
            done = attack => done,
            () = requests => unreachable!("the requests do not end"),
        };
        (done, times.into_inner())
    }

    /// Times of requests while nothing else happens.
    pub async fn quiet_times(&self) -> Times {
        // The first requests fill caches.
        drop(self.times_during(tokio::time::sleep(Duration::from_millis(500))).await);
        self.times_during(tokio::time::sleep(Duration::from_secs(2))).await.1
    }

    /// Checks that no user was told that another one left, and that no socket was closed.
    #[track_caller]
    pub fn assert_undisturbed(&mut self) {
        let disturbances = self.disturbances.lock();
        assert!(disturbances.is_empty(), "{disturbances:?}");
        assert_eq!(self.watchers.try_join_next().map(|ended| ended.is_ok()), None, "a watcher has ended");
    }
}

async fn watch_presence(mut socket: Socket, disturbances: Arc<Mutex<Vec<String>>>) {
    loop {
        match socket.receive(tokio::time::Instant::now() + Duration::from_secs(3_600)).await {
            Some(SocketEvent::Frame(frame)) => {
                if frame["type"] == "presence_update" && frame["data"]["status"] != "online" {
                    disturbances.lock().push(frame.to_string());
                }
            }
            other => return disturbances.lock().push(format!("{other:?}")),
        }
    }
}

async fn watch_channel(mut member: PhoenixClient, disturbances: Arc<Mutex<Vec<String>>>) {
    let mut last_heartbeat = Instant::now();
    loop {
        let frame = member.receive(tokio::time::Instant::now() + Duration::from_secs(10)).await;
        let Some(frame) = frame else {
            // An end of the socket is a disturbance; silence is none.
            if last_heartbeat.elapsed() < Duration::from_secs(9) {
                return disturbances.lock().push("a channel socket ended".to_owned());
            }
            last_heartbeat = Instant::now();
            member.push_as(json!(null), json!("hb"), "phoenix", "heartbeat", json!({})).await;
            continue;
        };
        let has_left = frame.event == "presence_diff"
            && frame.payload["leaves"]
                .as_object()
                .is_some_and(|leaves| leaves.keys().any(|key| frame.payload["joins"].get(key).is_none()));
        if has_left || frame.event == "phx_close" || frame.event == "phx_error" {
            disturbances.lock().push(format!("{frame:?}"));
        }
    }
}
