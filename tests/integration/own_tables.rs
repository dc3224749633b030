//! Relations that come from tables of the application: contacts, blocks, team members and participants
//! (docs/adopt.md).

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::Socket,
    harness::{TestDatabase, TestServer, User},
};
use uuid::Uuid;

/// A database schema in the shape of a typical application.
struct Application {
    /// Its tables, and the declarations.
    schema: &'static str,
    /// Relates `$a` and `$b` so that `$a` sees `$b`, and takes that back.
    relate: &'static str,
    change: &'static str,
    restore: &'static str,
    unrelate: &'static str,
    /// A change of a column that decides nothing.
    unimportant: &'static str,
    /// Who `$b` shows the public face to.
    visibility: &'static str,
    /// Puts `$a` and `$b` into a conversation, and removes `$a`.
    join: &'static str,
    leave: &'static str,
    /// IDs of that conversation as clients may write them, and one of another type.
    conversations: fn() -> Vec<Value>,
    invalid_conversation: Option<&'static str>,
}

/// A chat with bigint rooms and friendships with a state.
const CHAT: Application = Application {
    schema: "
        create type public.friendship_state as enum ('pending', 'accepted');
        create table public.friendships (
          id bigint generated always as identity primary key, user_id uuid not null, friend_id uuid not null,
          state public.friendship_state not null default 'pending', last_chat timestamptz,
          unique (user_id, friend_id));
        create index on public.friendships (friend_id);
        create table public.rooms (id bigint primary key, name text);
        create table public.room_members (
          room_id bigint not null references public.rooms on delete cascade, profile_id uuid not null,
          last_read timestamptz, primary key (room_id, profile_id));
        create index on public.room_members (profile_id);
        alter table public.friendships enable row level security;
        alter table public.room_members enable row level security;
        select rollcall.use_table('contacts', 'public.friendships', user_column => 'user_id',
          other_column => 'friend_id', condition => $$state = 'accepted'$$);
        select rollcall.use_table('participants', 'public.room_members', group_column => 'room_id',
          user_column => 'profile_id');",
    relate: "insert into public.friendships (user_id, friend_id, state) values ($b, $a, 'accepted')",
    change: "update public.friendships set state = 'pending' where user_id = $b",
    restore: "update public.friendships set state = 'accepted' where user_id = $b",
    unrelate: "delete from public.friendships where user_id = $b",
    unimportant: "update public.friendships set last_chat = now() where user_id = $b",
    visibility: "contacts",
    join: "insert into public.rooms values (9007199254740993, 'x');
        insert into public.room_members values (9007199254740993, $a), (9007199254740993, $b)",
    leave: "delete from public.room_members where profile_id = $a",
    // Not a number that JavaScript can hold.
    conversations: || vec![json!(9_007_199_254_740_993_i64), json!("9007199254740993")],
    invalid_conversation: Some("bob"),
};

/// Organisations with UUIDs, whose members are deleted softly.
const ORGANISATIONS: Application = Application {
    schema: "
        create schema app;
        create table app.organisations (id uuid primary key, slug text);
        create domain app.person as uuid;
        create domain app.member_role as text check (value in ('owner', 'member', 'invited'));
        create table app.organisation_members (
          organisation_id uuid not null references app.organisations on delete cascade, user_id app.person not null,
          role app.member_role not null default 'member', deleted_at timestamptz, seat int,
          primary key (organisation_id, user_id));
        create index on app.organisation_members (user_id);
        create table app.settings (key text primary key);
        insert into app.settings values ('on');
        set search_path = app, public;
        create function counts(p_role member_role) returns boolean language sql stable
          as 'select p_role <> ''invited'' and exists (select from settings)';
        select rollcall.use_table('team_members', 'organisation_members', group_column => 'organisation_id',
          user_column => 'user_id', condition => 'deleted_at is null and counts(role)');
        select rollcall.use_table('participants', 'organisation_members', group_column => 'organisation_id',
          user_column => 'user_id');
        reset search_path;",
    relate: "insert into app.organisations values ($g, 'acme');
        insert into app.organisation_members (organisation_id, user_id) values ($g, $a), ($g, $b)",
    change: "update app.organisation_members set deleted_at = now() where user_id = $a",
    restore: "update app.organisation_members set deleted_at = null where user_id = $a",
    unrelate: "delete from app.organisations where id = $g",
    unimportant: "update app.organisation_members set seat = 7 where user_id = $a",
    visibility: "team",
    join: "insert into app.organisations values ('F0E1D2C3-0000-4000-8000-000000000009', 'typing');
        insert into app.organisation_members (organisation_id, user_id)
          select 'F0E1D2C3-0000-4000-8000-000000000009', u from unnest(array[$a, $b]::uuid[]) u",
    leave: "delete from app.organisation_members where user_id = $a",
    conversations: || vec![json!("f0e1d2c3-0000-4000-8000-000000000009")],
    invalid_conversation: Some("42"),
};

/// IDs of everything as text, and rows that name no user.
const TEXT_IDS: Application = Application {
    schema: "
        create table public.follows (follower text not null, followed varchar(40) not null, muted boolean default false,
          note text, primary key (follower, followed));
        create index on public.follows (followed);
        insert into public.follows values ('bot:welcome', 'anyone'), ('', '');
        create table public.channel_users (name text not null, member text not null,
          channel text generated always as (lower(name)) stored, primary key (name, member));
        create index on public.channel_users (channel);
        create index on public.channel_users (member);
        insert into public.channel_users values ('general:en,1', 'bot:welcome');
        select rollcall.use_table('contacts', 'public.follows', 'follower', 'followed', condition => 'not follows.muted');
        select rollcall.use_table('participants', 'public.channel_users', group_column => 'channel',
          user_column => 'member');",
    relate: "insert into public.follows (follower, followed) values ($a, $b)",
    change: "update public.follows set muted = true where follower = $a",
    restore: "update public.follows set muted = false where follower = $a",
    unrelate: "delete from public.follows where follower = $a",
    unimportant: "update public.follows set note = 'x'",
    visibility: "contacts",
    join: "insert into public.channel_users values ('general:en,1', $a), ('general:en,1', $b)",
    leave: "delete from public.channel_users where member = $a",
    conversations: || vec![json!("general:en,1")],
    invalid_conversation: None,
};

/// Names that need quotes, and a partitioned table.
const QUOTED: Application = Application {
    schema: r#"
        create schema "App Data";
        create table "App Data"."Friend ""Ships""" ("User Id" uuid not null, "select" uuid not null, "Is %s On" boolean,
          "a" int, "Note" text) partition by list ("a");
        create table "App Data"."One" partition of "App Data"."Friend ""Ships""" for values in (1);
        create index on "App Data"."Friend ""Ships""" ("User Id");
        create index on "App Data"."Friend ""Ships""" ("select");
        create table "App Data"."RoomMembers" ("Room" smallint not null, "Member" uuid not null);
        create index on "App Data"."RoomMembers" ("Room");
        create index on "App Data"."RoomMembers" ("Member");
        select rollcall.use_table('contacts', '"App Data"."Friend ""Ships"""', user_column => 'User Id',
          other_column => 'select', condition => '"Is %s On"');
        select rollcall.use_table('participants', '"App Data"."RoomMembers"', group_column => 'Room',
          user_column => 'Member');"#,
    relate: r#"insert into "App Data"."Friend ""Ships""" values ($a, $b, true, 1)"#,
    change: r#"update "App Data"."One" set "Is %s On" = false"#,
    restore: r#"update "App Data"."Friend ""Ships""" set "Is %s On" = true"#,
    unrelate: r#"delete from "App Data"."One""#,
    unimportant: r#"update "App Data"."Friend ""Ships""" set "Note" = 'x'"#,
    visibility: "contacts",
    join: r#"insert into "App Data"."RoomMembers" values (7, $a), (7, $b)"#,
    leave: r#"delete from "App Data"."RoomMembers" where "Member" = $a"#,
    conversations: || vec![json!(7), json!("7")],
    invalid_conversation: Some("99999999999999999999"),
};

impl Application {
    /// Two users with a socket each; the second one is online.
    async fn start(&self, db: &TestDatabase) -> (Arc<TestServer>, User, User, Socket) {
        db.execute(self.schema, &[]).await;
        let node = db.start_server().await;
        let (a, b) = (User::new(), User::new());
        db.execute(
            &format!(
                "insert into rollcall.presence_settings (user_id, visibility) values ($b, '{}')",
                self.visibility
            ),
            &[("b", b.id)],
        )
        .await;
        db.set_status(&b, "online").await;
        let mut socket = node.socket(&a).await;
        socket.next_message().await;
        (node, a, b, socket)
    }

    /// What `select` as a user says about the presence of another one.
    async fn sees(node: &TestServer, a: &User, b: &User) -> bool {
        let users = node.get(a, "/api/presence/users").await.expect_status(200);
        users.as_array().expect("a list").iter().any(|user| user["user_id"] == json!(b.id))
    }

    async fn sockets_follow(&self, db: Arc<TestDatabase>) {
        let (node, a, b, mut socket) = self.start(&db).await;
        let (bystander, group) = (User::new(), Uuid::new_v4());
        let ids = [("a", a.id), ("b", b.id), ("g", group)];
        db.execute("truncate rollcall_internal.visibility_log", &[]).await;
        assert!(!Self::sees(&node, &a, &b).await);
        for (statement, visible) in
            [(self.relate, true), (self.change, false), (self.restore, true), (self.unrelate, false)]
        {
            db.execute(statement, &ids).await;
            socket
                .wait_until(
                    statement,
                    |socket| if visible { socket.shows_online(b.id) } else { socket.hides(b.id) },
                )
                .await;
            assert_eq!(Self::sees(&node, &a, &b).await, visible, "{statement}");
        }
        // Only the users concerned are asked again.
        let asked =
            "select count(*) > 0 and bool_and((relation is not null or viewers <@ array[$a, $b]::uuid[])
              and subjects <@ array[$a, $b]::uuid[])
            from rollcall_internal.visibility_log";
        db.wait_until("the log names the two users only", asked, &ids).await;

        db.execute(self.relate, &ids).await;
        socket.wait_until("related again", |socket| socket.shows_online(b.id)).await;
        let count = "select count(*) from rollcall_internal.visibility_log";
        let before: i64 = db.query_row(count, &[]).await.get(0);
        db.execute(self.unimportant, &ids).await;
        assert_eq!(db.query_row(count, &[]).await.get::<_, i64>(0), before, "{}", self.unimportant);
        assert!(!Self::sees(&node, &bystander, &b).await);

        // Explanations name the application's table.
        let explained = db
            .query_row(
                "select e.visible, e.evidence ->> 'table' from rollcall.explain_visibility($1, $2) e",
                &[&a.id, &b.id],
            )
            .await;
        assert!(explained.get::<_, bool>(0));
        assert!(!explained.get::<_, String>(1).starts_with("rollcall"), "{explained:?}");
    }

    async fn typing_works(&self, db: Arc<TestDatabase>) {
        let (node, a, b, mut socket) = self.start(&db).await;
        let ids = [("a", a.id), ("b", b.id)];
        let mut typist = node.socket(&b).await;
        typist.next_message().await;
        db.execute("update rollcall.presence_settings set visibility = 'everyone'", &[]).await;
        let conversation = (self.conversations)().remove(0);
        let path = format!("/api/conversations/{}/typing", text_of(&conversation).replace('%', "%25"));
        node.post(&b, &path, json!({"is_typing": true})).await.expect_error(404, "NOT_FOUND");
        db.execute(self.join, &ids).await;
        socket.wait_until("in one conversation", |socket| socket.shows_online(b.id)).await;

        for given in (self.conversations)() {
            for is_typing in [true, false] {
                typist
                    .send_message(
                        json!({"type": "typing", "data": {"conversation_id": given, "is_typing": is_typing}}),
                    )
                    .await;
                let frame = socket.find_message("typing", |frame| frame["type"] == "typing_update").await;
                let expected = json!({"user_id": b.id, "conversation_id": given, "is_typing": is_typing});
                assert_eq!(frame["data"], expected);
                if is_typing {
                    let listed = node.get(&a, &path).await.expect_status(200);
                    assert_eq!(listed[0]["user_id"], json!(b.id), "{listed}");
                    let users = node.get(&a, "/api/presence/users").await.expect_status(200);
                    assert_eq!(users[0]["is_typing"], true, "{users}");
                }
            }
        }
        // A path has no form, so the type of the column decides.
        node.post(&b, &path, json!({"is_typing": true})).await.expect_status(200);
        let frame = socket.find_message("typing", |frame| frame["type"] == "typing_update").await;
        assert_eq!(frame["data"]["conversation_id"], conversation);

        // Who is no participant any more is told that it stopped, and may neither see nor type.
        db.execute(self.leave, &ids).await;
        let frame = socket.find_message("the end of typing", |frame| frame["type"] == "typing_update").await;
        assert_eq!(
            frame["data"],
            json!({"user_id": b.id, "conversation_id": conversation, "is_typing": false})
        );
        node.post(&a, &path, json!({"is_typing": true})).await.expect_error(404, "NOT_FOUND");
        node.get(&a, &path).await.expect_error(404, "NOT_FOUND");

        if let Some(invalid) = self.invalid_conversation {
            let path = format!("/api/conversations/{invalid}/typing");
            for is_typing in [true, false] {
                node.post(&b, &path, json!({"is_typing": is_typing}))
                    .await
                    .expect_error(400, "INVALID_REQUEST");
            }
            node.get(&b, &path).await.expect_error(400, "INVALID_REQUEST");
            let message = json!({"type": "typing", "data": {"conversation_id": invalid, "is_typing": true}});
            typist.send_message(message).await;
            let error = typist.find_message("an error", |frame| frame["type"] == "error").await;
            assert_eq!(
                (&error["code"], &error["details"][0]["field"]),
                (&json!("INVALID_REQUEST"), &json!("data.conversation_id"))
            );
        }
    }
}

fn text_of(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

#[testkit::test]
async fn sockets_follow_a_chat_with_bigint_rooms(db: Arc<TestDatabase>) {
    CHAT.sockets_follow(db).await;
}

#[testkit::test]
async fn sockets_follow_organisations_with_uuids(db: Arc<TestDatabase>) {
    ORGANISATIONS.sockets_follow(db).await;
}

#[testkit::test]
async fn sockets_follow_tables_with_text_ids(db: Arc<TestDatabase>) {
    TEXT_IDS.sockets_follow(db).await;
}

#[testkit::test]
async fn sockets_follow_tables_with_quoted_names_and_partitions(db: Arc<TestDatabase>) {
    QUOTED.sockets_follow(db).await;
}

#[testkit::test]
async fn typing_works_in_bigint_rooms(db: Arc<TestDatabase>) {
    CHAT.typing_works(db).await;
}

#[testkit::test]
async fn typing_works_in_organisations_with_uuids(db: Arc<TestDatabase>) {
    ORGANISATIONS.typing_works(db).await;
}

#[testkit::test]
async fn typing_works_in_conversations_with_text_ids(db: Arc<TestDatabase>) {
    TEXT_IDS.typing_works(db).await;
}

#[testkit::test]
async fn typing_works_in_rooms_with_quoted_names(db: Arc<TestDatabase>) {
    QUOTED.typing_works(db).await;
}

const BLOCKS: &str = "
    create table public.muted (who uuid not null, whom uuid not null, until timestamptz, primary key (who, whom));
    create index on public.muted (whom);
    select rollcall.use_table('blocks', 'public.muted', user_column => 'who', other_column => 'whom',
      condition => 'until is null');";

#[testkit::test]
async fn a_block_in_a_table_of_the_application_hides_both_sides(db: Arc<TestDatabase>) {
    db.execute(BLOCKS, &[]).await;
    let node = db.start_server().await;
    let (a, b, c) = (User::new(), User::new(), User::new());
    db.add_contact(&a, &b).await;
    db.add_contact(&a, &c).await;
    // Also where a policy reads blocks row by row.
    db.execute(
        "insert into rollcall.presence_settings (user_id, visibility) values ($b, 'everyone')",
        &[("b", b.id)],
    )
    .await;
    let mut sockets = Vec::new();
    for user in [&a, &b, &c] {
        db.set_status(user, "online").await;
        let mut socket = node.socket_with(user, &format!("&user_ids={},{}", a.id, b.id)).await;
        socket.next_message().await;
        sockets.push(socket);
    }
    let ids = [("a", a.id), ("b", b.id)];
    let [of_a, of_b, of_c] = &mut sockets[..] else { unreachable!() };
    of_a.wait_until("contacts", |socket| socket.shows_online(b.id)).await;
    for (statement, hidden) in [
        ("insert into public.muted values ($b, $a)", true),
        ("update public.muted set until = now()", false),
        ("update public.muted set until = null", true),
        ("truncate public.muted", false),
    ] {
        db.execute(statement, &ids).await;
        of_a.wait_until(statement, |socket| socket.hides(b.id) == hidden).await;
        of_b.wait_until(statement, |socket| socket.hides(a.id) == hidden).await;
        node.get(&a, &format!("/api/presence/users/{}", b.id)).await.expect_status(if hidden {
            404
        } else {
            200
        });
    }
    of_c.expect_no_message(Duration::from_millis(100)).await;
}

/// The rows of the table name neither side of the relations that depend on them.
#[testkit::test]
async fn a_watched_table_that_a_condition_reads_changes_relations(db: Arc<TestDatabase>) {
    let (a, b, sponsor) = (User::new(), User::new(), User::new());
    let ids = [("a", a.id), ("b", b.id), ("s", sponsor.id)];
    db.execute(
        "create table public.sponsors (id uuid primary key, active boolean not null);
         select rollcall.watch('public.sponsors', null, 'id');
         create table public.matches (one uuid not null, two uuid not null, sponsor uuid not null);
         create index on public.matches (one);
         create index on public.matches (two);
         select rollcall.use_table('contacts', 'public.matches', user_column => 'one', other_column => 'two',
           condition => 'sponsor in (select s.id from public.sponsors s where s.active)');
         insert into public.sponsors values ($s, false);
         insert into public.matches values ($a, $b, $s)",
        &ids,
    )
    .await;
    let node = db.start_server().await;
    db.set_status(&b, "online").await;
    let mut socket = node.socket(&a).await;
    socket.next_message().await;
    assert!(socket.hides(b.id));
    db.execute("update public.sponsors set active = true", &[]).await;
    socket.wait_until("related", |socket| socket.shows_online(b.id)).await;
    db.execute("delete from public.sponsors", &[]).await;
    socket.wait_until("not related", |socket| socket.hides(b.id)).await;
}

#[testkit::test]
async fn routes_that_manage_a_relation_of_the_application_name_its_table(db: Arc<TestDatabase>) {
    db.execute(CHAT.schema, &[]).await;
    db.execute(BLOCKS, &[]).await;
    let node = db.start_server().await;
    let (a, b, id) = (User::new(), User::new(), Uuid::new_v4());
    let requests = [
        ("GET", "/api/contacts".to_owned(), json!({}), "public.friendships"),
        ("POST", "/api/contacts".to_owned(), json!({"user_id": b.id}), "public.friendships"),
        ("POST", format!("/api/contacts/{}/accept", b.id), json!({}), "public.friendships"),
        ("DELETE", format!("/api/contacts/{}", b.id), json!({}), "public.friendships"),
        ("GET", "/api/blocks".to_owned(), json!({}), "public.muted"),
        ("POST", "/api/blocks".to_owned(), json!({"user_id": b.id}), "public.muted"),
        ("DELETE", format!("/api/blocks/{}", b.id), json!({}), "public.muted"),
        ("GET", "/api/conversations".to_owned(), json!({}), "public.room_members"),
        ("POST", "/api/conversations".to_owned(), json!({"participant_ids": [b.id]}), "public.room_members"),
        ("POST", format!("/api/conversations/{id}/participants/{}", b.id), json!({}), "public.room_members"),
        (
            "DELETE",
            format!("/api/conversations/{id}/participants/{}", b.id),
            json!({}),
            "public.room_members",
        ),
    ];
    for (method, path, body, table) in &requests {
        let response = match *method {
            "GET" => node.get(&a, path).await,
            "POST" => node.post(&a, path, body.clone()).await,
            _ => node.delete(&a, path).await,
        };
        let error = response.expect_error(409, "CONFLICT");
        assert!(
            error["message"].as_str().is_some_and(|message| message.contains(table)),
            "{method} {path}: {error}"
        );
    }
    // The built-in tables are in use again at once.
    db.execute(
        "select rollcall.use_built_in('blocks'); drop table public.friendships, public.room_members",
        &[],
    )
    .await;
    for (method, path, body, _) in requests {
        let response = match method {
            "GET" => node.get(&a, &path).await,
            "POST" => node.post(&a, &path, body).await,
            _ => node.delete(&a, &path).await,
        };
        assert!([200, 201, 404].contains(&response.status.as_u16()), "{method} {path}: {response:?}");
    }
}

#[testkit::test]
async fn a_dropped_table_is_not_used_any_more(db: Arc<TestDatabase>) {
    let (node, a, b, mut socket) = CHAT.start(&db).await;
    let ids = [("a", a.id), ("b", b.id)];
    db.execute(CHAT.relate, &ids).await;
    socket.wait_until("related", |socket| socket.shows_online(b.id)).await;
    let used = "select count(*) from rollcall.used_tables where not built_in";
    assert_eq!(db.query_row(used, &[]).await.get::<_, i64>(0), 2);

    // In a transaction that is rolled back nothing changes.
    db.execute("begin; drop table public.friendships; rollback", &[]).await;
    assert!(Application::sees(&node, &a, &b).await);

    db.execute("drop table public.friendships", &[]).await;
    socket.wait_until("the table is dropped", |socket| socket.hides(b.id)).await;
    assert_eq!(db.query_row(used, &[]).await.get::<_, i64>(0), 1);
    db.add_contact(&a, &b).await;
    socket.wait_until("built-in contacts", |socket| socket.shows_online(b.id)).await;

    // A renamed table stays in use.
    db.execute(
        "alter table public.room_members rename to members; alter table public.members set schema rollcall",
        &[],
    )
    .await;
    db.execute(
        "alter table rollcall.members set schema public; alter table public.members rename profile_id to who",
        &[],
    )
    .await;
    let source = "select source from rollcall.used_tables where relation = 'participants'";
    assert_eq!(db.query_row(source, &[]).await.get::<_, String>(0), "public.members");
}

#[testkit::test]
async fn another_declaration_replaces_the_first(db: Arc<TestDatabase>) {
    let (node, a, b, mut socket) = CHAT.start(&db).await;
    let ids = [("a", a.id), ("b", b.id)];
    db.execute(CHAT.relate, &ids).await;
    socket.wait_until("related", |socket| socket.shows_online(b.id)).await;
    db.execute(
        "create table public.pals (one uuid, two uuid);
         select rollcall.use_table('contacts', 'public.pals', user_column => 'one', other_column => 'two')",
        &[],
    )
    .await;
    socket.wait_until("another table", |socket| socket.hides(b.id)).await;
    db.execute("insert into public.pals values ($a, $b)", &ids).await;
    socket.wait_until("related in it", |socket| socket.shows_online(b.id)).await;
    let triggers =
        "select count(*) from pg_trigger where tgrelid = 'public.friendships'::regclass and not tgisinternal";
    assert_eq!(db.query_row(triggers, &[]).await.get::<_, i64>(0), 0);
    db.execute("select rollcall.use_built_in('contacts')", &[]).await;
    socket.wait_until("the built-in table", |socket| socket.hides(b.id)).await;
    assert!(!Application::sees(&node, &a, &b).await);
}

/// Declarations that cannot be used, with a part of the message.
const REFUSED: &[(&str, &str)] = &[
    (
        "'friends', 'public.t', 'u', 'v'",
        "relation: must be one of contacts, blocks, team_members, participants",
    ),
    ("null, 'public.t', 'u', 'v'", "relation: must be one of"),
    ("'contacts', null, 'u', 'v'", "source: must be a table"),
    ("'contacts', 'public.missing', 'u', 'v'", "does not exist"),
    ("'contacts', 'public.w', 'u', 'v'", "must be a table"),
    ("'contacts', 'rollcall.contacts', 'requester_id', 'addressee_id'", "is not a table of the application"),
    ("'contacts', 'pg_catalog.pg_class', 'oid', 'relname'", "is not a table of the application"),
    ("'contacts', 'public.t'", "user_column: is required for contacts"),
    ("'contacts', 'public.t', 'u'", "other_column: is required for contacts"),
    ("'participants', 'public.t', 'u'", "group_column: is required for participants"),
    ("'participants', 'public.t', 'u', 'v', 'g'", "other_column: does not apply to participants"),
    ("'blocks', 'public.t', 'u', 'v', 'g'", "group_column: does not apply to blocks"),
    ("'contacts', 'public.t', 'u', 'x'", "has no column x"),
    ("'contacts', 'public.t', 'u', 'ctid'", "has no column ctid"),
    ("'contacts', 'public.t', 'u', 'u'", "must differ"),
    ("'contacts', 'public.t', 'u', 'g'", "of type uuid, or text"),
    ("'participants', 'public.t', 'u', group_column => 'j'", "of type uuid, bigint or text"),
    (
        "'contacts', 'public.t', 'u', 'v', condition => 'g'",
        "condition: argument of WHERE must be type boolean",
    ),
    ("'contacts', 'public.t', 'u', 'v', condition => 'g = = 1'", "condition: syntax error"),
    (
        "'contacts', 'public.t', 'u', 'v', condition => 'missing = 1'",
        "condition: column \"missing\" does not exist",
    ),
    ("'contacts', 'public.t', 'u', 'v', condition => 'count(*) > 1'", "condition: aggregate"),
    ("'contacts', 'public.t', 'u', 'v', condition => 'g = ''x'''", "condition: invalid input syntax"),
];

#[testkit::test]
async fn a_declaration_that_cannot_be_used_is_refused(db: Arc<TestDatabase>) {
    db.execute(
        "create table public.t (u uuid, v uuid, g int, j jsonb); create view public.w as select u, v from public.t",
        &[],
    )
    .await;
    let client = db.connect().await;
    for (arguments, expected) in REFUSED {
        let error = client.batch_execute(&format!("select rollcall.use_table({arguments})")).await;
        let error = error.expect_err(arguments);
        let message =
            error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    // API roles may not declare tables: the condition would run with the rights of the owner.
    for role in ["anon", "authenticated", "service_role"] {
        let statement = format!(
            "begin; set local role {role}; select rollcall.use_table('contacts', 'public.t', 'u', 'v')"
        );
        let error = client.batch_execute(&statement).await.expect_err("is refused");
        assert!(
            error.as_db_error().is_some_and(|error| error.message().contains("permission denied")),
            "{error:?}"
        );
        client.batch_execute("rollback").await.expect("rolls back");
    }
    let used = "select count(*) from rollcall.used_tables where not built_in";
    assert_eq!(db.query_row(used, &[]).await.get::<_, i64>(0), 0);
    let left = "select count(*) from pg_trigger where tgrelid = 'public.t'::regclass";
    assert_eq!(db.query_row(left, &[]).await.get::<_, i64>(0), 0);
}

#[testkit::test]
async fn a_table_that_cannot_be_followed_does_not_stop_the_application(db: Arc<TestDatabase>) {
    let (node, a, b, mut socket) = CHAT.start(&db).await;
    let ids = [("a", a.id), ("b", b.id)];
    // A column that the declaration names is renamed: nobody sees anybody through it, and writes still succeed.
    db.execute("alter table public.friendships rename state to condition_of_it", &[]).await;
    db.execute(
        "insert into public.friendships (user_id, friend_id, condition_of_it) values ($b, $a, 'accepted')",
        &ids,
    )
    .await;
    let error = socket.find_message("an error", |frame| frame["type"] == "error").await;
    assert_eq!(error["code"], "VISIBILITY_FAILED");
    db.execute(
        "select rollcall.use_table('contacts', 'public.friendships', user_column => 'user_id',
           other_column => 'friend_id', condition => $$condition_of_it = 'accepted'$$)",
        &[],
    )
    .await;
    socket.wait_until("declared again", |socket| socket.shows_online(b.id)).await;
    assert!(Application::sees(&node, &a, &b).await);
}
