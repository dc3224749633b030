//! Custom events that a backend sends to sockets.

use axum::{extract::State, response::IntoResponse};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ApiError, Authenticated, HttpState, Json, ValidJson, ids::MAX_IDS};
use crate::{
    auth::Permission,
    model::{Category, CustomEvent, UserId},
    pg::{Database, queries::broadcast},
};

/// Maximum length of an event name in characters.
const MAX_EVENT_CHARS: usize = 255;

/// Returns the route `/api/presence/broadcast`.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(send))
}

/// A custom event and its recipients.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(super) struct BroadcastBody {
    /// Category of the event. Any other value is answered with 422.
    #[garde(skip)]
    category: Category,
    /// Name of the event: 1 to 255 characters.
    #[garde(length(chars, min = 1, max = MAX_EVENT_CHARS))]
    #[schema(min_length = 1, max_length = 255)]
    event: String,
    /// IDs of the recipients: 1 to 1,000.
    #[garde(length(min = 1, max = MAX_IDS))]
    #[schema(min_items = 1, max_items = 1_000)]
    recipients: Vec<UserId>,
    /// Payload of the event, forwarded unchanged.
    #[garde(custom(is_forwardable_object))]
    #[schema(value_type = Object, additional_properties = true)]
    payload: Box<RawValue>,
}

/// Parses the payload only for its errors: raw JSON may be nested so deep that the database and some clients cannot
/// parse it.
fn is_forwardable_object(payload: &RawValue, _: &()) -> garde::Result {
    match serde_json::from_str::<Map<String, Value>>(payload.get()) {
        Ok(_) => Ok(()),
        Err(error) if error.is_data() => Err(garde::Error::new("must be an object")),
        Err(_) => Err(garde::Error::new("contains JSON that cannot be forwarded")),
    }
}

/// Result of a custom event.
#[derive(Serialize, ToSchema)]
struct BroadcastAnswer {
    /// Number of recipients with an open socket.
    #[schema(minimum = 0)]
    delivered_to: i64,
}

/// Sends a custom event to the sockets of users.
///
/// Delivers at most once: recipients without an open socket miss the event. Each socket receives the event in the format
/// of its dialect.
#[utoipa::path(
    post, path = "/api/presence/broadcast", operation_id = "pushToSockets", tag = "System",
    request_body(content = BroadcastBody, example = json!({
        "category": "custom", "event": "tide", "payload": { "metres": 3.2 },
        "recipients": ["a0000000-0000-4000-8000-000000000001"],
    })),
    responses((status = 200, description = "The event was handed to the sockets.", body = BroadcastAnswer,
        example = json!({ "delivered_to": 1 }))),
    extensions(("x-errors" = json!([422])), ("x-access" = json!("operator"))),
)]
async fn send(
    State(database): State<Database>,
    Authenticated(caller): Authenticated,
    ValidJson(body): ValidJson<BroadcastBody>,
) -> Result<impl IntoResponse, ApiError> {
    if !caller.is_service() && !caller.has_permission(Permission::PresenceAdmin) {
        return Err(ApiError::forbidden(
            "custom events require role service_role or permission presence:admin",
        ));
    }
    let BroadcastBody { category, event, recipients, payload } = body;
    let event = CustomEvent { category, event, payload };
    Ok(Json(BroadcastAnswer { delivered_to: broadcast::send(&database, &event, &recipients).await? }))
}

#[cfg(test)]
mod tests {
    use super::{super::extract::parse_valid_json, *};

    fn parse(text: &str) -> Result<BroadcastBody, ApiError> {
        parse_valid_json(text.as_bytes())
    }

    #[test]
    fn payload_text_is_preserved() {
        let user = UserId::random();
        let text = format!(
            r#"{{"category":"custom","event":"e","recipients":["{user}"],"payload": {{"n": 1.50}} }}"#
        );
        let body = parse(&text).expect("is valid");
        assert_eq!(
            (body.category, body.payload.get(), body.recipients),
            (Category::Custom, r#"{"n": 1.50}"#, vec![user])
        );
    }

    #[test]
    fn all_invalid_fields_are_reported() {
        let Err(ApiError::InvalidRequest { details, .. }) =
            parse(r#"{"category":"custom","event":"","recipients":[],"payload":[1]}"#)
        else {
            panic!("is rejected")
        };
        assert_eq!(
            details.iter().map(|error| &*error.field).collect::<Vec<_>>(),
            ["event", "recipients", "payload"]
        );
        let user = UserId::random();
        for payload in
            [format!("{{\"a\":{}{}}}", "[".repeat(9_000), "]".repeat(9_000)), r#"{"a":"\ud800"}"#.to_owned()]
        {
            let text =
                format!(r#"{{"category":"custom","event":"e","recipients":["{user}"],"payload":{payload}}}"#);
            assert!(matches!(parse(&text), Err(ApiError::InvalidRequest { .. })));
        }
        let unknown =
            parse(&format!(r#"{{"category":"mail","event":"e","recipients":["{user}"],"payload":{{}}}}"#));
        assert!(matches!(unknown, Err(ApiError::Unprocessable { .. })));
    }
}
