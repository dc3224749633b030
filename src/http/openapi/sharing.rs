//! Who may see whom, and what; what is kept, and its erasure.

use serde_json::{Value, json};

use super::{
    ExampleUser, Operation, delete, patch, post, put, read,
    schemas::{Shape, field, nullable},
    types::{settings, user_id, visibility},
};
use crate::{http::ids::MAX_IDS, limits::LimitClass};

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
            .description("Whoever is on the list sees the real state, also while the user is invisible.")
            .path_parameter("user_id", user_id(), "Whom.", CAROL)
            .rate_limit(LimitClass::Manage)
    };
    Operation::with_tag(
        "Sharing",
        vec![
            read("/api/presence/settings", "settings", "Read the own settings").user_id_parameter().response(
                200,
                "The settings.",
                settings(),
                example("contacts", true),
            ),
            put("/api/presence/settings", "replaceSettings", "Replace the own settings")
                .description("What is not named goes back to its default.")
                .user_id_parameter()
                .request_body(change(), json!({ "visibility": "team" }))
                .response(200, "The settings after it.", settings(), example("team", true))
                .errors(&[422])
                .rate_limit(LimitClass::Manage),
            patch("/api/presence/settings", "changeSettings", "Change some of the own settings")
                .description("What is not named stays.")
                .user_id_parameter()
                .request_body(change(), json!({ "show_last_seen": false }))
                .response(200, "The settings after it.", settings(), example("team", false))
                .errors(&[422])
                .rate_limit(LimitClass::Manage),
            read("/api/presence/visibility", "visibilityList", "Read the own visibility list")
                .description("Who sees the user while invisible.")
                .user_id_parameter()
                .response(200, "The list.", list(), json!({ "user_ids": [] })),
            put("/api/presence/visibility", "replaceVisibilityList", "Replace the own visibility list")
                .user_id_parameter()
                .request_body(
                    Shape::Object(vec![field(
                        "user_ids",
                        Shape::list_of(user_id(), 0, MAX_IDS),
                        "Who shall be on it: nobody else, and never oneself.",
                    )]),
                    json!({ "user_ids": [] }),
                )
                .response(200, "The list after it.", list(), json!({ "user_ids": [] }))
                .rate_limit(LimitClass::Manage),
            listed(post("/api/presence/visibility/{user_id}", "enlist", "Put a user on the visibility list"))
                .user_id_parameter()
                .response(201, "On the list now.", Shape::success(), json!({ "success": true }))
                .response(200, "Was on the list.", Shape::success(), json!({ "success": true })),
            listed(delete("/api/presence/visibility/{user_id}", "unlist", "Take a user off the visibility list"))
                .user_id_parameter()
                .response(200, "Off the list now.", Shape::success(), json!({ "success": true }))
                .errors(&[404]),
            read("/api/presence/export", "exportMine", "Everything that is kept on the own presence")
                .user_id_parameter()
                .response(
                    200,
                    "Rows by table.",
                    Shape::Object(vec![
                        field("user_id", user_id(), "Whose."),
                        field("exported_at", Shape::timestamp(), "When."),
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
    Operation::with_tag(
        "Sharing",
        vec![
            delete("/api/presence/me", "forgetMe", "Erase the own presence")
                .description(
                    "Settings, devices, last seen, typing and history; closes the user's sockets. The user then reads \
                     as never seen.",
                )
                .user_id_parameter()
                .example_user(ExampleUser::Frank)
                .response(
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
                .rate_limit(LimitClass::Manage),
        ],
    )
}
