//! Size limits of request bodies.

use std::time::Duration;

use axum::{
    Extension,
    body::{Body, BodyDataStream},
    extract::Request,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::ApiError;

/// Maximum body size of a route in bytes. [`middleware::apply`](super::middleware::apply) sets the default; a
/// route overrides it with `.layer(BodyLimit(1024 * 1024).layer())`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit(pub usize);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(64 * 1024)
    }
}

impl BodyLimit {
    /// Layer that sets the limit; the innermost one counts.
    pub const fn layer(self) -> Extension<Self> {
        Extension(self)
    }
}

/// Bytes and time for which an oversized body is read and discarded. Without this, the connection is reset
/// while the client still writes, and the client does not see the 413 response.
const MAX_DRAIN_BYTES: usize = 8 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a body up to the route's [`BodyLimit`]. The request timeout bounds the time.
///
/// # Errors
/// [`ApiError::PayloadTooLarge`], or [`ApiError::InvalidRequest`] when the client disconnects.
pub async fn read(request: Request) -> Result<Bytes, ApiError> {
    let BodyLimit(limit) = request.extensions().get().copied().unwrap_or_default();
    read_up_to(limit, request.into_body()).await
}

async fn read_up_to(limit: usize, body: Body) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut read = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::bad_request("the body is incomplete"))?;
        if read.len() + chunk.len() > limit {
            // A timeout is an expected end of the drain.
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain(chunks)).await;
            return Err(ApiError::PayloadTooLarge { limit });
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

async fn drain(mut chunks: BodyDataStream) {
    let mut drained = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        drained += chunk.len();
        if drained > MAX_DRAIN_BYTES {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn body_limit_is_inclusive() {
        let read = |bytes: usize| read_up_to(100, Body::from(vec![b'x'; bytes]));
        assert_eq!(read(100).await.expect("fits").len(), 100);
        assert!(matches!(read(101).await, Err(ApiError::PayloadTooLarge { limit: 100 })));
    }

    #[tokio::test]
    async fn endless_body_is_rejected() {
        let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
        let endless = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
        let result = read_up_to(100, Body::from_stream(endless)).await;
        assert!(matches!(result, Err(ApiError::PayloadTooLarge { .. })));
    }
}
