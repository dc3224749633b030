//! REST routes, extractors, limits, errors to the envelope.
