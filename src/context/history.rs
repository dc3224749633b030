//! Selects the stored messages of a conversation that a prompt includes.

use serde::Deserialize;
use uuid::Uuid;

use super::{message::ChatMessage, tokens};

/// Value of `name` for messages of other users than the caller.
const OTHER_SPEAKER: &str = "another_participant";
/// Bounds of the number of messages that are read.
const MIN_READ: usize = 20;
const MAX_READ: usize = 2_000;

/// A stored message of the conversation.
#[derive(Debug, Clone, Deserialize)]
pub struct HistoryMessage {
    pub id: Uuid,
    /// `user`, `assistant` or `system`.
    pub role: String,
    pub content: String,
    /// Whether the caller wrote the message or asked for it.
    #[serde(default = "is_mine")]
    pub mine: bool,
}

const fn is_mine() -> bool {
    true
}

/// Messages that fit, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FittedHistory {
    pub messages: Vec<ChatMessage>,
    pub tokens: usize,
    /// Whether a message was truncated or left out.
    pub cut: bool,
}

/// Number of messages to read for a history of at most `tokens`. The shortest message has one token.
#[must_use]
pub fn messages_to_read(tokens: usize) -> i32 {
    let most = tokens / (tokens::MESSAGE_OVERHEAD + 1);
    i32::try_from(most.clamp(MIN_READ, MAX_READ)).unwrap_or(i32::MAX)
}

/// Removes the end of the stored history that the client's messages repeat: a client that sends the whole conversation, or
/// a question that is asked again after a failure.
pub fn remove_repeated(stored: &mut Vec<HistoryMessage>, client: &[ChatMessage]) {
    let is_spoken = |message: &&ChatMessage| matches!(message.role(), "user" | "assistant");
    let client: Vec<_> =
        client.iter().filter(is_spoken).map(|message| (message.role(), message.text())).collect();
    let is_same = |stored: &HistoryMessage, (role, text): &(&str, std::borrow::Cow<'_, str>)| {
        stored.role == *role && stored.content.trim() == text.trim()
    };
    let starts = stored.len().saturating_sub(client.len())..stored.len();
    let repeats = |start: &usize| stored[*start..].iter().zip(&client).all(|(old, new)| is_same(old, new));
    if let Some(start) = starts.into_iter().find(repeats) {
        stored.truncate(start);
    }
    // Each failed attempt has stored the question.
    if let Some(first) = client.first().filter(|(role, _)| *role == "user") {
        while stored.last().is_some_and(|last| is_same(last, first)) {
            stored.pop();
        }
    }
}

/// The newest messages that fit into `room` tokens. The first message that does not fit is truncated if enough room
/// remains.
#[must_use]
pub fn fit(stored: &[HistoryMessage], room: usize) -> FittedHistory {
    let mut fitted = FittedHistory::default();
    for message in stored.iter().rev().filter(|message| !message.content.trim().is_empty()) {
        let remaining = room - fitted.tokens;
        let cost = tokens::count(&message.content) + tokens::MESSAGE_OVERHEAD;
        if cost <= remaining {
            fitted.tokens += cost;
            fitted.messages.push(chat_message(message, &message.content));
            continue;
        }
        fitted.cut = true;
        if remaining > tokens::MIN_CUT_TOKENS + tokens::MESSAGE_OVERHEAD
            && let Some(cut) = tokens::truncate_closed(&message.content, remaining - tokens::MESSAGE_OVERHEAD)
        {
            fitted.tokens += (tokens::count(&cut) + tokens::MESSAGE_OVERHEAD).min(remaining);
            fitted.messages.push(chat_message(message, &cut));
        }
        break;
    }
    fitted.messages.reverse();
    fitted
}

fn chat_message(stored: &HistoryMessage, content: &str) -> ChatMessage {
    let message = ChatMessage::new(&stored.role, content);
    if stored.mine || stored.role != "user" { message } else { message.named(OTHER_SPEAKER) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(messages: &[(&str, &str)]) -> Vec<HistoryMessage> {
        let message = |(role, content): &(&str, &str)| HistoryMessage {
            id: Uuid::new_v4(),
            role: (*role).into(),
            content: (*content).into(),
            mine: true,
        };
        messages.iter().map(message).collect()
    }

    fn client(messages: &[(&str, &str)]) -> Vec<ChatMessage> {
        messages.iter().map(|(role, content)| ChatMessage::new(role, *content)).collect()
    }

    fn remaining(history: &[(&str, &str)], sent: &[(&str, &str)]) -> Vec<String> {
        let mut history = stored(history);
        remove_repeated(&mut history, &client(sent));
        history.into_iter().map(|message| message.content).collect()
    }

    #[test]
    fn what_the_client_repeats_is_removed_from_the_stored_history() {
        let history = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")];
        assert_eq!(remaining(&history, &[("user", "e")]), ["a", "b", "c", "d"]);
        assert_eq!(remaining(&history, &[("user", "c"), ("assistant", "d"), ("user", "e")]), ["a", "b"]);
        let all = [&history[..], &[("user", "e")]].concat();
        assert!(remaining(&history, &all).is_empty());
        let other = [("user", "x"), ("assistant", "y"), ("user", "e")];
        assert_eq!(remaining(&history, &other).len(), 4, "examples of the client are not history");
    }

    #[test]
    fn a_question_that_is_asked_again_is_not_in_the_history() {
        let history = [("user", "a"), ("assistant", "b"), ("user", "c"), ("user", "c"), ("user", "c")];
        assert_eq!(remaining(&history, &[("system", "s"), ("user", "c ")]), ["a", "b"]);
    }

    #[test]
    fn the_newest_messages_that_fit_are_kept_and_the_next_one_is_truncated() {
        let long = "A sentence of some words. ".repeat(60);
        let history = stored(&[("user", "oldest"), ("user", &long), ("assistant", "newest")]);
        let fitted = fit(&history, 200);
        assert!(fitted.tokens <= 200 && fitted.cut, "{fitted:?}");
        assert_eq!(fitted.messages.len(), 2);
        assert!(fitted.messages[0].text().ends_with("words."));
        let mut other = history;
        other[0].mine = false;
        let fitted = fit(&other, 2_000);
        assert_eq!(fitted.messages[0].get("name"), Some(&OTHER_SPEAKER.into()));
        assert_eq!((fitted.messages.len(), fitted.cut), (3, false));
    }
}
