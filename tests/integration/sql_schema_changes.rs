//! Changes of Rollcall's own tables, policies and grants at run time. After each statement and after the next presence
//! change, open sockets, new sockets and REST must show what `select` as the viewer returns, or an error.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{
    client::Socket,
    harness::{TestDatabase, TestServer, User},
    phoenix::SerializerVersion,
};
use uuid::Uuid;

/// A viewer who follows a contact and a stranger.
struct SchemaChangeTest {
    db: Arc<TestDatabase>,
    node: Arc<TestServer>,
    viewer: User,
    /// The observed users: a contact and a stranger.
    subjects: [User; 2],
    socket: Socket,
    statuses_set: usize,
}

impl SchemaChangeTest {
    async fn open(db: Arc<TestDatabase>) -> Self {
        let node = db.start_server().await;
        let (viewer, subjects) = (User::new(), [User::new(), User::new()]);
        db.add_contact(&viewer, &subjects[0]).await;
        for subject in &subjects {
            db.set_status(subject, "busy").await;
        }
        let mut socket = node.socket_with(&viewer, &follow_query(&subjects)).await;
        socket.next_message().await;
        let mut test = Self { db, node, viewer, subjects, socket, statuses_set: 0 };
        test.check_consistency("the beginning").await;
        test
    }

    /// Executes a statement as the DBA and checks consistency, then again after a new status of each observed user.
    async fn execute_and_check(&mut self, statement: &str) {
        self.db.execute(statement, &[]).await;
        self.check_consistency(statement).await;
        let status = ["dnd", "online", "busy", "away"][self.statuses_set % 4];
        self.statuses_set += 1;
        for subject in &self.subjects {
            self.db.set_status(subject, status).await;
        }
        self.check_consistency(&format!("{status}, after {statement}")).await;
    }

    /// Checks that the open socket, a new socket and REST show what `select` as the viewer returns.
    async fn check_consistency(&mut self, when: &str) {
        let ids = self.subjects.each_ref().map(|subject| subject.id);
        let selected = selected_presences(&self.db, self.viewer.id, &ids).await;
        let shows = |socket: &Socket| shown_presences(socket, &ids) == selected;
        self.socket.wait_until(&format!("{selected:?} after {when}"), shows).await;
        let mut fresh = self.node.socket_with(&self.viewer, &follow_query(&self.subjects)).await;
        fresh
            .wait_until(&format!("a new socket: {selected:?} after {when}"), |socket| {
                socket.frames > 0 && shows(socket)
            })
            .await;
        fresh.close().await;
        let path = format!("/api/presence/users?user_ids={},{}", ids[0], ids[1]);
        let response = self.node.get(&self.viewer, &path).await;
        if response.status == 200 {
            let list = response.body.as_array().expect("a list");
            let rest = ids.map(|id| {
                list.iter()
                    .find(|face| face["user_id"] == json!(id))
                    .map(|face| describe_presence(&face["availability"]))
            });
            assert_eq!(rest, selected, "REST, after {when}");
        } else {
            // If the query fails, REST returns an error and no old data.
            assert_eq!(selected, [None, None], "{response:?} after {when}");
        }
    }
}

fn follow_query(subjects: &[User; 2]) -> String {
    format!("&user_ids={},{}", subjects[0].id, subjects[1].id)
}

fn describe_presence(status: &Value) -> String {
    status.as_str().expect("a status").to_owned()
}

/// Returns the status of users as a socket shows it, if any.
fn shown_presences(socket: &Socket, ids: &[Uuid; 2]) -> [Option<String>; 2] {
    ids.map(|id| (!socket.hides(id)).then(|| describe_presence(&socket.presences[&id]["availability"])))
}

/// Returns the status of users that `select` as the viewer returns; none if it fails. Of two faces the trusted one is
/// used.
async fn selected_presences(db: &TestDatabase, viewer: Uuid, ids: &[Uuid; 2]) -> [Option<String>; 2] {
    let claims = json!({"sub": viewer, "role": "authenticated"}).to_string();
    let sql = db.connect().await;
    sql.batch_execute("begin").await.expect("begins");
    let acting =
        "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)";
    sql.query(acting, &[&claims]).await.expect("acts as the viewer");
    let select =
        "select user_id, status::text from rollcall.user_presence where user_id = any ($1) order by face";
    let rows = sql.query(select, &[&&ids[..]]).await.unwrap_or_default();
    ids.map(|id| rows.iter().rev().find(|row| row.get::<_, Uuid>(0) == id).map(|row| row.get(1)))
}

#[testkit::test]
async fn policies_and_grants_can_be_removed_and_restored(db: Arc<TestDatabase>) {
    let mut test = SchemaChangeTest::open(db).await;
    for statement in [
        "revoke select on rollcall.user_presence from authenticated",
        "grant select on rollcall.user_presence to authenticated",
        "revoke execute on function rollcall.my_visible_users() from authenticated",
        "grant execute on function rollcall.my_visible_users() to authenticated",
        r#"drop policy "viewers read the face shown to them" on rollcall.user_presence"#,
        "create policy back on rollcall.user_presence for select to authenticated
           using (face = 'public' and user_id in (select s.subject_id from rollcall.my_visible_users() s))",
        "alter policy back on rollcall.user_presence to service_role",
        "alter policy back on rollcall.user_presence to authenticated",
        // A policy that fails for every viewer.
        "create policy broken on rollcall.user_presence as restrictive for select to authenticated using (1 / (length(user_id::text) - 36) = 1)",
        "drop policy broken on rollcall.user_presence",
        "alter table rollcall.user_presence force row level security",
        "alter table rollcall.user_presence no force row level security",
    ] {
        test.execute_and_check(statement).await;
    }

    // The server queries as the viewer in this schema, so every query fails: nothing is shown, and errors are reported.
    test.db.execute("revoke usage on schema rollcall from authenticated", &[]).await;
    test.socket.find_message("an error", |frame| frame["code"] == "VISIBILITY_FAILED").await;
    let ids = test.subjects.each_ref().map(|subject| subject.id);
    test.socket.wait_until("nothing is shown", |socket| shown_presences(socket, &ids) == [None, None]).await;
    test.execute_and_check("grant usage on schema rollcall to authenticated").await;
}

#[testkit::test]
async fn tables_can_change_their_columns(db: Arc<TestDatabase>) {
    let mut test = SchemaChangeTest::open(db).await;
    for statement in [
        "alter table rollcall.user_presence add column mood text default 'fine'",
        "alter table rollcall.user_presence drop column mood",
        "alter table rollcall.presence_devices add column battery int",
        "alter table rollcall.presence_choices add column colour text not null default 'red'",
        "alter table rollcall.presence_settings add column theme text",
        "alter table rollcall.contacts add column note text",
        "alter table rollcall.presence_devices drop column battery",
        "create index on rollcall.contacts (note)",
        "cluster rollcall.contacts using contacts_pkey",
    ] {
        test.execute_and_check(statement).await;
    }
    // Every route still writes and reads.
    let (node, user) = (test.node.clone(), test.subjects[0].clone());
    node.post(&user, "/api/presence/status", json!({"status": "dnd", "custom_status": "x"}))
        .await
        .expect_status(200);
    node.patch(&user, "/api/presence/settings", json!({"show_activity": false})).await.expect_status(200);
    node.get(&user, "/api/presence/devices").await.expect_status(200);
    node.get(&user, "/api/presence/export").await.expect_status(200);
    node.get(&user, "/api/contacts").await.expect_status(200);
    test.check_consistency("the routes").await;
}

#[testkit::test]
async fn tables_can_be_dropped_and_restored(db: Arc<TestDatabase>) {
    let mut test = SchemaChangeTest::open(db).await;
    // The policy's function reads this table.
    test.db.execute("alter table rollcall.contacts rename to elsewhere", &[]).await;
    test.check_consistency("contacts renamed").await;
    test.db.execute("alter table rollcall.elsewhere rename to contacts", &[]).await;
    test.execute_and_check("select").await;

    test.db.execute("alter table rollcall.user_presence rename to elsewhere", &[]).await;
    let response = test.node.get(&test.viewer, "/api/presence/users").await;
    assert!(response.status.as_u16() >= 500, "{response:?}");
    let rejected = test.node.post(&test.subjects[0], "/api/presence/status", json!({"status": "dnd"})).await;
    assert!(rejected.status.as_u16() >= 500, "a failed write is not acknowledged: {rejected:?}");
    test.db.execute("alter table rollcall.elsewhere rename to user_presence", &[]).await;
    test.execute_and_check("select").await;
    test.node
        .post(&test.subjects[0], "/api/presence/status", json!({"status": "dnd"}))
        .await
        .expect_status(200);
    test.check_consistency("all is back").await;
}

#[testkit::test]
async fn grants_on_user_written_tables_apply_at_once(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let settings = async || node.patch(&user, "/api/presence/settings", json!({"show_typing": false})).await;
    let contacts = async || node.get(&user, "/api/contacts").await;
    settings().await.expect_status(200);
    contacts().await.expect_status(200);
    db.execute("revoke insert, update on rollcall.presence_settings from authenticated; revoke select on rollcall.contacts from authenticated", &[]).await;
    settings().await.expect_error(403, "FORBIDDEN");
    contacts().await.expect_error(403, "FORBIDDEN");
    db.execute("grant insert, update on rollcall.presence_settings to authenticated; grant select on rollcall.contacts to authenticated", &[]).await;
    settings().await.expect_status(200);
    contacts().await.expect_status(200);
}

#[testkit::test]
async fn revoking_a_grant_closes_private_channels(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    db.execute("create policy everyone on realtime.messages for select to authenticated using (true)", &[])
        .await;
    for (taken, given) in [
        (
            "revoke select on realtime.messages from authenticated",
            "grant select on realtime.messages to authenticated",
        ),
        (
            "drop policy everyone on realtime.messages",
            "create policy everyone on realtime.messages for select to authenticated using (true)",
        ),
    ] {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        socket.join_private("realtime:room", &user.token, json!({})).await;
        db.execute(taken, &[]).await;
        socket.expect_channel_error("realtime:room").await;
        let payload = json!({"config": {"private": true}, "access_token": user.token});
        socket.join_error("realtime:room", payload).await;
        db.execute(given, &[]).await;
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        socket.join_private("realtime:room", &user.token, json!({})).await;
    }
}

/// Since PostgreSQL 18 triggers read virtual generated columns as null. Policies over them are followed all the same; a
/// table of the application that is read through one is refused.
#[testkit::test]
async fn generated_columns_that_policies_read_are_followed(db: Arc<TestDatabase>) {
    let version = "select current_setting('server_version_num')::int >= 180000";
    let has_virtual: bool = db.query_row(version, &[]).await.get(0);
    let kind = if has_virtual { "virtual" } else { "stored" };
    let (member, subject) = (User::new(), User::new());
    db.execute(
        &format!(
            "create table public.seats (id int primary key, raw_room text, raw_who text,
               room text generated always as (lower(raw_room)) {kind},
               who text generated always as (lower(raw_who)) {kind});
             grant select on public.seats to authenticated;
             create policy seated on realtime.messages for select to authenticated using (exists (
               select from public.seats s where s.room = realtime.topic() and s.who = auth.uid()::text));
             create policy seated on rollcall.user_presence for select to authenticated using (exists (
               select from public.seats s where s.room = 'lobby' and s.who = auth.uid()::text) and face = 'public');
             insert into public.seats values (1, 'LOBBY', upper($m::uuid::text))"
        ),
        &[("m", member.id)],
    )
    .await;
    db.set_status(&subject, "busy").await;
    let node = db.start_server().await;
    let mut presence = node.socket_with(&member, &format!("&user_ids={}", subject.id)).await;
    presence.wait_until("seated", |socket| socket.shows(subject.id, "online", "busy")).await;
    for (change, back) in [
        ("update public.seats set raw_room = 'Bar'", "update public.seats set raw_room = 'Lobby'"),
        ("update public.seats set raw_who = null", "update public.seats set raw_who = upper($m::uuid::text)"),
        ("delete from public.seats", "insert into public.seats values (2, 'LOBBY', upper($m::uuid::text))"),
    ] {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        socket.join_private("realtime:lobby", &member.token, json!({})).await;
        db.execute(change, &[]).await;
        socket.wait_for("realtime:lobby", "phx_close").await;
        presence.wait_until(change, |socket| socket.hides(subject.id)).await;
        db.execute(back, &[("m", member.id)]).await;
        presence.wait_until(back, |socket| socket.shows(subject.id, "online", "busy")).await;
    }
    let declaration = "select rollcall.use_table('participants', 'public.seats', group_column => 'room', user_column => 'who')";
    let declared = db.connect().await.batch_execute(declaration).await;
    assert_eq!(declared.is_err(), has_virtual, "{declared:?}");
}
