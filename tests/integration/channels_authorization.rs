//! Authorization of private channels (docs/protocol/realtime.md, "Private channel without policies" to "Service role"),
//! and revocation while channels are open.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use testkit::{
    harness::{SECRET, TestDatabase, User, mint_token, service_user, unix_time_in},
    phoenix::{Frame, SerializerVersion, anon_key, broadcast, open},
};
use tokio::time::Instant;

const POLICIES: &str = include_str!("channel_policies.sql");
const RSA: &str = include_str!("../fixtures/keys/rsa.pem");
const P256: &str = include_str!("../fixtures/keys/p256.pem");
const ED25519: &str = include_str!("../fixtures/keys/ed25519.pem");

fn private_join(token: &str) -> Value {
    json!({"config": {"private": true, "broadcast": {"ack": true}}, "access_token": token})
}

// docs/protocol/realtime.md, "Private channel without policies"
#[testkit::test]
async fn private_channels_are_denied_without_policies(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        for token in [User::new().token, anon_key()] {
            let reason = socket.join_error("realtime:a:b", private_join(&token)).await;
            assert_eq!(
                reason,
                "Unauthorized: You do not have permissions to read from this Channel topic: a:b"
            );
        }
        socket.heartbeat().await;
        socket.join("realtime:a:b", json!({})).await;
    }
}

// docs/protocol/realtime.md, "Read and write permissions"
#[testkit::test]
async fn access_to_one_extension_allows_the_join(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let config = |key: &str| json!({"broadcast": {"ack": true}, "presence": {"key": key, "enabled": true}});
    let mut sockets =
        [node.channel_client(SerializerVersion::V2).await, node.channel_client(SerializerVersion::V2).await];
    for (socket, key) in sockets.iter_mut().zip(["one", "two"]) {
        let token = User::new().token;
        socket.join_private("realtime:broadcast:1", &token, config(key)).await;
        socket.join_private("realtime:presence:1", &token, config(key)).await;
        socket.wait_for("realtime:presence:1", "presence_state").await;
    }
    let [one, two] = &mut sockets;

    let reference = one.broadcast("realtime:broadcast:1", "e", json!({})).await;
    assert_eq!(one.wait_for_reply(&reference).await["status"], "ok");
    assert_eq!(two.next_broadcast("realtime:broadcast:1").await, broadcast("e", json!({})));
    let refused = json!({"status": "error", "response": {}});
    assert_eq!(one.try_track("realtime:broadcast:1", json!({})).await, refused);

    one.track("realtime:presence:1", json!({})).await;
    for socket in [&mut *one, &mut *two] {
        socket.wait_for("realtime:presence:1", "presence_diff").await;
    }
    let reference = one.broadcast("realtime:presence:1", "e", json!({})).await;
    assert_eq!(one.wait_for_reply(&reference).await["status"], "error");
    db.execute("select realtime.send('{}', 'e', 'presence:1', true)", &[]).await;
    for socket in [one, two] {
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Policy context"
#[testkit::test]
async fn policies_read_user_claims_topic_and_headers(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::with_claims(json!({"app_metadata": {"team": "red"}}));
    let path = format!("/realtime/v1/websocket?vsn=2.0.0&apikey={}", anon_key());
    let headers = [("x-room", "blue".to_owned()), ("y-room", "green".to_owned())];
    let mut socket = open(node.address, SerializerVersion::V2, &path, &headers).await.expect("it opens");
    for (topic, allowed) in [
        (format!("user:{}", user.id), true),
        (format!("user:{}", uuid::Uuid::new_v4()), false),
        ("team:red".into(), true),
        ("team:blue".into(), false),
        ("header:blue".into(), true),
        ("header:green".into(), false),
        ("column:1".into(), true),
        ("column:2".into(), false),
    ] {
        let reply = socket.try_join(&format!("realtime:{topic}"), private_join(&user.token)).await;
        assert_eq!(reply["status"] == "ok", allowed, "{topic}: {reply}");
    }
    // A new handshake with other headers.
    let mut other = node.channel_client(SerializerVersion::V2).await;
    other.join_error("realtime:header:blue", private_join(&user.token)).await;
}

// docs/protocol/realtime.md, "Cached write permissions"
#[testkit::test]
async fn write_access_follows_the_current_token(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let token = |can_write: bool| {
        mint_token(&json!({
            "sub": user.id, "role": "authenticated", "exp": unix_time_in(600),
            "reads_broadcast": true, "reads_presence": true, "can_write": can_write,
        }))
    };
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let topic = "realtime:claims:1";
    socket.join_private(topic, &token(true), json!({"broadcast": {"ack": true}})).await;
    for can_write in [true, false, true] {
        socket.set_token(topic, &token(can_write)).await;
        for _ in 0..2 {
            let reference = socket.broadcast(topic, "e", json!({})).await;
            assert_eq!(socket.wait_for_reply(&reference).await["status"] == "ok", can_write);
        }
    }
    socket.expect_no_frame().await;
}

/// Serves the public keys of the test key pairs as a JWKS; returns its URL.
async fn start_key_server(keys: Vec<Value>) -> String {
    let keys = json!({ "keys": keys }).to_string();
    let router = axum::Router::new().route("/jwks", axum::routing::get(move || async move { keys.clone() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let url = format!("http://{}/jwks", listener.local_addr().expect("is bound"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

// docs/protocol/realtime.md, "Signature algorithms"
#[testkit::test]
async fn jwks_tokens_are_accepted_and_alg_none_is_rejected(db: Arc<TestDatabase>) {
    db.execute(POLICIES, &[]).await;
    let keys = [
        ("rsa", Algorithm::RS256, EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key")),
        ("p256", Algorithm::ES256, EncodingKey::from_ec_pem(P256.as_bytes()).expect("a key")),
        ("ed", Algorithm::EdDSA, EncodingKey::from_ed_pem(ED25519.as_bytes()).expect("a key")),
    ];
    let public = keys.iter().map(|(kid, algorithm, key)| {
        let mut jwk = Jwk::from_encoding_key(key, *algorithm).expect("a public key");
        jwk.common.key_id = Some((*kid).into());
        serde_json::to_value(jwk).expect("JSON")
    });
    let url = start_key_server(public.collect()).await;
    let default = db.start_server_with(|settings| settings.set("JWKS_URL", url.as_str())).await;
    let node = db
        .start_server_with(|settings| {
            settings.set("JWKS_URL", url);
            settings.set("JWT_ALGORITHMS", "HS256,HS384,HS512,RS256,ES256,EdDSA");
        })
        .await;

    let claims = json!({"sub": User::new().id, "role": "authenticated", "exp": unix_time_in(600)});
    let sign = |algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, key).expect("signed")
    };
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for (kid, algorithm, key) in &keys {
        let token = sign(*algorithm, Some(kid), key);
        assert_eq!(
            socket.try_join("realtime:open:1", private_join(&token)).await["status"],
            "ok",
            "{algorithm:?}"
        );
        node.channel_client_with_key(SerializerVersion::V2, &token)
            .await
            .expect("it is also a valid API key")
            .heartbeat()
            .await;
        let reason =
            socket.join_error("realtime:open:1", private_join(&sign(*algorithm, Some("unknown"), key))).await;
        assert!(
            reason.starts_with("JwtSignerError: ") || reason.starts_with("JwtSignatureError: "),
            "{reason}"
        );
    }
    let mut strict = default.channel_client(SerializerVersion::V2).await;
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let token = sign(algorithm, None, &secret);
        let reason = strict.join_error("realtime:open:1", private_join(&token)).await;
        assert!(reason.starts_with("JwtSignerError: "), "{reason}");
        let refused = default.channel_client_with_key(SerializerVersion::V2, &token).await;
        assert_eq!(refused.err().expect("refused").status, 401, "{algorithm:?}");
    }
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        for kid in [None, Some("unknown")] {
            let token = sign(algorithm, kid, &secret);
            assert_eq!(
                socket.try_join("realtime:open:1", private_join(&token)).await["status"],
                "ok",
                "{algorithm:?}"
            );
        }
    }
    // The public key used as an HMAC secret, and a token without a signature.
    let public_half = EncodingKey::from_secret(URL_SAFE_NO_PAD.encode(RSA).as_bytes());
    let confused = sign(Algorithm::HS256, Some("rsa"), &public_half);
    let reason = socket.join_error("realtime:open:1", private_join(&confused)).await;
    assert!(reason.starts_with("Jwt"), "{reason}");
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = format!("{}.{}.", part(json!({"alg": "none", "typ": "JWT"})), part(claims.clone()));
    let reason = socket.join_error("realtime:open:1", private_join(&none)).await;
    assert!(reason.starts_with("JwtSignerError: ") || reason.starts_with("MalformedJWT: "), "{reason}");
    assert_eq!(
        node.channel_client_with_key(SerializerVersion::V2, &none).await.err().expect("refused").status,
        401
    );
}

// docs/protocol/realtime.md, "Expiry precision"
#[testkit::test]
async fn a_token_is_rejected_one_second_after_expiry(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let with_exp = |exp: Value| mint_token(&json!({"role": "authenticated", "exp": exp}));
    for past in [json!(unix_time_in(-1)), json!(unix_time_in(0))] {
        let join = json!({"config": {}, "access_token": with_exp(past)});
        let reason = socket.join_error("realtime:room", join).await;
        assert!(reason.starts_with("InvalidJWTToken: Token has expired "), "{reason}");
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds fit")]
    let decimal = unix_time_in(600) as f64 + 0.5;
    for fine in [json!(decimal), json!(unix_time_in(600))] {
        let join = json!({"config": {}, "access_token": with_exp(fine.clone())});
        assert_eq!(socket.try_join("realtime:room", join).await["status"], "ok", "{fine}");
    }
    let words = json!({"config": {}, "access_token": with_exp(json!("tomorrow"))});
    let reason = socket.join_error("realtime:room", words).await;
    assert!(reason.starts_with("InvalidJWTToken: "), "{reason}");
    // Whitespace around a token is ignored.
    let spaced = format!(" {}\n", with_exp(json!(unix_time_in(600))));
    let join = json!({"config": {}, "access_token": spaced});
    assert_eq!(socket.try_join("realtime:room", join).await["status"], "ok");
}

// docs/protocol/realtime.md, "Unknown role"
#[testkit::test]
async fn an_unknown_role_is_unauthorized(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for role in ["nosuchrole", "pg_read_all_data", "'; drop table x; --"] {
        let token = mint_token(&json!({"sub": User::new().id, "role": role, "exp": unix_time_in(600)}));
        let reason = socket.join_error("realtime:open:1", private_join(&token)).await;
        assert_eq!(
            reason, "Unauthorized: You do not have permissions to read from this Channel topic: open:1",
            "{role}"
        );
    }
    // A public topic does not check the role.
    let token = mint_token(&json!({"role": "nosuchrole", "exp": unix_time_in(600)}));
    let reply = socket.try_join("realtime:room", json!({"config": {}, "access_token": token})).await;
    assert_eq!(reply["status"], "ok");
    // A subject that is not a UUID makes a policy fail, which denies access.
    let token = mint_token(&json!({"sub": "not a uuid", "role": "authenticated", "exp": unix_time_in(600)}));
    let reason = socket.join_error("realtime:members:1", private_join(&token)).await;
    assert!(reason.starts_with("Unauthorized: "), "{reason}");
}

/// The login role of the server may take every role that it created.
#[testkit::test]
async fn roles_outside_realtime_roles_have_no_rights(db: Arc<TestDatabase>) {
    let (default, extended) = (
        db.start_server().await,
        db.start_server_with(|settings| settings.set("REALTIME_ROLES", "authenticated, internal_admin"))
            .await,
    );
    db.execute(
        "do $$ begin create role internal_admin; exception when duplicate_object then null; end $$;
         grant internal_admin to postgres;
         grant select, insert on realtime.messages to internal_admin;
         create policy admin on realtime.messages to internal_admin using (true) with check (true);
         create table public.secrets (id int primary key);
         alter publication supabase_realtime add table public.secrets;
         grant select on public.secrets to internal_admin",
        &[],
    )
    .await;
    let superuser = testkit::cluster::connect(&db.admin_url()).await;
    superuser.batch_execute("grant usage on schema realtime to internal_admin").await.expect("granted");
    let claims = json!({"sub": User::new().id, "role": "internal_admin", "exp": unix_time_in(600)});
    let token = mint_token(&claims);
    let changes = json!([{"event": "*", "schema": "public", "table": "secrets"}]);
    let join = json!({"config": {"postgres_changes": changes}, "access_token": token});

    let mut socket = default.channel_client(SerializerVersion::V2).await;
    let reason = socket.join_error("realtime:room", private_join(&token)).await;
    assert!(reason.starts_with("Unauthorized: "), "{reason}");
    socket.try_join("realtime:changes", join.clone()).await;
    let refused = socket.wait_for("realtime:changes", "system").await.payload;
    assert_eq!(refused["status"], "error");
    assert!(
        refused["message"].as_str().is_some_and(|text| text.ends_with("is not in REALTIME_ROLES")),
        "{refused}"
    );
    // Nor by a token that replaces one with rights.
    db.execute(POLICIES, &[]).await;
    socket.join_private("realtime:open:1", &User::new().token, json!({})).await;
    socket.set_token("realtime:open:1", &token).await;
    socket.wait_for("realtime:open:1", "phx_close").await;
    let message = json!({"messages": [{"topic": "room", "event": "e", "payload": {}, "private": true}]});
    let admin = User { token: token.clone(), ..User::new() };
    let response = default.post(&admin, "/realtime/v1/api/broadcast", message.clone()).await;
    assert_eq!(response.status.as_u16(), 202, "{}", response.body);
    let stored = db.query_row("select count(*) from realtime.messages where topic = 'room'", &[]).await;
    assert_eq!(stored.get::<_, i64>(0), 0);

    let mut socket = extended.channel_client(SerializerVersion::V2).await;
    socket.join_private("realtime:room", &token, json!({})).await;
    assert_eq!(socket.try_join("realtime:changes", join).await["status"], "ok");
    assert_eq!(socket.wait_for("realtime:changes", "system").await.payload["status"], "ok");
    let service = json!({"config": {"private": true}, "access_token": service_user().token});
    socket.join_error("realtime:other", service).await;
    let early = json!({"role": "authenticated", "exp": unix_time_in(600), "nbf": unix_time_in(300)});
    let reason = socket.join_error("realtime:room:2", private_join(&mint_token(&early))).await;
    assert_eq!(reason, "InvalidJWTToken: Token is not valid yet");
}

// docs/protocol/realtime.md, "Private channels only"
#[testkit::test]
async fn private_only_servers_reject_public_joins(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_PRIVATE_ONLY", "true")).await;
    db.execute(POLICIES, &[]).await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        for config in [json!({"config": {}}), json!({"config": {"private": false}}), json!({})] {
            let reason = socket.join_error("realtime:open:1", config).await;
            assert_eq!(reason, "PrivateOnly: This project only allows private channels");
        }
        socket.join_private("realtime:open:1", &User::new().token, json!({})).await;
        socket.heartbeat().await;
    }
}

// docs/protocol/realtime.md, "Service role"
#[testkit::test]
async fn the_service_role_reads_and_writes_every_channel(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let topic = "realtime:restricted";
    let config =
        json!({"broadcast": {"ack": true, "self": true}, "presence": {"enabled": true, "key": "service"}});
    socket.join_private(topic, &service_user().token, config).await;
    socket.wait_for(topic, "presence_state").await;
    let reference = socket.broadcast(topic, "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    socket.next_broadcast(topic).await;
    socket.track(topic, json!({})).await;
    socket.wait_for(topic, "presence_diff").await;
}

#[testkit::test]
async fn losing_a_membership_closes_open_channels(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let (stays, goes) = (User::new(), User::new());
    let ids = [("stays", stays.id), ("goes", goes.id)];
    db.execute("insert into public.members (room, user_id) values ('1', $stays), ('1', $goes)", &ids).await;
    let topic = "realtime:members:1";
    let mut sockets = Vec::new();
    for user in [&stays, &goes, &goes] {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        socket.join_private(topic, &user.token, json!({})).await;
        socket.join("realtime:public", json!({})).await;
        sockets.push(socket);
    }
    let started = Instant::now();
    db.execute("delete from public.members where user_id = $goes", &ids).await;
    for socket in &mut sockets[1..] {
        let message = socket.expect_channel_error(topic).await;
        assert_eq!(message, "You do not have permissions to read from this Channel topic: members:1");
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    db.execute("select realtime.send('{}', 'after', 'members:1')", &[]).await;
    assert_eq!(sockets[0].next_broadcast(topic).await["event"], "after");
    for socket in &mut sockets {
        socket.expect_no_frame().await;
    }
    // The membership is restored.
    db.execute("insert into public.members (room, user_id) values ('1', $goes)", &ids).await;
    sockets[1].join_private(topic, &goes.token, json!({})).await;
}

#[testkit::test]
async fn dropping_a_policy_closes_open_channels(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_PRESENCE_CALLS", "0")).await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let own = format!("realtime:user:{}", user.id);
    socket.join_private("realtime:readonly:1", &user.token, json!({})).await;
    socket.join_private(&own, &user.token, json!({})).await;
    db.execute(r#"drop policy "readonly: read" on realtime.messages"#, &[]).await;
    let message = socket.expect_channel_error("realtime:readonly:1").await;
    assert_eq!(message, "You do not have permissions to read from this Channel topic: readonly:1");
    socket.expect_no_frame().await;
    // The user loses one of two permissions: the channel stays open with the other, and receives the state when the
    // permission returns.
    let token = User::with_claims(json!({"reads_broadcast": true, "reads_presence": true})).token;
    let topic = "realtime:claims:1";
    socket.join_private(topic, &token, json!({"presence": {"enabled": true}})).await;
    socket.wait_for(topic, "presence_state").await;
    let mut service =
        node.channel_client_with_key(SerializerVersion::V2, &service_user().token).await.expect("a key");
    service.join_private(topic, &service_user().token, json!({"presence": {"key": "service"}})).await;
    db.execute(r#"drop policy "claims: presence" on realtime.messages"#, &[]).await;
    let (mut missed, mut tracked) = (0, 0);
    let started = Instant::now();
    while missed < 2 {
        tracked += 1;
        service.track(topic, json!({ "n": tracked })).await;
        service.wait_for(topic, "presence_diff").await;
        let received = socket.frames_within(Duration::from_millis(100)).await;
        missed = if received.is_empty() { missed + 1 } else { 0 };
        assert!(started.elapsed() < Duration::from_secs(2), "still received: {received:?}");
    }
    service.broadcast(topic, "still", json!({})).await;
    assert_eq!(socket.next_broadcast(topic).await["event"], "still");
    db.execute(
        r#"create policy "claims: presence" on realtime.messages for select to authenticated
                 using (realtime.topic() like 'claims:%' and extension = 'presence')"#,
        &[],
    )
    .await;
    let state = socket.wait_for(topic, "presence_state").await;
    assert!(state.payload["service"].is_object(), "{state:?}");
}

#[testkit::test]
async fn losing_write_access_takes_effect_at_once(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let ids = [("user", user.id)];
    db.execute("insert into public.members (room, user_id) values ('1', $user)", &ids).await;
    let topic = "realtime:members:1";
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join_private(topic, &user.token, json!({"broadcast": {"ack": true}})).await;
    let mut expect_write_access = async |wanted: bool| {
        let started = Instant::now();
        loop {
            let reference = socket.broadcast(topic, "e", json!({})).await;
            if (socket.wait_for_reply(&reference).await["status"] == "ok") == wanted {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(1), "no effect: {wanted}");
        }
    };
    expect_write_access(true).await;
    db.execute("update public.members set can_write = false where user_id = $user", &ids).await;
    expect_write_access(false).await;
    db.execute("update public.members set can_write = true where user_id = $user", &ids).await;
    expect_write_access(true).await;
}

#[testkit::test]
async fn broadcasts_from_sql_after_a_revocation_are_not_delivered(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let (stays, goes) = (User::new(), User::new());
    let ids = [("stays", stays.id), ("goes", goes.id)];
    db.execute("insert into public.members (room, user_id) values ('1', $stays)", &ids).await;
    let (members, readers) = ("realtime:members:1", "realtime:readonly:1");
    let mut staying = node.channel_client(SerializerVersion::V2).await;
    staying.join_private(members, &stays.token, json!({})).await;
    let mut going = node.channel_client(SerializerVersion::V2).await;
    let read = "create policy \"readonly: read\" on realtime.messages for select to authenticated
        using (realtime.topic() like 'readonly:%')";

    for round in 0..25 {
        // A row that names the user; every fifth round the policy itself.
        let (topic, grant, revoke) = if round % 5 == 4 {
            (readers, read, "drop policy \"readonly: read\" on realtime.messages")
        } else {
            let grant = "insert into public.members (room, user_id) values ('1', $goes)";
            (members, grant, "delete from public.members where user_id = $goes")
        };
        if round != 4 {
            db.execute(grant, &ids).await;
        }
        going.join_private(topic, &goes.token, json!({})).await;
        // Each transaction commits before the next one starts.
        db.execute(revoke, &ids).await;
        let name = topic.strip_prefix("realtime:").expect("a topic");
        db.execute(&format!("select realtime.send('{{}}', 'after {round}', '{name}')"), &[]).await;
        // A message of an earlier round may arrive late, after access was restored.
        let event = format!("after {round}");
        let end = |frame: &Frame| frame.event == "phx_close" || frame.payload["event"] == *event;
        let frame = going.wait_for_match("the end", end).await;
        assert_eq!(frame.event, "phx_close", "round {round}: {frame:?}");
        if topic == members {
            assert_eq!(staying.next_broadcast(members).await["event"], event);
        }
        // No message arrives after the channel ended until access is restored.
        going.heartbeat().await;
        let later = going.frames_within(Duration::ZERO).await;
        assert!(later.iter().all(|frame| frame.payload["event"] != *event), "round {round}: {later:?}");
    }
}

// docs/supabase.md, "Private channels"
#[testkit::test]
async fn an_error_inside_a_policy_is_a_refusal_to_the_client_and_an_error_in_the_log(db: Arc<TestDatabase>) {
    // Errors of different kinds, one of which looks like a denial by its SQLSTATE.
    db.execute(
        "create table public.hidden_members (user_id uuid, room text);
         create function public.calls_a_missing_function() returns boolean language plpgsql as
           $$begin return public.is_missing(); end$$",
        &[],
    )
    .await;
    let node = db.start_server_process_after("true").await;
    let user = User::new();
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for (topic, condition, state, message) in [
        (
            "function",
            "public.calls_a_missing_function()",
            "42883",
            "function public.is_missing() does not exist",
        ),
        (
            "grant",
            "exists (select from public.hidden_members m where m.user_id = auth.uid())",
            "42501",
            "permission denied for table hidden_members",
        ),
    ] {
        let policy =
            format!("create policy \"{topic}\" on realtime.messages to authenticated using ({condition})");
        db.execute(&policy, &[]).await;
        let reason = socket.join_error(&format!("realtime:{topic}"), private_join(&user.token)).await;
        assert!(reason.starts_with("Unauthorized: You do not have permissions to read"), "{reason}");
        let expected = [topic, state, message, "authenticated", "RlsPolicyError"];
        testkit::harness::wait_until("the error is logged", || {
            node.log().iter().any(|line| expected.iter().all(|part| line.contains(part)))
        })
        .await;
        if topic == "function" {
            db.execute("drop policy \"function\" on realtime.messages", &[]).await;
        }
    }
    // A denial is not logged.
    db.execute("grant select on public.hidden_members to authenticated", &[]).await;
    let errors = || node.log().iter().filter(|line| line.contains("RlsPolicyError")).count();
    let before = errors();
    socket.join_error("realtime:other", private_join(&user.token)).await;
    assert_eq!(errors(), before);
}
