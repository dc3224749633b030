//! What one client is and may do, whatever the dialect.
//!
//! A session hears messages, not frames, and answers with messages: [`crate::protocol`] translates both ways, and
//! [`crate::transport`] moves the bytes. [`presence`] is the session behind the presence dialects, [`channels`] the one
//! behind Phoenix channels.

pub mod channels;
pub mod presence;
