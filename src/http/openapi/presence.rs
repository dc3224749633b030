//! One's own status and devices.

use serde_json::json;

use super::{
    Operation, delete, post, read,
    schemas::{Field, Shape, field, optional},
    types::{device, device_id, presence, status_update, user_id},
};
use crate::limits::LimitClass;

const DEVICE_HEADER: &str = "Which of the user's devices sends this, where the body does not say.";

/// For the service and admins.
fn with_user(mut fields: Vec<Field>) -> Vec<Field> {
    fields.push(optional("user_id", user_id(), "Whose, for the service and admins."));
    fields
}

pub(super) fn operations() -> Vec<Operation> {
    Operation::with_tag(
        "Presence",
        vec![
            post("/api/presence/status", "setStatus", "Set the own status")
                .description(
                    "`busy`, `dnd` and `invisible` are chosen for all devices and hold until changed; `online`, `away` \
                     and `offline` are the device's. A text that is left out stays, `null` clears it. A repeat within \
                     5 s changes nothing.",
                )
                .header("X-Device-ID", device_id(), DEVICE_HEADER)
                .request_body(
                    Shape::Object(with_user(status_update())),
                    json!({ "status": "busy", "custom_status": "Writing", "device_id": "laptop" }),
                )
                .response(
                    200,
                    "The user's presence after it, as the user sees it.",
                    presence(),
                    json!({
                        "user_id": "a0000000-0000-4000-8000-000000000001", "status": "online",
                        "availability": "busy", "last_seen": "2026-11-21T12:00:00.000Z", "custom_status": "Writing",
                    }),
                )
                .errors(&[409, 422])
                .rate_limit(LimitClass::PresenceUpdate),
            read("/api/presence/status", "ownStatus", "Read the own status")
                .description("Whoever was never here is `offline` to themselves.")
                .user_id_parameter()
                .response(
                    200,
                    "The own presence, with everything that is not shared.",
                    presence(),
                    json!({
                        "user_id": "a0000000-0000-4000-8000-000000000001", "status": "online",
                        "availability": "busy", "last_seen": "2026-11-21T12:00:00.000Z", "custom_status": "Writing",
                    }),
                ),
            post("/api/presence/heartbeat", "heartbeat", "Keep a device alive")
                .description(
                    "For devices without a socket. Tells nobody unless it brings the device back. `active` says that \
                     somebody is using it.",
                )
                .header("X-Device-ID", device_id(), DEVICE_HEADER)
                .request_body(
                    Shape::Object(with_user(vec![
                        optional("device_id", device_id(), "Which device."),
                        optional("active", Shape::flag(), "Whether somebody is using it."),
                    ])),
                    json!({ "device_id": "laptop", "active": true }),
                )
                .response(
                    200,
                    "Noted.",
                    Shape::Object(vec![
                        field("success", Shape::Plain(json!({ "const": true })), "Always `true`."),
                        field("server_time", Shape::timestamp(), "The server's clock."),
                        field("next_heartbeat_ms", Shape::count(), "When the next one is due, in milliseconds."),
                    ]),
                    json!({
                        "success": true, "server_time": "2026-11-21T12:00:00Z", "next_heartbeat_ms": 10_000,
                    }),
                ),
            read("/api/presence/devices", "devices", "List the own devices").user_id_parameter().response(
                200,
                "The devices, the latest first.",
                Shape::list(device()),
                json!([{
                    "device_id": "laptop", "device_name": null, "device_type": null, "platform": null,
                    "app_version": null, "status": "online", "last_heartbeat_at": "2026-11-21T12:00:00.000Z",
                    "idle_since": null, "session_started_at": "2026-11-21T11:00:00.000Z", "connected": false,
                }]),
            ),
            delete("/api/presence/devices/{device_id}", "signOffDevice", "Sign a device off")
                .description("Offline at once, and its sockets are closed.")
                .path_parameter("device_id", device_id(), "Which device.", "laptop")
                .user_id_parameter()
                .response(200, "Signed off.", Shape::success(), json!({ "success": true }))
                .errors(&[404])
                .rate_limit(LimitClass::Manage),
            post("/api/presence/sign-off", "signOff", "Sign a device off while the page is being closed")
                .description(
                    "For `navigator.sendBeacon`, which can set no headers and reads no answer: the token may be in the \
                     body, whose media type does not matter. Offline at once, and the device's sockets are closed.",
                )
                .request_body(
                    Shape::Object(vec![
                        field("device_id", device_id(), "Which device."),
                        optional("token", Shape::text(), "The token, where there is no `Authorization`."),
                    ]),
                    json!({ "device_id": "laptop" }),
                )
                .empty_response(204, "Signed off, or there was no such device.")
                .rate_limit(LimitClass::Manage),
        ],
    )
}
