//! Attacks with more devices than a user may have: over SQL, REST and sockets.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::harness::{TestDatabase, User};

const QUOTA: i64 = 5;
const ATTEMPTS: usize = 40;

async fn set_quota(db: &TestDatabase) {
    let statement = format!("update rollcall.quotas set maximum = {QUOTA} where key = 'devices'");
    db.execute(&statement, &[]).await;
}

async fn count_devices(db: &TestDatabase, user: &User) -> i64 {
    let statement = "select count(*) from rollcall.presence_devices where user_id = $1";
    db.query_row(statement, &[&user.id]).await.get(0)
}

#[testkit::test]
async fn parallel_requests_do_not_exceed_the_quota_of_devices(db: Arc<TestDatabase>) {
    set_quota(&db).await;
    let nodes = [db.start_server().await, db.start_server().await];
    let (innocent, nodes) = (User::new(), &nodes);
    for path in ["/api/presence/status", "/api/presence/heartbeat"] {
        let user = &User::new();
        let requests = (0..ATTEMPTS).map(|n| async move {
            let body = json!({"status": "online", "device_id": format!("device-{n}")});
            nodes[n % 2].post(user, path, body).await
        });
        let others = async {
            for n in 0..QUOTA {
                let body = json!({"status": "online", "device_id": format!("device-{n}")});
                nodes[0].post(&innocent, "/api/presence/status", body).await.expect_status(200);
            }
        };
        let (answers, ()) = tokio::join!(join_all(requests), others);
        let (written, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status.as_u16() == 200);
        assert_eq!((written.len() as i64, count_devices(&db, user).await), (QUOTA, QUOTA), "{path}");
        for answer in refused {
            answer.expect_error(409, "TOO_MANY_DEVICES");
        }
        // Refused for a new device only.
        let own: String = db
            .query_row("select min(device_id) from rollcall.presence_devices where user_id = $1", &[&user.id])
            .await
            .get(0);
        let body = json!({"status": "away", "device_id": own});
        nodes[1].post(user, path, body).await.expect_status(200);
        let context = json!({"deviceId": "another", "localTime": "12:00"});
        let path = format!("/api/v1/context/presence/{}", user.id);
        nodes[0].post(user, &path, context).await.expect_error(409, "TOO_MANY_DEVICES");
        assert_eq!(count_devices(&db, user).await, QUOTA);
    }
}

/// An open socket beyond the quota gets an error, and becomes a device as soon as another one is offline.
#[testkit::test]
async fn sockets_do_not_exceed_the_quota_of_devices(db: Arc<TestDatabase>) {
    set_quota(&db).await;
    let node = db.start_server().await;
    let user = User::new();
    let mut sockets = Vec::new();
    for n in 0..QUOTA {
        let mut socket = node.socket_with(&user, &format!("&device_id=device-{n}")).await;
        socket.next_message().await;
        sockets.push(socket);
    }
    db.wait_until("all are online", "select count(*) = 5 from rollcall.presence_devices where live", &[])
        .await;

    let is_refusal = |message: &Value| message.to_string().contains("TOO_MANY_DEVICES");
    let mut refused = Vec::new();
    for n in 0..10 {
        let mut socket = node.socket_with(&user, &format!("&device_id=more-{n}")).await;
        socket.find_message("the error", is_refusal).await;
        refused.push(socket);
    }
    for device in ["yet-another", "more-1"] {
        let status = json!({"type": "status", "data": {"status": "online", "device_id": device}});
        refused[0].send_message(status).await;
        refused[0].find_message("the error", is_refusal).await;
    }
    assert_eq!(count_devices(&db, &user).await, QUOTA);

    sockets.remove(0).close().await;
    db.wait_until(
        "a refused device replaces the one that went offline",
        "select count(*) filter (where device_id like 'more-%') = 1 and count(*) = 5 from rollcall.presence_devices
         where user_id = $u and live",
        &[("u", user.id)],
    )
    .await;
    // The sockets stay open.
    for socket in &mut refused {
        let status = json!({"type": "status", "data": {"status": "online", "device_id": "yet-another"}});
        socket.send_message(status).await;
        socket.find_message("the error", is_refusal).await;
    }
}

#[testkit::test]
async fn parallel_inserts_in_sql_do_not_exceed_the_quota_of_devices(db: Arc<TestDatabase>) {
    set_quota(&db).await;
    let user = User::new();
    let statements = [
        "insert into rollcall.presence_devices (user_id, device_id) values ('$user', '$device')",
        "select rollcall.set_my_status('online', '$device')",
        "select rollcall.heartbeat_mine('$device')",
        "set rollcall.batch = on; insert into rollcall.presence_devices (user_id, device_id) values ('$user', '$device')",
    ];
    db.execute("update rollcall.limits set per_minute = 0", &[]).await;
    let sessions = join_all((0..8).map(|_| db.connect())).await;
    let (sessions, user_id) = (&sessions, user.id.to_string());
    let claims = json!({"sub": user.id, "role": "authenticated"}).to_string();
    let attempts = sessions.iter().enumerate().map(|(session, client)| {
        let (user_id, claims) = (user_id.clone(), claims.clone());
        async move {
            client
                .batch_execute(&format!(
                    "select set_config('request.jwt.claims', '{claims}', false); set role authenticated"
                ))
                .await
                .expect("the role is set");
            for n in 0..ATTEMPTS {
                let statement = statements[(session + n) % statements.len()]
                    .replace("$user", &user_id)
                    .replace("$device", &format!("device-{session}-{n}"));
                if let Err(error) = client.batch_execute(&statement).await {
                    let error = error.as_db_error().expect("an answer");
                    assert_eq!(error.code().code(), "PT409", "{error}");
                    assert_eq!(error.constraint(), Some("presence_devices_per_user"), "{error}");
                }
            }
        }
    });
    join_all(attempts).await;
    assert_eq!(count_devices(&db, &user).await, QUOTA);
}
