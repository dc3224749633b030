//! REST foundations: what every route shares, whatever its area.
//!
//! A request passes [`layers::wrap`] (id, span, metrics, CORS, panics, time and body limits), then the extractors
//! of its handler ([`extract`] for what it says, [`identity`] for who says it), perhaps [`limits`], and whatever
//! fails on the way ends as one [`error::ApiError`], which alone knows the envelope. [`system`] holds the routes
//! about the server itself.

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
