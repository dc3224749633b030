//! Actions: disconnect and publish. Each leaves one row in the audit log, in its transaction.

use axum::{extract::State, response::IntoResponse};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{ApiError, HttpState, Json, ValidJson, ids::Success},
    Operator,
};
use crate::{
    model::{ConnectionName, DeviceId, Module, Modules, UserId},
    operator::{NodeExchange, message::Answer},
    pg::{Database, queries::operator::OperatorAction},
};

/// Maximum size of a reason: that of a close frame.
const MAX_REASON_BYTES: usize = 123;
/// Maximum characters of topics and events.
const MAX_NAME_CHARS: usize = 255;
const DEFAULT_REASON: &str = "disconnected by an administrator";

/// Returns the routes `/api/v1/system/disconnect` and `/api/v1/system/publish`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(disconnect)).routes(routes!(publish))
}

/// What to disconnect: a connection, a user, or a device of a user.
#[derive(Debug, Deserialize, Validate, ToSchema)]
struct DisconnectBody {
    /// ID of the connection. Not together with `user_id`.
    #[garde(skip)]
    #[schema(value_type = Option<String>, nullable = false)]
    connection_id: Option<ConnectionName>,
    /// ID of the user (UUID): closes the user's connections on all nodes.
    #[garde(skip)]
    #[schema(nullable = false)]
    user_id: Option<UserId>,
    /// ID of a device of the user: closes the presence connections of this device only.
    #[garde(skip)]
    #[schema(nullable = false)]
    device_id: Option<DeviceId>,
    /// Reason, which the client receives in the close frame and the audit log keeps: at most 123 bytes.
    #[garde(inner(length(bytes, max = MAX_REASON_BYTES)))]
    #[schema(max_length = 123, nullable = false)]
    reason: Option<String>,
}

/// Result of a disconnect.
#[derive(Serialize, ToSchema)]
struct DisconnectAnswer {
    /// 1 for a connection; for a user or device, the number of devices that were connected.
    #[schema(minimum = 0)]
    disconnected: i64,
}

/// Closes connections with code 4403 and a reason.
///
/// Clients may reconnect with a valid token. A channel socket that acts as other users too keeps their channels when a
/// user is disconnected. Each attempt leaves one row in the audit log, also for a connection that is not open (404).
#[utoipa::path(
    post, path = "/api/v1/system/disconnect", operation_id = "disconnect", tag = "System",
    request_body(content = DisconnectBody, example = json!({
        "user_id": "a0000000-0000-4000-8000-000000000001", "reason": "Account suspended",
    })),
    responses((status = 200, description = "The connections are being closed.", body = DisconnectAnswer,
        example = json!({ "disconnected": 1 }))),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([404]))),
)]
async fn disconnect(
    State(database): State<Database>,
    State(exchange): State<NodeExchange>,
    State(modules): State<Modules>,
    Operator { caller, request_id }: Operator,
    ValidJson(body): ValidJson<DisconnectBody>,
) -> Result<impl IntoResponse, ApiError> {
    let action = OperatorAction { database: &database, caller: &caller, request_id: &request_id };
    let reason = body.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or(DEFAULT_REASON);
    let disconnected = match (body.connection_id, body.user_id, body.device_id) {
        (Some(connection), None, None) => close(&exchange, &action, &connection, reason).await?,
        (None, Some(user), device) => {
            if !modules.contains(Module::Presence) {
                return Err(ApiError::NotInstalled(Module::Presence.as_str()));
            }
            action.disconnect(user, device.as_ref(), reason).await?
        }
        (None, None, _) => {
            return Err(ApiError::invalid("user_id", "is required, or connection_id"));
        }
        (Some(_), Some(_), _) => {
            return Err(ApiError::invalid("user_id", "must not be given together with connection_id"));
        }
        (Some(_), None, Some(_)) => {
            return Err(ApiError::invalid("device_id", "must not be given together with connection_id"));
        }
    };
    Ok(Json(DisconnectAnswer { disconnected }))
}

/// Closes one connection and waits for the answer of its node.
async fn close(
    exchange: &NodeExchange,
    action: &OperatorAction<'_>,
    connection: &ConnectionName,
    reason: &str,
) -> Result<i64, ApiError> {
    let mut waiting = exchange.expect();
    let asking = exchange.local().node;
    if !action.disconnect_connection(connection, reason, waiting.request(), asking).await? {
        return Err(ApiError::NotFound);
    }
    match waiting.next().await {
        Some((_, Answer::Disconnected(true))) => Ok(1),
        Some((_, Answer::Disconnected(false))) => Err(ApiError::NotFound),
        _ => Err(ApiError::unavailable("the node of the connection did not answer; it may still close it")),
    }
}

/// A broadcast to a channel.
#[derive(Debug, Deserialize, Validate, ToSchema)]
struct PublishBody {
    /// Topic of the channel, without `realtime:`: 1 to 255 characters.
    #[garde(length(chars, min = 1, max = MAX_NAME_CHARS), custom(has_no_nul))]
    #[schema(min_length = 1, max_length = 255)]
    topic: String,
    /// Name of the event: 1 to 255 characters.
    #[garde(length(chars, min = 1, max = MAX_NAME_CHARS), custom(has_no_nul))]
    #[schema(min_length = 1, max_length = 255)]
    event: String,
    /// Payload of the event.
    #[garde(custom(object_has_no_nul))]
    #[schema(value_type = Object, additional_properties = true)]
    payload: Map<String, Value>,
    /// Whether the channel is private; by default it is.
    #[garde(skip)]
    #[serde(default = "yes")]
    #[schema(default = true)]
    private: bool,
    /// Reason for the audit log: at most 255 characters.
    #[garde(inner(length(chars, max = MAX_NAME_CHARS), custom(has_no_nul)))]
    #[schema(max_length = 255, nullable = false)]
    reason: Option<String>,
}

const fn yes() -> bool {
    true
}

fn has_no_nul(text: &str, _: &()) -> garde::Result {
    if text.contains('\0') { Err(garde::Error::new("must not contain U+0000")) } else { Ok(()) }
}

/// PostgreSQL cannot store NUL in text, and jsonb is text.
fn object_has_no_nul(payload: &Map<String, Value>, _: &()) -> garde::Result {
    fn is_storable(value: &Value) -> bool {
        match value {
            Value::String(text) => !text.contains('\0'),
            Value::Array(values) => values.iter().all(is_storable),
            Value::Object(members) => {
                members.iter().all(|(name, value)| !name.contains('\0') && is_storable(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }
    let storable = payload.iter().all(|(name, value)| !name.contains('\0') && is_storable(value));
    if storable { Ok(()) } else { Err(garde::Error::new("must not contain U+0000")) }
}

/// Sends a broadcast to a channel, on all nodes.
///
/// The message is stored in `realtime.messages` and read from there, as with `realtime.send`.
#[utoipa::path(
    post, path = "/api/v1/system/publish", operation_id = "publish", tag = "System",
    request_body(content = PublishBody, example = json!({
        "topic": "harbour", "event": "notice", "payload": { "text": "Maintenance at 22:00" }, "private": false,
    })),
    responses((status = 200, description = "The message was stored and is being delivered.", body = Success,
        example = json!({ "success": true }))),
    extensions(("x-access" = json!("service"))),
)]
async fn publish(
    State(database): State<Database>,
    Operator { caller, request_id }: Operator,
    ValidJson(body): ValidJson<PublishBody>,
) -> Result<impl IntoResponse, ApiError> {
    let action = OperatorAction { database: &database, caller: &caller, request_id: &request_id };
    let payload = Value::Object(body.payload).to_string();
    let channel = (body.topic.as_str(), body.private);
    action.publish(channel, &body.event, &payload, body.reason.as_deref()).await?;
    Ok(Success::response())
}
