//! The simple engine: instructions, the most important memories and the last messages. It needs no bundles or profiles
//! and is the fallback when the dynamic engine fails.

use serde::Deserialize;

use super::{
    assemble::{PromptOptions, PromptTooLong},
    history::{self, FittedHistory, HistoryMessage},
    message::ChatMessage,
    tokens,
};

/// The system prompt gets 1/4 of the tokens, and at least this number.
const SYSTEM_SHARE_DIVISOR: usize = 4;
const MIN_SYSTEM_TOKENS: usize = 250;

/// Result of `rollcall.assemble_simple`.
#[derive(Debug, Clone, Default, Deserialize)]
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

/// Builds a prompt of at most `max_tokens`: the client's messages, a quarter of the rest for the system prompt, and the
/// history.
///
/// # Errors
///
/// [`PromptTooLong`] if the messages leave too little for instructions and memories.
pub fn fit(mut sources: SimpleSources, options: PromptOptions<'_>) -> Result<SimplePrompt, PromptTooLong> {
    history::remove_repeated(&mut sources.history, options.client_messages);
    let section = |heading: &str, lines: &[String]| {
        let line = |line: &String| format!("- {}\n", line.split_whitespace().collect::<Vec<_>>().join(" "));
        let lines: String = lines.iter().map(line).collect();
        if lines.is_empty() { lines } else { format!("## {heading}\n{lines}\n") }
    };
    let system = section("Response Guidelines", &sources.instructions)
        + &section("About This User", &sources.memories);
    let system = system.trim_end();
    let (messages, max) = (options.message_tokens(), options.max_tokens);
    let kept = tokens::count(system).min(MIN_SYSTEM_TOKENS);
    if messages + kept > max {
        return Err(PromptTooLong { messages, kept, max });
    }
    let room = max - messages;
    let system_room = (room / SYSTEM_SHARE_DIVISOR).max(MIN_SYSTEM_TOKENS).min(room);
    let system = tokens::truncate(system, system_room).unwrap_or_default().to_owned();
    let room = room.saturating_sub(tokens::count(&system));
    let FittedHistory { messages: history, tokens: history_tokens, .. } =
        if options.with_history { history::fit(&sources.history, room) } else { FittedHistory::default() };
    let tokens = messages + tokens::count(&system) + history_tokens;
    Ok(SimplePrompt { system, history, tokens })
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
        let options = PromptOptions {
            message: "Hi",
            client_messages: &[ChatMessage::new("user", "Hi")],
            max_tokens: 120,
            with_history: true,
        };
        let prompt = fit(found.clone(), options).expect("fits");
        assert!(fit(found, PromptOptions { max_tokens: 15, ..options }).is_err());
        assert_eq!(prompt.system, "## Response Guidelines\n- Be brief.\n\n## About This User\n- Is Ada.");
        let last = prompt.history.last().map(|message| message.text().into_owned());
        assert_eq!(last.as_deref(), Some("message number 39"));
        assert!(prompt.history.len() < 40 && prompt.tokens <= 120, "{}", prompt.tokens);
    }
}
