//! Upgrades requests to presence and context sockets. Authentication happens here over HTTP, the rest in the
//! session.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, Request, State},
    response::Response,
    routing::get,
};
use serde::Deserialize;

use super::{ApiError, DeviceHeader, GatewayPolicy, Query, identity::authenticate, ids::parse_user_ids};
use crate::{
    hub::Hub,
    model::DeviceId,
    protocol::{Dialect, Frame},
    session::presence::{PresenceServices, PresenceSession},
    transport::{CloseCode, CloseReason, Connection, Flow, Session, Upgrade},
};

/// Services that upgraded sockets need.
#[derive(Clone)]
pub struct Sockets {
    /// The hub that the connections register with.
    pub hub: Hub,
    /// Services of the sessions.
    pub shared: PresenceServices,
}

/// A socket path and its dialect.
#[derive(Debug)]
struct Endpoint {
    path: &'static str,
    dialect: Dialect,
    /// Whether an unauthenticated client gets a socket with a close code instead of a 401 response.
    upgrades_unauthenticated: bool,
}

/// Socket paths of the main port.
static ENDPOINTS: [Endpoint; 3] = [
    Endpoint { path: "/api/presence/subscribe", dialect: Dialect::Presence, upgrades_unauthenticated: false },
    Endpoint { path: "/ws", dialect: Dialect::Devices, upgrades_unauthenticated: false },
    Endpoint { path: "/api/v1/context/ws", dialect: Dialect::Context, upgrades_unauthenticated: true },
];

/// The only path of the second port, for old context clients.
static SECOND_PORT: Endpoint =
    Endpoint { path: "/", dialect: Dialect::Context, upgrades_unauthenticated: true };

/// Socket routes of the main port.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Sockets: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    ENDPOINTS.iter().fold(Router::new(), route)
}

pub fn second_port_routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Sockets: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    route(Router::new(), &SECOND_PORT)
}

fn route<S>(router: Router<S>, endpoint: &'static Endpoint) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Sockets: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    let handler = move |State(sockets): State<Sockets>,
                        State(gateway): State<Arc<GatewayPolicy>>,
                        DeviceHeader(device): DeviceHeader,
                        Query(query): Query<SocketQuery>,
                        request: Request| async move {
        upgrade(endpoint, sockets, &gateway, device, query, request).await
    };
    router.route(endpoint.path, get(handler))
}

/// Query parameters of a socket.
#[derive(Deserialize)]
struct SocketQuery {
    token: Option<String>,
    user_ids: Option<String>,
    #[serde(alias = "deviceId")]
    device_id: Option<String>,
}

async fn upgrade(
    endpoint: &Endpoint,
    Sockets { hub, shared }: Sockets,
    gateway: &GatewayPolicy,
    device: Option<DeviceId>,
    query: SocketQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let options = endpoint.dialect.into();
    let result = authenticate(&parts, &shared.verifier, gateway, query.token.as_deref()).await;
    let result = result.and_then(|caller| Ok(caller.require_user().map(|_| caller)?));
    let caller = match result {
        Ok(caller) => caller,
        // Unreachable signing keys are a server error, which a status describes better than a close code.
        Err(ApiError::Auth(error)) if endpoint.upgrades_unauthenticated && !error.is_transient() => {
            return Ok(Upgrade::from_parts(&mut parts)?.accept(
                &hub,
                options,
                RejectedSession(CloseCode::Unauthorized),
            ));
        }
        Err(error) => return Err(error),
    };
    let followed = query.user_ids.as_deref().map(parse_user_ids).transpose()?.unwrap_or_default();
    let query_device = query.device_id.map(DeviceId::try_from).transpose();
    let query_device = query_device.map_err(|error| ApiError::invalid("device_id", error.to_string()))?;
    let device = device.or(query_device).unwrap_or_else(DeviceId::unnamed);
    let session = PresenceSession::new(shared, caller, device, followed)?;
    Ok(Upgrade::from_parts(&mut parts)?.accept(&hub, options, session))
}

/// A socket that is closed immediately, to send a close code.
struct RejectedSession(CloseCode);

impl Session for RejectedSession {
    async fn on_open(&mut self, _: &Arc<Connection>) -> Flow {
        Flow::close(self.0)
    }

    async fn on_message(&mut self, _: Frame<'_>, _: &Arc<Connection>) -> Flow {
        Flow::close(self.0)
    }

    async fn on_close(self, _: &Arc<Connection>, _: CloseReason) {}
}
