//! Conversations and typing in them.

use serde_json::{Value, json};

use super::{
    Operation, delete, post, read,
    schemas::{Shape, field, nullable},
    types::{conversation, conversation_id, typing_conversation_in_path, user_id},
};
use crate::{http::ids::MAX_IDS, limits::LimitClass};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "a0000000-0000-4000-8000-000000000002";
const CAROL: &str = "a0000000-0000-4000-8000-000000000003";
const HARBOUR: &str = "c0000000-0000-4000-8000-000000000001";

fn harbour() -> Value {
    json!({
        "id": HARBOUR, "title": "Harbour", "created_by": ALICE, "created_at": "2026-11-20T09:00:00.000Z",
        "participant_ids": [ALICE, BOB],
    })
}

pub(super) fn operations() -> Vec<Operation> {
    let participant = |operation: Operation| {
        operation
            .path_parameter("id", conversation_id(), "Which conversation.", HARBOUR)
            .path_parameter("user_id", user_id(), "Whom.", CAROL)
            .user_id_parameter()
            .errors(&[404, 409])
            .rate_limit(LimitClass::Manage)
    };
    let typing = |operation: Operation| {
        operation
            .path_parameter(
                "conversation_id",
                typing_conversation_in_path(),
                "ID of the conversation.",
                HARBOUR,
            )
            .errors(&[404])
    };
    Operation::with_tag(
        "Conversations",
        vec![
            read("/api/conversations", "conversations", "List the own conversations")
                .user_id_parameter()
                .errors(&[409])
                .response(200, "Newest first.", Shape::list(conversation()), json!([harbour()])),
            post("/api/conversations", "beginConversation", "Begin a conversation")
                .description("Whoever begins it takes part.")
                .user_id_parameter()
                .request_body(
                    Shape::Object(vec![
                        nullable("title", Shape::text(), "At most 255 characters after trimming."),
                        field(
                            "participant_ids",
                            Shape::list_of(user_id(), 0, MAX_IDS),
                            "Who else takes part.",
                        ),
                    ]),
                    json!({ "title": "Harbour", "participant_ids": [BOB] }),
                )
                .response(201, "Begun.", conversation(), harbour())
                .errors(&[409])
                .rate_limit(LimitClass::Manage),
            participant(post(
                "/api/conversations/{id}/participants/{user_id}",
                "addParticipant",
                "Add a participant",
            ))
            .response(200, "The conversation after it.", conversation(), harbour()),
            participant(delete(
                "/api/conversations/{id}/participants/{user_id}",
                "removeParticipant",
                "Remove a participant, or leave",
            ))
            .description("Only who began the conversation removes others.")
            .response(200, "Removed.", Shape::success(), json!({ "success": true })),
            typing(post("/api/conversations/{conversation_id}/typing", "setTyping", "Type, or stop typing"))
                .description(
                    "Lasts 5 s unless refreshed; a repeat within 2 s refreshes without telling anybody. Who takes no \
                     part in the conversation gets a 404.",
                )
                .request_body(
                    Shape::Object(vec![field("is_typing", Shape::flag(), "Typing, or stopped.")]),
                    json!({ "is_typing": true }),
                )
                .response(200, "Noted.", Shape::success(), json!({ "success": true })),
            typing(read("/api/conversations/{conversation_id}/typing", "typing", "Who is typing?")).response(
                200,
                "Those who type now, as far as the caller may see.",
                Shape::list(Shape::Object(vec![
                    field("user_id", user_id(), "Who."),
                    field("updated_at", Shape::timestamp(), "Since when it was told."),
                ])),
                json!([{ "user_id": BOB, "updated_at": "2026-11-21T12:00:00.000Z" }]),
            ),
        ],
    )
}
