//! Route that returns the presence state of a channel on all nodes, as in a `presence_state` message.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, State},
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::json;

use super::channel_auth::{ChannelAuth, RealtimeError};
use crate::{
    channels::authorization::AuthorizationError,
    http::{Path, Query},
    model::Topic,
    session::channels::Services,
};

pub(super) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<Services>: FromRef<S>,
{
    // Served only with the gateway's prefix: `/api/presence` is another API.
    Router::new().route("/realtime/v1/api/presence/{topic}", get(presence_state))
}

#[derive(Deserialize)]
struct PresenceQuery {
    private: Option<String>,
}

async fn presence_state(
    State(services): State<Arc<Services>>,
    ChannelAuth(principal): ChannelAuth,
    Path(topic): Path<String>,
    Query(query): Query<PresenceQuery>,
) -> Result<Response, RealtimeError> {
    let private = match query.private.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(RealtimeError::InvalidFields(json!({ "private": ["is invalid"] }))),
    };
    let channel = Topic { name: topic.into(), private };
    let rights =
        services.authorizer.read_rights(&principal, &channel).await.map_err(RealtimeError::Authorization)?;
    if !rights.presence {
        return Err(RealtimeError::Authorization(AuthorizationError::Unauthorized));
    }
    let mut body = json!({ "topic": &*channel.name, "private": private }).to_string().into_bytes();
    // The tracked payloads are copied as received.
    body.pop();
    body.extend_from_slice(b",\"presence\":");
    body.extend_from_slice(&services.presence.encoded_state(&channel));
    body.push(b'}');
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}
