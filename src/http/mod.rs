//! The REST API and the upgrade to sockets.
//!
//! A request passes [`middleware::apply`] (ID, span, metrics, CORS, panics, timeout and body limit), then the
//! extractors of its handler ([`extract`] for its content, [`identity`] for the caller) and
//! [`limits`](crate::limits). Every failure becomes an [`error::ApiError`], which renders the error envelope.

pub mod body;
pub mod broadcast;
pub mod contacts;
pub mod context;
pub mod conversations;
pub mod demo_tokens;
pub mod devices;
pub mod error;
pub mod extract;
pub mod identity;
mod ids;
pub mod middleware;
pub mod on_behalf_of;
pub mod openai;
pub mod openapi;
pub mod operator;
pub mod people;
pub mod presence;
pub mod privacy;
pub mod realtime;
pub mod settings;
pub mod sockets;
mod state;
pub mod system;
#[cfg(test)]
mod tests;

pub use error::{ApiError, FieldError};
pub use extract::{Json, Path, Query, ValidJson};
pub use identity::{Authenticated, DeviceHeader, GatewayPolicy};
pub use state::HttpState;
