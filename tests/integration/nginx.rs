//! Server-sent events and sockets through nginx with the configuration in `deploy/nginx`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{
    events::{Event, EventStream},
    harness::{
        TestDatabase, TestServer, User, WAIT_TIMEOUT, free_port, mint_token, service_user, unix_time_in,
    },
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

const CONFIGURATION: &str = include_str!("../../deploy/nginx/rollcall.conf");
/// A proxy that collected events would hold them for longer.
const LIMIT: Duration = Duration::from_secs(5);

/// A running nginx in front of one server.
struct Nginx {
    process: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl Nginx {
    /// Starts nginx with the site of `deploy/nginx`, without TLS.
    async fn start(node: &TestServer) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let dir = std::env::temp_dir().join(format!("rollcall-nginx-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a directory");
        let at = dir.display();
        let site: String = CONFIGURATION
            .replace("listen 443 ssl", &format!("listen {address}"))
            .replace("server 127.0.0.1:4000", &format!("server {}", node.address))
            .replace("/var/log/nginx", &at.to_string())
            .lines()
            .filter(|line| !line.trim_start().starts_with("ssl_certificate"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(site.contains(&node.address.to_string()) && site.contains(&address.to_string()), "{site}");
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log stderr;\nevents {{}}\nhttp {{\n{paths}{site}}}\n"
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, text).expect("a file");
        let process = Command::new(nginx_path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx runs; .ci/install --test unpacks it");
        let nginx = Self { process, dir, address };
        let started = Instant::now();
        while TcpStream::connect(nginx.address).await.is_err() {
            assert!(started.elapsed() < WAIT_TIMEOUT, "nginx does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        nginx
    }

    async fn events(&self, path: &str, headers: &[(&str, &str)]) -> EventStream {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut request = client.get(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        EventStream::new_through_proxy(request.send().await.expect("a response"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The nginx that `.ci/install --test` unpacked, or one of the system.
fn nginx_path() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/deploy/usr/sbin/nginx");
    let places = [unpacked, "/usr/sbin/nginx".into(), "/usr/local/bin/nginx".into()];
    places.into_iter().find(|path| path.exists()).expect(".ci/install --test unpacks nginx")
}

async fn next(stream: &mut EventStream) -> Event {
    timeout(LIMIT, stream.next()).await.expect("in time").expect("an event")
}

async fn next_message(stream: &mut EventStream) -> Value {
    let event = next(stream).await;
    assert_eq!(event.name, "message", "{event:?}");
    serde_json::from_str(&event.data).expect("JSON")
}

#[testkit::test]
async fn presence_events_pass_nginx_at_once_and_are_resumed(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("DISCONNECT_GRACE", "500ms")).await;
    let nginx = Nginx::start(&node).await;
    let (viewer, friend) = (User::new(), User::new());
    db.add_contact(&viewer, &friend).await;
    db.set_status(&friend, "online").await;
    let mut socket = node.socket_with(&friend, "&device_id=pc").await;
    let bearer = format!("Bearer {}", viewer.token);
    let headers = [("authorization", &*bearer), ("x-device-id", "tab")];
    let mut stream = nginx.events("/api/presence/events", &headers).await;
    assert_eq!(next(&mut stream).await.name, "open");
    let first = next_message(&mut stream).await;
    assert_eq!((&first["type"], &first["data"]["resumed"]), (&json!("initial_state"), &json!(false)));
    socket.wait_until("online", |socket| socket.shows_online(viewer.id)).await;
    for status in ["dnd", "busy"] {
        let body = json!({"status": status, "device_id": "pc"});
        node.post(&friend, "/api/presence/status", body).await.expect_status(200);
        assert_eq!(next_message(&mut stream).await["data"]["availability"], status);
    }
    let last_id = stream.last_id.clone().expect("a position");
    // nginx passes the end on: the device goes offline.
    drop(stream);
    socket.wait_until("offline", |socket| socket.shows_offline(viewer.id)).await;
    let body = json!({"status": "dnd", "device_id": "pc"});
    node.post(&friend, "/api/presence/status", body).await.expect_status(200);
    let headers = [("authorization", &*bearer), ("x-device-id", "tab"), ("last-event-id", &*last_id)];
    let mut stream = nginx.events("/api/presence/events", &headers).await;
    assert_eq!(next(&mut stream).await.name, "open");
    let state = next_message(&mut stream).await;
    assert_eq!(state["data"]["resumed"], true, "{state}");
    assert_eq!(state["data"]["presences"][0]["availability"], "dnd", "{state}");
    assert_eq!(state["data"]["presences"].as_array().map(Vec::len), Some(1), "{state}");

    let (stopped, ()) = tokio::join!(node.stop(), async {
        loop {
            let event = next(&mut stream).await;
            if event.name == "close" {
                assert!(event.data.contains("1001"), "{event:?}");
                break;
            }
        }
    });
    stopped.expect("in time");
}

#[testkit::test]
async fn channel_events_and_sockets_pass_nginx(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let nginx = Nginx::start(&node).await;
    let key = mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}));
    let mut stream = nginx.events("/realtime/v1/sse?topic=room", &[("apikey", &key)]).await;
    assert_eq!(next(&mut stream).await.name, "open");
    assert_eq!(next_message(&mut stream).await["payload"]["status"], "ok");
    let body = json!({"messages": [{"topic": "room", "event": "said", "payload": {"n": 1}}]});
    node.post(&service_user(), "/realtime/v1/api/broadcast", body).await.expect_status(202);
    let said = async {
        loop {
            let message = next_message(&mut stream).await;
            if message["event"] == "broadcast" {
                break message;
            }
        }
    };
    assert_eq!(timeout(LIMIT, said).await.expect("in time")["payload"]["payload"]["n"], 1);

    let url = format!("ws://{}/api/presence/subscribe?token={}", nginx.address, User::new().token);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a socket through nginx");
    let first = timeout(LIMIT, futures_util::StreamExt::next(&mut socket)).await.expect("in time");
    let first = first.expect("a message").expect("a message").into_text().expect("text");
    assert!(first.contains("initial_state"), "{first}");
}
