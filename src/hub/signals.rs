//! Signals to a connection's task: a few bits and a waker.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    task::Waker,
};

use futures_util::task::AtomicWaker;

/// One bit each; several may be set at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal(u8);

impl Signal {
    /// The close frame is queued: stop reading, finish writing.
    pub(crate) const CLOSE: Self = Self(1);
    /// The socket failed, or the connection is aborted.
    pub(crate) const ABORT: Self = Self(1 << 1);
    /// The socket is not writable. Set until the task has written the rest.
    pub(crate) const BLOCKED: Self = Self(1 << 2);
    /// The session's timer is due.
    pub(crate) const TIMER: Self = Self(1 << 3);
    /// The peer did not answer a ping.
    pub(crate) const PING_TIMEOUT: Self = Self(1 << 4);
    /// Something outside the socket changed that the session waits for.
    pub(crate) const WAKE: Self = Self(1 << 5);
}

/// The signals of one connection.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    bits: AtomicU8,
    waker: AtomicWaker,
}

impl Signals {
    /// Sets a signal and wakes the task.
    pub(crate) fn raise(&self, signal: Signal) {
        self.bits.fetch_or(signal.0, Ordering::AcqRel);
        self.waker.wake();
    }

    pub(crate) fn is_set(&self, signal: Signal) -> bool {
        self.bits.load(Ordering::Acquire) & signal.0 != 0
    }

    /// Whether a signal is set; clears it.
    pub(crate) fn take(&self, signal: Signal) -> bool {
        // The load saves the read-modify-write of an idle poll.
        self.is_set(signal) && self.bits.fetch_and(!signal.0, Ordering::AcqRel) & signal.0 != 0
    }

    /// Registers the waker for signals raised from now on. Call it before checking the bits.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
