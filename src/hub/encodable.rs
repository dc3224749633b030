//! Messages that are encoded at most once per dialect.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use super::frame::WireFrame;
use crate::protocol::{Dialect, Encode};

/// A message with its encoded frames. An `Arc<Encodable<ServerMessage>>` coerces to an `Arc<Encodable>`.
pub struct Encodable<M: ?Sized = dyn Encode> {
    frames: [OnceLock<Option<WireFrame>>; Dialect::COUNT],
    message: M,
}

impl<M: Encode> Encodable<M> {
    /// Wraps a message. Nothing is encoded yet.
    pub fn new(message: M) -> Arc<Self> {
        Arc::new(Self { frames: [const { OnceLock::new() }; Dialect::COUNT], message })
    }
}

impl<M: Encode + ?Sized> Encodable<M> {
    /// The complete frame with its header; `None` if the dialect does not have this message.
    pub fn frame(&self, dialect: Dialect) -> Option<&WireFrame> {
        let frame = self.frames[dialect.index()].get_or_init(|| {
            // A panic while encoding must not end the shard's task.
            catch_unwind(AssertUnwindSafe(|| WireFrame::encode(&self.message, dialect))).unwrap_or_else(
                |_| {
                    tracing::error!(dialect = dialect.as_str(), "message encoding panicked");
                    None
                },
            )
        });
        frame.as_ref()
    }
}

impl<M: ?Sized> fmt::Debug for Encodable<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads are not logged.
        f.debug_struct("Encodable").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::protocol::FrameKind;

    struct Counted(AtomicU32);

    impl Encode for Counted {
        fn encode_into(&self, _dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
            self.0.fetch_add(1, Ordering::Relaxed);
            out.extend_from_slice(b"{}");
            Some(FrameKind::Text)
        }
    }

    struct Broken;

    impl Encode for Broken {
        fn encode_into(&self, _dialect: Dialect, _out: &mut Vec<u8>) -> Option<FrameKind> {
            panic!("intended panic in a test")
        }
    }

    #[test]
    fn a_message_is_encoded_once() {
        let counted = Encodable::new(Counted(AtomicU32::new(0)));
        let shared: Arc<Encodable> = Arc::clone(&counted) as _;
        for _ in 0..3 {
            assert_eq!(shared.frame(Dialect::Presence), Some(&WireFrame::text("{}")));
        }
        assert_eq!(counted.message.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_message_whose_encoding_panics_has_no_frame() {
        assert_eq!(Encodable::new(Broken).frame(Dialect::Presence), None);
    }
}
