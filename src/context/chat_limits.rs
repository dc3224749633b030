//! Models and tokens that the roles may ask for.

use std::collections::HashMap;

use crate::auth::Role;

/// Default maximum of the tokens of an answer.
pub const DEFAULT_ANSWER_TOKENS: u32 = 16_384;
/// Default maximum of the tokens of a prompt.
pub const DEFAULT_PROMPT_TOKENS: u32 = 200_000;

/// Limits of chat requests by role. The service role is limited only by an entry of its own.
#[derive(Debug, Clone, Default)]
pub struct ChatLimits {
    /// Allowed models. A role without an entry may use any.
    pub models: HashMap<Role, Vec<String>>,
    /// Maximum tokens of an answer.
    pub answer_tokens: HashMap<Role, u32>,
    /// Maximum tokens of a prompt.
    pub prompt_tokens: HashMap<Role, u32>,
    /// Maximum tokens of all calls for a user on one day. A role without an entry has no maximum.
    pub daily_tokens: HashMap<Role, u32>,
}

impl ChatLimits {
    /// Whether the role may ask for the model.
    #[must_use]
    pub fn allows_model(&self, role: &Role, model: &str) -> bool {
        self.models
            .get(role)
            .is_none_or(|models| models.iter().any(|allowed| allowed == "*" || allowed == model))
    }

    /// Models that the role may ask for besides the default ones of the providers.
    #[must_use]
    pub fn models_of(&self, role: &Role) -> &[String] {
        self.models.get(role).map_or(&[], Vec::as_slice)
    }

    /// Maximum tokens of an answer for the role.
    #[must_use]
    pub fn answer_tokens_of(&self, role: &Role) -> u32 {
        self.answer_tokens.get(role).copied().unwrap_or_else(|| default_of(role, DEFAULT_ANSWER_TOKENS))
    }

    /// Maximum tokens of a prompt for the role.
    #[must_use]
    pub fn prompt_tokens_of(&self, role: &Role) -> usize {
        let max = self.prompt_tokens.get(role).copied();
        max.unwrap_or_else(|| default_of(role, DEFAULT_PROMPT_TOKENS)) as usize
    }
}

const fn default_of(role: &Role, default: u32) -> u32 {
    if matches!(role, Role::ServiceRole) { u32::MAX } else { default }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_with_an_entry_is_limited_to_it() {
        let limits = ChatLimits {
            models: [(Role::Authenticated, vec!["small".to_owned()])].into(),
            answer_tokens: [(Role::Anon, 100)].into(),
            ..ChatLimits::default()
        };
        assert!(limits.allows_model(&Role::Authenticated, "small"));
        assert!(!limits.allows_model(&Role::Authenticated, "large"));
        assert!(limits.allows_model(&Role::ServiceRole, "large"));
        assert_eq!(limits.answer_tokens_of(&Role::Anon), 100);
        assert_eq!(limits.answer_tokens_of(&Role::Authenticated), DEFAULT_ANSWER_TOKENS);
        assert_eq!(limits.answer_tokens_of(&Role::ServiceRole), u32::MAX);
    }
}
