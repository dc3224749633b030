//! The console: a page at `/` that shows the state of the server, and API documentation at `/docs`.
//!
//! The pages in `page/` are plain HTML, CSS and JavaScript modules embedded in the binary. They use only the
//! public API. `marked.js` is `lib/marked.esm.js` of the package marked 18.2.1 (MIT), unchanged; it renders the Markdown of
//! descriptions. [`demo_tokens`] serves tokens of the demo users on a demo server.

mod errors;

use axum::{
    extract::FromRef,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::{
    ApiError, Path,
    demo_tokens::{self, DemoTokens},
};

/// A file of the console, embedded in the binary.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($name:literal: $media_type:expr),+ $(,)?) => {
        [$(Asset { name: $name, media_type: $media_type, text: include_str!(concat!("page/", $name)) }),+]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: [Asset; 15] = assets! {
    "index.html": HTML,
    "docs.html": HTML,
    "style.css": CSS,
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "dom.js": SCRIPT,
    "log.js": SCRIPT,
    "chart.js": SCRIPT,
    "connections.js": SCRIPT,
    "people.js": SCRIPT,
    "channels.js": SCRIPT,
    "operator.js": SCRIPT,
    "docs.js": SCRIPT,
    "marked.js": SCRIPT,
    "icon.svg": "image/svg+xml",
};

/// Allows only resources of this server: no inline scripts, no framing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Routes of the console: `/`, `/docs` and `/console/…`.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Option<DemoTokens>: FromRef<S>,
{
    OpenApiRouter::default()
        .routes(routes!(console))
        .routes(routes!(docs))
        .routes(routes!(error_docs))
        .routes(routes!(file))
        .routes(routes!(demo_tokens::get_tokens))
        .routes(routes!(demo_tokens::open_link))
}

/// Returns the web console.
#[utoipa::path(
    get, path = "/", operation_id = "console", tag = "Console",
    responses(
        (status = 200, description = "Page of the console.", body = String, content_type = "text/html"),
        (status = 304, description = "The copy of the browser is current."),
    ),
    extensions(("x-access" = json!("open"))),
)]
async fn console(headers: HeaderMap) -> Response {
    serve_asset("index.html", &headers)
}

/// Returns the API reference with request forms.
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "Console",
    responses(
        (status = 200, description = "Page of the API reference.", body = String, content_type = "text/html"),
        (status = 304, description = "The copy of the browser is current."),
    ),
    extensions(("x-access" = json!("open"))),
)]
async fn docs(headers: HeaderMap) -> Response {
    serve_asset("docs.html", &headers)
}

/// Returns the page of error codes, with cause and cure.
///
/// `doc_url` of an error leads to the section of its code.
#[utoipa::path(
    get, path = "/docs/errors", operation_id = "errorDocs", tag = "Console",
    responses(
        (status = 200, description = "Page of the error codes.", body = String, content_type = "text/html"),
        (status = 304, description = "The copy of the browser is current."),
    ),
    extensions(("x-access" = json!("open"))),
)]
async fn error_docs(headers: HeaderMap) -> Response {
    serve_text(&errors::PAGE, HTML, &headers)
}

/// Returns a file of the console.
#[utoipa::path(
    get, path = "/console/{file}", operation_id = "consoleFile", tag = "Console",
    params(("file" = String, Path, description = "Name of the file.", example = "index.html")),
    responses(
        (status = 200, description = "The file of the console.", body = String, content_type = "text/html"),
        (status = 304, description = "The copy of the browser is current."),
    ),
    extensions(("x-access" = json!("open")), ("x-errors" = json!([400, 404]))),
)]
async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve_asset(&name, &headers)
}

/// Serves an embedded file, or 304 when the browser's copy is current.
fn serve_asset(name: &str, request: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return ApiError::NotFound.into_response();
    };
    serve_text(asset.text, asset.media_type, request)
}

fn serve_text(text: &'static str, media_type: &'static str, request: &HeaderMap) -> Response {
    let tag = format!("\"{:x}\"", Sha256::digest(text));
    let is_current =
        request.get(header::IF_NONE_MATCH).is_some_and(|client_tag| client_tag.as_bytes() == tag.as_bytes());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        // Browsers revalidate every time, so a new server version never runs with an old page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits")),
    ];
    if is_current {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_asset_size_is_bounded() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes < 150 * 1024, "{bytes} bytes");
    }

    #[test]
    fn pages_reference_existing_assets() {
        for page in ASSETS.iter().filter(|asset| matches!(asset.media_type, HTML | SCRIPT)) {
            for piece in page.text.split(['"', '\'']).filter_map(|piece| piece.strip_prefix("/console/")) {
                assert!(
                    piece == "demo" || ASSETS.iter().any(|asset| asset.name == piece),
                    "{} names {piece}",
                    page.name
                );
            }
            for piece in page.text.split('"').filter(|piece| piece.starts_with("./")) {
                assert!(
                    ASSETS.iter().any(|asset| asset.name == &piece[2..]),
                    "{} imports {piece}",
                    page.name
                );
            }
        }
    }

    #[test]
    fn matching_etag_returns_not_modified() {
        let first = serve_asset("style.css", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].clone();
        let again = serve_asset("style.css", &HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(serve_asset("mod.rs", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }
}
