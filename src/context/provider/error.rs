//! Errors of providers.

use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("the provider cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// No data arrived within the configured timeout.
    #[error("the provider sent no data for {0:?}")]
    Timeout(Duration),
    /// Status 429.
    #[error("the provider's rate limit is exceeded")]
    RateLimited {
        /// Value of `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// Status 408 or 5xx.
    #[error("the provider failed with status {status}")]
    ServerError {
        status: u16,
        /// Value of `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// Any other error status: the request or the API key is wrong, and a retry does not help.
    #[error("the provider rejected the request with status {status}: {body}")]
    Rejected {
        status: u16,
        /// Beginning of the response body.
        body: String,
    },
    /// The response is malformed, or the stream ended early.
    #[error("invalid response of the provider: {0}")]
    InvalidResponse(String),
    /// The circuit breaker is open.
    #[error("circuit breaker open after repeated provider failures")]
    CircuitOpen {
        /// Time until the next request is allowed.
        retry_after: Duration,
    },
    /// The server is stopping; the answer is interrupted.
    #[error("the server is stopping")]
    Stopping,
}

impl ProviderError {
    /// Whether the same request may succeed shortly after.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::RateLimited { .. } | Self::ServerError { .. })
    }

    /// Whether another provider may answer the same request.
    #[must_use]
    pub const fn allows_fallback(&self) -> bool {
        !matches!(self, Self::Rejected { status: 400 | 413 | 422, .. } | Self::Stopping)
    }

    /// Time after which a repeated request may succeed, as the provider or the circuit breaker says.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::ServerError { retry_after, .. } => *retry_after,
            Self::CircuitOpen { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}
