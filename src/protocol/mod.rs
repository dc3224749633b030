//! Dialects: codecs between frames and the messages that sessions speak.
//!
//! - [`ClientMessage`] and [`ServerMessage`] are what can be said at all, whatever the dialect.
//! - [`Dialect`] turns frames into the one and the other into frames. It has no behaviour of its own: what a
//!   message does is decided once, in the session.
//! - [`presence`] is source B, `/api/presence/subscribe`; [`devices`] is source D, `/ws`; [`context`] is source A,
//!   `/api/v1/context/ws`. Each is one file; what they share is in `json`.
//! - [`phoenix`] is source S: Phoenix channels in two versions, with messages of their own.
//! - [`Fields`] reads JSON objects so that every complaint names the field.
//!
//! Nothing here knows sockets, tasks or SQL.

pub mod context;
pub mod devices;
mod dialect;
mod error;
mod fields;
mod json;
mod message;
pub mod phoenix;
pub mod presence;

pub use dialect::{
    ConnectionPolicy, Dialect, DialectSpec, Encode, Frame, FrameKind, IdlePolicy, PresenceCodec,
    ShutdownClose,
};
pub use error::{ErrorCode, FieldError, WireError};
pub use fields::Fields;
pub use message::{ClientMessage, ContextUpdate, ServerMessage, StatusUpdate, Subscription, Token, Welcome};
