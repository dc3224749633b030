//! Connections as a client sees them: a real server on a loopback port, real sockets, no database.

mod accepting;
mod closing;
mod fan_out;
mod keepalive;
mod messages;
mod server;
