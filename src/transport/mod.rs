//! Sockets: upgrade, read loop, close codes.

mod close;
pub mod frame;

pub use close::CloseCode;
