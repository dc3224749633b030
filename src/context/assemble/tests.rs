use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn fresh(bundle_type: &str, about: Option<Uuid>, content: &str) -> Value {
    json!({"type": bundle_type, "ref": about, "reason": "fresh", "id": Uuid::new_v4(), "content": content,
        "tokens": tokens::count(content), "version": 1, "unit_ids": [], "memory_ids": [],
        "compiled_at": "2026-01-01T00:00:00Z"})
}

fn found(bundles: Value, units: Value, history: Value) -> Value {
    let messages = history.as_array().map_or(0, Vec::len);
    json!({"conversation": {"messages": messages, "tokens": messages * 20}, "detected": [], "bundles": bundles,
        "units": units, "memories": [], "history": history, "paths": [],
        "seeing": "1:1:", "read_at": "2026-01-01T00:00:00Z"})
}

const QUESTION: &str = "What about the plan?";

fn try_prompt(found: Value, tokens: usize) -> Result<Prompt, PromptError> {
    let found = serde_json::from_value(found).expect("is of the shape");
    let client_messages = &[ChatMessage::new("user", QUESTION)];
    build_prompt(
        found,
        PromptOptions { message: QUESTION, client_messages, max_tokens: tokens, with_history: true },
    )
}

fn prompt(found: Value, tokens: usize) -> Prompt {
    try_prompt(found, tokens).expect("fits")
}

#[test]
fn sections_are_ordered_by_priority_without_duplicates() {
    let (held, loose) = (Uuid::new_v4(), Uuid::new_v4());
    let mut identity = fresh("identity_core", None, "## About This User\n- Is Ada.");
    identity["unit_ids"] = json!([held]);
    let bundles =
        json!([identity, fresh("conversation", Some(Uuid::new_v4()), "## Current Conversation\nA plan.")]);
    let units = json!([
        {"id": held, "content": "Held already.", "score": 0.9},
        {"id": loose, "content": "The plan is to ship in May.", "score": 0.8},
        {"id": Uuid::new_v4(), "content": "Hardly alike.", "score": 0.1}]);
    let prompt = prompt(found(bundles, units, json!([])), 12_000);
    let order = ["About This User", "Current Conversation", "Just-In-Time Knowledge"];
    let offsets: Vec<_> =
        order.iter().map(|heading| prompt.system.find(heading).expect("is there")).collect();
    assert!(offsets.is_sorted(), "{}", prompt.system);
    assert!(prompt.system.contains("ship in May") && !prompt.system.contains("Held already"));
    assert!(!prompt.system.contains("Hardly"));
    assert_eq!((prompt.ready, prompt.wanted), (2, 2));
    assert_eq!(prompt.used, ["identity_core", "conversation"]);
    assert!((prompt.hit_rate() - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_stale_bundle_is_compiled_from_its_sources_and_counts_as_a_miss() {
    let stale = json!({"type": "identity_core", "ref": null, "reason": "dirty", "id": Uuid::new_v4(),
        "sources": {"memories": [{"id": Uuid::new_v4(), "content": "Is Grace.", "category": "identity"}]}});
    let bundles = json!([stale, fresh("global_prefs", None, "## Response Guidelines\n- Be brief.")]);
    let prompt = prompt(found(bundles, json!([]), json!([])), 12_000);
    assert!(prompt.system.contains("Is Grace."));
    assert_eq!((prompt.compiled.len(), prompt.misses.len(), prompt.hits.len()), (1, 1, 1));
    assert!((prompt.hit_rate() - 0.5).abs() < f64::EPSILON);
    assert!(prompt.sections[0].reason.contains("a source had changed"), "{:?}", prompt.sections[0]);
}

#[test]
fn the_newest_messages_that_fit_are_kept_in_order() {
    let history: Vec<_> = (0..30)
        .map(|n| json!({"id": Uuid::new_v4(), "role": if n % 2 == 0 { "user" } else { "assistant" }, "content": format!("message {n}")}))
        .collect();
    let prompt = prompt(found(json!([]), json!([]), json!(history)), 120);
    assert!(prompt.tokens() <= 120, "{}", prompt.tokens());
    assert_eq!(
        prompt.history.last().map(|message| message.text().into_owned()),
        Some("message 29".to_owned())
    );
    assert!(prompt.history.len() < 30 && prompt.history.len() > 3);
}

proptest! {
    #[test]
    fn a_prompt_never_exceeds_its_token_limit(
        sizes in prop::collection::vec(0_usize..800, 4),
        units in prop::collection::vec(1_usize..200, 0..12),
        history in prop::collection::vec(1_usize..200, 0..20),
        max in 50_usize..4_000,
    ) {
        let text = |words: usize| "Some words. ".repeat(words / 2);
        let kinds = ["identity_core", "global_prefs", "conversation", "topic"];
        let bundles: Vec<_> = kinds.iter().zip(&sizes)
            .map(|(kind, words)| fresh(kind, (kind.len() < 13 && kind.contains('t')).then(Uuid::new_v4), &text(*words)))
            .collect();
        let units: Vec<_> = units.iter()
            .map(|words| json!({"id": Uuid::new_v4(), "content": text(*words), "score": 0.7})).collect();
        let history: Vec<_> = history.iter()
            .map(|words| json!({"id": Uuid::new_v4(), "role": "user", "content": text(*words)})).collect();
        let asked = ChatMessage::new("user", QUESTION).tokens();
        match try_prompt(found(json!(bundles), json!(units), json!(history)), max) {
            Ok(prompt) => {
                let history: usize = prompt.history.iter().map(ChatMessage::tokens).sum();
                let real = tokens::count(&prompt.system) + history + asked;
                prop_assert!(real <= max, "{real} of {max}");
                // What is known of the user and of how to answer is never left out.
                for (name, words) in kinds.iter().zip(&sizes).take(2) {
                    prop_assert!(*words < 2 || prompt.used.iter().any(|used| used == name), "{name}: {:?}", prompt.sections);
                }
            }
            Err(PromptError::TooLong(PromptTooLong { messages, kept, max: limit })) => {
                prop_assert!(messages == asked && kept <= 250 && limit == max && messages + kept > max);
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

#[test]
fn a_question_that_is_asked_again_is_in_the_prompt_once() {
    let conversation = fresh(
        "conversation",
        Some(Uuid::new_v4()),
        &format!(
            "## Current Conversation\nbegun.\n\n### So far\n- User: \"Hello\"\n- User: \"{QUESTION}\"\n- User: \"{QUESTION}\""
        ),
    );
    let message = |content: &str| json!({"id": Uuid::new_v4(), "role": "user", "content": content});
    let history = json!([message("Hello"), message(QUESTION), message(QUESTION)]);
    let prompt = prompt(found(json!([conversation]), json!([]), history), 12_000);
    assert!(
        !prompt.system.contains(QUESTION) && prompt.system.contains("- User: \"Hello\""),
        "{}",
        prompt.system
    );
    let history: Vec<_> = prompt.history.iter().map(|message| message.text().into_owned()).collect();
    assert_eq!(history, ["Hello"]);
}
