//! The shapes that several routes and dialects share. Words and bounds come from the model; that the rest is what
//! the server says is checked by driving every example, and by encoding every message, in tests.

use serde_json::json;

use super::schemas::{Shape, field, nullable, optional, or_null};
use crate::{
    model::{Category, DeviceId, Reach, Status},
    protocol::StatusUpdate,
};

pub(super) fn user_id() -> Shape {
    Shape::named(
        "UserId",
        "ID of a user (UUID): the `sub` claim of a token, `auth.uid()` in SQL.",
        Shape::uuid(),
    )
}

pub(super) fn conversation_id() -> Shape {
    Shape::named("ConversationId", "ID of a conversation (UUID).", Shape::uuid())
}

/// IDs are those of the table that provides participants, which is the application's or the built-in one.
pub(super) fn typing_conversation_id() -> Shape {
    let integer = Shape::Plain(json!({ "type": "integer", "format": "int64" }));
    Shape::named(
        "TypingConversationId",
        "ID of a conversation in the table that provides participants: a UUID in the built-in table, a UUID, an \
         integer or text in a table of the application.",
        Shape::AnyOf(vec![Shape::text_of(1, 255), integer]),
    )
}

pub(super) fn device_id() -> Shape {
    let text = Shape::text_of(1, DeviceId::MAX_CHARS);
    Shape::named(
        "DeviceId",
        "A device of one user: 1 to 255 characters, none of them a control character.",
        text,
    )
}

pub(super) fn status() -> Shape {
    let words = Shape::string_enum(&Status::ALL.map(Status::as_str));
    let about = "What a user may set. `busy`, `dnd` and `invisible` are chosen for all devices and hold until changed; \
                 the others are a device's.";
    Shape::named("Status", about, words)
}

pub(super) fn reach() -> Shape {
    let words = Shape::string_enum(&[Reach::Online, Reach::Away, Reach::Offline].map(Reach::as_str));
    Shape::named("Reach", "Whether a user can be reached; `busy` and `dnd` read `online`.", words)
}

pub(super) fn category() -> Shape {
    Shape::named(
        "Category",
        "What an event is about.",
        Shape::string_enum(&Category::ALL.map(Category::as_str)),
    )
}

/// A presence in source B's shape; in lists over REST with whether the user types.
pub(super) fn presence() -> Shape {
    let fields = vec![
        field("user_id", user_id(), "Whose."),
        field("status", reach(), "Whether the user can be reached."),
        field("availability", status(), "The full value."),
        or_null(
            "last_seen",
            Shape::timestamp(),
            "When any device was last live; `null` where it is not shared.",
        ),
        optional(
            "is_typing",
            Shape::flag(),
            "Whether the user types in a conversation shared with the caller; in lists.",
        ),
        optional("custom_status", Shape::text(), "What the user wrote."),
        optional("activity", Shape::text(), "What the user does."),
        optional("current_page", Shape::text(), "Where the user does it."),
        optional("idle_since", Shape::timestamp(), "Since when every live device has been idle."),
    ];
    Shape::named("Presence", "One user as the caller may see them.", Shape::Object(fields))
}

/// What sets a status, over REST and in source B's dialect.
pub(super) fn status_update() -> Vec<super::schemas::Field> {
    let text = || Shape::trimmed(StatusUpdate::MAX_TEXT_CHARS);
    vec![
        field("status", status(), "The new status; any other word is `UNPROCESSABLE`."),
        optional("device_id", device_id(), "Which device says so."),
        nullable(
            "custom_status",
            text(),
            "What the user writes: at most 140 characters after trimming. Control characters, direction overrides and \
             markup are neutralised.",
        ),
        nullable("custom_status_expires_at", Shape::timestamp(), "When that ends by itself."),
        nullable("activity", text(), "What the user does: at most 140 characters after trimming."),
        nullable(
            "current_page",
            Shape::trimmed(StatusUpdate::MAX_PAGE_CHARS),
            "Where the user does it: at most 2,048 characters after trimming.",
        ),
    ]
}

pub(super) fn field_error() -> Shape {
    let fields = vec![
        field("field", Shape::text(), "Its path from the body's root; empty for the whole."),
        field("message", Shape::text(), "What is wrong, for a person."),
    ];
    Shape::named("FieldError", "One field and what is wrong with it.", Shape::Object(fields))
}

/// An event of the operator's back end.
pub(super) fn event() -> Shape {
    let fields = vec![
        field("category", category(), "What it is about."),
        field("event", Shape::text(), "Its name."),
        field("payload", Shape::any_object(), "As it came."),
    ];
    Shape::named("Event", "Something that the operator's back end sends.", Shape::Object(fields))
}
