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
    #[error("the provider failed with status {0}")]
    ServerError(u16),
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
    CircuitOpen,
}

impl ProviderError {
    /// Whether the same request may succeed shortly after.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::RateLimited { .. } | Self::ServerError(_))
    }

    /// Whether the circuit breaker counts this error. A rejected request says nothing about the provider's health.
    #[must_use]
    pub const fn counts_as_failure(&self) -> bool {
        !matches!(self, Self::Rejected { .. } | Self::CircuitOpen)
    }
}
