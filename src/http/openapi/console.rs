//! Pages of the web console.

use serde_json::json;

use super::{
    Access, Operation, read,
    schemas::{Shape, field},
    types::user_id,
};

const HTML: &str = "text/html";

fn people() -> Shape {
    let person = vec![
        field("name", Shape::text(), "Name of the demo user."),
        field("user_id", user_id(), "ID of the demo user (UUID)."),
        field("token", Shape::text(), "Token of the user, valid for 12 hours."),
    ];
    let fields = vec![
        field("people", Shape::list(Shape::Object(person)), "Users of the demo data."),
        field("service_token", Shape::text(), "A token of the service role."),
    ];
    Shape::named("Demo", "Tokens of a demo server.", Shape::Object(fields))
}

pub(super) fn operations() -> Vec<Operation> {
    let page = |path, id, summary| {
        read(path, id, summary)
            .access(Access::Open)
            .text_response(200, "The page or file.", HTML)
            .empty_response(304, "The copy of the browser is current.")
    };
    let pages = vec![
        page("/", "console", "Returns the web console."),
        page("/docs", "docs", "Returns the API reference with request forms."),
        page("/console/{file}", "consoleFile", "Returns a file of the console.")
            .path_parameter("file", Shape::text(), "Name of the file.", "index.html")
            .errors(&[400, 404]),
        read("/console/demo", "demo", "Returns tokens of the demo users.")
            .description("Available only on a demo server on a loopback address, for its own pages. Other servers answer 404.")
            .access(Access::Open)
            .response(
                200,
                "Tokens of the demo users.",
                people(),
                json!({ "people": [], "service_token": "eyJhbGciOiJIUzI1NiJ9.e30.x" }),
            )
            .errors(&[404, 500])
            .without_example(),
    ];
    Operation::with_tag("Console", pages)
}
