//! Who may see whom, and what; what is kept, and its erasure.

use serde_json::{Value, json};

use super::{
    Operation, Somebody, delete, patch, post, put, read,
    schemas::{Shape, field, nullable},
    types::{settings, user_id, visibility},
};
use crate::{http::ids::MOST_IDS, limits::LimitClass};

const CAROL: &str = "a0000000-0000-4000-8000-000000000003";

fn example(visibility: &str, show_last_seen: bool) -> Value {
    json!({
        "visibility": visibility, "show_last_seen": show_last_seen, "show_activity": true,
        "show_custom_status": true, "show_typing": true,
    })
}

fn change() -> Shape {
    Shape::Object(vec![
        nullable("visibility", visibility(), "Who may see the user; any other word is a 422."),
        nullable("show_last_seen", Shape::flag(), "Whether they learn when the user was last here."),
        nullable("show_activity", Shape::flag(), "Whether they see what the user does, and where."),
        nullable("show_custom_status", Shape::flag(), "Whether they see what the user wrote."),
        nullable("show_typing", Shape::flag(), "Whether participants of a conversation see the user type."),
    ])
}

fn list() -> Shape {
    Shape::Object(vec![field("user_ids", Shape::list(user_id()), "Who is on it, in order of entry.")])
}

pub(super) fn operations() -> Vec<Operation> {
    let listed = |operation: Operation| {
        operation
            .about("Whoever is on the list sees the real state, also while the user is invisible.")
            .path_parameter("user_id", user_id(), "Whom.", CAROL)
            .limited(LimitClass::Manage)
    };
    Operation::all_under(
        "Sharing",
        vec![
            read("/api/presence/settings", "settings", "Read the own settings").acts_for_others().answers(
                200,
                "The settings.",
                settings(),
                example("contacts", true),
            ),
            put("/api/presence/settings", "replaceSettings", "Replace the own settings")
                .about("What is not named goes back to its default.")
                .acts_for_others()
                .takes(change(), json!({ "visibility": "team" }))
                .answers(200, "The settings after it.", settings(), example("team", true))
                .fails_with(&[422])
                .limited(LimitClass::Manage),
            patch("/api/presence/settings", "changeSettings", "Change some of the own settings")
                .about("What is not named stays.")
                .acts_for_others()
                .takes(change(), json!({ "show_last_seen": false }))
                .answers(200, "The settings after it.", settings(), example("team", false))
                .fails_with(&[422])
                .limited(LimitClass::Manage),
            read("/api/presence/visibility", "visibilityList", "Read the own visibility list")
                .about("Who sees the user while invisible.")
                .acts_for_others()
                .answers(200, "The list.", list(), json!({ "user_ids": [] })),
            put("/api/presence/visibility", "replaceVisibilityList", "Replace the own visibility list")
                .acts_for_others()
                .takes(
                    Shape::Object(vec![field(
                        "user_ids",
                        Shape::list_of(user_id(), 0, MOST_IDS),
                        "Who shall be on it: nobody else, and never oneself.",
                    )]),
                    json!({ "user_ids": [] }),
                )
                .answers(200, "The list after it.", list(), json!({ "user_ids": [] }))
                .limited(LimitClass::Manage),
            listed(post("/api/presence/visibility/{user_id}", "enlist", "Put a user on the visibility list"))
                .acts_for_others()
                .answers(201, "On the list now.", Shape::done(), json!({ "success": true }))
                .answers(200, "Was on the list.", Shape::done(), json!({ "success": true })),
            listed(delete("/api/presence/visibility/{user_id}", "unlist", "Take a user off the visibility list"))
                .acts_for_others()
                .answers(200, "Off the list now.", Shape::done(), json!({ "success": true }))
                .fails_with(&[404]),
            read("/api/presence/export", "exportMine", "Everything that is kept on the own presence")
                .acts_for_others()
                .answers(
                    200,
                    "Rows by table.",
                    Shape::Object(vec![
                        field("user_id", user_id(), "Whose."),
                        field("exported_at", Shape::moment(), "When."),
                        field("data", Shape::any_object(), "Rows, by the table that holds them."),
                    ]),
                    json!({
                        "user_id": "a0000000-0000-4000-8000-000000000001", "exported_at": "2026-11-21T12:00:00.000Z",
                        "data": { "contacts": [], "presence_devices": [] },
                    }),
                ),
        ],
    )
}

/// What leaves nothing for other examples.
pub(super) fn last_operations() -> Vec<Operation> {
    Operation::all_under(
        "Sharing",
        vec![
            delete("/api/presence/me", "forgetMe", "Erase the own presence")
                .about(
                    "Settings, devices, last seen, typing and history; closes the user's sockets. The user then reads \
                     as never seen.",
                )
                .acts_for_others()
                .example_by(Somebody::Frank)
                .answers(
                    200,
                    "Erased.",
                    Shape::Object(vec![
                        field("success", Shape::Plain(json!({ "const": true })), "Always `true`."),
                        field("user_id", user_id(), "Whose."),
                        field(
                            "erased",
                            Shape::Plain(json!({
                                "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 },
                            })),
                            "How many rows went, by table.",
                        ),
                    ]),
                    json!({
                        "success": true, "user_id": "a0000000-0000-4000-8000-000000000006",
                        "erased": { "presence_devices": 1 },
                    }),
                )
                .limited(LimitClass::Manage),
        ],
    )
}
