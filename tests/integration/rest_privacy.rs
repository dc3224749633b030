//! Personal data: export, erasure, completeness and retention.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use testkit::harness::{TestDatabase, TestServer, User};
use uuid::Uuid;

const SETTINGS_PATH: &str = "/api/presence/settings";
const VISIBILITY_PATH: &str = "/api/presence/visibility";
const BLOCKS_PATH: &str = "/api/blocks";
const CONVERSATIONS_PATH: &str = "/api/conversations";
const DEVICES_PATH: &str = "/api/presence/devices";
const STATUS_PATH: &str = "/api/presence/status";
const ME_PATH: &str = "/api/presence/me";
const EXPORT_PATH: &str = "/api/presence/export";

/// One row in every table of the context engine.
const SEED_CONTEXT: &str = "
    insert into rollcall.personas (user_id, name) values ($user, 'p');
    insert into rollcall.notebooks (user_id, title) values ($user, 'n');
    insert into rollcall.memories (user_id, content) values ($user, 'm');
    insert into rollcall.memory_settings (user_id) values ($user);
    insert into rollcall.model_usage (user_id, purpose, provider, model, prompt_tokens, completion_tokens)
      values ($user, 'chat', 'p', 'm', 1, 1);
    insert into rollcall.topic_profiles (user_id, slug, label) values ($user, 't', 't');
    insert into rollcall.entity_profiles (user_id, slug, name) values ($user, 'e', 'e');
    insert into rollcall.custom_instructions (user_id, content) values ($user, 'i');
    insert into rollcall.messages (conversation_id, user_id, content)
      select id, $user, 'hello' from rollcall.conversations where created_by = $user;
    insert into rollcall.memory_sources (memory_id, message_id, user_id)
      select k.id, m.id, $user from rollcall.memories k, rollcall.messages m where k.user_id = $user and m.user_id = $user;
    insert into rollcall.atomic_chat_units (user_id, content) values ($user, 'u');
    insert into rollcall.topic_conversations (topic_id, conversation_id, user_id)
      select t.id, c.id, $user from rollcall.topic_profiles t, rollcall.conversations c where t.user_id = $user and c.created_by = $user;
    insert into rollcall.entity_conversations (entity_id, conversation_id, user_id)
      select e.id, c.id, $user from rollcall.entity_profiles e, rollcall.conversations c where e.user_id = $user and c.created_by = $user;
    insert into rollcall.topic_units (topic_id, unit_id, user_id)
      select t.id, u.id, $user from rollcall.topic_profiles t, rollcall.atomic_chat_units u where t.user_id = $user and u.user_id = $user;
    insert into rollcall.entity_units (entity_id, unit_id, user_id)
      select e.id, u.id, $user from rollcall.entity_profiles e, rollcall.atomic_chat_units u where e.user_id = $user and u.user_id = $user;
    insert into rollcall.context_bundles (user_id, bundle_type, content, token_count, compiled_at, compiled_seeing, expires_at)
      values ($user, 'identity_core', 'b', 1, now(), pg_current_snapshot(), now() + interval '1 day');
    insert into rollcall.system_actions (user_id, kind, trigger, status) values ($user, 'warm_up', 'presence', 'failed')";

/// Creates a user with a row in every table, and two others: one on the user's visibility list, and one whose list has
/// the user.
async fn seed_user(db: &TestDatabase, node: &TestServer) -> [User; 3] {
    let [user, friend, lister] = [User::new(), User::new(), User::new()];
    db.execute("update rollcall.event_settings set presence_sessions = true", &[]).await;
    let body = json!({"status": "busy", "custom_status": "hi", "device_id": "phone", "activity": "reading"});
    node.post(&user, STATUS_PATH, body).await.expect_status(200);
    node.patch(&user, SETTINGS_PATH, json!({"visibility": "everyone"})).await.expect_status(200);
    node.post(&user, &format!("{VISIBILITY_PATH}/{}", friend.id), json!(null)).await.expect_status(201);
    node.post(&lister, &format!("{VISIBILITY_PATH}/{}", user.id), json!(null)).await.expect_status(201);
    node.post(&user, BLOCKS_PATH, json!({"user_id": Uuid::new_v4()})).await.expect_status(201);
    node.post(&lister, BLOCKS_PATH, json!({"user_id": user.id})).await.expect_status(201);
    db.add_contact(&user, &friend).await;
    let made = node
        .post(&user, CONVERSATIONS_PATH, json!({"participant_ids": [friend.id]}))
        .await
        .expect_status(201);
    let typing = format!("{CONVERSATIONS_PATH}/{}/typing", made["id"].as_str().expect("an id"));
    node.post(&user, &typing, json!({"is_typing": true})).await.expect_status(200);
    db.execute(
        "with team as (insert into rollcall.teams (name, owner_id) values ('t', $user) returning id)
             insert into rollcall.team_members (team_id, user_id) select id, $user from team;
             insert into rollcall.presence
                 (node, channel, topic, private, key, phx_ref, payload, user_id, joined_at, updated_at)
               values (gen_random_uuid(), 1, 'lobby', false, 'k', 'ref', '{}', $user, now(), now())",
        &[("user", user.id)],
    )
    .await;
    db.execute(SEED_CONTEXT, &[("user", user.id)]).await;
    [user, friend, lister]
}

#[testkit::test]
async fn an_export_contains_all_own_data_and_no_other(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [user, friend, lister] = seed_user(&db, &node).await;
    let response = node.get(&user, EXPORT_PATH).await;
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let export = response.expect_status(200);
    assert_eq!(export["user_id"], json!(user.id));
    let data = export["data"].as_object().expect("tables");
    for (table, rows) in data {
        assert_eq!(rows.as_array().map(Vec::len), Some(1), "{table}: {rows:#}");
    }
    let tables: Vec<&str> = data.keys().map(String::as_str).collect();
    let expected = [
        "atomic_chat_units",
        "blocks",
        "contacts",
        "context_bundles",
        "conversation_participants",
        "conversations",
        "custom_instructions",
        "entity_conversations",
        "entity_profiles",
        "entity_units",
        "memories",
        "memory_settings",
        "memory_sources",
        "messages",
        "model_usage",
        "notebooks",
        "personas",
        "presence",
        "presence_choices",
        "presence_devices",
        "presence_sessions",
        "presence_settings",
        "presence_visibility_list",
        "system_actions",
        "team_members",
        "teams",
        "topic_conversations",
        "topic_profiles",
        "topic_units",
        "typing_indicators",
        "user_last_seen",
        "user_presence",
    ];
    assert_eq!(tables, expected);
    assert_eq!(data["presence_devices"][0]["activity"], "reading");
    assert_eq!(data["presence_visibility_list"][0]["viewer_id"], json!(friend.id));
    // An export does not show who has the user on a list, or who blocks the user.
    assert!(!export.to_string().contains(&lister.id.to_string()), "{export:#}");
    let of_a_stranger = node.get(&User::new(), EXPORT_PATH).await.expect_status(200);
    let empty = of_a_stranger["data"].as_object().expect("tables").values().all(|rows| *rows == json!([]));
    assert!(empty, "{of_a_stranger:#}");
}

#[testkit::test]
async fn an_erased_user_reads_as_never_seen(db: Arc<TestDatabase>) {
    // The message stays in the queue.
    let node = db.start_server_with(|settings| settings.set("CONTEXT_MEMORY", "off")).await;
    let [user, friend, _] = seed_user(&db, &node).await;
    let mut watcher = node.socket(&friend).await;
    watcher.wait_until("the user is visible", |socket| socket.shows(user.id, "online", "busy")).await;
    let mut own = node.socket_with(&user, "&device_id=web").await;
    own.find_message("the initial state", |frame| frame["type"] == "initial_state").await;
    db.wait_until(
        "connected",
        "select count(*) = 2 from rollcall.presence_devices where user_id = $user",
        &[("user", user.id)],
    )
    .await;

    let erased = node.delete(&user, ME_PATH).await.expect_status(200);
    let expected = json!({
        "messages": 1, "atomic_chat_units": 1, "memories": 1, "custom_instructions": 1, "personas": 1, "notebooks": 1,
        "topic_profiles": 1, "entity_profiles": 1, "roll_ups": 0, "conversations": 0,
        "memory_settings": 1, "model_usage": 1, "messages_to_learn": 1, "learning_turns": 0,
        "context_bundles": 1, "system_actions": 1, "presence_choices": 1, "presence_devices": 2, "presence_settings": 1, "presence_visibility_list": 1,
        "typing_indicators": 1, "user_last_seen": 1, "user_presence": 2,
        "presence_sessions": 2, "event_queue": 0, "events": 0, "dead_letters": 0,
    });
    assert_eq!((&erased["success"], &erased["erased"]), (&json!(true), &expected));
    own.expect_close(1000).await;
    watcher.wait_until("the user is hidden", |socket| socket.hides(user.id)).await;

    // Also after the grace period of the closed socket.
    tokio::time::sleep(Duration::from_millis(800)).await;
    for viewer in [&user, &friend] {
        node.get(viewer, &format!("/api/presence/users/{}", user.id)).await.expect_error(404, "NOT_FOUND");
        node.get(viewer, &format!("/{}", user.id)).await.expect_error(404, "NOT_FOUND");
    }
    assert_eq!(node.get(&user, SETTINGS_PATH).await.expect_status(200)["visibility"], "contacts");
    assert_eq!(node.get(&user, DEVICES_PATH).await.expect_status(200), json!([]));
    let again = node.delete(&user, ME_PATH).await.expect_status(200);
    assert!(again["erased"].as_object().expect("counts").values().all(|count| *count == 0), "{again:#}");
    // The same status as before the erasure does not count as a repeat.
    node.post(&user, STATUS_PATH, json!({"status": "online"})).await.expect_status(200);
    watcher.wait_until("the user is back", |socket| socket.shows_online(user.id)).await;
}

/// Tables of our schemas with a row whose text contains the word.
async fn tables_with(db: &TestDatabase, word: &str) -> Vec<String> {
    let tables = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('rollcall', 'rollcall_internal') and c.relkind in ('r', 'p') order by 1";
    let mut found = Vec::new();
    for row in db.sql.query(tables, &[]).await.expect("catalogs can be read") {
        let table: String = row.get(0);
        let select = format!("select exists (select from {table} t where t::text like '%' || $1 || '%')");
        if db.query_row(&select, &[&word]).await.get(0) {
            found.push(table);
        }
    }
    found
}

/// Inserts rows with the word `zanzibar` of the user in every table of the context engine that has text, a conversation
/// of the user alone, and a shared one.
async fn seed_content(db: &TestDatabase, user: &User, other: &User) {
    let (alone, shared) = (Uuid::new_v4(), Uuid::new_v4());
    db.execute(
        "insert into rollcall.conversations (id, title, created_by) values ($alone, 'zanzibar', $u), ($shared, 'ours', $u);
         insert into rollcall.conversation_participants (conversation_id, user_id)
           values ($alone, $u), ($shared, $u), ($shared, $o);
         insert into rollcall.messages (conversation_id, user_id, role, content) values
           ($alone, $u, 'user', 'about zanzibar'), ($shared, $u, 'user', 'more zanzibar'),
           ($shared, $u, 'assistant', 'zanzibar is an island'), ($shared, $o, 'user', 'not about it');
         insert into rollcall.personas (user_id, name, description) values ($u, 'zanzibar', 'zanzibar');
         insert into rollcall.notebooks (user_id, title) values ($u, 'zanzibar');
         insert into rollcall.memories (user_id, content, category, importance)
           values ($u, 'was in zanzibar', 'identity', 0.9), ($o, 'another memory', 'identity', 0.9);
         insert into rollcall.topic_profiles (user_id, slug, label, aliases) values ($u, 'zanzibar', 'zanzibar', '{zanzibar}');
         insert into rollcall.entity_profiles (user_id, slug, name, facts)
           values ($u, 'zanzibar', 'Zanzibar', '[{\"fact\": \"zanzibar is hot\", \"confidence\": 0.5}]');
         insert into rollcall.custom_instructions (user_id, content) values ($u, 'mention zanzibar');
         insert into rollcall.atomic_chat_units (user_id, conversation_id, content)
           values ($u, $shared, 'zanzibar has spices'), ($o, $shared, 'another unit')",
        &[("u", user.id), ("o", other.id), ("alone", alone), ("shared", shared)],
    )
    .await;
}

async fn rows_of(db: &TestDatabase, user: &User) -> i64 {
    let count = "select (select count(*) from rollcall.messages where user_id = $1)
        + (select count(*) from rollcall.memories where user_id = $1)
        + (select count(*) from rollcall.atomic_chat_units where user_id = $1)";
    db.query_row(count, &[&user.id]).await.get(0)
}

#[testkit::test]
async fn an_erasure_leaves_no_content_of_the_user(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("CONTEXT_REQUESTS_PER_MINUTE", "0")).await;
    let [user, other] = [User::new(), User::new()];
    seed_content(&db, &user, &other).await;
    // Bundles of both users.
    for reader in [&user, &other] {
        let shared = "select id from rollcall.conversations where title = 'ours'";
        let shared: Uuid = db.query_row(shared, &[]).await.get(0);
        let path = format!("/api/v1/ai/context/{shared}?message=zanzibar");
        let prompt = node.get(reader, &path).await.expect_status(200);
        assert!(prompt.to_string().contains("zanzibar"));
    }
    // A roll-up that read its sources before the erasure writes nothing after it.
    let lease: Uuid =
        db.query_row("select rollcall_internal.begin_roll_up($1, false)", &[&user.id]).await.get(0);
    let before = tables_with(&db, "zanzibar").await;
    assert!(before.len() >= 9, "{before:?}");
    let export = node.get(&user, EXPORT_PATH).await.expect_status(200);
    for table in [
        "messages",
        "memories",
        "atomic_chat_units",
        "custom_instructions",
        "topic_profiles",
        "entity_profiles",
    ] {
        assert!(export["data"][table].to_string().contains("anzibar"), "{table}: {export:#}");
    }

    node.delete(&user, ME_PATH).await.expect_status(200);
    let late = json!({"units": [], "entities": [], "topics": [{"slug": "late-zanzibar", "label": "late zanzibar",
        "aliases": [], "unit_ids": [], "relevances": []}]});
    let applied =
        db.query_row("select rollcall_internal.apply_roll_up($1, $2, $3)", &[&user.id, &lease, &late]).await;
    assert_eq!(applied.get::<_, Option<serde_json::Value>>(0), None);
    assert_eq!(rows_of(&db, &user).await, 0);
    assert_eq!(rows_of(&db, &other).await, 3, "other users keep what is theirs");
    // Bundles of other participants are compiled again in the background.
    db.wait_until(
        "no bundle has it",
        "select not exists (select from rollcall.context_bundles b where b.content like '%zanzibar%')",
        &[],
    )
    .await;
    let left = tables_with(&db, "zanzibar").await;
    assert!(left.is_empty(), "{left:?}");
    let conversations = "select array_agg(title) from rollcall.conversations";
    assert_eq!(db.query_row(conversations, &[]).await.get::<_, Vec<String>>(0), ["ours"]);
}

#[testkit::test]
async fn a_deleted_account_leaves_no_content_and_no_relations(db: Arc<TestDatabase>) {
    let [user, other] = [User::new(), User::new()];
    seed_content(&db, &user, &other).await;
    db.execute(
        "create table public.logins (login_id uuid primary key);
         select rollcall.watch_accounts('public.logins', 'login_id')",
        &[],
    )
    .await;
    db.add_contact(&user, &other).await;
    db.execute(
        "insert into public.logins values ($u), ($o);
         delete from public.logins where login_id = $u",
        &[("u", user.id), ("o", other.id)],
    )
    .await;
    // Maintenance does this once per minute.
    let erased = db.query_row("select rollcall_internal.erase_deleted_accounts(10)", &[]).await;
    assert_eq!(erased.get::<_, i64>(0), 1);
    let left = tables_with(&db, "zanzibar").await;
    assert!(left.is_empty(), "{left:?}");
    let related = "select (select count(*) from rollcall.contacts)
        + (select count(*) from rollcall.conversation_participants where user_id = $1)";
    assert_eq!(db.query_row(related, &[&user.id]).await.get::<_, i64>(0), 0);
    assert_eq!(rows_of(&db, &other).await, 3);
    let queue = db.query_row("select count(*) from rollcall_internal.deleted_accounts", &[]).await;
    assert_eq!(queue.get::<_, i64>(0), 0);
}

/// UUID columns that hold no user ID.
const NOT_USER_COLUMNS: &[&str] = &[
    "rollcall_internal.channel_nodes.node",
    "rollcall.webhooks.id",
    "rollcall.presence_sessions.id",
    "rollcall.presence_devices.nodes",
    "rollcall.presence_devices.active_conversation_id",
    "rollcall.presence_devices.visible_conversation_ids",
    "rollcall.presence_devices.active_notebook_id",
    "rollcall.presence_devices.active_persona_id",
    "rollcall.teams.id",
    "rollcall.team_members.team_id",
    "rollcall.conversations.id",
    "rollcall.conversation_participants.conversation_id",
    "rollcall.typing_indicators.conversation_id",
    "rollcall.messages.id",
    "rollcall.messages.conversation_id",
    "rollcall.messages.reply_to",
    "rollcall.atomic_chat_units.id",
    "rollcall.atomic_chat_units.conversation_id",
    "rollcall.atomic_chat_units.message_id",
    "rollcall.memories.id",
    "rollcall.personas.id",
    "rollcall.notebooks.id",
    "rollcall.topic_profiles.id",
    "rollcall.topic_profiles.parent_id",
    "rollcall.entity_profiles.id",
    "rollcall.custom_instructions.id",
    "rollcall.custom_instructions.topic_id",
    "rollcall.topic_conversations.topic_id",
    "rollcall.topic_conversations.conversation_id",
    "rollcall.entity_conversations.entity_id",
    "rollcall.entity_conversations.conversation_id",
    "rollcall.topic_units.topic_id",
    "rollcall.topic_units.unit_id",
    "rollcall.entity_units.entity_id",
    "rollcall.entity_units.unit_id",
    "rollcall.context_bundles.id",
    "rollcall.context_bundles.topic_id",
    "rollcall.context_bundles.entity_id",
    "rollcall.atomic_chat_units.notebook_id",
    "rollcall.memories.notebook_id",
    "rollcall.memory_settings.notebook_id",
    "rollcall.memories.conversation_id",
    "rollcall.memories.message_id",
    "rollcall.memories.superseded_by",
    "rollcall.memory_settings.id",
    "rollcall.memory_sources.memory_id",
    "rollcall.memory_sources.message_id",
    "rollcall.memory_settings.conversation_id",
    "rollcall.model_usage.id",
    "rollcall.context_bundles.conversation_id",
    "rollcall.context_bundles.persona_id",
    "rollcall.context_bundles.memory_ids",
    "rollcall.context_bundles.unit_ids",
    "rollcall.context_bundles.instruction_ids",
    "rollcall.context_bundles.conversation_ids",
    "rollcall.context_bundles.topic_ids",
    "rollcall.system_actions.id",
    "rollcall.system_actions.bundle_id",
    "rollcall.presence_devices.predicted_topic_ids",
    "rollcall.presence_devices.predicted_entity_ids",
    "rollcall_internal.context_source_changes.key",
    "rollcall_internal.context_source_changes.refs",
    "rollcall_internal.topic_words.topic_id",
    "rollcall_internal.roll_ups.lease",
];

/// Every UUID column in our tables is a user ID listed in `rollcall.personal_data`, or is known to be something else. A
/// new table with a user ID that the export omits fails here.
#[testkit::test]
async fn every_column_that_names_a_user_is_accounted_for(db: Arc<TestDatabase>) {
    let rows = db.sql.query(
        "select c.table_schema || '.' || c.table_name || '.' || c.column_name
         from information_schema.columns c
         join information_schema.tables t using (table_schema, table_name)
         where t.table_type = 'BASE TABLE' and c.table_schema in ('public', 'rollcall')
           and (c.udt_name in ('uuid', '_uuid') or c.column_name in ('user_id', 'owner_id', 'viewer_id'))
           and not exists (
             select from rollcall.personal_data d
             where d.relation = format('%I.%I', c.table_schema, c.table_name)::regclass and d.column_name = c.column_name)",
        &[],
    );
    let forgotten = rows.await.expect("catalogs can be read");
    let forgotten: Vec<&str> =
        forgotten.iter().map(|row| row.get(0)).filter(|name| !NOT_USER_COLUMNS.contains(name)).collect();
    assert!(forgotten.is_empty(), "neither in rollcall.personal_data nor in NOT_USER_COLUMNS: {forgotten:?}");
}

#[testkit::test]
async fn no_function_in_our_schema_is_executable_by_public(db: Arc<TestDatabase>) {
    let open = db.sql.query(
        "select p.proname::text from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where p.pronamespace = 'rollcall'::regnamespace and a.grantee = 0",
        &[],
    );
    let open = open.await.expect("catalogs can be read");
    assert!(open.is_empty(), "{:?}", open.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>());
}

#[testkit::test]
async fn data_past_its_retention_is_deleted(db: Arc<TestDatabase>) {
    let [fresh, stale, ancient] = [User::new(), User::new(), User::new()];
    for user in [&fresh, &stale, &ancient] {
        db.set_status(user, "online").await;
        db.set_status(user, "offline").await;
    }
    db
        .execute(
            "update rollcall.presence_devices set last_heartbeat_at = now() - interval '100 days' where user_id = $stale;
             update rollcall.user_last_seen set last_seen = now() - interval '100 days' where user_id = $stale;
             update rollcall.presence_devices set last_heartbeat_at = now() - interval '2 years' where user_id = $ancient;
             update rollcall.user_last_seen set last_seen = now() - interval '2 years' where user_id = $ancient;
             insert into rollcall_internal.outbox (kind, recipients, body, posted_at)
               values ('message', '{}', '{}', now() - interval '3 minutes');
             select rollcall.sweep()",
            &[("stale", stale.id), ("ancient", ancient.id)],
        )
        .await;
    let kept = db.query_row(
        "select array(select user_id from rollcall.presence_devices) as devices,
           array(select user_id from rollcall.user_last_seen where last_seen is not null order by last_seen desc) as seen,
           (select count(*) from rollcall.user_presence where user_id = $1) as faces,
           (select count(*) from rollcall_internal.outbox) as outbox",
        &[&ancient.id],
    ).await;
    assert_eq!(kept.get::<_, Vec<Uuid>>("devices"), [fresh.id]);
    assert_eq!(kept.get::<_, Vec<Uuid>>("seen"), [fresh.id, stale.id]);
    assert_eq!(
        (kept.get::<_, i64>("faces"), kept.get::<_, i64>("outbox")),
        (0, 0),
        "equals a user who was never seen"
    );
}
