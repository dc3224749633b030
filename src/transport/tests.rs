//! Connections as a client sees them: a real server on a loopback port, real sockets, no database.

mod accepting;
mod ending;
mod fan_out;
mod messages;
mod quiet;
mod server;
