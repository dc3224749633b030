//! How many tokens of a prompt each layer gets: a pure function of what there is.

use std::fmt;

use serde::Serialize;

/// The whole prompt's tokens, unless the request says otherwise.
pub const DEFAULT_TOKENS: usize = 12_000;

/// A layer of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// L0: who the user is.
    Identity,
    /// L1: how the user wants to be answered.
    Preferences,
    /// L2: what the message is about.
    Topic,
    /// L3: whom and what it mentions.
    Entity,
    /// L4: the arc of the conversation.
    Conversation,
    /// L5: what matches this very message and is in no bundle.
    JustInTime,
    /// L6: the last messages.
    History,
    /// L7: what the user typed.
    Message,
}

impl Layer {
    /// Every layer, by number.
    pub const ALL: [Self; 8] = [
        Self::Identity,
        Self::Preferences,
        Self::Topic,
        Self::Entity,
        Self::Conversation,
        Self::JustInTime,
        Self::History,
        Self::Message,
    ];

    /// From 0, rigid, to 1, liquid.
    #[must_use]
    pub const fn elasticity(self) -> f64 {
        match self {
            Self::Identity | Self::Message => 0.0,
            Self::Preferences => 0.1,
            Self::Topic => 0.6,
            Self::Entity => 0.7,
            Self::Conversation => 0.3,
            Self::JustInTime => 0.5,
            Self::History => 0.4,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", *self as usize)
    }
}

/// How much is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// A greeting.
    Minimal,
    /// Most messages.
    Standard,
    /// The user is researching.
    Deep,
}

impl Depth {
    const fn factor(self) -> f64 {
        match self {
            Self::Minimal => 0.5,
            Self::Standard => 1.0,
            Self::Deep => 1.5,
        }
    }
}

/// What a prompt is for, as far as the budget depends on it. Sizes are in tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetInput {
    /// The whole prompt.
    pub tokens: usize,
    /// How much is looked for.
    pub depth: Depth,
    /// The message.
    pub message_tokens: usize,
    /// Topics that it is about.
    pub topic_count: usize,
    /// The bundles of these topics together.
    pub topic_tokens: usize,
    /// Entities that it is about.
    pub entity_count: usize,
    /// Whether there is a conversation.
    pub has_conversation: bool,
    /// Messages in it.
    pub message_count: usize,
    /// All its messages together.
    pub conversation_tokens: usize,
    /// Whether the message refers to what was said before.
    pub history_preferred: bool,
    /// Whether it goes back and forth in short messages.
    pub dialogue_heavy: bool,
}

/// What one layer gets, and between which bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LayerBudget {
    /// Which.
    pub layer: Layer,
    /// It is not of use with less.
    pub minimum: usize,
    /// It is as wished.
    pub ideal: usize,
    /// It never gets more.
    pub maximum: usize,
    /// Who goes first, from 0 to 100.
    pub priority: usize,
    /// Its tokens.
    pub given: usize,
}

/// All layers' tokens; together never more than the prompt's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Budget(pub [LayerBudget; 8]);

impl Budget {
    /// What a layer gets.
    #[must_use]
    pub const fn layer(&self, layer: Layer) -> &LayerBudget {
        &self.0[layer as usize]
    }

    /// What all get.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.iter().map(|allotment| allotment.given).sum()
    }
}

/// Divides a prompt's tokens among the layers: message, identity and preferences first; then each of the others its
/// minimum, from the highest priority down; then the rest in proportion to what each lacks of its ideal, weighed by
/// priority; and what is still left to the highest priority below its maximum.
#[must_use]
pub fn allocate(situation: &BudgetInput) -> Budget {
    let mut layers = Layer::ALL.map(|layer| layer_bounds(layer, situation));
    let mut left = situation.tokens;
    for layer in [Layer::Message, Layer::Identity, Layer::Preferences] {
        let allotment = &mut layers[layer as usize];
        allotment.given = allotment.ideal.min(left);
        left -= allotment.given;
    }
    let mut by_priority = Layer::ALL;
    by_priority.sort_by_key(|layer| std::cmp::Reverse(layers[*layer as usize].priority));
    for layer in by_priority.into_iter().filter(|layer| layer.is_flexible()) {
        let allotment = &mut layers[layer as usize];
        allotment.given = allotment.minimum.min(left);
        left -= allotment.given;
    }
    left = distribute(&mut layers, left);
    for layer in by_priority {
        let allotment = &mut layers[layer as usize];
        let more = (allotment.maximum - allotment.given).min(left);
        allotment.given += more;
        left -= more;
    }
    Budget(layers)
}

impl Layer {
    const fn is_flexible(self) -> bool {
        !matches!(self, Self::Identity | Self::Preferences | Self::Message)
    }
}

/// Gives in proportion to lack and priority; a share that is more than is lacked goes round again. Returns the rest.
fn distribute(layers: &mut [LayerBudget; 8], mut left: usize) -> usize {
    loop {
        let weight = |allotment: &LayerBudget| {
            (allotment.ideal - allotment.given.min(allotment.ideal)) * allotment.priority
        };
        let whole: usize = layers.iter().map(weight).sum();
        if whole == 0 || left == 0 {
            return left;
        }
        let round = left;
        for allotment in layers.iter_mut() {
            let lack = allotment.ideal - allotment.given.min(allotment.ideal);
            let more = (round * weight(allotment) / whole).min(lack).min(left);
            allotment.given += more;
            left -= more;
        }
        if left == round {
            // Less than a token each.
            return left;
        }
    }
}

/// The table of the layers: minimum, ideal, maximum and priority.
fn layer_bounds(layer: Layer, situation: &BudgetInput) -> LayerBudget {
    let whole = situation.tokens as f64;
    let depth = situation.depth.factor();
    let pressure = (situation.conversation_tokens as f64 / (0.7 * whole).max(1.0)).min(1.0);
    let (topics, entities) = (situation.topic_count as f64, situation.entity_count as f64);
    let (minimum, ideal, maximum) = match layer {
        Layer::Identity => (150.0, (0.02 * whole).min(400.0), 500.0),
        Layer::Preferences => (100.0, (0.03 * whole).min(600.0), 800.0),
        Layer::Topic if situation.topic_count == 0 => (0.0, 0.0, 0.0),
        Layer::Topic => {
            let several = (1.0 + 0.3 * (topics - 1.0)).min(2.0);
            (300.0, 0.12 * whole * depth * several * (1.0 - 0.4 * pressure), 0.25 * whole)
        }
        Layer::Entity if situation.entity_count == 0 => (0.0, 0.0, 0.0),
        Layer::Entity => {
            let several = (1.0 + 0.4 * (entities - 1.0)).min(2.0);
            (150.0, (0.06 * whole * several).min(400.0 * entities), 0.12 * whole)
        }
        Layer::Conversation if !situation.has_conversation => (0.0, 0.0, 0.0),
        Layer::Conversation => {
            let long = (situation.message_count as f64 + 1.0).log2();
            (200.0, (150.0 * long * depth).min(0.15 * whole), 0.20 * whole)
        }
        Layer::JustInTime => {
            let bundled = situation.topic_tokens as f64 / (0.15 * whole).max(1.0);
            (200.0, 0.10 * whole * (1.0 - bundled).max(0.3) * depth, 0.18 * whole)
        }
        Layer::History if !situation.has_conversation => (0.0, 0.0, 0.0),
        Layer::History => history_bounds(situation, whole),
        Layer::Message => {
            let message = situation.message_tokens as f64;
            (message, message, message)
        }
    };
    // In a small prompt shares of it fall below the minimum, and the minimum above the maximum: the bounds stay in order,
    // and no layer is wished for at less than it needs to be of use.
    let maximum = maximum.min(whole).floor();
    let minimum = minimum.min(maximum).floor();
    let ideal = ideal.clamp(minimum, maximum).floor();
    LayerBudget {
        layer,
        minimum: minimum as usize,
        ideal: ideal as usize,
        maximum: maximum as usize,
        priority: priority(layer, situation),
        given: 0,
    }
}

fn history_bounds(situation: &BudgetInput, whole: f64) -> (f64, f64, f64) {
    let there_is = situation.conversation_tokens as f64;
    let share = match situation.conversation_tokens {
        0..=3_000 => there_is,
        3_001..=10_000 => 0.35 * whole,
        10_001..=50_000 => 0.30 * whole,
        _ => 0.25 * whole,
    };
    let preferred = if situation.history_preferred { 1.3 } else { 1.0 };
    let heavy = if situation.dialogue_heavy { 1.2 } else { 1.0 };
    let maximum = (0.60 * whole).min(there_is);
    (500_f64.min(there_is), (share * preferred * heavy).min(there_is), maximum)
}

const fn priority(layer: Layer, situation: &BudgetInput) -> usize {
    match layer {
        Layer::Identity | Layer::Message => 100,
        Layer::Preferences => 95,
        Layer::Topic if situation.topic_count >= 2 || matches!(situation.depth, Depth::Deep) => 85,
        Layer::Topic => 70,
        Layer::Entity => 65,
        Layer::Conversation if situation.has_conversation => 88,
        Layer::Conversation => 30,
        Layer::JustInTime => 75,
        Layer::History if situation.message_count > 20 && situation.history_preferred => 90,
        Layer::History => 80,
    }
}

#[cfg(test)]
mod tests;
