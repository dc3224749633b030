//! Extractors for body, query string and path. Rejections use the error envelope and name the field.

use std::error::Error as _;

use axum::{
    extract::{
        FromRequest, FromRequestParts, Request,
        path::ErrorKind,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};
use garde::Validate;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use utoipa::PartialSchema;

use super::{
    ApiError, FieldError, body,
    field_errors::{self, field_path, truncate},
    strict::Strict,
};

/// Maximum nesting of lists and objects in a body; the parser has the same limit.
const MAX_DEPTH: usize = 128;

/// A JSON body, limited by the route's [`body::BodyLimit`]. Unknown fields are ignored. Also a response.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

/// A [`Json`] body that passed its `garde` validation. Errors report every invalid field of the body.
#[derive(Debug, Clone, Copy, Default)]
pub struct ValidJson<T>(pub T);

/// As [`ValidJson`] for a body that may be absent, whatever its content type: then all fields have their defaults.
#[derive(Debug, Clone, Copy, Default)]
pub struct OptionalJson<T>(pub T);

#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let bytes = body::read(request).await?;
        parse_json(&bytes).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T, S> FromRequest<S> for ValidJson<T>
where
    T: DeserializeOwned + Validate<Context = ()> + PartialSchema,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let bytes = body::read(request).await?;
        parse_valid_json(&bytes).map(Self)
    }
}

impl<T, S> FromRequest<S> for OptionalJson<T>
where
    T: DeserializeOwned + Validate<Context = ()> + PartialSchema + Default,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let bytes = body::read(request).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        parse_valid_json(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(ApiError::bad_request("the query string contains a NUL character"));
        }
        let axum::extract::Query(value) = axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map_err(|rejection| query_error(&rejection))?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        if parts.uri.path().contains("%00") {
            return Err(ApiError::bad_request("the path contains a NUL character"));
        }
        let axum::extract::Path(value) =
            axum::extract::Path::<T>::from_request_parts(parts, state).await.map_err(path_error)?;
        Ok(Self(value))
    }
}

/// Accepts `application/json` and types with the suffix `+json`, such as `application/problem+json`.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    subtype == "json" || subtype.ends_with("+json")
}

/// Parses JSON from a client.
///
/// # Errors
/// [`ApiError::InvalidRequest`] for invalid JSON (also for text that is not UTF-8, is nested deeper than 128
/// levels, or contains U+0000, which PostgreSQL cannot store) and for a field of the wrong type;
/// [`ApiError::Unprocessable`] for an unknown enum value.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    check_text(bytes)?;
    deserialize(bytes)
}

/// Parses and validates a JSON object from a client.
///
/// # Errors
/// As [`parse_json`], with every invalid field of the object.
pub fn parse_valid_json<T>(bytes: &[u8]) -> Result<T, ApiError>
where
    T: DeserializeOwned + Validate<Context = ()> + PartialSchema,
{
    check_text(bytes)?;
    let first_error = match deserialize::<T>(bytes) {
        Ok(value) if value.validate().is_ok() => return Ok(value),
        Ok(_) => ApiError::bad_request("the body is invalid"),
        Err(error) => error,
    };
    // The body is read again only to report all of its errors.
    match serde_json::from_slice(bytes) {
        Ok(object) => Err(field_errors::collect::<T>(object).unwrap_or(first_error)),
        Err(_) => Err(first_error),
    }
}

fn check_text(bytes: &[u8]) -> Result<(), ApiError> {
    // Checked first, because the parser does not look into skipped fields.
    if simdutf8::basic::from_utf8(bytes).is_err() {
        return Err(ApiError::bad_request("the body is not valid UTF-8"));
    }
    if contains_escaped_nul(bytes) {
        return Err(ApiError::bad_request(
            "the body contains a NUL character (\\u0000), which cannot be stored",
        ));
    }
    // serde would deserialize an array into a struct, field by field.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte == b'[') {
        return Err(ApiError::invalid("", "must be an object"));
    }
    Ok(())
}

fn deserialize<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Strict(&mut json)).map_err(|error| {
        let field = error.path().to_string();
        json_error(&field, error.inner())
    })?;
    json.end().map_err(|error| json_error("", &error))?;
    // The parser has its own limit for values that it reads, and none for those that it skips.
    if nesting_depth(bytes) > MAX_DEPTH {
        return Err(ApiError::bad_request(format!("the body is nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(value)
}

fn json_error(field: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    let field = if field == "." { "" } else { field };
    match error.classify() {
        Category::Data => {
            // The field locates the error, so the line and column are dropped.
            let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
            let path = field_path(field, message);
            let reason = field_errors::describe(message);
            if field_errors::is_unknown_value(message) {
                ApiError::unprocessable(path, reason)
            } else {
                ApiError::invalid(path, reason)
            }
        }
        Category::Eof if text.starts_with("EOF while parsing a value at line 1 column 0") => {
            ApiError::bad_request("the body is empty; send JSON")
        }
        Category::Syntax | Category::Eof | Category::Io => {
            ApiError::bad_request(format!("the body is not valid JSON: {}", truncate(&text)))
        }
    }
}

/// The deepest nesting of lists and objects in valid JSON text.
fn nesting_depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string) = (0_usize, 0, false);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether JSON text contains `\u0000`. In JSON, backslashes occur only in strings, in pairs or before a
/// letter.
fn contains_escaped_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

fn query_error(rejection: &QueryRejection) -> ApiError {
    type Located = serde_path_to_error::Error<serde::de::value::Error>;
    let mut source = rejection.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<Located>() {
            let message = error.inner().to_string();
            let message = truncate(&message);
            let field = field_path(&error.path().to_string(), &message);
            return ApiError::invalid(field, message.as_ref());
        }
        source = error.source();
    }
    ApiError::bad_request("the query string is malformed")
}

fn path_error(rejection: PathRejection) -> ApiError {
    let PathRejection::FailedToDeserializePathParams(failed) = rejection else {
        return ApiError::Internal(
            anyhow::Error::new(rejection).context("a route without its path parameters"),
        );
    };
    match failed.into_kind() {
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
            ApiError::invalid(key, format!("must be a valid {expected_type}"))
        }
        ErrorKind::InvalidUtf8InPathParam { key } => ApiError::invalid(key, "must be valid UTF-8"),
        ErrorKind::DeserializeError { key, message, .. } => ApiError::invalid(key, truncate(&message)),
        ErrorKind::ParseError { .. } | ErrorKind::ParseErrorAtIndex { .. } | ErrorKind::Message(_) => {
            ApiError::bad_request("a path parameter is invalid")
        }
        // The route does not match its handler.
        other => ApiError::Internal(anyhow::anyhow!("path parameters: {other}")),
    }
}

/// For handlers that validate a field themselves.
impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::invalid_fields(vec![error])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_nul_is_detected() {
        for (json, expected) in [
            (r#"{"a":"\u0000"}"#, true),
            (r#"{"a":"x\\\u0000"}"#, true),
            (r#"{"a":"\\u0000"}"#, false),
            (r#"{"a":"\u00001"}"#, true),
            (r#"{"a":"\u0001"}"#, false),
            (r"\", false),
            (r"\u", false),
            ("", false),
        ] {
            assert_eq!(contains_escaped_nul(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn nesting_is_counted_outside_strings() {
        for (json, expected) in
            [("7", 0), ("{}", 1), (r#"{"a":[[1],[2]],"b":{}}"#, 3), (r#"{"[[[[":"{{{\"[[","b":"\\"}"#, 1)]
        {
            assert_eq!(nesting_depth(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn json_content_types_are_recognized() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.api+json", true),
            ("text/plain", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().expect("is a value"))]);
            assert_eq!(is_json(&headers), expected, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
