//! Custom events that a backend sends to sockets.

use axum::{Router, extract::State, response::IntoResponse, routing::post};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{ApiError, Authenticated, FieldError, HttpState, Json, ids::MAX_IDS};
use crate::{
    auth::Permission,
    model::{Category, CustomEvent, UserId},
    pg::{Database, queries::broadcast},
};

/// Maximum length of an event name in characters.
pub(super) const MAX_EVENT_CHARS: usize = 255;

/// Route `/api/presence/broadcast`.
pub fn routes() -> Router<HttpState> {
    Router::new().route("/api/presence/broadcast", post(send))
}

#[derive(Deserialize)]
struct BroadcastBody {
    category: Category,
    event: String,
    recipients: Vec<UserId>,
    payload: Box<RawValue>,
}

/// Delivers at most once: recipients without an open socket miss the event. `delivered_to` counts those with
/// one.
async fn send(
    State(database): State<Database>,
    Authenticated(caller): Authenticated,
    Json(body): Json<BroadcastBody>,
) -> Result<impl IntoResponse, ApiError> {
    if !caller.is_service() && !caller.has_permission(Permission::PresenceAdmin) {
        return Err(ApiError::forbidden(
            "custom events require role service_role or permission presence:admin",
        ));
    }
    let (event, recipients) = validate(body)?;
    let connected = broadcast::send(&database, &event, &recipients).await?;
    Ok(Json(json!({ "delivered_to": connected })))
}

fn validate(body: BroadcastBody) -> Result<(CustomEvent, Vec<UserId>), ApiError> {
    let BroadcastBody { category, event, recipients, payload } = body;
    let mut errors = Vec::new();
    if event.is_empty() || event.chars().count() > MAX_EVENT_CHARS {
        errors.push(FieldError::new("event", format!("must have 1 to {MAX_EVENT_CHARS} characters")));
    }
    if recipients.is_empty() || recipients.len() > MAX_IDS {
        errors.push(FieldError::new("recipients", format!("must have 1 to {MAX_IDS} user IDs")));
    }
    // Parsed only for its errors: raw JSON may be nested so deep that the database and some clients cannot
    // parse it.
    if let Err(error) = serde_json::from_str::<Map<String, Value>>(payload.get()) {
        let message =
            if error.is_data() { "must be an object" } else { "contains JSON that cannot be forwarded" };
        errors.push(FieldError::new("payload", message));
    }
    if errors.is_empty() {
        Ok((CustomEvent { category, event, payload }, recipients))
    } else {
        Err(ApiError::invalid_fields(errors))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::extract::parse_json, *};

    fn parse(text: &str) -> Result<(CustomEvent, Vec<UserId>), ApiError> {
        validate(parse_json(text.as_bytes())?)
    }

    #[test]
    fn payload_text_is_preserved() {
        let user = UserId::random();
        let text = format!(
            r#"{{"category":"custom","event":"e","recipients":["{user}"],"payload": {{"n": 1.50}} }}"#
        );
        let (event, recipients) = parse(&text).expect("is valid");
        assert_eq!(
            (event.category, event.payload.get(), recipients),
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
        let unknown = parse(r#"{"category":"mail","event":"e","recipients":[],"payload":{}}"#);
        assert!(matches!(unknown, Err(ApiError::Unprocessable { .. })));
    }
}
