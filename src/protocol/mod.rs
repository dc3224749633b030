//! Dialects: codecs between frames and messages.
