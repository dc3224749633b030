//! Contacts and blocks.

use serde_json::{Value, json};

use super::{
    ExampleUser, Operation, delete, post, read,
    schemas::{Shape, field},
    types::{block, contact, user_id},
};
use crate::limits::LimitClass;

const DAVE: &str = "a0000000-0000-4000-8000-000000000004";
const ERIN: &str = "a0000000-0000-4000-8000-000000000005";
const FRANK: &str = "a0000000-0000-4000-8000-000000000006";

fn whom() -> Shape {
    Shape::Object(vec![field("user_id", user_id(), "Whom; not oneself.")])
}

fn example(user: &str, status: &str, accepted_at: Option<&str>) -> Value {
    json!({
        "user_id": user, "status": status, "created_at": "2026-11-20T09:00:00.000Z", "accepted_at": accepted_at,
    })
}

pub(super) fn operations() -> Vec<Operation> {
    let by_id = |operation: Operation, user: &'static str| {
        operation
            .path_parameter("user_id", user_id(), "Whom.", user)
            .user_id_parameter()
            .errors(&[404, 409])
            .rate_limit(LimitClass::Manage)
    };
    Operation::with_tag(
        "Relations",
        vec![
            read("/api/contacts", "contacts", "List contacts and requests")
                .user_id_parameter()
                .errors(&[409])
                .response(
                    200,
                    "Both ways, oldest first.",
                    Shape::list(contact()),
                    json!([example(FRANK, "accepted", Some("2026-11-20T10:00:00.000Z"))]),
                ),
            post("/api/contacts", "askForContact", "Ask for a contact")
                .description("Asking somebody who has asked before accepts; asking again changes nothing.")
                .user_id_parameter()
                .request_body(whom(), json!({ "user_id": DAVE }))
                .response(201, "Asked.", contact(), example(DAVE, "pending_out", None))
                .response(
                    200,
                    "Was asked for, or is accepted by this.",
                    contact(),
                    example(DAVE, "accepted", Some("2026-11-20T10:00:00.000Z")),
                )
                .errors(&[409])
                .rate_limit(LimitClass::Manage),
            by_id(post("/api/contacts/{user_id}/accept", "acceptContact", "Accept a request"), ERIN)
                .example_user(ExampleUser::Bob)
                .response(
                    200,
                    "Accepted.",
                    contact(),
                    example(ERIN, "accepted", Some("2026-11-20T10:00:00.000Z")),
                ),
            by_id(delete("/api/contacts/{user_id}", "removeContact", "End a contact"), FRANK)
                .description("Or decline a request, or take one back.")
                .response(200, "Ended.", Shape::success(), json!({ "success": true })),
            read("/api/blocks", "blocks", "List whom one blocks")
                .user_id_parameter()
                .errors(&[409])
                .response(
                    200,
                    "Oldest first.",
                    Shape::list(block()),
                    json!([{ "user_id": ERIN, "created_at": "2026-11-20T09:00:00.000Z" }]),
                ),
            post("/api/blocks", "block", "Block a user")
                .description("Neither sees the other from then on, whatever else is allowed.")
                .user_id_parameter()
                .request_body(whom(), json!({ "user_id": ERIN }))
                .response(201, "Blocked.", Shape::success(), json!({ "success": true }))
                .response(200, "Was blocked.", Shape::success(), json!({ "success": true }))
                .errors(&[409])
                .rate_limit(LimitClass::Manage),
            by_id(delete("/api/blocks/{user_id}", "unblock", "End a block"), ERIN).response(
                200,
                "Ended.",
                Shape::success(),
                json!({ "success": true }),
            ),
        ],
    )
}
