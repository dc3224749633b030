//! Where requests become sockets: who it is is settled here, over HTTP; what is said, in the session.

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

/// Where upgraded sockets go.
#[derive(Clone)]
pub struct Sockets {
    /// Who is connected here.
    pub hub: Hub,
    /// What their sessions need.
    pub shared: PresenceServices,
}

/// Where a dialect is spoken.
#[derive(Debug)]
struct Endpoint {
    path: &'static str,
    dialect: Dialect,
    /// Whether somebody who is no valid user gets a socket, to be told so by its close code, instead of a 401.
    upgrades_unauthenticated: bool,
}

/// One line a dialect.
static ENDPOINTS: [Endpoint; 3] = [
    Endpoint { path: "/api/presence/subscribe", dialect: Dialect::Presence, upgrades_unauthenticated: false },
    Endpoint { path: "/ws", dialect: Dialect::Devices, upgrades_unauthenticated: false },
    Endpoint { path: "/api/v1/context/ws", dialect: Dialect::Context, upgrades_unauthenticated: true },
];

/// What the second port has; old clients of source A know no other.
static SECOND_PORT: Endpoint =
    Endpoint { path: "/", dialect: Dialect::Context, upgrades_unauthenticated: true };

/// The socket routes.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Sockets: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    ENDPOINTS.iter().fold(Router::new(), route)
}

/// The routes of the second port.
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
                        Query(asked): Query<SocketQuery>,
                        request: Request| async move {
        upgrade(endpoint, sockets, &gateway, device, asked, request).await
    };
    router.route(endpoint.path, get(handler))
}

/// What a client asks for in the query string.
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
    asked: SocketQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let options = endpoint.dialect.into();
    let identified = authenticate(&parts, &shared.verifier, gateway, asked.token.as_deref()).await;
    let identified = identified.and_then(|caller| Ok(caller.require_user().map(|_| caller)?));
    let caller = match identified {
        Ok(caller) => caller,
        // Keys that are out of reach are the server's trouble, which a status tells better than a close code.
        Err(ApiError::Auth(error)) if endpoint.upgrades_unauthenticated && !error.is_transient() => {
            return Ok(Upgrade::from_parts(&mut parts)?.accept(
                &hub,
                options,
                RejectedSession(CloseCode::Unauthorized),
            ));
        }
        Err(error) => return Err(error),
    };
    let follows = asked.user_ids.as_deref().map(parse_user_ids).transpose()?.unwrap_or_default();
    let named = asked.device_id.map(DeviceId::try_from).transpose();
    let named = named.map_err(|error| ApiError::invalid("device_id", error.to_string()))?;
    let device = device.or(named).unwrap_or_else(DeviceId::unnamed);
    let session = PresenceSession::new(shared, caller, device, follows)?;
    Ok(Upgrade::from_parts(&mut parts)?.accept(&hub, options, session))
}

/// A socket that is only opened to say why it is closed.
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
