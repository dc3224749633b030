//! Builds every handle and spawns every long task; the only module that knows everyone.
