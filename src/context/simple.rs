//! The simple engine: instructions, the most important memories, the last messages. It needs none of the other's
//! bundles and profiles, and answers when that one fails.

use serde::Deserialize;

use super::{
    assemble::{ChatMessage, HistoryMessage, PromptOptions},
    tokens,
};

/// The messages that are read for it.
pub const MAX_HISTORY: i32 = 20;
/// The share of the prompt that what is known may take.
const SYSTEM_SHARE_DIVISOR: usize = 4;

/// What the database found: `rollcall.assemble_simply`.
#[derive(Debug, Clone, Deserialize)]
pub struct SimpleSources {
    instructions: Vec<String>,
    memories: Vec<String>,
    history: Vec<HistoryMessage>,
}

/// A prompt without layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimplePrompt {
    /// What is known, as Markdown.
    pub system: String,
    /// The last messages, oldest first.
    pub history: Vec<ChatMessage>,
    /// The tokens of the whole.
    pub tokens: usize,
}

/// Fits what was found into the wish's tokens: a quarter for what is known, the rest for what was said.
#[must_use]
pub fn fit(found: &SimpleSources, wish: PromptOptions<'_>) -> SimplePrompt {
    let list = |heading: &str, lines: &[String]| {
        let lines: String = lines.iter().map(|line| format!("- {}\n", line.trim())).collect();
        if lines.is_empty() { lines } else { format!("## {heading}\n{lines}\n") }
    };
    let known = list("Response Guidelines", &found.instructions) + &list("About This User", &found.memories);
    let message = tokens::count(wish.message);
    let room = wish.max_tokens.saturating_sub(message);
    let system =
        tokens::truncate(known.trim_end(), room / SYSTEM_SHARE_DIVISOR).unwrap_or_default().to_owned();
    let mut left = room - tokens::count(&system).min(room);
    let mut history = Vec::new();
    if wish.with_history {
        for earlier in found.history.iter().rev() {
            let cost = tokens::count(&earlier.content) + 4;
            if cost > left {
                break;
            }
            left -= cost;
            history.push(ChatMessage { role: earlier.role.clone(), content: earlier.content.clone() });
        }
        history.reverse();
    }
    SimplePrompt { system, history, tokens: wish.max_tokens.max(message) - left }
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
