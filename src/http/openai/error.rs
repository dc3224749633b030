//! Errors in the format of OpenAI's API.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::ApiError;
use crate::protocol::ErrorCode;

/// An error in the format of OpenAI's API.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiError)]
pub(super) struct ErrorBody {
    /// What is wrong with the request.
    error: ErrorObject,
}

/// Message and code of an error.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiErrorObject)]
struct ErrorObject {
    /// English text for people.
    message: String,
    /// Kind of the error, as in OpenAI's API.
    r#type: &'static str,
    /// Name of the invalid parameter; `null` if the error is not about one.
    #[schema(required = true)]
    param: Option<String>,
    /// Code of the error, for programs.
    #[schema(required = true)]
    code: Option<&'static str>,
}

/// An error response. Status and headers are those of the native API; 422 becomes 400.
pub(super) fn error_response(error: ApiError) -> Response {
    let (code, status) = error.code_and_status();
    let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
    let body = ErrorBody { error: object(&error, code, status) };
    // The native response logs the error and sets headers such as Retry-After.
    let (mut native, _) = error.into_response().into_parts();
    native.headers.remove(header::CONTENT_LENGTH);
    native.headers.remove(header::CONTENT_TYPE);
    (status, native.headers, axum::Json(body)).into_response()
}

fn object(error: &ApiError, code: ErrorCode, status: StatusCode) -> ErrorObject {
    let details = error.details();
    let param = details.first().map(|detail| detail.field.to_string()).filter(|field| !field.is_empty());
    let message = match details {
        [] | [_] => error.to_string(),
        several => {
            let each = several.iter().map(|detail| format!("{}: {}", detail.field, detail.message));
            each.collect::<Vec<_>>().join("; ")
        }
    };
    let (kind, code) = match status.as_u16() {
        401 => ("authentication_error", Some("invalid_api_key")),
        403 => ("permission_error", Some("forbidden")),
        409 => ("conflict_error", Some("conflict")),
        429 => ("rate_limit_error", Some("rate_limit_exceeded")),
        500.. => ("server_error", Some(native_code(code))),
        _ if is_too_long(&param, &message) => ("invalid_request_error", Some("context_length_exceeded")),
        _ if param.as_deref() == Some("model") => ("invalid_request_error", Some("model_not_found")),
        _ => ("invalid_request_error", Some(native_code(code))),
    };
    ErrorObject { message, r#type: kind, param, code }
}

fn is_too_long(param: &Option<String>, message: &str) -> bool {
    param.as_deref() == Some("messages") && message.contains("but the prompt may have")
}

/// The native code in lower case, as codes of OpenAI's API are written.
const fn native_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidReference => "invalid_reference",
        ErrorCode::PayloadTooLarge => "payload_too_large",
        ErrorCode::Unprocessable | ErrorCode::InvalidRequest => "invalid_request",
        ErrorCode::NotFound => "not_found",
        ErrorCode::ServiceUnavailable => "service_unavailable",
        ErrorCode::DatabaseConnectionError => "database_unavailable",
        ErrorCode::ContextEngineError | ErrorCode::LegacyEngineError => "context_engine_error",
        _ => "internal_error",
    }
}

/// The last event of a stream that failed.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct StreamError(ErrorBody);

impl StreamError {
    pub(super) fn new(message: String) -> Self {
        let code = Some("service_unavailable");
        Self(ErrorBody { error: ErrorObject { message, r#type: "server_error", param: None, code } })
    }
}
