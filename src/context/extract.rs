//! Summarizes a long conversation without a model by selecting sentences verbatim: key sentences, unanswered questions,
//! decisions and the current focus.

use std::collections::HashMap;

use super::{
    sentences::sentence_ends,
    word_lists::{DECISION_PHRASES, UNANSWERED_PHRASES},
};

#[derive(Debug, Clone, Copy)]
pub struct TranscriptMessage<'a> {
    /// Name of the author in the summary.
    pub speaker: &'static str,
    /// True for user messages, false for model messages.
    pub from_user: bool,
    pub content: &'a str,
}

/// A sentence of a conversation with its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    pub speaker: &'static str,
    pub text: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConversationArc {
    /// Representative sentences, in order.
    pub key_sentences: Vec<Excerpt>,
    pub open_questions: Vec<Excerpt>,
    /// Sentences that state a decision.
    pub decisions: Vec<Excerpt>,
    /// Longest sentence of the last user message.
    pub focus: Option<Excerpt>,
}

const QUESTION_MARKS: [char; 3] = ['?', '？', '؟'];
const MAX_KEY_SENTENCES: usize = 6;
const MAX_QUESTIONS: usize = 4;
const MAX_DECISIONS: usize = 5;
/// Longer sentences are cut.
const MAX_SENTENCE_CHARS: usize = 240;

/// Selects sentences from messages in chronological order.
#[must_use]
pub fn extract_arc(messages: &[TranscriptMessage<'_>]) -> ConversationArc {
    let all = messages.iter().flat_map(|message| sentences(message.content).map(|it| (message.speaker, it)));
    let decisions = all.filter(|(_, sentence)| {
        let lower = sentence.to_lowercase();
        !sentence.ends_with(QUESTION_MARKS) && DECISION_PHRASES.iter().any(|phrase| lower.contains(phrase))
    });
    let decisions = last_distinct(decisions, MAX_DECISIONS);
    let focus = messages.iter().rev().find(|message| message.from_user).and_then(|message| {
        sentences(message.content)
            .max_by_key(|sentence| sentence.len().min(MAX_SENTENCE_CHARS))
            .map(|sentence| excerpt(message.speaker, sentence))
    });
    ConversationArc {
        key_sentences: find_key_sentences(messages),
        open_questions: last_distinct(find_open_questions(messages).into_iter(), MAX_QUESTIONS),
        decisions,
        focus,
    }
}

/// The user's sentences with the most words that occur in several messages.
fn find_key_sentences(messages: &[TranscriptMessage<'_>]) -> Vec<Excerpt> {
    let mut frequency: HashMap<String, usize> = HashMap::new();
    for message in messages {
        let mut words: Vec<String> = words(message.content).collect();
        words.sort_unstable();
        words.dedup();
        for word in words {
            *frequency.entry(word).or_default() += 1;
        }
    }
    let mut scored: Vec<(usize, f64, &str)> = Vec::new();
    for (at, message) in messages.iter().enumerate().filter(|(_, message)| message.from_user) {
        let best = sentences(message.content)
            .map(|sentence| {
                let (count, sum) = words(sentence).fold((0_usize, 0.0), |(count, sum), word| {
                    let in_messages = frequency.get(&word).copied().unwrap_or(1) as f64;
                    (count + 1, sum + in_messages.ln())
                });
                (sum / (count as f64 + 3.0), sentence)
            })
            .max_by(|one, other| one.0.total_cmp(&other.0));
        if let Some((score, sentence)) = best {
            scored.push((at, score, sentence));
        }
    }
    // The first user message always contributes: it says how the conversation began.
    let first = scored.first().map(|(at, ..)| *at);
    scored.sort_by(|one, other| {
        (Some(other.0) == first).cmp(&(Some(one.0) == first)).then(other.1.total_cmp(&one.1))
    });
    scored.truncate(MAX_KEY_SENTENCES);
    scored.sort_by_key(|(at, ..)| *at);
    let mut chosen: Vec<Excerpt> =
        scored.into_iter().map(|(at, _, sentence)| excerpt(messages[at].speaker, sentence)).collect();
    chosen.dedup();
    chosen
}

/// Questions without a reply from the other side, or with a reply that leaves them open.
fn find_open_questions<'a>(messages: &[TranscriptMessage<'a>]) -> Vec<(&'static str, &'a str)> {
    let mut open = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let reply = messages[at + 1..].iter().find(|other| other.from_user != message.from_user);
        let answered = reply.is_some_and(|reply| {
            let lower = reply.content.to_lowercase();
            !UNANSWERED_PHRASES.iter().any(|phrase| lower.contains(phrase))
        });
        if !answered {
            let questions = sentences(message.content).filter(|sentence| sentence.ends_with(QUESTION_MARKS));
            open.extend(questions.map(|question| (message.speaker, question)));
        }
    }
    open
}

fn last_distinct<'a>(sentences: impl Iterator<Item = (&'static str, &'a str)>, max: usize) -> Vec<Excerpt> {
    let mut all: Vec<Excerpt> = Vec::new();
    for sentence in sentences.map(|(speaker, sentence)| excerpt(speaker, sentence)) {
        all.retain(|other| *other != sentence);
        all.push(sentence);
    }
    all.split_off(all.len().saturating_sub(max))
}

/// The sentences of a text, excluding code blocks.
pub fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('\n')).flat_map(split_line).map(str::trim).filter(|part| part.len() > 3)
}

fn split_line(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for end in sentence_ends(line) {
        parts.push(&line[start..end]);
        start = end;
    }
    parts.push(&line[start..]);
    parts
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 3);
    words.map(str::to_lowercase)
}

fn excerpt(speaker: &'static str, sentence: &str) -> Excerpt {
    Excerpt { speaker, text: shorten(sentence, MAX_SENTENCE_CHARS) }
}

/// Collapses white space and cuts the text at a word to at most `max` characters plus an ellipsis.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((end, _)) = text.char_indices().nth(max) else { return text };
    let cut = text[..end].rfind(' ').filter(|at| at * 2 > end).unwrap_or(end);
    format!("{}…", text[..cut].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_message(content: &str) -> TranscriptMessage<'_> {
        TranscriptMessage { speaker: "User", from_user: true, content }
    }

    fn model_message(content: &str) -> TranscriptMessage<'_> {
        TranscriptMessage { speaker: "Assistant", from_user: false, content }
    }

    #[test]
    fn decisions_and_open_questions_are_quoted_without_answered_questions() {
        let arc = extract_arc(&[
            user_message("How should we shard the orders table? I need it soon."),
            model_message("By customer. What is the largest customer?"),
            user_message("Not sure yet. Let's go with sharding by customer id."),
            model_message("Good. Should old orders move too?"),
        ]);
        let texts = |excerpts: &[Excerpt]| excerpts.iter().map(|it| it.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&arc.decisions), ["Let's go with sharding by customer id."]);
        let questions = ["What is the largest customer?", "Should old orders move too?"];
        assert_eq!(texts(&arc.open_questions), questions);
        assert_eq!(arc.open_questions[0].speaker, "Assistant");
        assert_eq!(texts(arc.focus.as_slice()), ["Let's go with sharding by customer id."]);
    }

    #[test]
    fn key_sentences_start_with_the_first_request_and_include_recurring_words() {
        let mut messages = vec![user_message("I want to plan a trip to Lisbon in May.")];
        for _ in 0..8 {
            messages.push(model_message("The tram in Lisbon is nice."));
            messages.push(user_message("Hm okay."));
        }
        messages.push(user_message("The hotel in Lisbon near the tram is booked for May."));
        let arc = extract_arc(&messages);
        assert_eq!(arc.key_sentences[0].text, "I want to plan a trip to Lisbon in May.");
        assert!(arc.key_sentences.iter().any(|line| line.text.contains("hotel")), "{arc:?}");
        assert!(arc.key_sentences.len() <= MAX_KEY_SENTENCES);
    }

    #[test]
    fn code_blocks_are_skipped_and_long_text_is_cut_at_a_word() {
        assert_eq!(
            sentences("Look:\n```\nlet x = 1. \n```\nDone now.").collect::<Vec<_>>(),
            ["Look:", "Done now."]
        );
        let cut = shorten(&"word ".repeat(100), 20);
        assert_eq!(cut, "word word word word…");
        assert_eq!(shorten("héé", 3), "héé");
    }
}
