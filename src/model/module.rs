//! The parts of Rollcall that can be installed.

use std::{fmt, str::FromStr};

/// A part of Rollcall with tables, functions and routes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// Broadcast, channel presence and `postgres_changes`. Always installed.
    Channels,
    /// Presence of users, relations between them, and typing.
    Presence,
    /// The context engine. Needs [`Presence`](Self::Presence), which has its conversations.
    Context,
}

impl Module {
    /// In the order of installation.
    pub const ALL: [Self; 3] = [Self::Channels, Self::Presence, Self::Context];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Presence => "presence",
            Self::Context => "context",
        }
    }

    /// The module with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|module| module.as_str() == name)
    }
}

/// Modules with everything that they need: `presence` includes `channels`, `context` includes both. So the last module
/// stands for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modules {
    last: Module,
}

impl Modules {
    pub const ALL: Self = Self { last: Module::Context };
    pub const CHANNELS: Self = Self { last: Module::Channels };

    /// The module and what it needs.
    #[must_use]
    pub const fn up_to(last: Module) -> Self {
        Self { last }
    }

    #[must_use]
    pub const fn contains(self, module: Module) -> bool {
        module as u8 <= self.last as u8
    }

    /// The modules of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        if self.contains(other.last) { self } else { other }
    }
}

impl FromStr for Modules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let modules: Option<Vec<Self>> = names.map(|name| Module::from_name(name).map(Self::up_to)).collect();
        modules.and_then(|modules| modules.into_iter().reduce(Self::with)).ok_or_else(|| {
            format!("must be a comma-separated list of channels, presence and context (got \"{text}\")")
        })
    }
}

impl fmt::Display for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Module::ALL.into_iter().filter(|module| self.contains(*module)).map(Module::as_str);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_includes_what_it_needs() {
        for (text, all) in [
            ("channels", "channels"),
            ("presence", "channels,presence"),
            (" channels , presence ", "channels,presence"),
            ("context", "channels,presence,context"),
            ("context,channels", "channels,presence,context"),
        ] {
            assert_eq!(
                text.parse::<Modules>().map(|modules| modules.to_string()).as_deref(),
                Ok(all),
                "{text}"
            );
        }
        assert_eq!("channels,presence,context".parse(), Ok(Modules::ALL));
    }

    #[test]
    fn unknown_and_missing_names_are_refused() {
        for text in ["", " , ", "all", "channels,", "Channels", "channels presence"] {
            let parsed = text.parse::<Modules>();
            assert_eq!(parsed.is_ok(), text == "channels,", "{text}: {parsed:?}");
        }
    }
}
