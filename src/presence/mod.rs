//! Presence: the group-commit writer, visibility, sweep.
