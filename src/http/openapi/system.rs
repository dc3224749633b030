//! Routes of the API descriptions.

use serde_json::json;

use super::{Access, Operation, read, schemas::Shape};

pub(super) fn operations() -> Vec<Operation> {
    let document = |path, id, summary| {
        read(path, id, summary).access(Access::Open).response(
            200,
            "The description as a JSON document.",
            Shape::any_object(),
            json!({}),
        )
    };
    Operation::with_tag(
        "System",
        vec![
            document("/openapi.json", "openapi", "Returns this description of the REST API."),
            document("/asyncapi.json", "asyncapi", "Returns the description of the sockets."),
        ],
    )
}
