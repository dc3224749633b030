//! Routes for privacy settings and the visibility list.

use std::collections::BTreeSet;

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError, HttpState, Json, Path, ValidJson,
    field_errors::given,
    ids::{MAX_IDS, Success, reject_self},
    on_behalf_of::{OnBehalfOf, RateLimitedWrite, UserIdQuery},
};
use crate::{
    model::{Settings, SettingsUpdate, UserId, Visibility},
    pg::{Database, queries::settings},
};

/// Routes `/api/presence/settings` and `/api/presence/visibility`.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(read, replace, update))
        .routes(routes!(list, replace_list))
        .routes(routes!(add_to_list, remove_from_list))
}

/// Settings to save. All fields are optional.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
pub(super) struct SettingsBody {
    /// Who may see the user. Any other value is answered with 422.
    visibility: Option<Visibility>,
    /// Whether viewers see when the user was last seen.
    #[serde(alias = "showLastSeen")]
    show_last_seen: Option<bool>,
    /// Whether viewers see the user's activity and page.
    #[serde(alias = "showActivity")]
    show_activity: Option<bool>,
    /// Whether viewers see the custom status.
    #[serde(alias = "showCustomStatus")]
    show_custom_status: Option<bool>,
    /// Whether participants of a conversation see the user's typing.
    #[serde(alias = "showTyping")]
    show_typing: Option<bool>,
}

/// Settings to change. Absent fields are kept.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
pub(super) struct SettingsChanges {
    /// Who may see the user. Any other value is answered with 422.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    visibility: Option<Visibility>,
    /// Whether viewers see when the user was last seen.
    #[serde(default, deserialize_with = "given", alias = "showLastSeen")]
    #[schema(nullable = false)]
    show_last_seen: Option<bool>,
    /// Whether viewers see the user's activity and page.
    #[serde(default, deserialize_with = "given", alias = "showActivity")]
    #[schema(nullable = false)]
    show_activity: Option<bool>,
    /// Whether viewers see the custom status.
    #[serde(default, deserialize_with = "given", alias = "showCustomStatus")]
    #[schema(nullable = false)]
    show_custom_status: Option<bool>,
    /// Whether participants of a conversation see the user's typing.
    #[serde(default, deserialize_with = "given", alias = "showTyping")]
    #[schema(nullable = false)]
    show_typing: Option<bool>,
}

impl From<SettingsChanges> for SettingsUpdate {
    fn from(body: SettingsChanges) -> Self {
        Self {
            visibility: body.visibility,
            show_last_seen: body.show_last_seen,
            show_activity: body.show_activity,
            show_custom_status: body.show_custom_status,
            show_typing: body.show_typing,
        }
    }
}

impl From<SettingsBody> for SettingsUpdate {
    fn from(body: SettingsBody) -> Self {
        Self {
            visibility: body.visibility,
            show_last_seen: body.show_last_seen,
            show_activity: body.show_activity,
            show_custom_status: body.show_custom_status,
            show_typing: body.show_typing,
        }
    }
}

/// Returns the caller's settings.
#[utoipa::path(
    get, path = "/api/presence/settings", operation_id = "settings", tag = "Sharing", params(UserIdQuery),
    responses((status = 200, description = "Settings of the caller.", body = Settings, example = json!({
        "visibility": "contacts", "show_last_seen": true, "show_activity": true, "show_custom_status": true,
        "show_typing": true,
    }))),
)]
async fn read(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(settings::get(&database, &caller).await?))
}

/// Replaces the caller's settings.
///
/// Absent fields get their default.
#[utoipa::path(
    put, path = "/api/presence/settings", operation_id = "replaceSettings", tag = "Sharing", params(UserIdQuery),
    request_body(content = SettingsBody, example = json!({ "visibility": "team" })),
    responses((status = 200, description = "The new settings of the caller.", body = Settings, example = json!({
        "visibility": "team", "show_last_seen": true, "show_activity": true, "show_custom_status": true,
        "show_typing": true,
    }))),
    extensions(("x-errors" = json!([422])), ("x-rate-limit" = json!("manage"))),
)]
async fn replace(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    ValidJson(body): ValidJson<SettingsBody>,
) -> Result<impl IntoResponse, ApiError> {
    Ok((allowance, Json(settings::save(&database, &caller, body.into(), true).await?)))
}

/// Changes some of the caller's settings.
///
/// Absent fields are kept.
#[utoipa::path(
    patch, path = "/api/presence/settings", operation_id = "changeSettings", tag = "Sharing", params(UserIdQuery),
    request_body(content = SettingsChanges, example = json!({ "show_last_seen": false })),
    responses((status = 200, description = "The new settings of the caller.", body = Settings, example = json!({
        "visibility": "team", "show_last_seen": false, "show_activity": true, "show_custom_status": true,
        "show_typing": true,
    }))),
    extensions(("x-errors" = json!([422])), ("x-rate-limit" = json!("manage"))),
)]
async fn update(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    ValidJson(body): ValidJson<SettingsChanges>,
) -> Result<impl IntoResponse, ApiError> {
    Ok((allowance, Json(settings::save(&database, &caller, body.into(), false).await?)))
}

/// The users on a visibility list.
#[derive(Serialize, ToSchema)]
struct VisibilityList {
    /// IDs of the users on the list.
    user_ids: Vec<UserId>,
}

/// A new visibility list.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct VisibilityListBody {
    /// IDs of the users on the list: at most 1,000, without the caller's own.
    #[serde(alias = "userIds")]
    #[garde(length(max = MAX_IDS))]
    #[schema(max_items = 1_000)]
    user_ids: Vec<UserId>,
}

/// Returns the caller's visibility list.
///
/// Users on the list see the real state of the caller, also while the caller is invisible.
#[utoipa::path(
    get, path = "/api/presence/visibility", operation_id = "visibilityList", tag = "Sharing", params(UserIdQuery),
    responses((status = 200, description = "The visibility list, in order of entry.", body = VisibilityList,
        example = json!({ "user_ids": [] }))),
)]
async fn list(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    let user_ids = settings::visibility_list(&database, &caller).await?;
    Ok(Json(VisibilityList { user_ids }))
}

/// Replaces the caller's visibility list.
#[utoipa::path(
    put, path = "/api/presence/visibility", operation_id = "replaceVisibilityList", tag = "Sharing",
    params(UserIdQuery),
    request_body(content = VisibilityListBody, example = json!({ "user_ids": [] })),
    responses((status = 200, description = "The new visibility list.", body = VisibilityList,
        example = json!({ "user_ids": [] }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn replace_list(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    ValidJson(VisibilityListBody { user_ids }): ValidJson<VisibilityListBody>,
) -> Result<impl IntoResponse, ApiError> {
    for target in &user_ids {
        reject_self(user, *target, "user_ids")?;
    }
    let user_ids: Vec<UserId> = BTreeSet::from_iter(user_ids).into_iter().collect();
    settings::replace_visibility_list(&database, &caller, &user_ids).await?;
    Ok((allowance, Json(VisibilityList { user_ids })))
}

/// Adds a user to the caller's visibility list.
///
/// Users on the list see the real state of the caller, also while the caller is invisible.
#[utoipa::path(
    post, path = "/api/presence/visibility/{user_id}", operation_id = "enlist", tag = "Sharing",
    params(("user_id" = UserId, Path, description = "ID of the other user (UUID).", example = "a0000000-0000-4000-8000-000000000003"), UserIdQuery),
    responses(
        (status = 201, description = "The user was added to the list.", body = Success,
        example = json!({ "success": true })),
        (status = 200, description = "The user was already on the list.", body = Success,
        example = json!({ "success": true })),
    ),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn add_to_list(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    Path(target): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    reject_self(user, target, "user_id")?;
    let is_new = settings::add_to_visibility_list(&database, &caller, target).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, allowance, Success::response()))
}

/// Removes a user from the caller's visibility list.
///
/// Users on the list see the real state of the caller, also while the caller is invisible.
#[utoipa::path(
    delete, path = "/api/presence/visibility/{user_id}", operation_id = "unlist", tag = "Sharing",
    params(("user_id" = UserId, Path, description = "ID of the other user (UUID).", example = "a0000000-0000-4000-8000-000000000003"), UserIdQuery),
    responses((status = 200, description = "The user was removed from the list.", body = Success,
        example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove_from_list(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(target): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    let existed = settings::remove_from_visibility_list(&database, &caller, target).await?;
    if existed { Ok((allowance, Success::response())) } else { Err(ApiError::NotFound) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::extract::parse_valid_json, *};

    fn parse(body: &Value) -> Result<SettingsUpdate, &'static str> {
        let body = parse_valid_json::<SettingsBody>(body.to_string().as_bytes());
        body.map(Into::into).map_err(|error| error.code())
    }

    #[test]
    fn absent_fields_are_left_unchanged() {
        let update =
            parse(&json!({"visibility": "team", "showTyping": false, "show_activity": null, "colour": 7}));
        let expected = SettingsUpdate {
            visibility: Some(Visibility::Team),
            show_typing: Some(false),
            ..SettingsUpdate::default()
        };
        assert_eq!(update, Ok(expected));
        assert_eq!(parse(&json!({})), Ok(SettingsUpdate::default()));
    }

    #[test]
    fn unknown_visibility_is_unprocessable() {
        assert_eq!(parse(&json!({"visibility": "friends"})), Err("UNPROCESSABLE"));
        for body in [json!({"visibility": 1}), json!({"show_typing": "no"})] {
            assert_eq!(parse(&body), Err("INVALID_REQUEST"));
        }
    }
}
