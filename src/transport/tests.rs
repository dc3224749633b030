//! Tests of connections from the client's side: a real server on a loopback port, real sockets, no database.

mod accepting;
mod closing;
mod fan_out;
mod keepalive;
mod messages;
mod server;
