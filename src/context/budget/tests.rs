use proptest::prelude::*;

use super::*;

fn situation() -> Situation {
    Situation {
        tokens: DEFAULT_TOKENS,
        depth: Depth::Standard,
        message: 40,
        topics: 1,
        topic_tokens: 1_200,
        entities: 1,
        active: true,
        messages: 12,
        conversation_tokens: 2_000,
        history_preferred: false,
        dialogue_heavy: false,
    }
}

/// Minimum, ideal and maximum.
fn of(situation: &Situation, layer: Layer) -> (usize, usize, usize) {
    let Allotment { minimum, ideal, maximum, .. } = *divide(situation).of(layer);
    (minimum, ideal, maximum)
}

#[test]
fn the_table_holds_line_by_line() {
    let s = situation();
    assert_eq!(of(&s, Layer::Identity), (150, 240, 500));
    assert_eq!(of(&s, Layer::Preferences), (100, 360, 800));
    // 12 % of 12,000, less 40 % of the pressure of 2,000 in 8,400.
    assert_eq!(of(&s, Layer::Topic), (300, 1_302, 3_000));
    assert_eq!(of(&s, Layer::Entity), (150, 400, 1_440));
    // 150 × log2(13).
    assert_eq!(of(&s, Layer::Conversation), (200, 555, 2_400));
    // 10 % × (1 − 1,200 ÷ 1,800).
    assert_eq!(of(&s, Layer::JustInTime), (200, 400, 2_160));
    assert_eq!(of(&s, Layer::History), (500, 2_000, 2_000));
    assert_eq!(of(&s, Layer::Message), (40, 40, 40));
}

#[test]
fn several_topics_and_entities_get_more_up_to_twice() {
    let s = Situation { conversation_tokens: 0, ..situation() };
    let topics = |topics| of(&Situation { topics, ..s }, Layer::Topic).1;
    assert_eq!([topics(0), topics(1), topics(2), topics(9)], [0, 1_440, 1_872, 2_880]);
    let entities = |entities| of(&Situation { entities, ..s }, Layer::Entity).1;
    assert_eq!([entities(0), entities(1), entities(3), entities(9)], [0, 400, 1_200, 1_440]);
}

#[test]
fn a_long_conversation_gets_a_smaller_share_of_the_prompt() {
    let ideal = |tokens, history_preferred, dialogue_heavy| {
        let s = Situation { conversation_tokens: tokens, history_preferred, dialogue_heavy, ..situation() };
        of(&s, Layer::History).1
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
fn priorities_follow_the_situation() {
    let priority = |s: Situation, layer| divide(&s).of(layer).priority;
    let s = situation();
    assert_eq!(priority(s, Layer::Topic), 70);
    assert_eq!(priority(Situation { topics: 2, ..s }, Layer::Topic), 85);
    assert_eq!(priority(Situation { depth: Depth::Deep, ..s }, Layer::Topic), 85);
    assert_eq!(priority(Situation { active: false, ..s }, Layer::Conversation), 30);
    assert_eq!(priority(Situation { messages: 21, history_preferred: true, ..s }, Layer::History), 90);
    assert_eq!(priority(Situation { messages: 20, history_preferred: true, ..s }, Layer::History), 80);
}

#[test]
fn where_the_minima_do_not_fit_the_lowest_priority_goes_without() {
    let s = Situation { tokens: 1_200, message: 100, conversation_tokens: 5_000, ..situation() };
    let budget = divide(&s);
    assert_eq!(budget.total(), 1_200);
    // Priorities 88, 80 and 75 come before 70 and 65.
    assert_eq!(budget.of(Layer::Conversation).given, 200);
    assert_eq!(budget.of(Layer::History).given, 500);
    assert_eq!(budget.of(Layer::Entity).given, 0);
}

#[test]
fn a_message_that_fills_the_prompt_leaves_nothing() {
    let budget = divide(&Situation { message: 20_000, ..situation() });
    assert_eq!((budget.of(Layer::Message).given, budget.total()), (DEFAULT_TOKENS, DEFAULT_TOKENS));
}

fn situations() -> impl Strategy<Value = Situation> {
    let depth = prop_oneof![Just(Depth::Minimal), Just(Depth::Standard), Just(Depth::Deep)];
    let sizes = (0_usize..200_000, 0_usize..5_000, 0_usize..12, 0_usize..20_000, 0_usize..12);
    let conversation = (any::<bool>(), 0_usize..500, 0_usize..200_000, any::<bool>(), any::<bool>());
    (depth, sizes, conversation).prop_map(|(depth, sizes, conversation)| {
        let (tokens, message, topics, topic_tokens, entities) = sizes;
        let (active, messages, conversation_tokens, history_preferred, dialogue_heavy) = conversation;
        Situation {
            tokens,
            depth,
            message,
            topics,
            topic_tokens,
            entities,
            active,
            messages,
            conversation_tokens,
            history_preferred,
            dialogue_heavy,
        }
    })
}

proptest! {
    #[test]
    fn the_sum_never_exceeds_the_prompt_and_bounds_hold(s in situations()) {
        let budget = divide(&s);
        prop_assert!(budget.total() <= s.tokens, "{budget:?}");
        for a in &budget.0 {
            prop_assert!(a.minimum <= a.ideal && a.ideal <= a.maximum, "{a:?}");
            prop_assert!(a.given <= a.maximum, "{a:?}");
        }
    }

    #[test]
    fn nothing_is_left_while_somebody_is_below_the_maximum(s in situations()) {
        let budget = divide(&s);
        let all_full = budget.0.iter().all(|a| a.given == a.maximum);
        prop_assert!(all_full || budget.total() == s.tokens, "{budget:?}");
    }

    #[test]
    fn nobody_is_below_the_minimum_while_a_lower_priority_has_any(s in situations()) {
        let budget = divide(&s);
        let shared: Vec<_> = budget.0.iter().filter(|a| a.layer.is_shared_out()).collect();
        for starved in shared.iter().filter(|a| a.given < a.minimum) {
            for lower in shared.iter().filter(|a| a.priority < starved.priority) {
                prop_assert_eq!(lower.given, 0, "{:?} went before {:?}", lower, starved);
            }
        }
    }

    #[test]
    fn nobody_is_over_the_ideal_while_another_lacks_more_than_a_rounding(s in situations()) {
        let budget = divide(&s);
        let over = budget.0.iter().any(|a| a.layer.is_shared_out() && a.given > a.ideal);
        let lack: usize = budget.0.iter().map(|a| a.ideal.saturating_sub(a.given)).sum();
        prop_assert!(!over || lack <= 8, "{budget:?}");
    }
}
