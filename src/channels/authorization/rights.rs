//! What a channel may do.

/// What may be read in a room. At least one is true: whoever may read nothing is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRights {
    /// Broadcasts reach the channel.
    pub broadcast: bool,
    /// Presence reaches the channel.
    pub presence: bool,
}

impl ReadRights {
    /// Everything, as in a public room.
    pub const ALL: Self = Self { broadcast: true, presence: true };
}

/// What may be written in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteRights {
    /// The channel may broadcast.
    pub broadcast: bool,
    /// The channel may track presence.
    pub presence: bool,
}

impl WriteRights {
    /// Everything, as in a public room.
    pub const ALL: Self = Self { broadcast: true, presence: true };
    /// Nothing.
    pub const NONE: Self = Self { broadcast: false, presence: false };
}
