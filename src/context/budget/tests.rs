use proptest::prelude::*;

use super::*;

fn budget_input() -> BudgetInput {
    BudgetInput {
        tokens: DEFAULT_TOKENS,
        depth: Depth::Standard,
        message_tokens: 40,
        identity_tokens: 200,
        preferences_tokens: 60,
        topic_count: 1,
        topic_tokens: 1_200,
        entity_count: 1,
        message_count: 12,
        conversation_tokens: 2_000,
        history_preferred: false,
        dialogue_heavy: false,
    }
}

/// Minimum, ideal and maximum of a layer.
fn bounds_of(input: &BudgetInput, layer: Layer) -> (usize, usize, usize) {
    let LayerBudget { minimum, ideal, maximum, .. } = *allocate(input).layer(layer);
    (minimum, ideal, maximum)
}

#[test]
fn each_layer_has_the_specified_bounds() {
    let s = budget_input();
    assert_eq!(bounds_of(&s, Layer::Identity), (150, 240, 500));
    assert_eq!(bounds_of(&s, Layer::Preferences), (100, 360, 800));
    // 12 % of 12,000, reduced by 40 % of the pressure 2,000 ÷ 8,400.
    assert_eq!(bounds_of(&s, Layer::Topic), (300, 1_302, 3_000));
    assert_eq!(bounds_of(&s, Layer::Entity), (150, 400, 1_440));
    // 150 × log2(13).
    assert_eq!(bounds_of(&s, Layer::Conversation), (200, 555, 2_400));
    // 10 % × (1 − 1,200 ÷ 1,800).
    assert_eq!(bounds_of(&s, Layer::JustInTime), (200, 400, 2_160));
    assert_eq!(bounds_of(&s, Layer::History), (500, 2_000, 2_000));
    assert_eq!(bounds_of(&s, Layer::Message), (40, 40, 40));
}

#[test]
fn several_topics_and_entities_get_at_most_twice_the_share() {
    let s = BudgetInput { conversation_tokens: 0, ..budget_input() };
    let topics = |topics| bounds_of(&BudgetInput { topic_count: topics, ..s }, Layer::Topic).1;
    assert_eq!([topics(0), topics(1), topics(2), topics(9)], [0, 1_440, 1_872, 2_880]);
    let entities = |entities| bounds_of(&BudgetInput { entity_count: entities, ..s }, Layer::Entity).1;
    assert_eq!([entities(0), entities(1), entities(3), entities(9)], [0, 400, 1_200, 1_440]);
}

#[test]
fn a_longer_conversation_gets_a_smaller_share_of_the_prompt() {
    let ideal = |tokens, history_preferred, dialogue_heavy| {
        let s =
            BudgetInput { conversation_tokens: tokens, history_preferred, dialogue_heavy, ..budget_input() };
        bounds_of(&s, Layer::History).1
    };
    assert_eq!(ideal(3_000, false, false), 3_000);
    assert_eq!(ideal(10_000, false, false), 4_200);
    assert_eq!(ideal(50_000, false, false), 3_600);
    assert_eq!(ideal(50_001, false, false), 3_000);
    assert_eq!(ideal(50_001, true, false), 3_900);
    assert_eq!(ideal(50_001, true, true), 4_680);
    assert_eq!(ideal(1_000, true, true), 1_000, "never more than there is");
}

#[test]
fn priorities_depend_on_the_input() {
    let priority = |s: BudgetInput, layer| allocate(&s).layer(layer).priority;
    let s = budget_input();
    assert_eq!(priority(s, Layer::Topic), 70);
    assert_eq!(priority(BudgetInput { topic_count: 2, ..s }, Layer::Topic), 85);
    assert_eq!(priority(BudgetInput { depth: Depth::Deep, ..s }, Layer::Topic), 85);
    assert_eq!(priority(s, Layer::Conversation), 88);
    assert_eq!(priority(BudgetInput { message_count: 21, history_preferred: true, ..s }, Layer::History), 90);
    assert_eq!(priority(BudgetInput { message_count: 20, history_preferred: true, ..s }, Layer::History), 80);
}

#[test]
fn the_lowest_priorities_get_nothing_when_minimums_do_not_fit() {
    let s = BudgetInput { tokens: 1_200, message_tokens: 100, conversation_tokens: 5_000, ..budget_input() };
    let budget = allocate(&s);
    assert_eq!(budget.total(), 1_200);
    // Priorities 88, 80 and 75 precede 70 and 65.
    assert_eq!(budget.layer(Layer::Conversation).given, 200);
    assert_eq!(budget.layer(Layer::History).given, 500);
    assert_eq!(budget.layer(Layer::Entity).given, 0);
}

#[test]
fn identity_and_preferences_keep_their_floor_under_a_long_message() {
    let s = BudgetInput { message_tokens: 11_790, ..budget_input() };
    assert_eq!(s.required(), 12_000);
    let budget = allocate(&s);
    let given = |layer| budget.layer(layer).given;
    assert_eq!((given(Layer::Message), given(Layer::Identity), given(Layer::Preferences)), (11_790, 150, 60));
    assert_eq!(budget.total(), DEFAULT_TOKENS);
    let nothing_known = BudgetInput { identity_tokens: 0, preferences_tokens: 0, ..s };
    assert_eq!(nothing_known.required(), 11_790);
}

fn budget_inputs() -> impl Strategy<Value = BudgetInput> {
    let depth = prop_oneof![Just(Depth::Minimal), Just(Depth::Standard), Just(Depth::Deep)];
    let sizes = (0_usize..200_000, 0_usize..5_000, 0_usize..12, 0_usize..20_000, 0_usize..12);
    let conversation = (0_usize..500, 0_usize..200_000, any::<bool>(), any::<bool>());
    (depth, sizes, conversation).prop_map(|(depth, sizes, conversation)| {
        let (tokens, message, topics, topic_tokens, entities) = sizes;
        let (messages, conversation_tokens, history_preferred, dialogue_heavy) = conversation;
        BudgetInput {
            tokens,
            depth,
            message_tokens: message,
            identity_tokens: topic_tokens,
            preferences_tokens: message,
            topic_count: topics,
            topic_tokens,
            entity_count: entities,
            message_count: messages,
            conversation_tokens,
            history_preferred,
            dialogue_heavy,
        }
    })
}

proptest! {
    #[test]
    fn the_total_never_exceeds_the_prompt_and_bounds_are_ordered(s in budget_inputs()) {
        let budget = allocate(&s);
        prop_assert!(budget.total() <= s.tokens, "{budget:?}");
        for a in &budget.0 {
            prop_assert!(a.minimum <= a.ideal && a.ideal <= a.maximum, "{a:?}");
            prop_assert!(a.given <= a.maximum, "{a:?}");
        }
    }

    #[test]
    fn no_tokens_remain_while_a_layer_is_below_its_maximum(s in budget_inputs()) {
        let budget = allocate(&s);
        let all_full = budget.0.iter().all(|a| a.given == a.maximum);
        prop_assert!(all_full || budget.total() == s.tokens, "{budget:?}");
    }

    #[test]
    fn no_layer_is_below_its_minimum_while_a_lower_priority_has_tokens(s in budget_inputs()) {
        let budget = allocate(&s);
        let shared: Vec<_> = budget.0.iter().filter(|a| a.layer.is_flexible()).collect();
        for starved in shared.iter().filter(|a| a.given < a.minimum) {
            for lower in shared.iter().filter(|a| a.priority < starved.priority) {
                prop_assert_eq!(lower.given, 0, "{:?} went before {:?}", lower, starved);
            }
        }
    }

    #[test]
    fn no_layer_exceeds_its_ideal_while_another_lacks_more_than_rounding(s in budget_inputs()) {
        let budget = allocate(&s);
        let over = budget.0.iter().any(|a| a.layer.is_flexible() && a.given > a.ideal);
        let missing: usize = budget.0.iter().map(|a| a.ideal.saturating_sub(a.given)).sum();
        prop_assert!(!over || missing <= 8, "{budget:?}");
    }
}
