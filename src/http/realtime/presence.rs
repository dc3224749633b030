//! Who is present in a room, for servers: what a socket is told as `presence_state`, on all nodes, without one.

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
    // Only with the gateway's prefix: without it, `/api/presence` is somebody else's.
    Router::new().route("/realtime/v1/api/presence/{topic}", get(presence_state))
}

#[derive(Deserialize)]
struct PresenceQuery {
    private: Option<String>,
}

async fn presence_state(
    State(services): State<Arc<Services>>,
    ChannelAuth(claimant): ChannelAuth,
    Path(topic): Path<String>,
    Query(asked): Query<PresenceQuery>,
) -> Result<Response, RealtimeError> {
    let private = match asked.private.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(RealtimeError::InvalidFields(json!({ "private": ["is invalid"] }))),
    };
    let room = Topic { name: topic.into(), private };
    let rights =
        services.authorizer.read_rights(&claimant, &room).await.map_err(RealtimeError::Authorization)?;
    if !rights.presence {
        return Err(RealtimeError::Authorization(AuthorizationError::Unauthorized));
    }
    let mut body = json!({ "topic": &*room.name, "private": private }).to_string().into_bytes();
    // What clients track is passed on as it is.
    body.pop();
    body.extend_from_slice(b",\"presence\":");
    body.extend_from_slice(&services.presence.encoded_state(&room));
    body.push(b'}');
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}
