//! Extractors for what a request says. Each refuses in the envelope, and names the field.

use std::{borrow::Cow, error::Error as _};

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

use super::{ApiError, FieldError, body};

/// The most of a parser's message that is told, in characters: it may quote the input.
const MAX_MESSAGE_CHARS: usize = 200;

/// A JSON body, no longer than the route's [`body::BodyLimit`]. Unknown fields are ignored. Also a response.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

/// A [`Json`] body that has passed its own validation.
#[derive(Debug, Clone, Copy, Default)]
pub struct ValidJson<T>(pub T);

/// The query string.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

/// The parameters in the path.
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
    T: DeserializeOwned + Validate<Context = ()>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let Json(value) = Json::<T>::from_request(request, state).await?;
        value.validate()?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(ApiError::bad_request("the query string holds a NUL character"));
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
            return Err(ApiError::bad_request("the path holds a NUL character"));
        }
        let axum::extract::Path(value) =
            axum::extract::Path::<T>::from_request_parts(parts, state).await.map_err(path_error)?;
        Ok(Self(value))
    }
}

/// `application/json`, or a type built on it, as `application/problem+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    subtype == "json" || subtype.ends_with("+json")
}

/// Reads JSON that came from outside.
///
/// # Errors
/// [`ApiError::InvalidRequest`] for what is no JSON (also: not UTF-8, nested deeper than 128 levels, or holding
/// U+0000, which Postgres cannot store) and for a field of the wrong type; [`ApiError::Unprocessable`] for a field
/// whose value is not one of an enum's.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Up front, because the parser does not look into the fields that it skips.
    if simdutf8::basic::from_utf8(bytes).is_err() {
        return Err(ApiError::bad_request("the body is not valid UTF-8"));
    }
    if contains_escaped_nul(bytes) {
        return Err(ApiError::bad_request(
            "the body holds a NUL character (\\u0000), which cannot be stored",
        ));
    }
    // serde would read an array into a struct, field by field.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte == b'[') {
        return Err(ApiError::invalid("", "must be an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        json_error(bytes, &field, error.inner())
    })?;
    json.end().map_err(|error| json_error(bytes, "", &error))?;
    Ok(value)
}

fn json_error(bytes: &[u8], field: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    let field = if field == "." { "" } else { field };
    match error.classify() {
        Category::Data => {
            // Where it happened is said by the field; a line and column of one's own JSON help nobody.
            let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
            let message = truncate(message);
            // Serde says so for enums in its own words, and gives it no kind of its own.
            if message.starts_with("unknown variant") {
                ApiError::unprocessable(field, message)
            } else {
                ApiError::invalid(field_path(field, &message), message.as_ref())
            }
        }
        Category::Eof if text.starts_with("EOF while parsing a value at line 1 column 0") => {
            ApiError::bad_request("the body is empty, and should be JSON")
        }
        // A list where an enum should be is a syntax error to the parser, although the text is good JSON.
        Category::Syntax if text.starts_with("expected value") && is_well_formed(bytes) => {
            ApiError::invalid(field, "is of the wrong type")
        }
        Category::Syntax | Category::Eof | Category::Io => {
            ApiError::bad_request(format!("the body is not valid JSON: {}", truncate(&text)))
        }
    }
}

fn is_well_formed(json: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok()
}

/// The field that is meant. "missing field `name`" and "duplicate field `name`" are reported against the object
/// around it.
fn field_path(path: &str, message: &str) -> String {
    let path = if path == "." { "" } else { path };
    let named = message.strip_prefix("missing field `").or_else(|| message.strip_prefix("duplicate field `"));
    match named.and_then(|name| name.strip_suffix('`')) {
        Some(name) if path.is_empty() => name.to_owned(),
        // The parser had read the second of two when it saw that it was one too many.
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path.to_owned(),
    }
}

fn truncate(message: &str) -> Cow<'_, str> {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]).into(),
        None => message.into(),
    }
}

/// Whether JSON text holds `\u0000`. Backslashes stand in strings alone and come in pairs or before a letter.
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
    ApiError::bad_request("the query string cannot be read")
}

fn path_error(rejection: PathRejection) -> ApiError {
    let PathRejection::FailedToDeserializePathParams(failed) = rejection else {
        return ApiError::Internal(
            anyhow::Error::new(rejection).context("a route without its path parameters"),
        );
    };
    match failed.into_kind() {
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => {
            ApiError::invalid(key, format!("is not a valid {expected_type}"))
        }
        ErrorKind::InvalidUtf8InPathParam { key } => ApiError::invalid(key, "is not valid UTF-8"),
        ErrorKind::DeserializeError { key, message, .. } => ApiError::invalid(key, truncate(&message)),
        ErrorKind::ParseError { .. } | ErrorKind::ParseErrorAtIndex { .. } | ErrorKind::Message(_) => {
            ApiError::bad_request("a parameter in the path is not valid")
        }
        // The route and its handler disagree.
        other => ApiError::Internal(anyhow::anyhow!("path parameters: {other}")),
    }
}

/// One wrong field, for handlers that check what no derive can.
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
