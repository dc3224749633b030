//! The bus over NATS: what PostgreSQL's does not have, and what happens when NATS fails.

use std::{process::Command, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use rollcall::{
    channels::bus::{Audience, BusMessage},
    model::{Secret, Topic},
};
use serde_json::{Value, json};
use testkit::{
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, free_port, wait_until},
    nats::NatsServer,
    phoenix::{SerializerVersion, anon_key, broadcast},
};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::bus_harness::{BusNode, Network, Signal, lobby};

const POLICIES: &str = include_str!("channel_policies.sql");
const TOPIC: &str = "realtime:room";

async fn start_server(db: &TestDatabase, url: &str) -> Arc<TestServer> {
    db.start_server_with(|settings| settings.set("NATS_URL", url)).await
}

/// Messages that NATS has sent to a node.
async fn sent_to(server: &NatsServer, node: &BusNode) -> u64 {
    let connections = server.monitor("/connz").await;
    let name = format!("rollcall {}", node.node.0);
    let connections = connections["connections"].as_array().expect("a list");
    let connection = connections.iter().find(|connection| connection["name"] == name.as_str());
    connection.unwrap_or_else(|| panic!("{name}: {connections:?}"))["out_msgs"].as_u64().expect("a number")
}

async fn readiness(node: &TestServer) -> (u16, Value) {
    let response = node.get(&User::new(), "/readyz").await;
    (response.status.as_u16(), response.body["checks"]["nats"].clone())
}

async fn wait_until_ready(node: &TestServer) {
    let started = Instant::now();
    while readiness(node).await.0 != 200 {
        assert!(started.elapsed() < WAIT_TIMEOUT, "not ready: {:?}", readiness(node).await);
        sleep(Duration::from_millis(50)).await;
    }
}

#[testkit::test]
async fn a_node_receives_only_topics_with_members(db: Arc<TestDatabase>) {
    let server = NatsServer::start().await;
    let here = BusNode::open_nats(&db, &server.url(), |_| {}).await;
    let mut there = BusNode::open_nats(&db, &server.url(), |_| {}).await;
    there.join(&lobby()).await;
    let before = sent_to(&server, &there).await;
    for n in 0..1_000 {
        here.publish_to(&Topic::private(format!("other {n}")), "for nobody");
        here.publish_to(&Topic::public("lobby"), "the public topic is another one");
    }
    here.publish("here");
    assert_eq!(there.wait_for_messages(1).await, ["here"]);
    assert_eq!(sent_to(&server, &there).await, before + 1);
    // Nothing of its own comes back.
    assert!(here.received.messages.lock().is_empty());

    let subscriptions =
        async || server.monitor("/subsz").await["num_subscriptions"].as_u64().expect("a number");
    let with_member = subscriptions().await;
    there.leave();
    let started = Instant::now();
    while subscriptions().await >= with_member {
        assert!(started.elapsed() < WAIT_TIMEOUT * 2, "the topic without members stays subscribed");
        sleep(Duration::from_millis(100)).await;
    }
    there.join(&lobby()).await;
    here.publish("again");
    assert_eq!(there.wait_for_messages(2).await, ["here", "again"]);
}

#[testkit::test]
async fn what_all_nodes_need_reaches_nodes_without_members(db: Arc<TestDatabase>) {
    let server = NatsServer::start().await;
    let here = BusNode::open_nats(&db, &server.url(), |_| {}).await;
    let there = BusNode::open_nats(&db, &server.url(), |_| {}).await;
    here.bus.publish(BusMessage { topic: lobby(), audience: Audience::AllNodes, body: "kept".into() });
    assert_eq!(there.wait_for_messages(1).await, ["kept"]);
}

/// Kills and restarts NATS while both nodes send. Afterwards broadcasts flow, in order and once, and the gap is announced.
#[testkit::test]
async fn a_restart_of_nats_under_load_repeats_and_reorders_nothing(db: Arc<TestDatabase>) {
    let network = Network::nats().await;
    let Network::Nats(server) = &network else { unreachable!() };
    let nodes = [BusNode::open(&db, &network).await, BusNode::open(&db, &network).await];
    let mut sent = 0;
    let mut send_for = async |time: Duration| {
        let started = Instant::now();
        while started.elapsed() < time {
            for node in &nodes {
                node.publish(format!("{sent:08}"));
            }
            sent += 1;
            if sent % 20 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        sent
    };
    for _ in 0..2 {
        send_for(Duration::from_millis(500)).await;
        server.kill();
        send_for(Duration::from_millis(700)).await;
        server.restart().await;
        let restarted = Instant::now();
        wait_until("reconnected", || nodes.iter().all(BusNode::is_connected)).await;
        println!("connected again after {:?}", restarted.elapsed());
        send_for(Duration::from_millis(500)).await;
    }
    let last = format!("{:08}", send_for(Duration::from_millis(1)).await - 1);
    for node in &nodes {
        wait_until("the last message", || node.received_texts().last() == Some(&last)).await;
        let texts = node.received_texts();
        assert!(texts.is_sorted_by(|one, next| one < next), "repeated or reordered");
        println!("received {} of {sent}", texts.len());
        let signals = node.signals();
        for signal in [Signal::Connected(false), Signal::Connected(true)] {
            let count = signals.iter().filter(|other| **other == signal).count();
            assert!(count >= 3, "at the start and at each restart: {signals:?}");
        }
        assert!(signals.contains(&Signal::Lost), "the other node tells that its messages may be lost");
        assert_eq!(signals.iter().rfind(|signal| **signal != Signal::Lost), Some(&Signal::Connected(true)));
    }
}

#[testkit::test]
async fn publishing_does_not_wait_for_a_nats_that_is_down(db: Arc<TestDatabase>) {
    let network = Network::nats().await;
    let Network::Nats(server) = &network else { unreachable!() };
    let (here, there) = (BusNode::open(&db, &network).await, BusNode::open(&db, &network).await);
    server.kill();
    wait_until("disconnected", || !here.is_connected() && !there.is_connected()).await;
    // More than the queue takes.
    let started = Instant::now();
    for _ in 0..40 {
        here.publish_to(&Topic::public("large"), vec![0; 1024 * 1024]);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    server.restart().await;
    wait_until("subscribed again", || here.is_subscribed() && there.is_subscribed()).await;
    here.publish("after");
    assert_eq!(there.wait_for_messages(1).await, ["after"]);
}

/// Two servers of a cluster; the second knows the first.
async fn cluster() -> [NatsServer; 2] {
    let port = free_port();
    let part = |rest: &str| format!("max_payload: 8MB\ncluster {{ name: test, {rest} }}\n");
    let first = NatsServer::start_with(&part(&format!("listen: \"127.0.0.1:{port}\""))).await;
    let routes = format!("listen: \"127.0.0.1:-1\", routes: [\"nats://127.0.0.1:{port}\"]");
    let second = NatsServer::start_with(&part(&routes)).await;
    let started = Instant::now();
    while second.monitor("/routez").await["num_routes"] == 0 {
        assert!(started.elapsed() < WAIT_TIMEOUT, "the servers do not find each other");
        sleep(Duration::from_millis(20)).await;
    }
    [first, second]
}

#[testkit::test]
async fn a_node_moves_to_another_server_of_the_cluster_and_announces_the_gap(db: Arc<TestDatabase>) {
    let [first, second] = cluster().await;
    let here = BusNode::open_nats(&db, &first.url(), |_| {}).await;
    let mut there = BusNode::open_nats(&db, &second.url(), |_| {}).await;
    there.join(&lobby()).await;
    // The subscription reaches the first server after the second one has confirmed it.
    let arrives = async {
        while there.received.messages.lock().is_empty() {
            here.publish("over the cluster");
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_TIMEOUT, arrives).await.expect("messages cross the servers");
    let before = there.signals();
    assert_eq!(before, [Signal::Connected(false), Signal::Connected(true)]);
    first.kill();
    wait_until("disconnected", || !here.is_connected()).await;
    wait_until("connected to the other server", || here.is_subscribed()).await;
    here.publish("over the second");
    wait_until("received", || there.received_texts().last().is_some_and(|text| text == "over the second"))
        .await;
    assert_eq!(there.signals(), [&before[..], &[Signal::Lost]].concat());
}

#[testkit::test]
async fn a_message_above_max_payload_is_dropped_and_leaves_a_gap(db: Arc<TestDatabase>) {
    let server = NatsServer::start().await;
    let here = BusNode::open_nats(&db, &server.url(), |_| {}).await;
    let mut there = BusNode::open_nats(&db, &server.url(), |_| {}).await;
    there.join(&lobby()).await;
    here.publish("before");
    there.wait_for_messages(1).await;
    here.publish(vec![b'x'; 2_000_000]);
    // Together above the maximum, each below it.
    (0..4).for_each(|n| here.publish(vec![b'0' + n; 600_000]));
    here.publish("after");
    let received = there.wait_for_messages(6).await;
    let firsts: Vec<char> = received.iter().filter_map(|text| text.chars().next()).collect();
    assert_eq!(firsts, ['b', '0', '1', '2', '3', 'a']);
    assert_eq!(there.signals(), [Signal::Connected(false), Signal::Connected(true), Signal::Lost]);
    assert!(here.is_connected() && there.is_connected());
}

#[testkit::test]
async fn installations_that_share_nats_do_not_receive_each_others_messages(db: Arc<TestDatabase>) {
    let server = NatsServer::start().await;
    let other = TestDatabase::new(testkit::cluster::Cluster::shared().await).await;
    let here = BusNode::open_nats(&db, &server.url(), |_| {}).await;
    let mut there = BusNode::open_nats(&db, &server.url(), |_| {}).await;
    let mut stranger = BusNode::open_nats(&other, &server.url(), |_| {}).await;
    let mut copy =
        BusNode::open_nats(&db, &server.url(), |settings| settings.subject_prefix = "copy".to_owned()).await;
    for node in [&mut there, &mut stranger, &mut copy] {
        node.join(&lobby()).await;
    }
    here.publish("ours");
    copy.publish("of the copy");
    stranger.publish("of a stranger");
    here.publish("also ours");
    assert_eq!(there.wait_for_messages(2).await, ["ours", "also ours"]);
    assert!(stranger.received.messages.lock().is_empty() && copy.received.messages.lock().is_empty());
    drop((here, there, stranger, copy));
    other.close().await.expect("closed");
}

#[testkit::test]
async fn credentials_of_each_kind_are_accepted(db: Arc<TestDatabase>) {
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const KEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let users = NatsServer::start_with(&format!(
        "authorization {{ users: [{{ user: \"node@1\", password: \"a:b\" }}, {{ nkey: {KEY} }}] }}\n"
    ))
    .await;
    let tokens = NatsServer::start_with("authorization { token: \"s3cr3t\" }\n").await;
    let seed = users.dir().join("seed");
    std::fs::write(&seed, format!("{SEED}\n")).expect("a file");
    let in_url =
        |credentials: &str, server: &NatsServer| format!("nats://{credentials}@{}", server.address());
    drop(BusNode::open_nats(&db, &in_url("node%401:a%3Ab", &users), |_| {}).await);
    drop(BusNode::open_nats(&db, &in_url("s3cr3t", &tokens), |_| {}).await);
    let by_user = BusNode::open_nats(&db, &users.url(), |settings| {
        settings.user = Some("node@1".to_owned());
        settings.password = Some(Secret::new("a:b"));
    })
    .await;
    drop(by_user);
    let by_token =
        BusNode::open_nats(&db, &tokens.url(), |settings| settings.token = Some(Secret::new("s3cr3t"))).await;
    drop(by_token);
    drop(BusNode::open_nats(&db, &users.url(), |settings| settings.nkey = Some(seed)).await);
    let (refused, mut ready) = BusNode::start_nats(&db, &in_url("wrong", &tokens), |_| {}).await;
    let until_ready = timeout(Duration::from_secs(1), ready.wait_for(|ready| *ready)).await;
    assert!(until_ready.is_err() && !refused.is_connected());
}

/// A JWT of NATS about the key `subject`, signed by `issuer`.
fn nats_jwt(issuer: &KeyPair, subject: &KeyPair, claims: &Value) -> String {
    let payload = json!({
        "jti": Uuid::new_v4().simple().to_string(),
        "iat": jsonwebtoken::get_current_timestamp(),
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": "rollcall",
        "nats": claims,
    });
    let [header, payload] = [json!({ "typ": "JWT", "alg": "ed25519-nkey" }), payload]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{payload}");
    let signature = issuer.sign(signed.as_bytes()).expect("a key with a seed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[testkit::test]
async fn a_server_that_verifies_jwt_accepts_a_credentials_file(db: Arc<TestDatabase>) {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let operator_jwt = nats_jwt(&operator, &operator, &json!({ "type": "operator", "version": 2 }));
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
    });
    let account_jwt =
        nats_jwt(&operator, &account, &json!({ "type": "account", "version": 2, "limits": unlimited }));
    let server = NatsServer::start_with(&format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}\n",
        account.public_key()
    ))
    .await;
    let credentials = |name: &str, issuer: &KeyPair| {
        let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        let (jwt, seed) = (nats_jwt(issuer, &user, &claims), user.seed().expect("a seed"));
        let file = server.dir().join(name);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&file, text).expect("a file");
        file
    };
    let ours = credentials("ours.creds", &account);
    let here =
        BusNode::open_nats(&db, &server.url(), |settings| settings.credentials = Some(ours.clone())).await;
    let mut there =
        BusNode::open_nats(&db, &server.url(), |settings| settings.credentials = Some(ours)).await;
    there.join(&lobby()).await;
    here.publish("with credentials");
    assert_eq!(there.wait_for_messages(1).await, ["with credentials"]);

    let foreign = credentials("foreign.creds", &KeyPair::new_account());
    let (refused, mut ready) =
        BusNode::start_nats(&db, &server.url(), |settings| settings.credentials = Some(foreign)).await;
    let until_ready = timeout(Duration::from_secs(1), ready.wait_for(|ready| *ready)).await;
    assert!(until_ready.is_err() && !refused.is_connected());
}

/// Certificates of a test: `ca.pem`, and `cert.pem` with `key.pem` for localhost.
fn create_certificates(directory: &std::path::Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(directory.join("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a file");
    openssl("req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=ca -keyout ca.key -out ca.pem");
    openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out csr.pem");
    openssl(
        "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile ext -out cert.pem",
    );
}

#[testkit::test]
async fn nats_is_verified_by_its_certificate_and_verifies_that_of_the_node(db: Arc<TestDatabase>) {
    let directory = std::env::temp_dir().join(format!("rollcall-nats-tls-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&directory).expect("a directory");
    create_certificates(&directory);
    let file = |name: &str| directory.join(name);
    let at = directory.display();
    let server = NatsServer::start_with(&format!(
        "tls {{ cert_file: \"{at}/cert.pem\", key_file: \"{at}/key.pem\", ca_file: \"{at}/ca.pem\", verify: true }}\n"
    ))
    .await;
    let url = server.url().replace("nats://127.0.0.1", "tls://localhost");
    let here = BusNode::open_nats(&db, &url, |settings| {
        settings.ca = Some(file("ca.pem"));
        settings.certificate = Some(file("cert.pem"));
        settings.key = Some(file("key.pem"));
    });
    assert!(here.await.is_connected());
    for with_ca in [false, true] {
        let (refused, mut ready) = BusNode::start_nats(&db, &url, |settings| {
            settings.ca = with_ca.then(|| file("ca.pem"));
        })
        .await;
        let until_ready = timeout(Duration::from_secs(1), ready.wait_for(|ready| *ready)).await;
        assert!(until_ready.is_err() && !refused.is_connected(), "no certificate authority, no certificate");
    }
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[testkit::test]
async fn a_list_of_urls_may_begin_with_a_dead_server(db: Arc<TestDatabase>) {
    let (dead, alive) = (NatsServer::start().await, NatsServer::start().await);
    dead.kill();
    let url = format!("{}, {}", dead.url(), alive.url());
    let here = BusNode::open_nats(&db, &url, |_| {}).await;
    let mut there = BusNode::open_nats(&db, &url, |_| {}).await;
    there.join(&lobby()).await;
    here.publish("over the second");
    assert_eq!(there.wait_for_messages(1).await, ["over the second"]);
    // The other way round.
    dead.restart().await;
    alive.kill();
    wait_until("disconnected", || !here.is_connected() && !there.is_connected()).await;
    wait_until("subscribed again", || here.is_subscribed() && there.is_subscribed()).await;
    here.publish("over the first");
    assert_eq!(there.wait_for_messages(2).await.last().map(String::as_str), Some("over the first"));
}

#[testkit::test]
async fn broadcasts_cross_nodes_as_text_and_bytes(db: Arc<TestDatabase>) {
    let server = NatsServer::start().await;
    let nodes = [start_server(&db, &server.url()).await, start_server(&db, &server.url()).await];
    let mut here = nodes[0].channel_client(SerializerVersion::V2).await;
    let mut there = nodes[1].channel_client(SerializerVersion::V2).await;
    for n in 0..20 {
        let topic = format!("{TOPIC}:{n}");
        here.join(&topic, json!({})).await;
        // The reply to a join means that nothing sent later is missed.
        there.join(&topic, json!({})).await;
        here.broadcast(&topic, "said", json!({"n": n})).await;
        assert_eq!(there.next_broadcast(&topic).await, broadcast("said", json!({"n": n})));
    }
    here.join(TOPIC, json!({})).await;
    there.join(TOPIC, json!({})).await;
    let bytes: Vec<u8> = (0..=255).collect();
    here.broadcast_bytes(TOPIC, "bytes", 0, &bytes).await;
    let frame = there.wait_for(TOPIC, "broadcast").await;
    assert!(frame.is_binary(), "{frame:?}");
    there.broadcast(TOPIC, "answer", json!({})).await;
    assert_eq!(here.next_broadcast(TOPIC).await, broadcast("answer", json!({})));
}

#[testkit::test]
async fn rights_of_private_channels_hold_across_nodes(db: Arc<TestDatabase>) {
    db.execute(POLICIES, &[]).await;
    let server = NatsServer::start().await;
    let nodes = [start_server(&db, &server.url()).await, start_server(&db, &server.url()).await];
    let (alice, bob) = (User::new(), User::new());
    let topic = "realtime:open:1";
    let mut here =
        nodes[0].channel_client_with_key(SerializerVersion::V2, &alice.token).await.expect("a key");
    let mut there = nodes[1].channel_client_with_key(SerializerVersion::V2, &bob.token).await.expect("a key");
    here.join_private(topic, &alice.token, json!({})).await;
    there.join_private(topic, &bob.token, json!({})).await;
    let mut public =
        nodes[1].channel_client_with_key(SerializerVersion::V2, &anon_key()).await.expect("a key");
    public.join(topic, json!({})).await;
    here.broadcast(topic, "private", json!({})).await;
    assert_eq!(there.next_broadcast(topic).await, broadcast("private", json!({})));
    public.expect_no_frame().await;
    db.execute("drop policy \"open: read\" on realtime.messages", &[]).await;
    there.expect_channel_error(topic).await;
    here.broadcast(topic, "later", json!({})).await;
    there.expect_no_frame().await;
}

#[testkit::test]
async fn readiness_says_that_nats_cannot_be_reached(db: Arc<TestDatabase>) {
    let server = NatsServer::start().await;
    server.kill();
    let started = Instant::now();
    // It starts without NATS.
    let nodes = [start_server(&db, &server.url()).await, start_server(&db, &server.url()).await];
    println!("two nodes started without NATS in {:?}", started.elapsed());
    let not_connected = (503, "not connected");
    let (status, check) = readiness(&nodes[0]).await;
    assert_eq!((status, check["message"].as_str().unwrap_or_default()), not_connected, "{check}");
    nodes[0].get(&User::new(), "/livez").await.expect_status(200);
    // Members of the same node are served, and joins do not wait.
    let mut here = nodes[0].channel_client(SerializerVersion::V2).await;
    let mut beside = nodes[0].channel_client(SerializerVersion::V2).await;
    let mut there = nodes[1].channel_client(SerializerVersion::V2).await;
    let started = Instant::now();
    for socket in [&mut here, &mut beside, &mut there] {
        socket.join(TOPIC, json!({})).await;
    }
    assert!(started.elapsed() < Duration::from_secs(2), "joins waited {:?}", started.elapsed());
    here.broadcast(TOPIC, "near", json!({})).await;
    assert_eq!(beside.next_broadcast(TOPIC).await, broadcast("near", json!({})));
    server.restart().await;
    for node in &nodes {
        wait_until_ready(node).await;
    }
    // Members that joined meanwhile are subscribed.
    let far = async {
        loop {
            here.broadcast(TOPIC, "far", json!({})).await;
            let frames = there.frames_within(Duration::from_millis(200)).await;
            if frames.iter().any(|frame| frame.is(TOPIC, "broadcast") && frame.payload["event"] == "far") {
                break;
            }
        }
    };
    timeout(WAIT_TIMEOUT, far).await.expect("broadcasts cross nodes again");
    server.kill();
    let started = Instant::now();
    while readiness(&nodes[0]).await.0 != 503 {
        assert!(started.elapsed() < WAIT_TIMEOUT, "still ready");
        sleep(Duration::from_millis(50)).await;
    }
}

#[testkit::test]
async fn secrets_of_nats_are_not_logged(db: Arc<TestDatabase>) {
    let server = NatsServer::start_with("authorization { user: \"u\", password: \"right\" }\n").await;
    let url = format!("nats://u:hunter2@{}", server.address());
    let prelude = format!("export NATS_URL='{url}' RUST_LOG=trace");
    let node = db.start_server_process_after(&prelude).await;
    let log = node.log().join("\n");
    assert!(log.contains("cannot connect to NATS"), "{log}");
    assert!(!log.contains("hunter2"), "a password in the log");
    let (status, check) = readiness(&node).await;
    assert_eq!((status, &check["ok"]), (503, &json!(false)));
}
