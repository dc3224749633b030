//! What is wrong with the settings: everything at once, one line for each.

use std::fmt;

/// A setting and why it cannot be used. Never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The environment variable.
    pub variable: String,
    /// Why, as the second half of a sentence.
    pub message: String,
}

impl Problem {
    pub(super) fn new(variable: impl Into<String>, why: impl Into<String>) -> Self {
        Self { variable: variable.into(), message: why.into() }
    }
}

/// Settings that the server refuses to start with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// `Ok` if there are none.
    pub(super) fn from_problems(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    /// Each setting that is wrong.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {}", problem.variable, problem.message)?;
        }
        Ok(())
    }
}
