//! Protocol-independent sessions: the state and the permissions of one client.
//!
//! A session receives and sends messages. [`crate::protocol`] converts them to frames, and
//! [`crate::transport`] moves the bytes. [`presence`] is the session of the presence dialects, [`channels`]
//! that of Phoenix channels.

pub mod channels;
pub mod event_stream;
pub mod presence;
