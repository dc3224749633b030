//! Presence lists of the REST API: which users they contain.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{
    client::{ANY_TIME, assert_matches_pattern},
    harness::{TestDatabase, User, service_user},
};
use uuid::Uuid;

const STATUS_PATH: &str = "/api/presence/status";
const USERS_PATH: &str = "/api/presence/users";

fn user_path(user: &User) -> String {
    format!("{USERS_PATH}/{}", user.id)
}

/// One user for each relation to `viewer`.
struct Users {
    viewer: User,
    contact: User,
    pending_contact: User,
    hidden: User,
    blocked: User,
    teammate: User,
    visible_to_everyone: User,
    stranger: User,
    partner: User,
}

impl Users {
    async fn create(db: &TestDatabase) -> Self {
        let new = User::new;
        let cast = Self {
            viewer: new(),
            contact: new(),
            pending_contact: new(),
            hidden: new(),
            blocked: new(),
            teammate: new(),
            visible_to_everyone: new(),
            stranger: new(),
            partner: new(),
        };
        let Self {
            viewer,
            contact,
            pending_contact: pending,
            hidden,
            blocked,
            teammate,
            visible_to_everyone: open,
            stranger,
            partner,
        } = &cast;
        for contact in [contact, hidden, blocked] {
            db.add_contact(viewer, contact).await;
        }
        let ids = [
            ("viewer", viewer.id),
            ("asked", pending.id),
            ("hidden", hidden.id),
            ("blocked", blocked.id),
            ("teammate", teammate.id),
            ("open", open.id),
            ("partner", partner.id),
        ];
        db
            .execute(
                "insert into rollcall.contacts (requester_id, addressee_id) values ($viewer, $asked);
                 insert into rollcall.presence_settings (user_id, visibility)
                   values ($hidden, 'nobody'), ($teammate, 'team'), ($open, 'everyone'), ($partner, 'everyone');
                 insert into rollcall.blocks (blocker_id, blocked_id) values ($blocked, $viewer);
                 with team as (insert into rollcall.teams (name, owner_id) values ('t', $viewer) returning id)
                   insert into rollcall.team_members (team_id, user_id)
                   select id, unnest(array[$viewer, $teammate]::uuid[]) from team;
                 with room as (insert into rollcall.conversations (created_by) values ($viewer) returning id)
                   insert into rollcall.conversation_participants (conversation_id, user_id)
                   select id, unnest(array[$viewer, $partner]::uuid[]) from room;",
                &ids,
            )
            .await;
        for user in [contact, pending, hidden, blocked, teammate, open, stranger, partner] {
            db.set_status(user, "online").await;
        }
        cast
    }
}

fn ids_of(list: &Value) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["user_id"].as_str().and_then(|id| id.parse().ok()).expect("an id"))
        .collect();
    ids.sort();
    ids
}

fn sorted<const N: usize>(mut users: [&User; N]) -> Vec<Uuid> {
    users.sort_by_key(|user| user.id);
    users.map(|user| user.id).to_vec()
}

#[testkit::test]
async fn the_list_without_ids_has_every_visible_related_user(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let cast = Users::create(&db).await;
    let listed = node.get(&cast.viewer, USERS_PATH).await.expect_status(200);
    assert_eq!(ids_of(&listed), sorted([&cast.contact, &cast.teammate, &cast.partner]));
    let shape = json!({
        "user_id": listed[0]["user_id"], "status": "online", "availability": "online", "last_seen": ANY_TIME,
        "is_typing": false,
    });
    assert_matches_pattern(&listed[0], &shape);
}

#[testkit::test]
async fn unknown_and_invisible_ids_are_omitted(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let cast = Users::create(&db).await;
    let ids_of_all = [
        cast.contact.id,
        cast.pending_contact.id,
        cast.hidden.id,
        cast.blocked.id,
        cast.teammate.id,
        cast.visible_to_everyone.id,
        cast.stranger.id,
        cast.partner.id,
        Uuid::new_v4(),
    ];
    let ids = ids_of_all.map(|id| id.to_string()).join(",");
    let listed = node.get(&cast.viewer, &format!("{USERS_PATH}?user_ids={ids}")).await.expect_status(200);
    assert_eq!(
        ids_of(&listed),
        sorted([&cast.contact, &cast.teammate, &cast.visible_to_everyone, &cast.partner])
    );
    for user in [&cast.contact, &cast.teammate, &cast.visible_to_everyone, &cast.partner] {
        node.get(&cast.viewer, &user_path(user)).await.expect_status(200);
    }
}

#[testkit::test]
async fn unknown_and_invisible_users_are_indistinguishable(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let cast = Users::create(&db).await;
    let unknown = node.get(&cast.viewer, &user_path(&User::new())).await;
    let (headers, unknown) = (unknown.headers.clone(), unknown.expect_error(404, "NOT_FOUND"));
    for user in [&cast.pending_contact, &cast.hidden, &cast.blocked, &cast.stranger] {
        let hidden = node.get(&cast.viewer, &user_path(user)).await;
        let names = |headers: &reqwest::header::HeaderMap| {
            headers.keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(&hidden.headers), names(&headers));
        assert_eq!(hidden.expect_error(404, "NOT_FOUND"), unknown);
    }
}

#[testkit::test]
async fn at_most_a_thousand_ids_are_accepted(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    node.post(&user, STATUS_PATH, json!({"status": "online"})).await.expect_status(200);
    let mut ids: Vec<String> = (0..999).map(|_| Uuid::new_v4().to_string()).collect();
    ids.push(user.id.to_string());
    let listed =
        node.get(&user, &format!("{USERS_PATH}?user_ids={}", ids.join(","))).await.expect_status(200);
    assert_eq!(ids_of(&listed), [user.id]);

    ids.push(Uuid::new_v4().to_string());
    let refused = node.get(&user, &format!("{USERS_PATH}?user_ids={}", ids.join(","))).await;
    assert_eq!(refused.expect_error(400, "INVALID_REQUEST")["details"][0]["field"], "user_ids");
    let none = node.get(&user, &format!("{USERS_PATH}?user_ids=")).await;
    none.expect_error(400, "INVALID_REQUEST");
}

#[testkit::test]
async fn each_malformed_id_is_named(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let response = node.get(&user, &format!("{USERS_PATH}?user_ids={},bob,%27;drop", user.id)).await;
    let error = response.expect_error(400, "INVALID_REQUEST");
    let fields: Vec<_> =
        error["details"].as_array().expect("details").iter().map(|one| &one["field"]).collect();
    assert_eq!(fields, ["user_ids[1]", "user_ids[2]"]);
    node.get(&user, &format!("{USERS_PATH}/bob")).await.expect_error(400, "INVALID_REQUEST");
}

#[testkit::test]
async fn the_service_role_sees_every_user_in_full(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    node.post(&user, STATUS_PATH, json!({"status": "invisible"})).await.expect_status(200);
    let seen = node.get(&service_user(), &user_path(&user)).await.expect_status(200);
    assert_eq!(seen["availability"], "invisible");
    let seen =
        node.get(&service_user(), &format!("{USERS_PATH}?user_ids={}", user.id)).await.expect_status(200);
    assert_eq!(ids_of(&seen), [user.id]);
}
