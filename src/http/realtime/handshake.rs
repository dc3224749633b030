//! The handshake of a channel socket. What is wrong with it is answered in plain HTTP, in the original's words.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Router,
    extract::{FromRef, Query, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    auth::ChannelTokenError,
    channels::Claimant,
    protocol::Dialect,
    session::channels::{ChannelsSession, Opener, Services},
    transport::{Upgrade, UpgradeRejected},
};

/// The longest value of a header that policies may see, in bytes.
const MAX_HEADER_BYTES: usize = 4_096;

pub(super) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<Services>: FromRef<S>,
{
    Router::new().route("/realtime/v1/websocket", get(open)).route("/socket/websocket", get(open))
}

/// What a client says in the query string.
#[derive(Deserialize)]
struct Asked {
    apikey: Option<String>,
    vsn: Option<String>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Upgrade(#[from] UpgradeRejected),
    #[error("a serializer version that there is not")]
    Version,
    #[error("API key is missing")]
    KeyMissing,
    #[error(transparent)]
    Token(#[from] ChannelTokenError),
    #[error("Too many connected users")]
    TooManyConnections,
    #[error("Too many joins per second")]
    TooManyJoins,
    #[error("a header of more than {MAX_HEADER_BYTES} bytes")]
    HeaderTooLong,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let said = |status: StatusCode, text: Cow<'static, str>| {
            (status, axum::Json(json!({ "error": text }))).into_response()
        };
        match self {
            // A plain GET: the original answers 400.
            Self::Upgrade(UpgradeRejected::NotUpgrade) => {
                said(StatusCode::BAD_REQUEST, self.to_string().into())
            }
            Self::Upgrade(rejected) => {
                let mut response = said(rejected.status(), rejected.to_string().into());
                response.headers_mut().extend(rejected.headers());
                response
            }
            Self::Version => StatusCode::FORBIDDEN.into_response(),
            Self::KeyMissing => said(StatusCode::UNAUTHORIZED, self.to_string().into()),
            Self::Token(error) => said(StatusCode::UNAUTHORIZED, error.without_age()),
            Self::TooManyConnections | Self::TooManyJoins => {
                said(StatusCode::TOO_MANY_REQUESTS, self.to_string().into())
            }
            Self::HeaderTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response(),
        }
    }
}

async fn open(
    State(services): State<Arc<Services>>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Result<Response, Refused> {
    let (mut parts, _) = request.into_parts();
    let upgrade = Upgrade::from_parts(&mut parts)?;
    let dialect = dialect(asked.vsn.as_deref()).ok_or(Refused::Version)?;
    let headers = headers_for_policies(&parts.headers)?;
    let key = match parts.headers.get("x-api-key") {
        Some(key) => String::from_utf8_lossy(key.as_bytes()),
        None => asked.apikey.as_deref().ok_or(Refused::KeyMissing)?.into(),
    };
    let token = services.verifier.verify_channel(&key).await?;
    let place = services.limits.connect().ok_or(Refused::TooManyConnections)?;
    if services.limits.is_joined_too_fast() {
        return Err(Refused::TooManyJoins);
    }
    let opener = Opener::new(Claimant::new(&token, headers), &key);
    let hub = services.hub.clone();
    Ok(upgrade.accept(&hub, dialect.into(), ChannelsSession::new(services, opener, place)))
}

/// The serializer that a client names; none means the old one.
fn dialect(version: Option<&str>) -> Option<Dialect> {
    let is = |version: &str, family: &str| {
        let patch = version.strip_prefix(family);
        patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match version {
        None => Some(Dialect::PhoenixV1),
        Some(version) if is(version, "1.0.") => Some(Dialect::PhoenixV1),
        Some(version) if is(version, "2.0.") => Some(Dialect::PhoenixV2),
        Some(_) => None,
    }
}

/// The headers that policies may see, as a JSON object: those that begin with `x-`, but for the key.
fn headers_for_policies(headers: &HeaderMap) -> Result<Arc<str>, Refused> {
    let mut seen = Map::new();
    for (name, value) in headers {
        if value.len() > MAX_HEADER_BYTES {
            return Err(Refused::HeaderTooLong);
        }
        if name.as_str().starts_with("x-") && name != "x-api-key" {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            seen.insert(name.as_str().to_owned(), Value::String(value));
        }
    }
    Ok(Value::Object(seen).to_string().into())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn versions_are_of_two_families() {
        assert_eq!(dialect(None), Some(Dialect::PhoenixV1));
        assert_eq!(dialect(Some("1.0.0")), Some(Dialect::PhoenixV1));
        assert_eq!(dialect(Some("2.0.0")), Some(Dialect::PhoenixV2));
        for version in ["3.0.0", "abc", "", "2.0", "2.0.", "2.1.0", "2.0.x"] {
            assert_eq!(dialect(Some(version)), None, "{version}");
        }
    }

    #[test]
    fn policies_see_the_headers_that_begin_with_x_but_no_key() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-region", "eu \"1\""), ("x-api-key", "secret"), ("cookie", "c")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(&*headers_for_policies(&headers).expect("is fine"), r#"{"x-region":"eu \"1\""}"#);
        headers.insert("cookie", HeaderValue::from_bytes(&[b'x'; 4_097]).expect("a value"));
        assert!(matches!(headers_for_policies(&headers), Err(Refused::HeaderTooLong)));
    }
}
