//! The operator API: lists over all nodes, disconnect, publish, live events, and the audit log.

use std::{collections::HashSet, sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::send,
    events::EventStream,
    harness::{TestDatabase, TestServer, User, mint_token, service_user, unix_time_in},
    phoenix::{PhoenixClient, SerializerVersion, anon_key, broadcast},
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const SYSTEM: &str = "/api/v1/system";
const LIMIT: Duration = Duration::from_secs(10);

async fn get(node: &TestServer, path: &str) -> Value {
    node.get(&service_user(), &format!("{SYSTEM}/{path}")).await.expect_status(200)
}

async fn post(node: &TestServer, path: &str, body: Value) -> testkit::client::HttpResponse {
    node.post(&service_user(), &format!("{SYSTEM}/{path}"), body).await
}

/// The only connection of a user.
async fn connection_of(node: &TestServer, user: &User) -> Value {
    let page = get(node, &format!("connections?user_id={}", user.id)).await;
    assert_eq!((&page["total"], &page["unanswered"]), (&json!(1), &json!([])), "{page}");
    page["data"][0].clone()
}

async fn audit(db: &TestDatabase) -> Vec<(String, String, Option<String>)> {
    let client = db.connect().await;
    let statement = "select action, target::text, reason from rollcall.operator_audit order by id";
    let rows = client.query(statement, &[]).await.expect("rows");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn watch(node: &TestServer, id: &Value, query: &str) -> EventStream {
    let path = format!("{SYSTEM}/connections/{}/events{query}", id.as_str().expect("an ID"));
    node.event_stream(node.stream_request(&path).bearer_auth(service_user().token)).await
}

/// The next event that is not a ping or pong.
async fn next_event(stream: &mut EventStream) -> (String, Value) {
    loop {
        let event = timeout(LIMIT, stream.next()).await.expect("in time").expect("an event");
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        if !matches!(data["kind"].as_str(), Some("ping" | "pong")) {
            return (event.name, data);
        }
    }
}

async fn channel_client(node: &TestServer, user: &User) -> PhoenixClient {
    node.channel_client_with_key(SerializerVersion::V2, &user.token).await.expect("the socket opens")
}

#[testkit::test]
async fn only_the_service_role_may_use_the_operator_api(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let socket = node.socket(&User::new()).await;
    let anon = mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}));
    let admin = User::with_claims(json!({"permissions": ["presence:admin"]}));
    let id = get(&node, "connections").await["data"][0]["id"].as_str().expect("an ID").to_owned();
    let gets = ["connections", "channels", "subscriptions", "nodes", "history", "audit"];
    let events = format!("connections/{id}/events");
    let posts = [
        ("disconnect", json!({"connection_id": id})),
        ("publish", json!({"topic": "a", "event": "b", "payload": {}})),
    ];
    let requests = gets.into_iter().chain([events.as_str()]).map(|path| (Method::GET, path, None));
    let requests = requests.chain(posts.iter().map(|(path, body)| (Method::POST, *path, Some(body))));
    for (method, path, body) in requests {
        let request = || {
            let request = node.request(method.clone(), &format!("{SYSTEM}/{path}"));
            if let Some(body) = body { request.json(body) } else { request }
        };
        send(request()).await.expect_error(401, "UNAUTHORIZED");
        for token in [&anon, &User::new().token, &admin.token] {
            send(request().bearer_auth(token)).await.expect_error(403, "FORBIDDEN");
        }
    }
    // The socket is still open, and strangers write no audit log.
    assert_eq!(get(&node, "connections").await["total"], json!(1));
    assert_eq!(audit(&db).await, []);
    drop(socket);
}

#[testkit::test]
async fn connections_of_all_nodes_are_found_and_paged(db: Arc<TestDatabase>) {
    const USERS: usize = 150;
    let (one, two) = (db.start_server().await, db.start_server().await);
    let users = User::many(USERS);
    let mut sockets = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let node = if number % 2 == 0 { &one } else { &two };
        sockets.push(node.socket_with(user, &format!("&device_id=device-{}", number % 10)).await);
        if number % 3 == 0 {
            sockets.push(node.socket_with(user, "&device_id=other").await);
        }
    }
    let channel = channel_client(&two, &users[1]).await;
    let open = sockets.len() + 1;

    // Each node knows all, and every page continues the one before.
    for node in [&one, &two] {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(node, &format!("connections?limit=70{cursor}")).await;
            assert_eq!((&page["total"], &page["unanswered"]), (&json!(open), &json!([])));
            ids.extend(page["data"].as_array().expect("a list").iter().map(|item| item["id"].to_string()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(ids.len(), open);
        assert_eq!(HashSet::<String>::from_iter(ids).len(), open, "each once");
    }

    let found = connection_of(&two, &users[4]).await;
    assert_eq!((&found["device_id"], &found["dialect"]), (&json!("device-4"), &json!("presence")));
    assert!(found["remote_address"].as_str().expect("an address").starts_with("127.0.0.1:"), "{found}");
    let count = async |query: &str| get(&one, &format!("connections?{query}")).await["total"].clone();
    assert_eq!(count(&format!("user_id={}", users[0].id)).await, json!(2));
    assert_eq!(count(&format!("user_id={}&device_id=other", users[0].id)).await, json!(1));
    assert_eq!(count(&format!("user_id={}&dialect=phoenix_v2", users[1].id)).await, json!(1));
    assert_eq!(count("device_id=device-7").await, json!(USERS / 10));
    assert_eq!(count("dialect=phoenix_v2").await, json!(1));
    assert_eq!(
        count(&format!("address={}", found["remote_address"].as_str().expect("text"))).await,
        json!(1)
    );
    assert_eq!(count("address=203.0.113.").await, json!(0));
    assert_eq!(count("min_queued_bytes=1000000").await, json!(0));
    let nodes = get(&one, "nodes").await;
    let counts: u64 =
        nodes.as_array().expect("a list").iter().filter_map(|node| node["connections"].as_u64()).sum();
    assert_eq!(counts, open as u64, "{nodes}");
    assert_eq!((&nodes[0]["version"], &nodes[1]["alive"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(true)));
    let of_node = count(&format!("node={}", nodes[0]["id"].as_str().expect("an ID"))).await;
    assert_eq!(of_node, nodes[0]["connections"]);

    for (query, field) in [
        ("user_id=x", "user_id"),
        ("dialect=smoke", "dialect"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=x", "cursor"),
        ("min_queued_bytes=-1", "min_queued_bytes"),
    ] {
        let error = node_error(&one, &format!("connections?{query}")).await;
        assert_eq!(error["details"][0]["field"], json!(field), "{query}: {error}");
    }
    drop((sockets, channel));
}

async fn node_error(node: &TestServer, path: &str) -> Value {
    node.get(&service_user(), &format!("{SYSTEM}/{path}")).await.expect_error(400, "INVALID_REQUEST")
}

#[testkit::test]
async fn a_node_that_does_not_answer_is_named(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let socket = node.socket(&user).await;
    let silent = Uuid::new_v4();
    db.execute("select rollcall_internal.renew_lease($n, interval '1 minute')", &[("n", silent)]).await;
    let page = get(&node, "connections").await;
    assert_eq!((&page["total"], &page["unanswered"]), (&json!(1), &json!([silent])));
    let nodes = get(&node, "nodes").await;
    let missing = nodes.as_array().expect("a list").iter().find(|node| node["id"] == json!(silent));
    assert_eq!(missing.expect("is listed")["version"], json!(null));
    // Nobody knows whether it closes a connection of its own.
    let body = json!({"connection_id": format!("{silent}.0.0.1")});
    post(&node, "disconnect", body).await.expect_error(503, "SERVICE_UNAVAILABLE");
    drop(socket);
}

#[testkit::test]
async fn traffic_and_backlog_of_a_connection_are_counted(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (sender, reader) = (User::new(), User::new());
    let (mut one, mut two) = (channel_client(&node, &sender).await, channel_client(&node, &reader).await);
    one.join("realtime:a", json!({})).await;
    two.join("realtime:a", json!({})).await;
    let before = connection_of(&node, &reader).await;
    for n in 0..20 {
        one.broadcast("realtime:a", "x", json!({"n": n})).await;
    }
    for _ in 0..20 {
        two.next_broadcast("realtime:a").await;
    }
    let (sent, received) = (connection_of(&node, &sender).await, connection_of(&node, &reader).await);
    // The join and the broadcasts.
    assert_eq!(sent["messages_received"], json!(21), "{sent}");
    let delivered = |state: &Value| state["messages_sent"].as_u64().expect("a number");
    assert_eq!(delivered(&received) - delivered(&before), 20, "{before} {received}");
    assert!(sent["received_per_second"].as_f64().expect("a number") > 0.0, "{sent}");
    assert_eq!((&received["queued_messages"], &received["queued_bytes"]), (&json!(0), &json!(0)));
}

#[testkit::test]
async fn one_connection_is_closed_and_no_other(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let user = User::new();
    let mut closed = two.socket_with(&user, "&device_id=a").await;
    let mut kept = two.socket_with(&user, "&device_id=b").await;
    let page = get(&one, &format!("connections?user_id={}&device_id=a", user.id)).await;
    let id = &page["data"][0]["id"];
    let body = json!({"connection_id": id, "reason": "wrong device"});
    let request = one.request(Method::POST, &format!("{SYSTEM}/disconnect")).json(&body);
    let response = send(request.bearer_auth(service_user().token).header("x-request-id", "trace-7")).await;
    assert_eq!(response.expect_status(200), json!({"disconnected": 1}));
    closed.expect_close(4403).await;
    assert_eq!(connection_of(&one, &user).await["device_id"], json!("b"));

    // The second attempt finds nothing, and leaves its row too.
    post(&one, "disconnect", body.clone()).await.expect_error(404, "NOT_FOUND");
    let gone = json!({"connection_id": format!("{}.0.0.1", Uuid::new_v4())});
    post(&one, "disconnect", gone).await.expect_error(404, "NOT_FOUND");
    let log = audit(&db).await;
    assert_eq!(
        log.iter().map(|(action, ..)| action.as_str()).collect::<Vec<_>>(),
        ["disconnect_connection"; 3]
    );
    let entries = get(&one, "audit?action=disconnect_connection").await;
    let first = &entries["data"][2];
    assert_eq!(
        (&first["actor"], &first["role"], &first["reason"], &first["request_id"], &first["target"]),
        (
            &json!("service_role"),
            &json!("service_role"),
            &json!("wrong device"),
            &json!("trace-7"),
            &json!({"connection_id": id})
        ),
        "{first}"
    );

    // In SQL the same.
    let page = get(&one, &format!("connections?user_id={}", user.id)).await;
    let id = page["data"][0]["id"].as_str().expect("an ID").to_owned();
    let row = db.query_row("select rollcall.disconnect_connection($1, 'by SQL')", &[&id]).await;
    assert!(row.get::<_, bool>(0), "the node lives");
    kept.expect_close(4403).await;
    assert_eq!(audit(&db).await.len(), 4);
}

#[testkit::test]
async fn a_user_or_one_device_is_disconnected_on_all_nodes(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let (user, other) = (User::new(), User::new());
    let mut phone = one.socket_with(&user, "&device_id=phone").await;
    let mut tab = two.socket_with(&user, "&device_id=tab").await;
    let mut channel = channel_client(&two, &user).await;
    let bystander = two.socket(&other).await;
    let are_online = "select count(*) = 2 from rollcall.presence_devices where user_id = $u and live";
    db.wait_until("both devices are online", are_online, &[("u", user.id)]).await;
    let body = json!({"user_id": user.id, "device_id": "phone", "reason": "lost phone"});
    assert_eq!(post(&two, "disconnect", body).await.expect_status(200), json!({"disconnected": 1}));
    phone.expect_close(4403).await;
    assert_eq!(get(&one, &format!("connections?user_id={}", user.id)).await["total"], json!(2));

    let response = post(&one, "disconnect", json!({"user_id": user.id})).await.expect_status(200);
    assert!(response["disconnected"].as_i64().expect("a number") >= 1, "{response}");
    tab.expect_close(4403).await;
    assert_eq!(channel.expect_close().await.0, 4403);
    connection_of(&one, &other).await;
    let log = audit(&db).await;
    assert_eq!(
        log.iter().map(|(action, _, reason)| (action.as_str(), reason.as_deref())).collect::<Vec<_>>(),
        [
            ("disconnect_device", Some("lost phone")),
            ("disconnect_user", Some("disconnected by an administrator"))
        ]
    );
    let entries = get(&one, &format!("audit?user_id={}&limit=1", user.id)).await;
    assert_eq!(
        (&entries["data"][0]["action"], entries["next_cursor"].is_i64()),
        (&json!("disconnect_user"), true)
    );
    let older = get(&one, &format!("audit?user_id={}&cursor={}", user.id, entries["next_cursor"])).await;
    assert_eq!(
        (&older["data"][0]["action"], &older["next_cursor"]),
        (&json!("disconnect_device"), &json!(null))
    );

    for (body, field) in [
        (json!({}), "user_id"),
        (json!({"user_id": user.id, "connection_id": format!("{}.0.0.1", Uuid::new_v4())}), "user_id"),
        (json!({"connection_id": "x"}), "connection_id"),
        (json!({"user_id": user.id, "reason": "x".repeat(124)}), "reason"),
    ] {
        let error = post(&one, "disconnect", body.clone()).await.expect_error(400, "INVALID_REQUEST");
        assert_eq!(error["details"][0]["field"], json!(field), "{body}: {error}");
    }
    assert_eq!(audit(&db).await.len(), 2, "invalid requests are no actions");
    drop(bystander);
}

#[testkit::test]
async fn channels_and_subscriptions_of_all_nodes_are_listed(db: Arc<TestDatabase>) {
    db.execute(
        "create table public.todos (id int primary key, list_id int); grant select on public.todos to authenticated;
        alter table public.todos enable row level security;
        create policy everyone on public.todos for select using (true);
        alter publication supabase_realtime add table public.todos",
        &[],
    )
    .await;
    let (one, two) = (db.start_server().await, db.start_server().await);
    let users = User::many(3);
    let mut clients = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let mut client = channel_client(if number == 0 { &one } else { &two }, user).await;
        client.join("realtime:harbour", json!({})).await;
        client.join(&format!("realtime:boat-{number}"), json!({})).await;
        clients.push(client);
    }
    let changes =
        json!([{"event": "INSERT", "schema": "public", "table": "todos", "filter": "list_id=eq.7"}]);
    clients[2].join("realtime:todos", json!({"postgres_changes": changes})).await;

    let page = get(&one, "channels?limit=2").await;
    let first = json!([
        {"topic": "boat-0", "private": false, "members": 1},
        {"topic": "boat-1", "private": false, "members": 1}
    ]);
    assert_eq!((&page["data"], &page["next_cursor"]), (&first, &json!("public:boat-1")));
    let rest = get(&one, "channels?cursor=public:boat-1").await;
    let topics: Vec<_> = rest["data"].as_array().expect("a list").iter().map(|item| &item["topic"]).collect();
    assert_eq!(topics, [&json!("boat-2"), &json!("harbour"), &json!("todos")]);
    assert_eq!(rest["data"][1]["members"], json!(3));
    let found = get(&two, "channels?search=arbo").await;
    assert_eq!(found["data"], json!([{"topic": "harbour", "private": false, "members": 3}]));

    for query in ["".to_owned(), "?table=todos&schema=public".to_owned(), format!("?user_id={}", users[2].id)]
    {
        let page = get(&one, &format!("subscriptions{query}")).await;
        let subscription = &page["data"][0];
        assert_eq!(
            (
                &subscription["topic"],
                &subscription["user_id"],
                &subscription["role"],
                &subscription["bindings"]
            ),
            (
                &json!("todos"),
                &json!(users[2].id),
                &json!("authenticated"),
                &json!([{"event": "INSERT", "schema": "public", "table": "todos", "filters": ["list_id=eq.7"], "select": null}])
            ),
            "{page}"
        );
        assert_eq!((&page["total"], &page["next_cursor"]), (&json!(1), &json!(null)));
    }
    for query in ["?table=others".to_owned(), format!("?user_id={}", users[0].id)] {
        assert_eq!(get(&one, &format!("subscriptions{query}")).await["data"], json!([]), "{query}");
    }
}

#[testkit::test]
async fn a_published_message_reaches_all_nodes_and_the_audit_log(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let mut client = two.channel_client_with_key(SerializerVersion::V2, &anon_key()).await.expect("opens");
    client.join("realtime:harbour", json!({})).await;
    let body = json!({"topic": "harbour", "event": "notice", "payload": {"text": "soon"}, "private": false, "reason": "maintenance"});
    assert_eq!(post(&one, "publish", body).await.expect_status(200), json!({"success": true}));
    let message = client.next_broadcast("realtime:harbour").await;
    assert_eq!((&message["event"], &message["payload"]["text"]), (&json!("notice"), &json!("soon")));
    let log = audit(&db).await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].0.as_str(), log[0].2.as_deref()), ("publish", Some("maintenance")));
    assert!(log[0].1.contains("harbour") && !log[0].1.contains("soon"), "no payload: {}", log[0].1);
    for body in [
        json!({"topic": "", "event": "x", "payload": {}}),
        json!({"topic": "a", "event": "x", "payload": []}),
        json!({"topic": "a", "event": "x", "payload": {"a": ["\u{0}"]}}),
    ] {
        post(&one, "publish", body).await.expect_error(400, "INVALID_REQUEST");
    }
}

#[testkit::test]
async fn live_events_show_types_and_sizes_but_no_payloads_or_tokens(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let user = User::new();
    let mut client = channel_client(&two, &user).await;
    client.join("realtime:a", json!({"broadcast": {"self": true}})).await;
    let id = connection_of(&one, &user).await["id"].clone();
    // From the node that holds the connection, and from another one.
    for node in [&two, &one] {
        let mut stream = watch(node, &id, "").await;
        client.set_token("realtime:a", &user.token).await;
        client.broadcast("realtime:a", "secret", json!({"text": "hidden"})).await;
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let (name, message) = next_event(&mut stream).await;
            assert_eq!(name, "message");
            let text = message.to_string();
            assert!(!text.contains("hidden") && !text.contains("eyJ"), "{text}");
            assert!(message["bytes"].as_u64().expect("a size") > 10 && message["at"].is_string(), "{text}");
            let direction = message["direction"].as_str().expect("text").to_owned();
            seen.push((direction, message["type"].as_str().unwrap_or("binary").to_owned()));
        }
        let names: Vec<_> =
            seen.iter().map(|(direction, kind)| (direction.as_str(), kind.as_str())).collect();
        assert_eq!(names, [("in", "access_token"), ("in", "broadcast"), ("out", "broadcast")]);
    }
    let path = format!("{SYSTEM}/connections/{}/events?payloads=true", id.as_str().expect("an ID"));
    one.get(&service_user(), &path).await.expect_error(403, "FORBIDDEN");
    let log = audit(&db).await;
    assert_eq!(log.len(), 2, "one row for each stream");
    assert!(log.iter().all(|(action, target, _)| action == "watch_connection" && target.contains("\"payloads\": false")));

    // The stream ends with the connection.
    let mut stream = watch(&one, &id, "").await;
    client.abort();
    // It begins with what the earlier streams left in the ring.
    let (name, data) = loop {
        let event = next_event(&mut stream).await;
        if event.0 != "message" {
            break event;
        }
    };
    assert_eq!((name.as_str(), &data["reason"]), ("close", &json!("the connection is closed")));
    one.get(&service_user(), &path.replace("?payloads=true", "")).await.expect_error(404, "NOT_FOUND");
    assert_eq!(audit(&db).await.len(), 4, "the failed attempt too");
}

#[testkit::test]
async fn payloads_are_shown_where_the_setting_allows_it_and_without_tokens(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("OPERATOR_PAYLOADS", "true")).await;
    let user = User::new();
    let mut client = channel_client(&node, &user).await;
    client.join("realtime:a", json!({})).await;
    let id = connection_of(&node, &user).await["id"].clone();
    let mut plain = watch(&node, &id, "").await;
    let mut stream = watch(&node, &id, "?payloads=true").await;
    client.set_token("realtime:a", &user.token).await;
    client
        .broadcast("realtime:a", "x", json!({"text": "shown", "note": format!("Bearer {}", user.token)}))
        .await;
    let (_, refresh) = next_event(&mut stream).await;
    assert_eq!(refresh["type"], json!("access_token"));
    assert!(refresh["payload"].as_str().expect("a payload").contains("[token]"), "{refresh}");
    let (_, message) = next_event(&mut stream).await;
    let payload = message["payload"].as_str().expect("a payload");
    assert!(payload.contains("shown") && !payload.contains("eyJ"), "{payload}");
    assert_eq!(next_event(&mut plain).await.1["payload"], json!(null));
}

#[testkit::test]
async fn an_operator_who_does_not_read_slows_nobody(db: Arc<TestDatabase>) {
    const MESSAGES: usize = 3_000;
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_EVENTS_PER_SECOND", "0")).await;
    let (sender, reader) = (User::new(), User::new());
    let (mut one, mut two) = (channel_client(&node, &sender).await, channel_client(&node, &reader).await);
    one.join("realtime:a", json!({})).await;
    two.join("realtime:a", json!({})).await;
    let id = connection_of(&node, &reader).await["id"].clone();
    // Opened, but not read until the end.
    let mut stream = watch(&node, &id, "").await;
    let text = "x".repeat(1_000);
    let publish = async {
        for n in 0..MESSAGES {
            let body = json!({"messages": [{"topic": "a", "event": "x", "payload": {"n": n, "text": text}}]});
            if n % 100 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            one.push("realtime:a", "broadcast", broadcast("x", body)).await;
        }
    };
    let receive = async {
        for n in 0..MESSAGES {
            let message = two.next_broadcast("realtime:a").await;
            assert_eq!(message["payload"]["messages"][0]["payload"]["n"], json!(n));
        }
    };
    let both = async { tokio::join!(publish, receive) };
    timeout(Duration::from_secs(60), both).await.expect("nothing waits for the operator");
    let (mut seen, mut dropped) = (0, 0);
    while seen + dropped < MESSAGES as u64 {
        let (name, data) = next_event(&mut stream).await;
        match name.as_str() {
            "dropped" => dropped += data["count"].as_u64().expect("a number"),
            _ => seen += 1,
        }
    }
    assert!(dropped > 0 && seen > 0, "{seen} seen, {dropped} dropped");
}

#[testkit::test]
async fn the_history_has_a_sample_from_the_start(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let history = get(&one, "history").await;
    assert_eq!((history["nodes"].as_array().map(Vec::len), &history["unanswered"]), (Some(2), &json!([])));
    for node in history["nodes"].as_array().expect("a list") {
        let sample = &node["samples"][0];
        assert_eq!(sample["connections"], json!(0), "{sample}");
        assert!(sample["at"].as_str().expect("a time").ends_with("0.000Z"), "{sample}");
    }
    drop(two);
}
