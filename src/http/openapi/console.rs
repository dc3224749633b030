//! The pages, and what they show the operator.

use serde_json::{Value, json};

use super::{
    Access, ExampleUser, Operation, read,
    schemas::{Shape, field, or_null},
    types::user_id,
};

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const FRANK: &str = "a0000000-0000-4000-8000-000000000006";
const HTML: &str = "text/html";

fn node() -> Shape {
    let fields = vec![
        field("id", Shape::uuid(), "Which."),
        field("started_at", Shape::timestamp(), "Since when."),
        field("renewed_at", Shape::timestamp(), "When it last renewed its lease."),
        field(
            "lease_expires_at",
            Shape::timestamp(),
            "Until when it counts as alive without renewing again.",
        ),
        field("alive", Shape::flag(), "Whether the lease runs."),
        field("devices", Shape::count(), "Devices whose sockets it holds."),
    ];
    Shape::named("Node", "A server on the database.", Shape::Object(fields))
}

fn sighting() -> Shape {
    let decided_by = "`self`, `block`, `list`, `setting`, `contact`, `team`: Rollcall's own policies; `policy`: another \
                      one; `never_seen`, `grant`, `error`; `row_level_security`: it is switched off.";
    let fields = vec![
        field("visible", Shape::flag(), "Whether there is something to see."),
        or_null("face", Shape::string_enum(&["public", "trusted"]), "Which face."),
        field("decided_by", Shape::text(), decided_by),
        or_null("policy", Shape::text(), "The policies that allow it, or the one that forbids it."),
        or_null("evidence", Shape::any_object(), "The row or setting that decides."),
        field("reason", Shape::text(), "In words."),
    ];
    Shape::named("Sighting", "What somebody sees of somebody, and why.", Shape::Object(fields))
}

fn people() -> Shape {
    let person = vec![
        field("name", Shape::text(), "What they are called."),
        field("user_id", user_id(), "Who."),
        field("token", Shape::text(), "Valid for twelve hours."),
    ];
    let fields = vec![
        field("people", Shape::list(Shape::Object(person)), "The demo data's people."),
        field("service_token", Shape::text(), "A token of the service role."),
    ];
    Shape::named("Demo", "The tokens of a demo.", Shape::Object(fields))
}

pub(super) fn operations() -> Vec<Operation> {
    let page = |path, id, summary| {
        read(path, id, summary)
            .access(Access::Open)
            .text_response(200, "The page.", HTML)
            .empty_response(304, "The browser has it.")
    };
    let seen: Value = json!([{
        "visible": true, "face": "trusted", "decided_by": "list", "policy": null, "evidence": {}, "reason": "on the list",
    }]);
    let started = "2026-11-21T12:00:00.000Z";
    let operator = vec![
        read("/api/v1/system/nodes", "nodes", "The servers on this database")
            .access(Access::Service)
            .example_user(ExampleUser::Service)
            .response(
                200,
                "The oldest first.",
                Shape::list(node()),
                json!([{
                    "id": "0b7f2f0e-0000-4000-8000-000000000000", "started_at": started, "renewed_at": started,
                    "lease_expires_at": started, "alive": true, "devices": 3,
                }]),
            ),
        read("/api/v1/system/explain", "explain", "Why does somebody see somebody?")
            .access(Access::Service)
            .example_user(ExampleUser::Service)
            .required_query("viewer", user_id(), "Who looks.", ALICE)
            .required_query("subject", user_id(), "At whom.", FRANK)
            .response(200, "A row a face; one, if nothing is visible.", Shape::list(sighting()), seen),
    ];
    let pages = vec![
        page("/", "console", "The console"),
        page("/docs", "docs", "This description, to read and to try"),
        page("/console/{file}", "consoleFile", "A file of the pages")
            .path_parameter("file", Shape::text(), "Which.", "index.html")
            .errors(&[400, 404]),
        read("/console/demo", "demo", "Tokens of the demo's people")
            .description("Only from a demo server on loopback, for its own pages; 404 elsewhere.")
            .access(Access::Open)
            .response(
                200,
                "The tokens.",
                people(),
                json!({ "people": [], "service_token": "eyJhbGciOiJIUzI1NiJ9.e30.x" }),
            )
            .errors(&[404, 500])
            .without_example(),
    ];
    [Operation::with_tag("System", operator), Operation::with_tag("Console", pages)].concat()
}
