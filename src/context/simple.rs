//! The simple engine: instructions, the most important memories and the last messages. It needs no bundles or profiles
//! and is the fallback when the dynamic engine fails.

use serde::Deserialize;

use super::{
    assemble::{ChatMessage, HistoryMessage, PromptOptions},
    tokens,
};

/// Messages that are read.
pub const MAX_HISTORY: i32 = 20;
/// The system prompt gets 1/4 of the tokens.
const SYSTEM_SHARE_DIVISOR: usize = 4;

/// Result of `rollcall.assemble_simple`.
#[derive(Debug, Clone, Deserialize)]
pub struct SimpleSources {
    instructions: Vec<String>,
    memories: Vec<String>,
    history: Vec<HistoryMessage>,
}

/// A prompt of the simple engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimplePrompt {
    /// System prompt in Markdown.
    pub system: String,
    pub history: Vec<ChatMessage>,
    /// Tokens of the whole prompt.
    pub tokens: usize,
}

/// Builds a prompt of at most `max_tokens`: a quarter for the system prompt, the rest for message and history.
#[must_use]
pub fn fit(sources: &SimpleSources, options: PromptOptions<'_>) -> SimplePrompt {
    let section = |heading: &str, lines: &[String]| {
        let lines: String = lines.iter().map(|line| format!("- {}\n", line.trim())).collect();
        if lines.is_empty() { lines } else { format!("## {heading}\n{lines}\n") }
    };
    let system = section("Response Guidelines", &sources.instructions)
        + &section("About This User", &sources.memories);
    let message = tokens::count(options.message);
    let room = options.max_tokens.saturating_sub(message);
    let system =
        tokens::truncate(system.trim_end(), room / SYSTEM_SHARE_DIVISOR).unwrap_or_default().to_owned();
    let mut remaining = room - tokens::count(&system).min(room);
    let mut history = Vec::new();
    if options.with_history {
        for earlier in sources.history.iter().rev() {
            let cost = tokens::count(&earlier.content) + tokens::MESSAGE_OVERHEAD;
            if cost > remaining {
                break;
            }
            remaining -= cost;
            history.push(ChatMessage { role: earlier.role.clone(), content: earlier.content.clone() });
        }
        history.reverse();
    }
    SimplePrompt { system, history, tokens: options.max_tokens.max(message) - remaining }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_prompt_lists_instructions_and_memories_and_keeps_the_newest_messages_that_fit() {
        let history: Vec<_> = (0..40)
            .map(|n| json!({"id": uuid::Uuid::new_v4(), "role": "user", "content": format!("message number {n}")}))
            .collect();
        let found = json!({"instructions": ["Be brief."], "memories": ["Is Ada."], "history": history});
        let found: SimpleSources = serde_json::from_value(found).expect("of the shape");
        let prompt = fit(&found, PromptOptions { message: "Hi", max_tokens: 120, with_history: true });
        assert_eq!(prompt.system, "## Response Guidelines\n- Be brief.\n\n## About This User\n- Is Ada.");
        assert_eq!(prompt.history.last().map(|message| message.content.as_str()), Some("message number 39"));
        assert!(prompt.history.len() < 40 && prompt.tokens <= 120, "{}", prompt.tokens);
    }
}
