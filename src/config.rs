//! Raw environment and flags to a validated [`Config`].
