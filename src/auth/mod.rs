//! Tokens: verification, keys, claims.
