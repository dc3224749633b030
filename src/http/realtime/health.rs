//! Ping and health routes that operators of Supabase Realtime use.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::channel_auth::with_rate_headers;
use crate::{http::system::System, session::channels::Services};

pub(super) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<Services>: FromRef<S>,
    Arc<System>: FromRef<S>,
{
    Router::new()
        .route("/api/ping", get(ping))
        .route("/realtime/v1/api/ping", get(ping))
        .route("/api/tenants/{id}/health", get(tenant_health))
}

async fn ping(State(services): State<Arc<Services>>) -> Response {
    with_rate_headers(axum::Json(json!({"message": "Success"})).into_response(), &services.limits)
}

/// Health check of Supabase's compose files. The server has one tenant; its name is ignored.
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
    let data = json!({
        "healthy": database,
        "db_connected": database,
        "replication_connected": services.messages.is_connected(),
        "connected_cluster": services.limits.connection_count(),
        "region": null,
        "node": null,
    });
    axum::Json(json!({ "data": data })).into_response()
}
