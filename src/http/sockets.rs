//! Where requests become sockets: who it is is settled here, over HTTP; what is said, in the session.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, Request, State},
    response::Response,
    routing::get,
};
use serde::Deserialize;

use super::{ApiError, DeviceHeader, GatewayPolicy, Query, identity::identify, ids::user_ids};
use crate::{
    hub::Hub,
    model::DeviceId,
    protocol::Dialect,
    session::presence::{PresenceSession, Shared},
    transport::Upgrade,
};

/// Where upgraded sockets go.
#[derive(Clone)]
pub struct Sockets {
    /// Who is connected here.
    pub hub: Hub,
    /// What their sessions need.
    pub shared: Shared,
}

/// The socket routes.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Sockets: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    Router::new().route("/api/presence/subscribe", get(subscribe))
}

#[derive(Deserialize)]
struct Subscribe {
    token: Option<String>,
    user_ids: Option<String>,
    #[serde(alias = "deviceId")]
    device_id: Option<String>,
}

async fn subscribe(
    State(Sockets { hub, shared }): State<Sockets>,
    State(gateway): State<Arc<GatewayPolicy>>,
    DeviceHeader(device): DeviceHeader,
    Query(query): Query<Subscribe>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let caller = identify(&parts, &shared.verifier, &gateway, query.token.as_deref()).await?;
    let follows = query.user_ids.as_deref().map(user_ids).transpose()?.unwrap_or_default();
    let named = query.device_id.map(DeviceId::try_from).transpose();
    let device = named.map_err(|error| ApiError::invalid("device_id", error.to_string()))?.or(device);
    let session = PresenceSession::new(shared, caller, device.unwrap_or_else(DeviceId::unnamed), follows)?;
    Ok(Upgrade::from_parts(&mut parts)?.accept(&hub, Dialect::Presence.into(), session))
}
