//! Tokens: verification, keys, claims.
//!
//! [`Verifier::verify`] turns what a client presents (a JWT or an opaque API key) into a [`Caller`]: who that
//! is, which database role it acts as, and the JSON text for `request.jwt.claims`. Read `verifier` first; then
//! `token` (the three parts of a JWT), `key` and `jwks` (which key a token may use), `claims` (what the payload
//! must say; those of realtime channels in `channel`). What a caller may do in the database is not decided here but by row-level security.

mod cache;
mod channel_token;
mod claims;
mod error;
mod jwks;
mod key;
mod principal;
#[cfg(test)]
mod tests;
pub mod token;
mod verifier;

pub use channel_token::{ChannelTokenError, VerifiedChannelToken};
pub use error::AuthError;
pub use jwks::JwksError;
pub use principal::{Permission, Principal, Role, UnknownRole};
pub use verifier::{Verifier, VerifierError, VerifierSettings};
