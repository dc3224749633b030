//! What one client is and may do.
