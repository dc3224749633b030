//! Dialects: codecs between frames and the messages that sessions handle.
//!
//! - [`ClientMessage`] and [`ServerMessage`] are the messages, independent of the dialect.
//! - [`Dialect`] decodes frames into the former and encodes the latter. It has no behavior: sessions handle messages.
//! - [`presence`] is `/api/presence/subscribe` and `/api/presence/events`, [`devices`] is `/ws`, [`context`] is `/api/v1/context/ws`. What they
//!   share is in `json`.
//! - [`phoenix`] is Phoenix channels in two serializer versions, with its own messages.
//! - [`Fields`] reads JSON objects and names the field in each error.
//!
//! This module does not depend on sockets, tasks or SQL.

pub mod context;
pub mod devices;
mod dialect;
mod error;
#[cfg(test)]
mod error_docs;
mod fields;
mod frame;
mod json;
mod message;
pub mod phoenix;
pub mod presence;
mod spec;

pub use dialect::{Dialect, Encode};
pub use error::{ErrorCode, FieldError, GIVEN_TWICE, WireError, summary};
pub(crate) use fields::Fields;
pub use frame::{Frame, FrameKind};
pub use json::{InvalidTime, Rfc3339};
pub use message::{
    Background, ClientMessage, ContextUpdate, ServerMessage, StatePosition, StatusUpdate, Subscription,
    Token, Welcome,
};
pub(crate) use message::{background_fits, max_chars};
pub use spec::{ConnectionPolicy, DialectSpec, Framing, IdlePolicy, PresenceCodec, ShutdownClose};
