//! What is known about a user: memories, instructions, personas, notebooks, units, topics, entities, messages, and
//! search. Every statement runs as the caller, so that row-level security decides.

mod entities;
mod instructions;
mod memories;
mod messages;
mod notebooks;
mod personas;
mod search;
mod settings;
mod topics;
mod units;
mod usage;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::{
    ApiError, Authenticated, HttpState, Json, Query,
    context::context_user::authorize_and_count,
    ids::Success,
    on_behalf_of::OnBehalfOf,
    page::{self, DEFAULT_ROWS},
};
use crate::{
    auth::Principal,
    context::store::library::{self, Row},
    limits::{Allowance, LimitClass},
    model::UserId,
};

/// Routes for what is known about a user, under `/api/v1`.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .merge(memories::routes())
        .merge(settings::routes())
        .merge(instructions::routes())
        .merge(personas::routes())
        .merge(notebooks::routes())
        .merge(units::routes())
        .merge(topics::routes())
        .merge(entities::routes())
        .merge(messages::routes())
        .merge(search::routes())
        .merge(usage::routes())
}

/// The user that a request acts for.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct UserQuery {
    /// ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`.
    #[serde(alias = "user_id")]
    #[param(nullable = false)]
    user_id: Option<UserId>,
}

/// The user in the query and the principal that the SQL runs as. Counts against [`LimitClass::Manage`].
struct LibraryCaller {
    caller: Principal,
    user: UserId,
    allowance: Option<Allowance>,
}

impl FromRequestParts<HttpState> for LibraryCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Self::Rejection> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let Query(UserQuery { user_id }) = Query::from_request_parts(parts, state).await?;
        let (OnBehalfOf { caller, user }, allowance) =
            authorize_and_count(state, caller, user_id, LimitClass::Manage)?;
        Ok(Self { caller, user, allowance })
    }
}

/// The part of a list to return.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Maximum number of rows: 1 to 200, by default 50.
    #[param(nullable = false, minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Value of `nextCursor` of the page before.
    #[param(nullable = false, max_length = 64)]
    cursor: Option<String>,
}

impl PageQuery {
    fn limit(&self) -> Result<i32, ApiError> {
        checked_limit(self.limit, DEFAULT_ROWS.into())
    }

    /// Time and ID of the last row of the page before.
    fn after(&self) -> Result<Option<(Timestamp, Uuid)>, ApiError> {
        let parse = |text: &str| {
            let (at, id) = text.split_once('_')?;
            Some((Timestamp::from_microsecond(at.parse().ok()?).ok()?, id.parse().ok()?))
        };
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let after = parse(cursor).filter(|(at, _)| at.as_second() > -60_000_000_000);
        after.map(Some).ok_or_else(|| ApiError::invalid("cursor", "must be the nextCursor of a page"))
    }
}

fn checked_limit(limit: Option<u32>, default: u32) -> Result<i32, ApiError> {
    Ok(page::checked_limit(limit, default)?.try_into().expect("the maximum is an i32"))
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    /// Rows of the page.
    data: Vec<T>,
    /// Cursor of the next page; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A row with the statements that read and write it.
trait Stored: Serialize + DeserializeOwned {
    /// Parameters: time and ID of the last row before, maximum number, filters as JSON.
    const LIST: &'static str;
    /// Parameter: the body as JSON. Empty if the server alone creates rows.
    const CREATE: &'static str;
    /// Parameters: ID, the body as JSON.
    const UPDATE: &'static str;
    /// Parameter: the ID of the row.
    const DELETE: &'static str;
}

async fn list<T: Stored>(
    state: &HttpState,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
    page: &PageQuery,
    filters: &(impl Serialize + Sync),
) -> Result<Response, ApiError> {
    let (limit, after) = (page.limit()?, page.after()?);
    // One more tells whether there is a next page.
    let rows = library::list::<T>(&state.database, &caller, T::LIST, after, limit + 1, filters).await?;
    Ok((allowance, Json(page_of(rows, limit))).into_response())
}

fn page_of<T>(mut rows: Vec<Row<T>>, limit: i32) -> Page<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let cursor = |row: &Row<T>| format!("{}_{}", row.at.as_microsecond(), row.id);
    let next_cursor = page::cut(&mut rows, limit, cursor);
    Page { data: rows.into_iter().map(|row| row.item).collect(), next_cursor }
}

async fn create<T: Stored>(
    state: &HttpState,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
    body: &(impl Serialize + Sync),
) -> Result<Response, ApiError> {
    let created: T = library::create(&state.database, &caller, T::CREATE, body).await?;
    Ok((StatusCode::CREATED, allowance, Json(created)).into_response())
}

async fn update<T: Stored>(
    state: &HttpState,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
    id: Uuid,
    body: &(impl Serialize + Sync),
) -> Result<Response, ApiError> {
    let changed: Option<T> = library::update(&state.database, &caller, T::UPDATE, id, body).await?;
    Ok((allowance, Json(changed.ok_or(ApiError::NotFound)?)).into_response())
}

async fn remove<T: Stored>(
    state: &HttpState,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
    id: Uuid,
) -> Result<Response, ApiError> {
    if library::delete(&state.database, &caller, T::DELETE, id).await? {
        Ok((allowance, Success::response()).into_response())
    } else {
        Err(ApiError::NotFound)
    }
}
