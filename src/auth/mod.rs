//! Authentication: verifies tokens and API keys.
//!
//! [`Verifier::verify`] converts a JWT or an opaque API key to a [`Principal`]: the user, the database role
//! and the JSON for `request.jwt.claims`. Start with `verifier`, then `token` (the parts of a JWT), `key` and
//! `jwks` (which key may verify a token), `claims` and `channel_token` (required claims). Authorization is
//! not decided here but by row-level security.

mod cache;
mod channel_token;
mod claims;
mod error;
mod jwks;
mod key;
mod principal;
mod settings;
#[cfg(test)]
mod tests;
pub mod token;
mod verifier;

pub use error::{AuthError, ChannelTokenError, JwksError};
pub use principal::{Permission, Principal, Role, UnknownRole};
pub use settings::VerifierSettings;
pub use verifier::{Verifier, VerifierError};
