//! The rights of a channel in its topic.

/// What a channel may read. At least one field is true: a join without any right is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRights {
    pub broadcast: bool,
    pub presence: bool,
}

impl ReadRights {
    /// Both rights, as in a public topic.
    pub const ALL: Self = Self { broadcast: true, presence: true };
}

/// What a channel may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteRights {
    pub broadcast: bool,
    pub presence: bool,
}

impl WriteRights {
    /// Both rights, as in a public topic.
    pub const ALL: Self = Self { broadcast: true, presence: true };
    pub const NONE: Self = Self { broadcast: false, presence: false };
}
