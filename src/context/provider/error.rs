//! Why a model did not answer.

use std::time::Duration;

/// A provider did not answer, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It cannot be reached.
    #[error("the provider cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It said nothing for too long.
    #[error("the provider said nothing for {0:?}")]
    Timeout(Duration),
    /// Too many requests for it.
    #[error("the provider takes no more requests at the moment")]
    RateLimited {
        /// When it wants to be asked again, where it says.
        retry_after: Option<Duration>,
    },
    /// It failed on its side.
    #[error("the provider failed with status {0}")]
    ServerError(u16),
    /// It does not take this request, or this key: asking again is of no use.
    #[error("the provider refused the request with status {status}: {said}")]
    Rejected {
        /// Its status.
        status: u16,
        /// The beginning of what it said.
        said: String,
    },
    /// The answer is none, or broke off.
    #[error("the provider's answer broke off: {0}")]
    InvalidResponse(String),
    /// It has failed again and again, and is left alone for a while.
    #[error("the provider is left alone after repeated failures")]
    CircuitOpen,
}

impl ProviderError {
    /// Whether the same request may well succeed a moment later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::RateLimited { .. } | Self::ServerError(_))
    }

    /// Whether it says something of the provider's health; a refusal says something of the request.
    #[must_use]
    pub const fn counts_as_failure(&self) -> bool {
        !matches!(self, Self::Rejected { .. } | Self::CircuitOpen)
    }
}
