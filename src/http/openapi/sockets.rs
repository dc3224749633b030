//! Where sockets open. What they say is AsyncAPI's.

use super::{Operation, read, schemas::Shape, types::device_id};

pub(super) fn operations() -> Vec<Operation> {
    let socket = |path, id, summary, about: &'static str| {
        read(path, id, summary)
            .description(about)
            .query(
                "token",
                Shape::text(),
                "The token, for browsers, which cannot set headers on sockets.",
                None,
            )
            .query("device_id", device_id(), "Which of the user's devices this is.", None)
            .header("X-Device-ID", device_id(), "The same; counts first.")
            .empty_response(101, "A WebSocket from here on.")
            .errors(&[426])
            .without_example()
    };
    let follows = "Follows these users beside those whom the caller is related to.";
    Operation::with_tag(
        "Sockets",
        vec![
            socket(
                "/api/presence/subscribe",
                "presenceSocket",
                "Presence, as it changes",
                "The first frame is `initial_state` with everybody related to the user; then updates as they happen.",
            )
            .query("user_ids", Shape::ids_in_query(), follows, None),
            socket(
                "/ws",
                "devicesSocket",
                "Presence for devices and services",
                "`{type, payload}` frames, with acknowledgements.",
            )
            .query("user_ids", Shape::ids_in_query(), follows, None),
            socket(
                "/api/v1/context/ws",
                "contextSocket",
                "What the user does on other devices",
                "Opens for everybody: who is no valid user is closed with 4001 `Unauthorized`. Also at `/` of `WS_PORT`.",
            ),
        ],
    )
}
