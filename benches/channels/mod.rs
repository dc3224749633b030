//! Channels with the frames of supabase-js (serializer 2), compared with a raw relay of the same bytes.

pub mod fan_out;
pub mod idle;
pub mod joins;
pub mod load_clients;
pub mod presence;
pub mod raw_relay;
pub mod slow_readers;
pub mod ws_client;
