//! Parses user IDs in requests; response of routes without other content.

use serde_json::{Map, Value, json};

use super::{ApiError, FieldError, Json};
use crate::{model::UserId, protocol::Fields};

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

/// Parses a list of `at_least` to [`MAX_IDS`] IDs in a body.
pub(super) fn user_ids_from_body(
    body: &Map<String, Value>,
    names: &[&'static str],
    at_least: usize,
) -> Result<Vec<UserId>, ApiError> {
    let mut fields = Fields::new(body, "");
    let users = fields.required_list::<UserId>(names, MAX_IDS);
    let users = fields.finish_plain(users)?;
    if users.len() < at_least {
        return Err(ApiError::invalid(names[0], format!("must have {at_least} to {MAX_IDS} user IDs")));
    }
    Ok(users)
}

/// Parses the user ID in a body.
pub(super) fn user_id_from_body(body: &Map<String, Value>) -> Result<UserId, ApiError> {
    let mut fields = Fields::new(body, "");
    let user = fields.required::<UserId>(&["user_id", "userId"]);
    Ok(fields.finish_plain(user)?)
}

/// Rejects a relation of a user with itself.
pub(super) fn reject_self(me: UserId, other: UserId, field: &'static str) -> Result<(), ApiError> {
    if me == other { Err(ApiError::invalid(field, "must not be your own user ID")) } else { Ok(()) }
}

/// The response `{"success": true}`.
pub(super) fn success() -> Json<Value> {
    Json(json!({ "success": true }))
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

    #[test]
    fn body_list_length_is_bounded() {
        let body = |count: usize| json!({ "user_ids": vec![UserId::random(); count] });
        let read = |count, at_least| {
            user_ids_from_body(body(count).as_object().expect("an object"), &["user_ids"], at_least)
                .map(|ids| ids.len())
        };
        assert_eq!(read(0, 0).expect("may be empty"), 0);
        assert_eq!(read(MAX_IDS, 1).expect("fits"), MAX_IDS);
        assert!(read(0, 1).is_err() && read(MAX_IDS + 1, 1).is_err());
    }
}
