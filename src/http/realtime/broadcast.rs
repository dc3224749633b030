//! Broadcasting without a socket: a batch, or one with the payload as it is.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{FromRef, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::caller::{Believed, Refusal, with_rates};
use crate::{
    channels::{Claimant, Content, Room},
    http::{
        Path, Query,
        body::{self, BodyLimit},
    },
    protocol::phoenix::UserPayload,
    session::channels::Services,
};

/// The longest body, in bytes.
const MAX_BODY: usize = 8_000_000;

pub(super) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<Services>: FromRef<S>,
{
    let routes = |router: Router<S>, prefix: &str| {
        router
            .route(&format!("{prefix}/api/broadcast"), post(batch))
            .route(&format!("{prefix}/api/broadcast/{{topic}}/events/{{event}}"), post(single))
    };
    ["/realtime/v1", ""].into_iter().fold(Router::new(), routes).layer(BodyLimit(MAX_BODY).layer())
}

async fn batch(
    State(services): State<Arc<Services>>,
    caller: Result<Believed, Refusal>,
    request: Request,
) -> Response {
    let sent = async {
        let Believed(claimant) = caller?;
        let body = body::read(request).await.map_err(Refusal::Body)?;
        let most = services.limits.limits().payload_bytes.unwrap_or(usize::MAX);
        send_batch(&services, &claimant, messages(&body, most)?).await
    };
    let response = sent.await.map_or_else(Refusal::into_response, |()| StatusCode::ACCEPTED.into_response());
    with_rates(response, &services.limits)
}

async fn send_batch(
    services: &Services,
    claimant: &Arc<Claimant>,
    messages: Vec<Message>,
) -> Result<(), Refusal> {
    let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    if services.limits.is_too_loud(0) {
        return Err(Refusal::RateLimited("You have exceeded your rate limit"));
    }
    if services.limits.is_too_loud(count) {
        return Err(Refusal::RateLimited("Too many messages to broadcast, please reduce the batch size"));
    }
    services.limits.count_pushes(count);
    let (private, public): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.room.private);
    for Message { room, payload } in public {
        publish(services, &room, Content::Text(payload)).await?;
    }
    // Topic by topic, in the order in which they are named first.
    let mut topics: Vec<(Room, Vec<Box<str>>)> = Vec::new();
    for Message { room, payload } in private {
        match topics.iter_mut().find(|(named, _)| *named == room) {
            Some((_, payloads)) => payloads.push(payload),
            None => topics.push((room, vec![payload])),
        }
    }
    for (room, payloads) in topics {
        // What may not be said is dropped without a word, as in the original.
        if !services.authorizer.write(claimant, &room).await.is_ok_and(|rights| rights.broadcast) {
            continue;
        }
        for payload in payloads {
            publish(services, &room, Content::Text(payload)).await?;
        }
    }
    Ok(())
}

async fn publish(services: &Services, room: &Room, content: Content) -> Result<(), Refusal> {
    services.broadcaster.publish(room, content).await.map_err(|_| Refusal::Stopping)
}

/// One message of a batch, ready to be said.
#[derive(Debug, PartialEq)]
struct Message {
    room: Room,
    payload: Box<str>,
}

/// The messages of a batch, or what is wrong with each.
fn messages(body: &[u8], most: usize) -> Result<Vec<Message>, Refusal> {
    let invalid = |errors: Value| Refusal::Invalid(json!({ "messages": errors }));
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice::<&RawValue>(body)
        .map_err(|_| Refusal::NotJson)
        .and_then(|raw| serde_json::from_str(raw.get()).map_err(|_| invalid(json!(["can't be blank"]))))?;
    let Some(list) = fields.get("messages").filter(|list| list.get() != "null") else {
        return Err(invalid(json!(["can't be blank"])));
    };
    let list: Vec<BTreeMap<String, &RawValue>> =
        serde_json::from_str(list.get()).map_err(|_| invalid(json!(["is invalid"])))?;
    if list.is_empty() {
        return Err(invalid(json!(["can't be blank"])));
    }
    let read: Vec<Result<Message, Map<String, Value>>> =
        list.iter().map(|fields| message(fields, most)).collect();
    if read.iter().any(Result::is_err) {
        let errors = read.into_iter().map(|one| one.err().unwrap_or_default());
        return Err(invalid(errors.map(Value::Object).collect()));
    }
    Ok(read.into_iter().filter_map(Result::ok).collect())
}

fn message(fields: &BTreeMap<String, &RawValue>, most: usize) -> Result<Message, Map<String, Value>> {
    let mut errors = Map::new();
    let field = |name: &str| fields.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null");
    let mut wrong = |name: &str, what: &str| {
        errors.insert(name.to_owned(), json!([what]));
    };
    let mut text = |name: &str| match field(name).map(serde_json::from_str::<String>) {
        Some(Ok(text)) if !text.trim().is_empty() => text,
        Some(Err(_)) => {
            wrong(name, "is invalid");
            String::new()
        }
        Some(Ok(_)) | None => {
            wrong(name, "can't be blank");
            String::new()
        }
    };
    let (topic, event) = (text("topic"), text("event"));
    let payload = match field("payload") {
        None => {
            wrong("payload", "can't be blank");
            ""
        }
        Some(payload) if !payload.starts_with('{') => {
            wrong("payload", "is invalid");
            ""
        }
        Some(payload) if payload.len() > most => {
            wrong("payload", "Payload size exceeds tenant limit");
            ""
        }
        Some(payload) => payload,
    };
    let private = field("private").map_or(Ok(false), serde_json::from_str::<bool>);
    if private.is_err() {
        wrong("private", "is invalid");
    }
    let id = field("id").map(serde_json::from_str::<String>).transpose();
    if id.is_err() {
        wrong("id", "is invalid");
    }
    let (Ok(private), Ok(id), true) = (private, id, errors.is_empty()) else {
        return Err(errors);
    };
    let event = Value::from(event);
    let meta = id.map(|id| format!(r#","meta":{}"#, json!({ "id": id }))).unwrap_or_default();
    let payload = format!(r#"{{"type":"broadcast","event":{event},"payload":{payload}{meta}}}"#);
    Ok(Message { room: Room { topic: topic.into(), private }, payload: payload.into() })
}

/// How one is to be sent.
#[derive(Deserialize)]
struct Asked {
    private: Option<String>,
}

async fn single(
    State(services): State<Arc<Services>>,
    caller: Result<Believed, Refusal>,
    Path((topic, event)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Response {
    let private = asked.private.is_some_and(|word| word == "true" || word == "1");
    let room = Room { topic: topic.into(), private };
    let sent = async {
        let Believed(claimant) = caller?;
        send_one(&services, &claimant, &room, event.into(), request).await
    };
    let response = sent.await.map_or_else(Refusal::into_response, |()| StatusCode::ACCEPTED.into_response());
    with_rates(response, &services.limits)
}

async fn send_one(
    services: &Services,
    claimant: &Arc<Claimant>,
    room: &Room,
    event: Box<str>,
    request: Request,
) -> Result<(), Refusal> {
    let is_json = is_json(request.headers()).ok_or(Refusal::ContentType)?;
    let body = body::read(request).await.map_err(Refusal::Body)?;
    if services.limits.is_too_loud(1) {
        return Err(Refusal::RateLimited("You have exceeded your rate limit"));
    }
    if body.len() > services.limits.limits().payload_bytes.unwrap_or(usize::MAX) {
        return Err(Refusal::Invalid(json!({"payload": ["Payload size exceeds tenant limit"]})));
    }
    let payload = if is_json { UserPayload::Json(object(&body)?) } else { UserPayload::Binary(body) };
    let rights = services.authorizer.write(claimant, room).await.map_err(Refusal::Rights)?;
    if !rights.broadcast {
        return Err(Refusal::Rights(crate::channels::authorization::AuthorizationError::Unauthorized));
    }
    services.limits.count_pushes(1);
    publish(services, room, Content::User { event, payload, meta: None }).await
}

/// Whether the body is JSON (as without a content type) or bytes; `None` for anything else.
fn is_json(headers: &HeaderMap) -> Option<bool> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else {
        return Some(true);
    };
    let given = given.to_str().ok()?.split(';').next()?.trim();
    match given {
        _ if given.eq_ignore_ascii_case("application/json") => Some(true),
        _ if given.eq_ignore_ascii_case("application/octet-stream") => Some(false),
        _ => None,
    }
}

/// A JSON body as an object: what is none is wrapped, and no body is an empty one.
fn object(body: &[u8]) -> Result<Box<str>, Refusal> {
    if body.is_empty() {
        return Ok("{}".into());
    }
    let json = std::str::from_utf8(body).map_err(|_| Refusal::NotJson)?;
    let raw: &RawValue = serde_json::from_str(json).map_err(|_| Refusal::NotJson)?;
    Ok(if raw.get().starts_with('{') { json.into() } else { format!(r#"{{"_json":{json}}}"#).into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(body: &str) -> Value {
        match messages(body.as_bytes(), 30) {
            Err(Refusal::Invalid(errors)) => errors["messages"].clone(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_batch_says_what_is_wrong_with_each_message_and_takes_all_or_nothing() {
        let bad = r#"{"messages":[{"topic":"a","event":"e","payload":{}},{"topic":"","payload":"x"},{"topic":7,"event":"e",
            "payload":{"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"private":"yes","id":7}]}"#;
        let expected = json!([
            {},
            {"topic": ["can't be blank"], "event": ["can't be blank"], "payload": ["is invalid"]},
            {"topic": ["is invalid"], "payload": ["Payload size exceeds tenant limit"], "private": ["is invalid"],
                "id": ["is invalid"]},
        ]);
        assert_eq!(errors(bad), expected);
        for (body, expected) in [
            ("{}", json!(["can't be blank"])),
            (r#"{"messages":[]}"#, json!(["can't be blank"])),
            (r#"{"messages":null}"#, json!(["can't be blank"])),
            ("[]", json!(["can't be blank"])),
            (r#"{"messages":{}}"#, json!(["is invalid"])),
            (r#"{"messages":[1]}"#, json!(["is invalid"])),
        ] {
            assert_eq!(errors(body), expected, "{body}");
        }
        assert!(matches!(messages(b"{", 30), Err(Refusal::NotJson)));
    }

    #[test]
    fn payloads_of_a_batch_stay_as_they_were_and_ids_go_beside_them() {
        let body = r#"{"messages":[{"topic":"a","event":"e\"","payload":{"n": 1.10 },"id":"x"},
            {"topic":"a","event":"e","payload":{},"private":true}]}"#;
        let read = messages(body.as_bytes(), 30).expect("is fine");
        let expected = r#"{"type":"broadcast","event":"e\"","payload":{"n": 1.10 },"meta":{"id":"x"}}"#;
        assert_eq!(read[0], Message { room: Room::public("a"), payload: expected.into() });
        assert_eq!(read[1].room, Room::private("a"));
    }

    #[test]
    fn one_payload_is_an_object_or_wrapped() {
        let said = |body: &str| object(body.as_bytes()).expect("is JSON");
        assert_eq!(&*said(""), "{}");
        assert_eq!(&*said(" {\"a\":1.0}\n"), " {\"a\":1.0}\n", "as it came");
        assert_eq!(&*said("[1]"), r#"{"_json":[1]}"#);
        assert!(matches!(object(b"{"), Err(Refusal::NotJson)));
    }
}
