//! Invalid input over REST and sockets: each gets the right status and error envelope, and changes no row.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Method, RequestBuilder};
use rollcall::auth::token;
use serde_json::{Value, json};
use testkit::{
    client::send,
    harness::{SECRET, TestDatabase, TestServer, User, mint_token, service_user, unix_time_in},
};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use uuid::Uuid;

const STATUS_PATH: &str = "/api/presence/status";

/// Returns the row count and a hash of each table, without what servers write on their own: the table of nodes, and
/// the time at which a retention rule was last applied (maintenance runs at any moment).
async fn count_rows(db: &TestDatabase) -> Vec<(String, i64, String)> {
    let tables = db
        .sql
        .query(
            "select c.oid::regclass::text from pg_class c where c.relkind = 'r'
               and c.relnamespace in ('rollcall'::regnamespace, 'auth'::regnamespace)
               and c.relname <> 'presence_nodes' order by 1",
            &[],
        )
        .await
        .expect("tables");
    let mut rows = Vec::new();
    for table in tables {
        let table: String = table.get(0);
        let statement = format!(
            "select count(*), coalesce(md5(string_agg(t.r::text, ',' order by t.r::text)), '')
               from (select to_jsonb(r) - 'applied_at' as r from {table} r) t"
        );
        let row = db.query_row(&statement, &[]).await;
        rows.push((table, row.get(0), row.get(1)));
    }
    assert!(rows.len() > 10, "{rows:?}");
    rows
}

/// Creates a user with rows in every table that a request could change.
async fn user_with_status(db: &TestDatabase, node: &TestServer) -> User {
    let user = User::new();
    db.execute(
        "insert into rollcall.presence_settings (user_id) values ($user);
             insert into rollcall.contacts values ($user, gen_random_uuid(), now());",
        &[("user", user.id)],
    )
    .await;
    node.post(&user, STATUS_PATH, json!({"status": "busy", "custom_status": "x"})).await.expect_status(200);
    user
}

#[testkit::test]
async fn rejected_bodies_change_nothing(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = user_with_status(&db, &node).await;
    let before = count_rows(&db).await;
    let deep = format!(r#"{{"status":"online","x":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let giant = format!(r#"{{"status":"online","x":"{}"}}"#, "x".repeat(64 * 1024));
    let huge = format!(r#"{{"status":"online","x":"{}"}}"#, "x".repeat(3 * 1024 * 1024));
    let mut bad_utf8 = br#"{"status":"online","custom_status":""#.to_vec();
    bad_utf8.extend([0xff, 0xfe]);
    bad_utf8.extend(br#""}"#);
    let json = "application/json";
    for (what, content_type, body, status, code) in [
        ("nothing", json, Vec::new(), 400, "INVALID_REQUEST"),
        ("half of it", json, br#"{"status":"onl"#.to_vec(), 400, "INVALID_REQUEST"),
        ("more than it", json, br#"{"status":"online"} {}"#.to_vec(), 400, "INVALID_REQUEST"),
        ("a list", json, br#"["online"]"#.to_vec(), 400, "INVALID_REQUEST"),
        ("a text", json, br#""online""#.to_vec(), 400, "INVALID_REQUEST"),
        ("null", json, b"null".to_vec(), 400, "INVALID_REQUEST"),
        ("a wrong type", json, br#"{"status":{"$ne":null}}"#.to_vec(), 400, "INVALID_REQUEST"),
        (
            "a number as device",
            json,
            br#"{"status":"online","device_id":7}"#.to_vec(),
            400,
            "INVALID_REQUEST",
        ),
        (
            "a list as text",
            json,
            br#"{"status":"online","custom_status":["x"]}"#.to_vec(),
            400,
            "INVALID_REQUEST",
        ),
        (
            "a NUL",
            json,
            br#"{"status":"online","custom_status":"a\u0000b"}"#.to_vec(),
            400,
            "INVALID_REQUEST",
        ),
        (
            "half a surrogate",
            json,
            br#"{"status":"online","custom_status":"\ud800"}"#.to_vec(),
            400,
            "INVALID_REQUEST",
        ),
        (
            "a NUL in a device",
            json,
            br#"{"status":"online","device_id":"a\u0000"}"#.to_vec(),
            400,
            "INVALID_REQUEST",
        ),
        ("no UTF-8", json, bad_utf8, 400, "INVALID_REQUEST"),
        (
            "UTF-16",
            json,
            "{\"status\":\"online\"}".encode_utf16().flat_map(u16::to_le_bytes).collect(),
            400,
            "INVALID_REQUEST",
        ),
        ("deep JSON", json, deep.into_bytes(), 400, "INVALID_REQUEST"),
        ("more than 64 KiB", json, giant.into_bytes(), 413, "PAYLOAD_TOO_LARGE"),
        ("3 MiB", json, huge.into_bytes(), 413, "PAYLOAD_TOO_LARGE"),
        (
            "a form",
            "application/x-www-form-urlencoded",
            b"status=online".to_vec(),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        ("text", "text/plain", br#"{"status":"online"}"#.to_vec(), 415, "UNSUPPORTED_MEDIA_TYPE"),
    ] {
        let request = node
            .request(Method::POST, STATUS_PATH)
            .bearer_auth(&user.token)
            .header("content-type", content_type);
        let response = send(request.body(body)).await;
        assert_eq!(response.status.as_u16(), status, "{what}: {}", response.body);
        let error = response.expect_error(status, code);
        assert!(error["message"].as_str().is_some_and(|message| message.len() < 500), "{what}: {error}");
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let response = send(node.request(method, STATUS_PATH).bearer_auth(&user.token)).await;
        assert!(
            response.header("allow").is_some_and(|allow| allow.contains("POST")),
            "{:?}",
            response.headers
        );
        response.expect_error(405, "METHOD_NOT_ALLOWED");
    }
    assert_eq!(count_rows(&db).await, before);
}

#[testkit::test]
async fn sql_in_text_fields_is_stored_as_text(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = user_with_status(&db, &node).await;
    for text in
        ["'; drop table rollcall.contacts; --", "$1", "\\'", "{\"a\":1}", "${jndi:ldap://x}", "%s%n", "{a,b}"]
    {
        let body = json!({"status": "online", "device_id": text, "custom_status": text, "activity": text, "current_page": text});
        let set = node.post(&user, STATUS_PATH, body).await.expect_status(200);
        assert_eq!(
            (&set["custom_status"], &set["activity"], &set["current_page"]),
            (&json!(text), &json!(text), &json!(text))
        );
        let kept = db
            .query_row("select count(*) from rollcall.presence_devices where device_id = $1", &[&text])
            .await;
        assert_eq!(kept.get::<_, i64>(0), 1, "{text}");
        node.post(&user, STATUS_PATH, json!({"status": text})).await.expect_error(422, "UNPROCESSABLE");
    }
    assert_eq!(db.query_row("select count(*) from rollcall.contacts", &[]).await.get::<_, i64>(0), 1);
}

#[testkit::test]
async fn unknown_fields_are_ignored(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let body = json!({
        "status": "online", "__proto__": {"admin": true}, "face": "trusted", "version": 9, "nodes": ["x"],
        "last_seen": "1970-01-01T00:00:00Z", "x": {"deep": [1, 2, {"er": null}]},
    });
    let set = node.post(&user, STATUS_PATH, body).await.expect_status(200);
    assert_eq!(set.as_object().map(serde_json::Map::len), Some(4), "{set:#}");
    assert_ne!(set["last_seen"], "1970-01-01T00:00:00.000Z");
}

#[testkit::test]
async fn invalid_paths_and_queries_are_rejected(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = user_with_status(&db, &node).await;
    let before = count_rows(&db).await;
    let id = user.id;
    for (path, status, code) in [
        ("/api/presence/users/bob".to_owned(), 400, "INVALID_REQUEST"),
        ("/api/presence/users/%00".to_owned(), 400, "INVALID_REQUEST"),
        ("/api/presence/users/%ff".to_owned(), 400, "INVALID_REQUEST"),
        (format!("/api/presence/users/{id}%27%20or%201=1"), 400, "INVALID_REQUEST"),
        (format!("/api/presence/users/{id}/"), 404, "NOT_FOUND"),
        (format!("/api/presence/users/{id}/../../status"), 404, "NOT_FOUND"),
        ("/api/presence/users?user_ids=%00".to_owned(), 400, "INVALID_REQUEST"),
        ("/api/presence/users?user_ids=%ff".to_owned(), 400, "INVALID_REQUEST"),
        (format!("/api/presence/users?user_ids={id}&user_ids={id}"), 400, "INVALID_REQUEST"),
        ("/api/presence/users?user_ids=*".to_owned(), 400, "INVALID_REQUEST"),
        ("/api/presence/nothing".to_owned(), 404, "NOT_FOUND"),
        ("/nothing".to_owned(), 404, "NOT_FOUND"),
        ("/api/presence/subscribe".to_owned(), 426, "UPGRADE_REQUIRED"),
    ] {
        let response = node.get(&user, &path).await;
        // The HTTP client resolves dot segments itself.
        if path.contains("..") {
            assert!(response.status.is_client_error() || response.status == 200, "{path}");
            continue;
        }
        assert_eq!(response.status.as_u16(), status, "{path}: {}", response.body);
        response.expect_error(status, code);
    }
    assert_eq!(count_rows(&db).await, before);
}

/// Builds a token from its parts.
fn forged_token(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[testkit::test]
async fn invalid_tokens_are_rejected_everywhere(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = user_with_status(&db, &node).await;
    let before = count_rows(&db).await;
    let claims = json!({"sub": user.id, "role": "authenticated", "exp": unix_time_in(3_600)});
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        mint_token(&claims)
    };
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().expect("an object").remove(name);
        mint_token(&claims)
    };
    let good = mint_token(&claims);
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let other_secret = token::mint(&SECRET.replace('i', "j"), &claims).expect("a token");
    for (what, token) in [
        ("another secret", other_secret),
        ("alg none", forged_token(&json!({"alg": "none"}), &claims, "")),
        ("alg None", forged_token(&json!({"alg": "None", "typ": "JWT"}), &claims, "")),
        ("alg none, with a signature", forged_token(&json!({"alg": "none"}), &claims, signature)),
        ("RS256 over our secret", forged_token(&json!({"alg": "RS256"}), &claims, signature)),
        ("no alg", forged_token(&json!({"typ": "JWT"}), &claims, signature)),
        ("a critical extension", forged_token(&json!({"alg": "HS256", "crit": ["x"]}), &claims, signature)),
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("expired", with("exp", json!(unix_time_in(-1)))),
        ("no exp", without("exp")),
        ("a text as exp", with("exp", json!("tomorrow"))),
        ("not valid yet", with("nbf", json!(unix_time_in(600)))),
        ("no sub", without("sub")),
        ("an empty sub", with("sub", json!(""))),
        ("a sub that is no UUID", with("sub", json!("admin"))),
        ("SQL as sub", with("sub", json!(format!("{}' or '1'='1", user.id)))),
        ("a number as sub", with("sub", json!(1))),
        ("a role of the database", with("role", json!("postgres"))),
        ("a superuser", with("role", json!("supabase_admin"))),
        ("a list of roles", with("role", json!(["service_role"]))),
        ("a NUL", with("name", json!("a\0b"))),
        ("9 KiB", with("name", json!("x".repeat(9 * 1024)))),
        ("not a token", "x".to_owned()),
    ] {
        let requests: [RequestBuilder; 3] = [
            node.request(Method::GET, STATUS_PATH),
            node.request(Method::POST, STATUS_PATH).json(&json!({"status": "away"})),
            node.request(Method::GET, "/api/presence/users"),
        ];
        for request in requests {
            let response = send(request.bearer_auth(&token)).await;
            assert_eq!(response.status.as_u16(), 401, "{what}: {}", response.body);
            let error = response.expect_error(401, "INVALID_TOKEN").to_string();
            assert!(!error.contains(SECRET) && !error.contains(&token), "{what}: {error}");
        }
        match node.socket_for_token(&token, "").await {
            Err(SocketError::Http(response)) => assert_eq!(response.status(), 401, "{what}"),
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what} opened a socket"),
        }
    }
    for header in ["Basic dXNlcjpwYXNz", "Bearer", "bearer: x", ""] {
        let response = send(node.request(Method::GET, STATUS_PATH).header("authorization", header)).await;
        response.expect_error(401, "INVALID_TOKEN");
    }
    let twice = node
        .request(Method::GET, STATUS_PATH)
        .bearer_auth(&good)
        .header("authorization", format!("Bearer {good}"));
    send(twice).await.expect_error(401, "INVALID_TOKEN");
    assert_eq!(count_rows(&db).await, before);
    send(node.request(Method::GET, STATUS_PATH).bearer_auth(&good)).await.expect_status(200);
}

#[testkit::test]
async fn unsigned_role_claims_grant_no_rights(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let hidden = user_with_status(&db, &node).await;
    // Only `role` determines the role; policies may read the other claims.
    let user = User::with_claims(json!({
        "Role": "service_role", "roles": ["service_role"], "app_metadata": {"role": "service_role"},
        "permissions": ["Presence:Admin", "*", "service_role"], "is_admin": true,
    }));
    node.get(&user, &format!("/api/presence/users/{}", hidden.id)).await.expect_error(404, "NOT_FOUND");
    let anon = User::with_claims(json!({"role": "anon"}));
    node.get(&anon, &format!("/api/presence/users/{}", hidden.id)).await.expect_error(403, "FORBIDDEN");
}

#[testkit::test]
async fn rejected_socket_messages_change_nothing(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = user_with_status(&db, &node).await;
    let mut socket = node.socket_with(&user, "&device_id=default").await;
    socket.next_message().await;
    db.wait_until(
        "connected",
        "select cardinality(nodes) = 1 from rollcall.presence_devices where user_id = $u",
        &[("u", user.id)],
    )
    .await;
    let before = count_rows(&db).await;
    for message in [
        r#"{"type":"status","data":{"status":"sleeping"}}"#,
        r#"{"type":"status","data":{"status":"away","device_id":""}}"#,
        r#"{"type":"status","data":{"status":"away","device_id":"a\u0000b"}}"#,
        r#"{"type":"status","data":{"status":"away","custom_status":"\ud800"}}"#,
        r#"{"type":"status","data":{"status":"away","current_page":7}}"#,
        r#"{"type":"status","data":"away"}"#,
        r#"{"type":"typing","data":{"conversation_id":"' or 1=1","is_typing":true}}"#,
    ] {
        socket.send_frame(Message::text(message)).await;
        let error = socket.next_message().await;
        assert_eq!(error["type"], "error", "{message}: {error}");
    }
    assert_eq!(count_rows(&db).await, before);

    // NUL is handled like other control characters in texts.
    let nul = r#"{"type":"status","data":{"status":"dnd","custom_status":"a\u0000b"}}"#;
    socket.send_frame(Message::text(nul)).await;
    db.wait_until(
        "the text without it",
        "select custom_status = 'ab' from rollcall.presence_choices where user_id = $u",
        &[("u", user.id)],
    )
    .await;
}

/// The anon key is public, so requests with it must not cause server errors and their log lines.
#[testkit::test]
async fn no_route_fails_for_a_caller_without_a_user(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let anon = mint_token(&json!({"role": "anon", "exp": unix_time_in(600)}));
    let document = send(node.request(Method::GET, "/openapi.json")).await.expect_status(200);
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
            let filled = path
                .split('/')
                .map(|part| if part.starts_with('{') { Uuid::nil().to_string() } else { part.to_owned() });
            let body = &operation["requestBody"]["content"]["application/json"]["example"];
            let mut request =
                node.request(method.clone(), &filled.collect::<Vec<_>>().join("/")).bearer_auth(&anon);
            if !body.is_null() {
                request = request.json(body);
            }
            let response = send(request).await;
            assert!(response.status.as_u16() < 500, "{method} {path}: {} {}", response.status, response.body);
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
    let health = send(node.request(Method::GET, "/api/v1/context/health").bearer_auth(&anon)).await;
    health.expect_error(401, "UNAUTHORIZED");
}

#[testkit::test]
async fn gateway_headers_are_ignored_unless_trusted(db: Arc<TestDatabase>) {
    let (plain, trusting) = (
        db.start_server().await,
        db.start_server_with(|settings| settings.set("TRUST_GATEWAY_HEADERS", "true")).await,
    );
    let user = user_with_status(&db, &plain).await;
    let vouched =
        |node: &TestServer, id: &str| node.request(Method::GET, STATUS_PATH).header("x-user-id", id);
    send(vouched(&plain, &user.id.to_string())).await.expect_error(401, "UNAUTHORIZED");
    let seen = send(vouched(&trusting, &user.id.to_string())).await.expect_status(200);
    assert_eq!(seen["user_id"], json!(user.id));
    send(vouched(&trusting, "bob")).await.expect_error(400, "INVALID_REQUEST");
    let twice = vouched(&trusting, &user.id.to_string()).header("x-user-id", User::new().id.to_string());
    send(twice).await.expect_error(400, "INVALID_REQUEST");
}

/// In a change, `null` is a value: a field that cannot have it is reported, and counts neither as absent nor as empty.
#[testkit::test]
async fn null_in_a_change_is_reported_unless_the_field_can_be_null(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("MANAGE_REQUESTS_PER_MINUTE", "0")).await;
    let user = User::new();
    let document = send(node.request(Method::GET, "/openapi.json")).await.expect_status(200);
    let resolve = |schema: &Value| match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).expect("a schema").clone(),
        None => schema.clone(),
    };
    let can_be_null = |schema: &Value| {
        let has_null =
            |types: &Value| types == "null" || types.as_array().is_some_and(|it| it.contains(&json!("null")));
        has_null(&schema["type"])
            || ["oneOf", "anyOf"].iter().any(|kind| {
                schema[*kind].as_array().is_some_and(|parts| parts.iter().any(|part| has_null(&part["type"])))
            })
    };
    let (mut routes, mut refused) = (0, 0);
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let Some(operation) = operations.get("patch") else { continue };
        routes += 1;
        let caller = if path.starts_with("/api/v1/system/") { &service_user() } else { &user };
        let body = resolve(&operation["requestBody"]["content"]["application/json"]["schema"]);
        let path = path.replace("{id}", "d0000000-0000-4000-8000-000000000001");
        for (field, schema) in body["properties"].as_object().expect("fields") {
            let answer = node.patch(caller, &path, json!({ field: null })).await;
            if can_be_null(&resolve(schema)) {
                assert!(matches!(answer.status.as_u16(), 200 | 404), "{path} {field}: {:#}", answer.body);
            } else {
                refused += 1;
                let details = answer.body["details"].clone();
                let message = details[0]["message"].as_str().unwrap_or_default().to_owned();
                answer.expect_error(400, "INVALID_REQUEST");
                assert_eq!(details[0]["field"], *field, "{path}: {details}");
                assert!(message.contains("got null"), "{path} {field}: {message}");
            }
        }
    }
    assert!(routes >= 8 && refused >= 20, "{routes} routes, {refused} fields");
}
