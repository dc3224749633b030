//! Signals, soft stop, hard stop, the set of tracked tasks.
