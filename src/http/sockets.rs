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
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ApiError, DeviceHeader, GatewayPolicy, Query, identity::authenticate, ids::parse_user_ids};
use crate::{
    auth::Principal,
    hub::Hub,
    model::{DeviceId, sanitize},
    presence::visibility::{Interest, Resume},
    protocol::{Dialect, Frame},
    session::{
        event_stream::Listening,
        presence::{PresenceServices, PresenceSession},
    },
    transport::{CloseCode, CloseReason, Connection, Flow, Session, Upgrade, respond_with_events},
};

/// Services that upgraded sockets need.
#[derive(Clone)]
pub struct Sockets {
    /// The hub that the connections register with.
    pub hub: Hub,
    /// Services of the sessions.
    pub shared: PresenceServices,
}

/// A kind of socket.
#[derive(Debug, Clone, Copy)]
struct Endpoint {
    dialect: Dialect,
    /// Whether an unauthenticated client gets a socket with a close code instead of a 401 response.
    upgrades_unauthenticated: bool,
}

const PRESENCE: Endpoint = Endpoint { dialect: Dialect::Presence, upgrades_unauthenticated: false };
const DEVICES: Endpoint = Endpoint { dialect: Dialect::Devices, upgrades_unauthenticated: false };
const CONTEXT: Endpoint = Endpoint { dialect: Dialect::Context, upgrades_unauthenticated: true };

/// Socket routes of the main port.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Sockets: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    OpenApiRouter::default()
        .routes(routes!(presence_socket))
        .routes(routes!(devices_socket))
        .routes(routes!(context_socket))
        .routes(routes!(presence_events))
}

/// Route of the second port, for old context clients.
pub fn second_port_routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Sockets: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    Router::new().route("/", get(context_socket))
}

/// Opens a socket that receives presence changes.
///
/// The first message is `initial_state` with all users related to the caller; updates follow.
#[utoipa::path(
    get, path = "/api/presence/subscribe", operation_id = "presenceSocket", tag = "Sockets",
    params(
        SocketQuery,
        PageQuery,
        ("X-Device-ID" = Option<DeviceId>, Header,
            description = "ID of the device that opens the socket; preferred to the query."),
    ),
    responses((status = 101, description = "The connection is a WebSocket from here on.")),
    extensions(("x-errors" = json!([426]))),
)]
async fn presence_socket(
    State(sockets): State<Sockets>,
    State(gateway): State<Arc<GatewayPolicy>>,
    DeviceHeader(device): DeviceHeader,
    Query(query): Query<SocketQuery>,
    Query(page): Query<PageQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    upgrade(PRESENCE, sockets, &gateway, device, (query, page), request).await
}

/// Opens a presence socket for devices and services.
///
/// Messages have the form `{type, payload}` and are acknowledged.
#[utoipa::path(
    get, path = "/ws", operation_id = "devicesSocket", tag = "Sockets",
    params(
        SocketQuery,
        ("X-Device-ID" = Option<DeviceId>, Header,
            description = "ID of the device that opens the socket; preferred to the query."),
    ),
    responses((status = 101, description = "The connection is a WebSocket from here on.")),
    extensions(("x-errors" = json!([426]))),
)]
async fn devices_socket(
    State(sockets): State<Sockets>,
    State(gateway): State<Arc<GatewayPolicy>>,
    DeviceHeader(device): DeviceHeader,
    Query(query): Query<SocketQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    upgrade(DEVICES, sockets, &gateway, device, (query, PageQuery::default()), request).await
}

/// Opens a socket that receives the context of the user's other devices.
///
/// The socket opens without a valid token too and is then closed with code 4001. Also served at `/` of `WS_PORT`.
#[utoipa::path(
    get, path = "/api/v1/context/ws", operation_id = "contextSocket", tag = "Sockets",
    params(
        ("token" = Option<String>, Query, description = "Token of the user, for browsers, which cannot set headers on sockets."),
        ("device_id" = Option<DeviceId>, Query, description = "ID of the device that opens the socket."),
        ("X-Device-ID" = Option<DeviceId>, Header,
            description = "ID of the device that opens the socket; preferred to the query."),
    ),
    responses((status = 101, description = "The connection is a WebSocket from here on.")),
    extensions(("x-errors" = json!([426]))),
)]
async fn context_socket(
    State(sockets): State<Sockets>,
    State(gateway): State<Arc<GatewayPolicy>>,
    DeviceHeader(device): DeviceHeader,
    Query(query): Query<SocketQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    upgrade(CONTEXT, sockets, &gateway, device, (query, PageQuery::default()), request).await
}

/// Query parameters of a socket.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SocketQuery {
    /// Token of the user, for browsers, which cannot set headers on sockets.
    #[param(nullable = false)]
    token: Option<String>,
    /// IDs of users to follow besides the related ones, separated by commas (1 to 1,000).
    #[param(
        pattern = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(,[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}){0,999}$",
        nullable = false
    )]
    user_ids: Option<String>,
    /// ID of the device that opens the socket.
    #[serde(alias = "deviceId")]
    #[param(value_type = Option<DeviceId>, nullable = false)]
    device_id: Option<String>,
    /// Position of the last connection, to be sent only what changed since, or empty for the first one. With it, the server
    /// tells positions. An unknown or old position brings the full state.
    #[param(nullable = false)]
    resume: Option<String>,
}

impl SocketQuery {
    fn resume(&self) -> Resume {
        match self.resume.as_deref() {
            None => Resume::Never,
            // Of another version of the server, or of no server.
            Some(position) => position.parse().map_or(Resume::Later, Resume::From),
        }
    }
}

/// A page whose users a socket receives.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Receives only users whose `current_page` this is. A user who leaves the page is sent once more.
    #[serde(alias = "currentPage")]
    #[param(nullable = false)]
    current_page: Option<String>,
}

async fn upgrade(
    endpoint: Endpoint,
    Sockets { hub, shared }: Sockets,
    gateway: &GatewayPolicy,
    device: Option<DeviceId>,
    (query, page): (SocketQuery, PageQuery),
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
    // The other dialects have no frame for positions.
    let resume = if endpoint.dialect == Dialect::Presence { query.resume() } else { Resume::Never };
    let session = open_session(shared, caller, device, query, page, resume)?;
    Ok(Upgrade::from_parts(&mut parts)?.accept(&hub, options, session))
}

fn open_session(
    shared: PresenceServices,
    caller: Principal,
    device: Option<DeviceId>,
    query: SocketQuery,
    PageQuery { current_page }: PageQuery,
    resume: Resume,
) -> Result<PresenceSession, ApiError> {
    let follows = query.user_ids.as_deref().map(parse_user_ids).transpose()?.unwrap_or_default();
    // As pages are stored.
    let page = current_page.map(|page| sanitize(&page).into());
    let query_device = query.device_id.map(DeviceId::try_from).transpose();
    let query_device = query_device.map_err(|error| ApiError::invalid("device_id", error.to_string()))?;
    let device = device.or(query_device).unwrap_or_else(DeviceId::unnamed);
    Ok(PresenceSession::new(shared, caller, device, Interest { follows, page }, resume)?)
}

/// Streams presence changes as server-sent events.
///
/// The messages of `/api/presence/subscribe`, each as the `data` of an event, for clients and proxies without WebSocket:
/// `curl -N`, `EventSource`, edge runtimes. As with a socket, the device is online while the stream is open. The first
/// event is named `open`; then `initial_state` and the changes follow without a name. The last event of a stream that the
/// server ends is named `close` and has `code` and `reason`. Positions are the IDs of events: a reconnect with
/// `Last-Event-ID` gets only what changed, and its `initial_state` says `"resumed": true`. Changes are sent over the other
/// routes, with the same device ID.
#[utoipa::path(
    get, path = "/api/presence/events", operation_id = "presenceEvents", tag = "Sockets",
    params(
        SocketQuery,
        PageQuery,
        ("X-Device-ID" = Option<DeviceId>, Header,
            description = "ID of the device that opens the stream; preferred to the query."),
        ("Last-Event-ID" = Option<String>, Header,
            description = "ID of the last event, as browsers send it; preferred to `resume`."),
    ),
    responses((status = 200, description = "A stream of events that ends when the client disconnects.",
        content((String = "text/event-stream")))),
)]
async fn presence_events(
    State(Sockets { hub, shared }): State<Sockets>,
    State(gateway): State<Arc<GatewayPolicy>>,
    DeviceHeader(device): DeviceHeader,
    Query(query): Query<SocketQuery>,
    Query(page): Query<PageQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let caller = authenticate(&parts, &shared.verifier, &gateway, query.token.as_deref()).await?;
    caller.require_user()?;
    let last = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let resume = match (last, query.resume()) {
        (Some(position), _) => Resume::From(position),
        (None, Resume::Never) => Resume::Later,
        (None, resume) => resume,
    };
    let session = Listening(open_session(shared, caller, device, query, page, resume)?);
    respond_with_events(&mut parts, &hub, Dialect::PresenceEvents.into(), session)
        .map_err(|error| ApiError::unavailable(error.to_string()))
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
