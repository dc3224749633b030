//! Channels, as supabase-js speaks them (serializer 2), beside a raw relay of the same bytes.

pub mod fan_out;
pub mod idle;
pub mod joins;
mod load_clients;
pub mod presence;
pub mod raw_relay;
pub mod slow_readers;
mod ws_client;
