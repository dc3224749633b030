//! Tracing set-up, metric and field names.
