//! `postgres_changes`: which rows of published tables changed, told to whoever may see them.

pub mod filter;
pub mod params;
pub mod render;
pub mod types;

pub use params::{Params, ParamsError, Requested, echo_all};
