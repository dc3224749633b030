//! Looking at others.

use serde_json::{Value, json};

use super::{
    Operation, post, read,
    schemas::{Shape, field, or_null},
    types::{card, presence, user_id},
};
use crate::http::ids::MAX_IDS;

const BOB: &str = "a0000000-0000-4000-8000-000000000002";
const USER_IDS_DESCRIPTION: &str =
    "Whom, joined by commas: 1 to 1,000 ids. Without it everybody related to the caller.";

fn bob() -> Value {
    json!({
        "user_id": BOB, "status": "offline", "availability": "offline", "last_seen": "2026-11-21T11:40:00.000Z",
        "is_typing": false, "custom_status": "At lunch",
    })
}

fn last_seen() -> Shape {
    let fields = vec![
        field("user_id", user_id(), "Whose."),
        or_null(
            "last_seen",
            Shape::timestamp(),
            "When any device was last live; `null` where it is not shared.",
        ),
    ];
    Shape::named("LastSeen", "When a user was last here.", Shape::Object(fields))
}

pub(super) fn operations() -> Vec<Operation> {
    Operation::with_tag(
        "People",
        vec![
            read("/api/presence/users", "users", "Look at several users")
                .description(
                    "Without `user_ids`: contacts, team members and people in shared conversations, as far as the \
                     caller may see them. Ids that are unknown or not visible are left out.",
                )
                .query("user_ids", Shape::ids_in_query(), USER_IDS_DESCRIPTION, Some(BOB.into()))
                .response(200, "Those who are visible.", Shape::list(presence()), json!([bob()])),
            read("/api/presence/users/{user_id}", "user", "Look at one user")
                .path_parameter("user_id", user_id(), "Whom.", BOB)
                .response(200, "The user.", presence(), bob())
                .errors(&[404]),
            post("/api/presence/batch", "batch", "Look at many users")
                .description("As `GET /api/presence/users`, by id.")
                .request_body(
                    Shape::Object(vec![field(
                        "user_ids",
                        Shape::list_of(user_id(), 1, MAX_IDS),
                        "Whom.",
                    )]),
                    json!({ "user_ids": [BOB] }),
                )
                .response(
                    200,
                    "Those who are visible, by id.",
                    Shape::Object(vec![field(
                        "presences",
                        Shape::ById(Box::new(presence())),
                        "By id.",
                    )]),
                    json!({ "presences": { BOB: bob() } }),
                ),
            read("/api/presence/last-seen", "lastSeen", "When were they last here?")
                .query("user_ids", Shape::ids_in_query(), USER_IDS_DESCRIPTION, Some(BOB.into()))
                .response(
                    200,
                    "Those who are visible; `null` where it is not shared.",
                    Shape::list(last_seen()),
                    json!([{ "user_id": BOB, "last_seen": "2026-11-21T11:40:00.000Z" }]),
                ),
            read("/{user_id}", "card", "Look at one user, with the number of devices")
                .description("A path that is no UUID is a 404, whoever asks.")
                .path_parameter("user_id", user_id(), "Whom.", BOB)
                .response(
                    200,
                    "The user.",
                    card(),
                    json!({
                        "user_id": BOB, "online_status": "offline", "custom_status": "At lunch",
                        "last_seen_at": "2026-11-21T11:40:00.000Z", "devices_online": 0,
                    }),
                )
                .errors(&[404]),
        ],
    )
}
