//! Positions in what a viewer was told.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// A position in what one viewer was told of others' presence. Clients treat its text as opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Random; only the client knows it.
    pub viewer: Uuid,
    /// Everything that was delivered with this mark or a lower one was received.
    pub mark: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.viewer.simple(), self.mark)
    }
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a position")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (viewer, mark) = text.split_once('.').ok_or(InvalidPosition)?;
        let viewer = Uuid::try_parse(viewer).map_err(|_| InvalidPosition)?;
        Ok(Self { viewer, mark: mark.parse().map_err(|_| InvalidPosition)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let position = Position { viewer: Uuid::new_v4(), mark: 17 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", ".", "1.1", "x", "00000000000000000000000000000000.-1"] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }
}
