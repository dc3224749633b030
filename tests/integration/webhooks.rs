//! Webhooks with real receivers over HTTP: docs/webhooks.md.

mod receiver;

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, free_port, service_user, wait_until},
    phoenix::{PhoenixClient, SerializerVersion},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use receiver::{Behavior, Receiver};

const WEBHOOKS_PATH: &str = "/api/v1/system/webhooks";
const STATUS_PATH: &str = "/api/presence/status";

async fn start(db: &TestDatabase, attempts: &str) -> Arc<TestServer> {
    db.start_server_with(|settings| {
        settings.set("WEBHOOK_ALLOW_PRIVATE", "true");
        settings.set("WEBHOOK_TIMEOUT", "1s");
        settings.set("WEBHOOK_MAX_ATTEMPTS", attempts);
        settings.set("PRESENCE_UPDATES_PER_MINUTE", "0");
    })
    .await
}

async fn create(node: &TestServer, webhook: Value) -> Value {
    node.post(&service_user(), WEBHOOKS_PATH, webhook).await.expect_status(201)
}

async fn set_status(node: &TestServer, user: &User, status: &str) {
    node.post(user, STATUS_PATH, json!({"status": status})).await.expect_status(200);
}

async fn state(node: &TestServer, id: &Value) -> Value {
    let all = node.get(&service_user(), WEBHOOKS_PATH).await.expect_status(200);
    let all = all.as_array().expect("a list");
    all.iter().find(|webhook| webhook["id"] == *id).expect("it is listed")["state"].clone()
}

async fn wait_for_state(node: &TestServer, id: &Value, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        let state = state(node, id).await;
        if holds(&state) {
            return state;
        }
        assert!(Instant::now() < deadline, "{what}: {state}");
        sleep(Duration::from_millis(100)).await;
    }
}

// docs/webhooks.md, "Receive events"
#[testkit::test]
async fn events_of_users_arrive_signed_and_in_order(db: Arc<TestDatabase>) {
    let node = start(&db, "3").await;
    let (receiver, user) = (Receiver::start().await, User::new());
    set_status(&node, &user, "online").await;
    let webhook = create(&node, json!({"url": receiver.url("/a?b=c")})).await;
    let secret = webhook["secret"].as_str().expect("a secret");
    for status in ["dnd", "invisible", "offline", "online"] {
        set_status(&node, &user, status).await;
    }
    let events = receiver.wait_for_events(4).await;
    let told: Vec<_> = events
        .iter()
        .map(|event| (event["type"].as_str().expect("a type"), &event["data"]["status"]))
        .collect();
    assert_eq!(
        json!(told),
        json!([
            ["user.status", "dnd"],
            ["user.status", "invisible"],
            ["user.offline", "offline"],
            ["user.online", "online"]
        ])
    );
    assert!(events.iter().all(|event| event["data"]["user_id"] == json!(user.id)), "{events:?}");
    let ids: Vec<u64> =
        events.iter().map(|event| event["id"].as_str().expect("an ID").parse().expect("a number")).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    for request in receiver.requests() {
        assert_eq!(
            (request.path.as_str(), request.header("content-type")),
            ("/a?b=c", Some("application/json"))
        );
        assert!(request.is_signed_with(secret), "{request:?}");
        assert!(!request.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        assert_eq!(body["type"], "events");
    }

    // Two secrets while the receiver changes.
    let id = webhook["id"].as_str().expect("an ID");
    let new = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let changes = json!({"secret": new, "previous_secret": secret});
    node.patch(&service_user(), &format!("{WEBHOOKS_PATH}/{id}"), changes).await.expect_status(200);
    set_status(&node, &user, "busy").await;
    receiver.wait_for_events(5).await;
    let last = receiver.requests().pop().expect("a request");
    assert!(last.is_signed_with(new) && last.is_signed_with(secret));
    let delivered = wait_for_state(&node, &webhook["id"], "delivered", |state| state["pending"] == 0).await;
    assert_eq!((&delivered["last_status"], &delivered["last_error"]), (&json!(200), &Value::Null));

    // A test event, at once and to this webhook only.
    let tested =
        node.post(&service_user(), &format!("{WEBHOOKS_PATH}/{id}/test"), json!({})).await.expect_status(200);
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(true), &json!(200)));
    assert_eq!(receiver.events().pop().expect("an event")["type"], "webhook.test");
    // Nothing more is recorded for nobody.
    node.delete(&service_user(), &format!("{WEBHOOKS_PATH}/{id}")).await.expect_status(200);
    set_status(&node, &user, "dnd").await;
    db.wait_until("no event is queued", "select not exists (select from rollcall_internal.event_queue)", &[])
        .await;
    assert_eq!(receiver.events().len(), 6);
}

// docs/webhooks.md, "Webhooks and events"
#[testkit::test]
async fn members_of_channels_are_told_once_by_all_nodes(db: Arc<TestDatabase>) {
    let nodes = [start(&db, "3").await, start(&db, "3").await];
    let receiver = Receiver::start().await;
    let wanted = ["channel.occupied", "channel.vacated", "member.joined", "member.left"];
    create(&nodes[0], json!({"url": receiver.url("/"), "events": wanted, "filter": {"topics": ["room:*"]}}))
        .await;
    let track = async |node: usize, topic: &str, key: &str| {
        let mut socket: PhoenixClient = nodes[node].channel_client(SerializerVersion::V2).await;
        socket.join(topic, json!({"presence": {"key": key, "enabled": true}})).await;
        socket.track(topic, json!({"n": 1})).await;
        socket
    };
    let mut sockets = Vec::new();
    for (node, topic, key) in [
        (0, "realtime:hall", "x"),
        (0, "realtime:room:1", "a"),
        (1, "realtime:room:1", "a"),
        (1, "realtime:room:1", "b"),
    ] {
        sockets.push(track(node, topic, key).await);
    }
    let name = |event: &Value| {
        let key = event["data"].get("key").and_then(Value::as_str).unwrap_or_default();
        format!(
            "{} {} {key}",
            event["type"].as_str().expect("a type"),
            event["data"]["topic"].as_str().expect("a topic")
        )
    };
    let told = |events: &[Value]| events.iter().map(name).collect::<Vec<_>>();
    let joined = told(&receiver.wait_for_events(3).await);
    assert_eq!(joined, ["channel.occupied room:1 ", "member.joined room:1 a", "member.joined room:1 b"]);
    // One of two sockets of a key, then a node that dies with the last ones.
    sockets.remove(1).abort();
    sockets.pop().expect("a socket").leave("realtime:room:1").await;
    let left = told(&receiver.wait_for_events(4).await);
    assert_eq!(left[3..], ["member.left room:1 b"]);
    nodes[1].crash();
    let vacated = told(&receiver.wait_for_events_within(6, Duration::from_secs(60)).await);
    assert_eq!(vacated[4..], ["member.left room:1 a", "channel.vacated room:1 "]);
}

// docs/webhooks.md, "Delivery"
#[testkit::test]
async fn what_fails_is_repeated_in_order(db: Arc<TestDatabase>) {
    let node = start(&db, "100").await;
    let (receiver, elsewhere, user) = (Receiver::start().await, Receiver::start().await, User::new());
    let webhook = create(&node, json!({"url": receiver.url("/")})).await;
    let mut expected = 0;
    for (behavior, error) in [
        (Behavior::Status(500), "status 500"),
        (Behavior::Garbage, "error"),
        (Behavior::Hang, "no response within 1000 ms"),
        (Behavior::Close, "error"),
        (Behavior::Redirect(elsewhere.url("/")), "redirects are not followed"),
    ] {
        let before = receiver.requests().len();
        receiver.enqueue([behavior.clone()]);
        set_status(&node, &user, if expected % 2 == 0 { "online" } else { "dnd" }).await;
        expected += 1;
        let failed = wait_for_state(&node, &webhook["id"], error, |state| {
            state["attempts"] != 0 || state["pending"] == 0
        })
        .await;
        if failed["attempts"] != 0 {
            let text = failed["last_error"].as_str().expect("an error");
            assert!(text.contains(error), "{behavior:?}: {text}");
        }
        receiver.wait_for_events(expected).await;
        wait_for_state(&node, &webhook["id"], "delivered", |state| state["pending"] == 0).await;
        // The same request again, until it is accepted.
        let requests = receiver.requests();
        assert!(requests.len() >= before + 2, "{behavior:?}");
        let ids: Vec<_> = requests[before..].iter().map(|request| request.header("webhook-id")).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{behavior:?}: {ids:?}");
    }
    assert_eq!(elsewhere.requests().len(), 0);
    // Slow and endless answers count, within their bounds.
    for behavior in [Behavior::Slow(Duration::from_millis(500)), Behavior::Endless] {
        receiver.enqueue([behavior.clone()]);
        set_status(&node, &user, if expected % 2 == 0 { "online" } else { "dnd" }).await;
        expected += 1;
        receiver.wait_for_events(expected).await;
        let delivered =
            wait_for_state(&node, &webhook["id"], "delivered", |state| state["pending"] == 0).await;
        assert_eq!(delivered["last_error"], Value::Null, "{behavior:?}");
    }
    let statuses: Vec<_> = receiver.events().iter().map(|event| event["data"]["status"].clone()).collect();
    assert_eq!(json!(statuses), json!(["online", "dnd", "online", "dnd", "online", "dnd", "online"]));

    // 410 disables it.
    receiver.enqueue([Behavior::Status(410)]);
    set_status(&node, &user, "busy").await;
    db.wait_until("disabled", "select not enabled from rollcall.webhooks", &[]).await;
}

// docs/webhooks.md, "Dead letters"
#[testkit::test]
async fn dead_letters_are_shown_and_sent_again(db: Arc<TestDatabase>) {
    let node = start(&db, "2").await;
    let (receiver, user, service) = (Receiver::start().await, User::new(), service_user());
    let webhook = create(&node, json!({"url": receiver.url("/")})).await;
    let path = format!("{WEBHOOKS_PATH}/{}/dead-letters", webhook["id"].as_str().expect("an ID"));
    receiver.enqueue([Behavior::Status(503), Behavior::Status(503)]);
    set_status(&node, &user, "online").await;
    wait_for_state(&node, &webhook["id"], "dead", |state| state["dead_letters"] == 1).await;
    // The next events follow.
    set_status(&node, &user, "dnd").await;
    assert_eq!(receiver.wait_for_events(1).await[0]["type"], "user.status");
    let letters = node.get(&service, &path).await.expect_status(200);
    assert_eq!(
        (
            &letters[0]["type"],
            &letters[0]["attempts"],
            &letters[0]["last_error"],
            &letters[0]["data"]["user_id"]
        ),
        (&json!("user.online"), &json!(2), &json!("status 503"), &json!(user.id))
    );
    assert_eq!(
        node.get(&service, &format!("{path}?after=9223372036854775807")).await.expect_status(200),
        json!([])
    );

    // Once more in vain, then with success.
    receiver.enqueue([Behavior::Status(500)]);
    let resend = format!("{path}/resend");
    let resent = node.post(&service, &resend, json!({"ids": [letters[0]["id"]]})).await.expect_status(200);
    assert_eq!(resent, json!({"resent": 1}));
    db.wait_until(
        "a dead letter again",
        "select attempts = 3 and resend_at is null and last_status = 500 from rollcall.webhook_dead_letters",
        &[],
    )
    .await;
    node.post(&service, &resend, json!({})).await.expect_status(200);
    let events = receiver.wait_for_events(2).await;
    assert_eq!((&events[1]["type"], &events[1]["id"]), (&json!("user.online"), &letters[0]["event_id"]));
    wait_for_state(&node, &webhook["id"], "gone", |state| state["dead_letters"] == 0).await;
}

// docs/webhooks.md, "Delivery"
#[testkit::test]
async fn private_addresses_are_refused(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("WEBHOOK_MAX_ATTEMPTS", "100")).await;
    let (receiver, user, service) = (Receiver::start().await, User::new(), service_user());
    let port = receiver.port();
    for url in [
        receiver.url("/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://2130706433:{port}/"),
        "http://example.com/".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://[fd00::1]/".to_owned(),
    ] {
        let refused = node
            .post(&service, WEBHOOKS_PATH, json!({"url": url}))
            .await
            .expect_error(400, "INVALID_REQUEST");
        assert_eq!(refused["details"][0]["field"], "url", "{url}");
    }
    // Names are resolved when they are used.
    let webhook = create(&node, json!({"url": format!("https://localhost:{port}/")})).await;
    // SQL may write what REST refuses.
    db.execute(&format!("insert into rollcall.webhooks (url) values ('http://127.0.0.1:{port}/')"), &[])
        .await;
    set_status(&node, &user, "online").await;
    let failed = wait_for_state(&node, &webhook["id"], "refused", |state| state["attempts"] != 0).await;
    assert!(failed["last_error"].as_str().expect("an error").contains("no public address"), "{failed}");
    db.wait_until(
        "both are refused",
        "select count(*) = 2 from rollcall.webhook_status() where last_error like '%public%' or last_error like '%https%'",
        &[],
    )
    .await;
    let id = webhook["id"].as_str().expect("an ID");
    let tested =
        node.post(&service, &format!("{WEBHOOKS_PATH}/{id}/test"), json!({})).await.expect_status(200);
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(false), &Value::Null));
    assert_eq!(receiver.connections(), 0);
}

// docs/webhooks.md, "Delivery"
#[testkit::test]
async fn another_node_resumes_what_a_dead_one_was_delivering(db: Arc<TestDatabase>) {
    let start = async || {
        db.start_server_with(|settings| {
            settings.set("WEBHOOK_ALLOW_PRIVATE", "true");
            settings.set("WEBHOOK_TIMEOUT", "60s");
        })
        .await
    };
    let (receiver, user) = (Receiver::start().await, User::new());
    let first = start().await;
    create(&first, json!({"url": receiver.url("/")})).await;
    receiver.enqueue([Behavior::Hang]);
    set_status(&first, &user, "online").await;
    receiver.wait_for_requests(1).await;
    let second = start().await;
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(receiver.requests().len(), 1, "one node at a time");
    first.crash();
    let requests = receiver.wait_for_requests_within(2, Duration::from_secs(60)).await;
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(requests[0].events(), requests[1].events());
    drop(second);
}

// docs/webhooks.md, "Delivery"
#[testkit::test(exclusive)]
async fn presence_is_as_fast_with_failing_receivers(db: Arc<TestDatabase>) {
    let node = start(&db, "100").await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    receivers[0].always(Behavior::Status(500));
    receivers[1].always(Behavior::Hang);
    receivers[2].always(Behavior::Garbage);
    let mut ids = Vec::new();
    for receiver in &receivers {
        ids.push(create(&node, json!({"url": receiver.url("/")})).await["id"].clone());
    }
    set_status(&node, &subject, "online").await;
    let mut socket = node.socket(&viewer).await;
    socket.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    for receiver in &receivers {
        wait_until("the first request", || !receiver.requests().is_empty()).await;
    }
    let mut times = [Vec::new(), Vec::new()];
    // Alternating rounds, so that both see the same machine.
    for round in 0..8 {
        let with = round % 2;
        for id in &ids {
            let path = format!("{WEBHOOKS_PATH}/{}", id.as_str().expect("an ID"));
            node.patch(&service_user(), &path, json!({"enabled": with == 1})).await.expect_status(200);
        }
        // An even number, so that each status differs from the one before.
        for n in 0..24 {
            let status = if n % 2 == 0 { "dnd" } else { "busy" };
            let started = Instant::now();
            set_status(&node, &subject, status).await;
            socket.find_message("the change", |message| message["data"]["availability"] == status).await;
            times[with].push(started.elapsed());
        }
    }
    let [without, with] = times.map(|mut times| {
        times.sort_unstable();
        (times[times.len() / 2], times[times.len() * 9 / 10])
    });
    println!(
        "median and 90th percentile without webhooks: {without:?}, with three failing receivers: {with:?}"
    );
    assert!(with.0 < without.0 * 3 / 2 + Duration::from_millis(3), "median {:?} to {:?}", without.0, with.0);
    assert!(
        with.1 < without.1 * 2 + Duration::from_millis(10),
        "90th percentile {:?} to {:?}",
        without.1,
        with.1
    );
}

// docs/webhooks.md, "Receive events"
#[testkit::test]
async fn the_receiver_of_the_documentation_verifies_signatures(db: Arc<TestDatabase>) {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/webhooks.md"))
        .expect("the page");
    let code = page.split("```js\n").nth(1).and_then(|rest| rest.split_once("```")).expect("a block").0;
    let node = start(&db, "100").await;
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/");
    let webhook = create(&node, json!({"url": url, "events": ["user.online", "user.offline"]})).await;
    let secret = webhook["secret"].as_str().expect("a secret");
    let mut child = Command::new("node")
        .args(["--input-type=module", "--eval", code])
        .env("SECRET", secret)
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is installed");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let user = User::new();
    for status in ["online", "offline"] {
        set_status(&node, &user, status).await;
        let line = timeout(WAIT_TIMEOUT, lines.next_line())
            .await
            .expect("in time")
            .expect("readable")
            .expect("a line");
        let (name, data) = line.split_once(' ').expect("an event");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!((name, &data["user_id"]), (format!("user.{status}").as_str(), &json!(user.id)));
    }
    // Another secret is refused.
    let id = webhook["id"].as_str().expect("an ID");
    let changes = json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
    node.patch(&service_user(), &format!("{WEBHOOKS_PATH}/{id}"), changes).await.expect_status(200);
    set_status(&node, &user, "online").await;
    let failed = wait_for_state(&node, &webhook["id"], "refused", |state| state["attempts"] != 0).await;
    assert_eq!(failed["last_status"], 401);
}

#[testkit::test]
async fn webhooks_are_managed_by_the_service_role(db: Arc<TestDatabase>) {
    let node = start(&db, "3").await;
    let (service, missing) = (service_user(), format!("{WEBHOOKS_PATH}/{}", Uuid::new_v4()));
    let webhook =
        create(&node, json!({"url": "https://example.com/", "enabled": false, "filter": {"user_ids": []}}))
            .await;
    let id = webhook["id"].as_str().expect("an ID");
    let path = format!("{WEBHOOKS_PATH}/{id}");
    let listed = node.get(&service, WEBHOOKS_PATH).await.expect_status(200);
    assert_eq!((&listed[0]["id"], listed[0].get("secret")), (&webhook["id"], None));
    let changed = node
        .patch(&service, &path, json!({"events": ["user.online"], "description": "x"}))
        .await
        .expect_status(200);
    assert_eq!(
        (&changed["events"], &changed["description"], &changed["filter"], changed.get("secret")),
        (&json!(["user.online"]), &json!("x"), &json!({"user_ids": []}), None)
    );

    let user = User::new();
    node.get(&user, WEBHOOKS_PATH).await.expect_error(403, "FORBIDDEN");
    node.post(&user, WEBHOOKS_PATH, json!({"url": "https://example.com/"}))
        .await
        .expect_error(403, "FORBIDDEN");
    node.delete(&user, &path).await.expect_error(403, "FORBIDDEN");
    for (field, body) in [
        ("url", json!({"url": "x"})),
        ("url", json!({})),
        ("secret", json!({"url": "https://example.com/", "secret": "whsec_short"})),
        ("events", json!({"url": "https://example.com/", "events": []})),
        ("filter.user_ids[0]", json!({"url": "https://example.com/", "filter": {"user_ids": ["x"]}})),
        ("enabled", json!({"url": "https://example.com/", "enabled": null})),
    ] {
        let error = node.post(&service, WEBHOOKS_PATH, body).await.expect_error(400, "INVALID_REQUEST");
        assert_eq!(error["details"][0]["field"], field, "{error}");
    }
    let unknown = json!({"url": "https://example.com/", "events": ["user.born"]});
    node.post(&service, WEBHOOKS_PATH, unknown).await.expect_error(422, "UNPROCESSABLE");
    node.patch(&service, &missing, json!({})).await.expect_error(404, "NOT_FOUND");
    node.delete(&service, &missing).await.expect_error(404, "NOT_FOUND");
    node.get(&service, &format!("{missing}/dead-letters")).await.expect_error(404, "NOT_FOUND");
    node.get(&service, &format!("{path}/dead-letters?limit=0")).await.expect_error(400, "INVALID_REQUEST");
    node.post(&service, &format!("{missing}/dead-letters/resend"), json!({}))
        .await
        .expect_error(404, "NOT_FOUND");
    node.post(&service, &format!("{missing}/test"), json!({})).await.expect_error(404, "NOT_FOUND");
    node.delete(&service, &path).await.expect_status(200);
    node.delete(&service, &path).await.expect_error(404, "NOT_FOUND");
}

// docs/webhooks.md, "History of presence"
#[testkit::test]
async fn sessions_are_recorded_exported_and_erased(db: Arc<TestDatabase>) {
    let node = start(&db, "3").await;
    db.execute("update rollcall.event_settings set presence_sessions = true, record_always = true", &[])
        .await;
    let user = User::new();
    for status in ["online", "invisible", "offline"] {
        set_status(&node, &user, status).await;
    }
    let faces = "select (select count(*) from rollcall.presence_sessions where face = 'public') = 1
        and (select count(*) from rollcall.presence_sessions where face = 'trusted') = 1
        and not exists (select from rollcall.presence_sessions where ended_at is null)";
    db.wait_until("both faces have a session that ended", faces, &[]).await;
    let export = node.get(&user, "/api/presence/export").await.expect_status(200);
    let text = export.to_string();
    assert!(text.contains("presence_sessions") && text.contains("started_at"), "{text}");
    node.delete(&user, "/api/presence/me").await.expect_status(200);
    let left = "select not exists (select from rollcall.presence_sessions)
        and not exists (select from rollcall.events) and not exists (select from rollcall_internal.event_queue)";
    db.wait_until("nothing is left", left, &[]).await;
}
