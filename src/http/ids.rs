//! User ids in requests, and the answer of routes that have nothing else to say.

use serde_json::{Map, Value, json};

use super::{ApiError, FieldError, Json};
use crate::{model::UserId, protocol::Fields};

/// Ids in one request.
pub(super) const MAX_IDS: usize = 1_000;

/// Reads `a,b,c`. Every id that is none is named in the complaint.
pub(super) fn parse_user_ids(list: &str) -> Result<Vec<UserId>, ApiError> {
    let ids: Vec<&str> = list.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if ids.is_empty() || ids.len() > MAX_IDS {
        return Err(ApiError::invalid("user_ids", format!("must name 1 to {MAX_IDS} users")));
    }
    let (mut users, mut wrong) = (Vec::with_capacity(ids.len()), Vec::new());
    for (place, id) in ids.into_iter().enumerate() {
        match id.parse() {
            Ok(user) => users.push(user),
            Err(_) => wrong.push(FieldError::new(format!("user_ids[{place}]"), "is not a UUID")),
        }
    }
    if wrong.is_empty() { Ok(users) } else { Err(ApiError::invalid_fields(wrong)) }
}

/// Reads a body's list of `at_least` to [`MOST_IDS`] ids.
pub(super) fn user_ids_from_body(
    body: &Map<String, Value>,
    names: &[&'static str],
    at_least: usize,
) -> Result<Vec<UserId>, ApiError> {
    let mut fields = Fields::new(body, "");
    let users = fields.required_list::<UserId>(names, MAX_IDS);
    let users = fields.finish_plain(users)?;
    if users.len() < at_least {
        return Err(ApiError::invalid(names[0], format!("must name {at_least} to {MAX_IDS} users")));
    }
    Ok(users)
}

/// Reads a body that names one user.
pub(super) fn user_id_from_body(body: &Map<String, Value>) -> Result<UserId, ApiError> {
    let mut fields = Fields::new(body, "");
    let user = fields.required::<UserId>(&["user_id", "userId"]);
    Ok(fields.finish_plain(user)?)
}

/// Refuses a relation to oneself.
pub(super) fn reject_self(me: UserId, other: UserId, field: &'static str) -> Result<(), ApiError> {
    if me == other { Err(ApiError::invalid(field, "must not be the user's own id")) } else { Ok(()) }
}

/// `{"success": true}`.
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
            panic!("refused")
        };
        assert_eq!(
            details.iter().map(|error| &*error.field).collect::<Vec<_>>(),
            ["user_ids[0]", "user_ids[2]"]
        );
        for wrong in ["", ",", &vec![a.to_string(); MAX_IDS + 1].join(",")] {
            assert!(matches!(parse_user_ids(wrong), Err(ApiError::InvalidRequest { .. })));
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
