//! Ping and health routes that operators of Supabase Realtime use.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channel_auth::{RealtimeMessage, with_rate_headers};
use crate::{
    http::{HttpState, alias::Alias, system::System},
    session::channels::Services,
};

const PING_WITHOUT_PREFIX: Alias = Alias {
    of: "/realtime/v1/api/ping",
    path: "/api/ping",
    operation_id: "pingWithoutPrefix",
    description: "Same as `/realtime/v1/api/ping`, without the prefix of the gateway.",
};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    let router = PING_WITHOUT_PREFIX.add_to(OpenApiRouter::default().routes(routes!(ping)), get(ping));
    router.routes(routes!(tenant_health))
}

/// Answers while the server of the channels runs.
#[utoipa::path(
    get, path = "/realtime/v1/api/ping", operation_id = "ping", tag = "Realtime",
    responses((status = 200, description = "The server of the channels runs.", body = RealtimeMessage,
        example = json!({ "message": "Success" }))),
    extensions(("x-access" = json!("open"))),
)]
async fn ping(State(services): State<Arc<Services>>) -> Response {
    with_rate_headers(axum::Json(RealtimeMessage::new("Success")).into_response(), &services.limits)
}

/// Health of the channels.
#[derive(Serialize, ToSchema)]
struct TenantHealth {
    /// Health of the only tenant.
    data: TenantHealthData,
}

/// Health of a tenant.
#[derive(Serialize, ToSchema)]
struct TenantHealthData {
    /// Whether the channels work in full.
    healthy: bool,
    /// Whether the database is available.
    db_connected: bool,
    /// Whether broadcasts from the database arrive.
    replication_connected: bool,
    /// Number of channel sockets of this node.
    connected_cluster: u32,
    /// Always `null` in this server.
    #[schema(required)]
    region: Option<String>,
    /// Always `null` in this server.
    #[schema(required)]
    node: Option<String>,
}

/// Returns the health of the channels.
///
/// The health check of Supabase's compose files. The server has one tenant; its name is ignored.
#[utoipa::path(
    get, path = "/api/tenants/{id}/health", operation_id = "tenantHealth", tag = "Realtime",
    params(("id" = String, Path, description = "Name of the tenant, which is ignored.", example = "realtime-dev")),
    responses((status = 200, description = "Health of the channels.", body = TenantHealth, example = json!({
        "data": {
            "healthy": true, "db_connected": true, "replication_connected": true, "connected_cluster": 3,
            "region": null, "node": null,
        },
    }))),
)]
async fn tenant_health(
    State(services): State<Arc<Services>>,
    State(system): State<Arc<System>>,
    headers: HeaderMap,
) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.trim().split_once(' ')).map(|(_, token)| token.trim());
    let is_valid = match token {
        Some(token) => services.verifier.verify_channel_token(token).await.is_ok(),
        None => false,
    };
    if !is_valid {
        return StatusCode::FORBIDDEN.into_response();
    }
    let database = system.is_healthy("database").await;
    let data = TenantHealthData {
        healthy: database,
        db_connected: database,
        replication_connected: services.messages.is_connected(),
        connected_cluster: services.limits.connection_count(),
        region: None,
        node: None,
    };
    axum::Json(TenantHealth { data }).into_response()
}
