//! User IDs in requests; response of routes without other content.

use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type},
};

use super::{ApiError, FieldError, Json};
use crate::model::UserId;

/// Maximum number of IDs in one request.
pub(super) const MAX_IDS: usize = 1_000;

/// Parses a comma-separated list. The error names every invalid ID.
pub(super) fn parse_user_ids(list: &str) -> Result<Vec<UserId>, ApiError> {
    let ids: Vec<&str> = list.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if ids.is_empty() || ids.len() > MAX_IDS {
        return Err(ApiError::invalid("user_ids", format!("must have 1 to {MAX_IDS} user IDs")));
    }
    let (mut users, mut errors) = (Vec::with_capacity(ids.len()), Vec::new());
    for (index, id) in ids.into_iter().enumerate() {
        match id.parse() {
            Ok(user) => users.push(user),
            Err(_) => errors.push(FieldError::new(format!("user_ids[{index}]"), "must be a UUID")),
        }
    }
    if errors.is_empty() { Ok(users) } else { Err(ApiError::invalid_fields(errors)) }
}

/// Bodies that name one user.
#[derive(Deserialize, Validate, ToSchema)]
#[garde(allow_unvalidated)]
pub(super) struct UserIdBody {
    /// ID of the other user (UUID). It must not be the caller's own.
    #[serde(alias = "userId")]
    pub(super) user_id: UserId,
}

/// Rejects a relation of a user with itself.
pub(super) fn reject_self(me: UserId, other: UserId, field: &'static str) -> Result<(), ApiError> {
    if me == other { Err(ApiError::invalid(field, "must not be your own user ID")) } else { Ok(()) }
}

/// Schema of `success` in responses without an error.
pub(super) fn always_true() -> Object {
    constant(true, "Always `true` in this response.")
}

/// Schema of `success` in errors.
pub(super) fn always_false() -> Object {
    constant(false, "Always `false` in an error.")
}

fn constant(value: bool, description: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([value]))
        .description(Some(description))
        .build()
}

/// Response of a request that returns nothing else.
#[derive(Serialize, ToSchema)]
pub(super) struct Success {
    /// Always `true` in this response.
    #[schema(schema_with = always_true)]
    success: bool,
}

impl Success {
    pub(super) fn response() -> Json<Self> {
        Json(Self { success: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invalid_id_is_reported() {
        let (a, b) = (UserId::random(), UserId::random());
        assert_eq!(parse_user_ids(&format!("{a}, {b},")).expect("are ids"), [a, b]);
        let Err(ApiError::InvalidRequest { details, .. }) = parse_user_ids(&format!("x,{a},y")) else {
            panic!("is rejected")
        };
        assert_eq!(
            details.iter().map(|error| &*error.field).collect::<Vec<_>>(),
            ["user_ids[0]", "user_ids[2]"]
        );
        for list in ["", ",", &vec![a.to_string(); MAX_IDS + 1].join(",")] {
            assert!(matches!(parse_user_ids(list), Err(ApiError::InvalidRequest { .. })));
        }
    }
}
