//! How others reach a connection's task: a few bits and a waker.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    task::Waker,
};

use futures_util::task::AtomicWaker;

/// One bit each; several may be up at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signal(u8);

impl Signal {
    /// The close frame is queued: no more reading, finish writing.
    pub const CLOSE: Self = Self(1);
    /// The socket failed, or the connection has to end without more ado.
    pub const ABORT: Self = Self(1 << 1);
    /// The socket takes no more for now; stays up until the task has written the rest.
    pub const BLOCKED: Self = Self(1 << 2);
    /// The session's timer is due.
    pub const TIMER: Self = Self(1 << 3);
    /// The peer did not answer a ping.
    pub const PING_TIMEOUT: Self = Self(1 << 4);
    /// Something that the session waits for outside of the socket has happened.
    pub const WAKE: Self = Self(1 << 5);
}

/// The bits of one connection.
#[derive(Debug, Default)]
pub(super) struct Signals {
    bits: AtomicU8,
    waker: AtomicWaker,
}

impl Signals {
    /// Raises a signal and wakes the task.
    pub fn raise(&self, signal: Signal) {
        self.bits.fetch_or(signal.0, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Whether a signal is up.
    pub fn is_set(&self, signal: Signal) -> bool {
        self.bits.load(Ordering::Acquire) & signal.0 != 0
    }

    /// Whether a signal is up; lowers it.
    pub fn take(&self, signal: Signal) -> bool {
        // The load spares an idle poll the read-modify-write.
        self.is_set(signal) && self.bits.fetch_and(!signal.0, Ordering::AcqRel) & signal.0 != 0
    }

    /// Has signals raised from now on wake `waker`. To be called before the bits are looked at.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
