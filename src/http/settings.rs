//! Routes for privacy settings and the visibility list.

use std::collections::BTreeSet;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Map, Value, json};

use super::{
    ApiError, HttpState, Json, Path,
    ids::{reject_self, success, user_ids_from_body},
    on_behalf_of::{OnBehalfOf, RateLimitedWrite},
};
use crate::{
    model::{SettingsUpdate, UserId},
    pg::{Database, queries::settings},
    protocol::{Fields, WireError},
};

/// Routes `/api/presence/settings` and `/api/presence/visibility`.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/presence/settings", get(read).put(replace).patch(update))
        .route("/api/presence/visibility", get(list).put(replace_list))
        .route("/api/presence/visibility/{user_id}", post(add_to_list).delete(remove_from_list))
}

async fn read(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(settings::get(&database, &caller).await?))
}

/// Replaces the settings: absent fields get their default.
async fn replace(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let update = settings_update(&body)?;
    Ok((allowance, Json(settings::save(&database, &caller, update, true).await?)))
}

/// Updates the settings: absent fields are kept.
async fn update(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let update = settings_update(&body)?;
    Ok((allowance, Json(settings::save(&database, &caller, update, false).await?)))
}

fn settings_update(body: &Map<String, Value>) -> Result<SettingsUpdate, WireError> {
    let mut fields = Fields::new(body, "");
    let update = SettingsUpdate {
        visibility: fields.optional_enum(&["visibility"]),
        show_last_seen: fields.optional_bool(&["show_last_seen", "showLastSeen"]),
        show_activity: fields.optional_bool(&["show_activity", "showActivity"]),
        show_custom_status: fields.optional_bool(&["show_custom_status", "showCustomStatus"]),
        show_typing: fields.optional_bool(&["show_typing", "showTyping"]),
    };
    fields.finish_plain(Some(update))
}

async fn list(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(json!({ "user_ids": settings::visibility_list(&database, &caller).await? })))
}

async fn replace_list(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let users = user_ids_from_body(&body, &["user_ids", "userIds"], 0)?;
    for target in &users {
        reject_self(user, *target, "user_ids")?;
    }
    let users: Vec<UserId> = BTreeSet::from_iter(users).into_iter().collect();
    settings::replace_visibility_list(&database, &caller, &users).await?;
    Ok((allowance, Json(json!({ "user_ids": users }))))
}

async fn add_to_list(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    Path(target): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    reject_self(user, target, "user_id")?;
    let is_new = settings::add_to_visibility_list(&database, &caller, target).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, allowance, success()))
}

async fn remove_from_list(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(target): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    let existed = settings::remove_from_visibility_list(&database, &caller, target).await?;
    if existed { Ok((allowance, success())) } else { Err(ApiError::NotFound) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Visibility, protocol::ErrorCode};

    fn parse(body: Value) -> Result<SettingsUpdate, WireError> {
        settings_update(body.as_object().expect("an object"))
    }

    #[test]
    fn absent_fields_are_left_unchanged() {
        let update =
            parse(json!({"visibility": "team", "showTyping": false, "show_activity": null, "colour": 7}));
        let expected = SettingsUpdate {
            visibility: Some(Visibility::Team),
            show_typing: Some(false),
            ..SettingsUpdate::default()
        };
        assert_eq!(update, Ok(expected));
        assert_eq!(parse(json!({})), Ok(SettingsUpdate::default()));
    }

    #[test]
    fn unknown_visibility_is_unprocessable() {
        assert_eq!(
            parse(json!({"visibility": "friends"})).expect_err("unknown").code,
            ErrorCode::Unprocessable
        );
        for body in [json!({"visibility": 1}), json!({"show_typing": "no"})] {
            assert_eq!(parse(body).expect_err("of the wrong type").code, ErrorCode::InvalidRequest);
        }
    }
}
