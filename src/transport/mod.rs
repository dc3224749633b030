//! Sockets: upgrade, read loop, close codes.
