//! Channels, as supabase-js speaks them (serializer 2), beside a raw relay of the same bytes.

mod crowd;
pub mod fan_out;
pub mod idle;
pub mod joins;
pub mod presence;
pub mod raw;
pub mod stalled;
mod wire;
