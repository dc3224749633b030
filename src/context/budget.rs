//! Divides the tokens of a prompt among its layers. Pure.

use std::fmt;

use serde::Serialize;

/// Default maximum tokens of a prompt.
pub const DEFAULT_TOKENS: usize = 12_000;

/// A layer of the prompt, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ContextLayerName)]
pub enum Layer {
    /// L0: the user's identity.
    Identity,
    /// L1: the user's instructions and preferences.
    Preferences,
    /// L2: topics of the message.
    Topic,
    /// L3: entities that the message mentions.
    Entity,
    /// L4: summary of the conversation.
    Conversation,
    /// L5: units and memories that match the message and are in no bundle.
    JustInTime,
    /// L6: the last messages of the conversation.
    History,
    /// L7: the user's message.
    Message,
}

impl Layer {
    /// All layers, in order of their number.
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

    /// How much the layer's size may vary, from 0 (fixed) to 1.
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

/// How much context a message needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ContextDepth)]
pub enum Depth {
    /// For example a greeting.
    Minimal,
    Standard,
    /// The user switches between notebooks and chats.
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

/// Input of [`allocate`]. Sizes are in tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetInput {
    /// Maximum tokens of the prompt.
    pub tokens: usize,
    /// How much context the message needs.
    pub depth: Depth,
    /// Tokens of the client's messages.
    pub message_tokens: usize,
    /// Tokens of the bundles of identity and preferences.
    pub identity_tokens: usize,
    pub preferences_tokens: usize,
    /// Number of detected topics.
    pub topic_count: usize,
    /// Tokens of all topic bundles together.
    pub topic_tokens: usize,
    /// Number of detected entities.
    pub entity_count: usize,
    /// Number of messages in the conversation.
    pub message_count: usize,
    /// Tokens of all messages in the conversation.
    pub conversation_tokens: usize,
    /// Whether the message refers to earlier messages.
    pub history_preferred: bool,
    /// Whether the conversation consists of many short messages.
    pub dialogue_heavy: bool,
}

impl BudgetInput {
    /// Tokens that a prompt needs at least: the messages, and of identity and preferences the minimum or what there is.
    #[must_use]
    pub fn required(&self) -> usize {
        self.message_tokens + self.floor(Layer::Identity) + self.floor(Layer::Preferences)
    }

    /// Tokens that a layer keeps however long the messages are.
    fn floor(&self, layer: Layer) -> usize {
        let available = match layer {
            Layer::Identity => self.identity_tokens,
            Layer::Preferences => self.preferences_tokens,
            _ => 0,
        };
        layer_bounds(layer, self).minimum.min(available)
    }
}

/// Bounds and allocated tokens of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LayerBudget {
    pub layer: Layer,
    /// With fewer tokens the layer is useless.
    pub minimum: usize,
    pub ideal: usize,
    pub maximum: usize,
    /// Order of allocation, from 0 to 100; the highest is first.
    pub priority: usize,
    pub given: usize,
}

/// Allocation of all layers. The total never exceeds the prompt's maximum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Budget(pub [LayerBudget; 8]);

impl Budget {
    /// Allocation of one layer.
    #[must_use]
    pub const fn layer(&self, layer: Layer) -> &LayerBudget {
        &self.0[layer as usize]
    }

    /// Allocated tokens of all layers.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.iter().map(|layer_budget| layer_budget.given).sum()
    }
}

/// Divides a prompt's tokens among the layers, in four steps:
///
/// 1. Identity and preferences get their floor, then the messages what they need, then identity and preferences their
///    ideal.
/// 2. The other layers get their minimum, highest priority first.
/// 3. The rest is distributed in proportion to missing tokens times priority.
/// 4. What still remains goes to the layers below their maximum, highest priority first.
#[must_use]
pub fn allocate(input: &BudgetInput) -> Budget {
    let mut layers = Layer::ALL.map(|layer| layer_bounds(layer, input));
    let mut remaining = input.tokens;
    for layer in [Layer::Identity, Layer::Preferences] {
        let layer_budget = &mut layers[layer as usize];
        layer_budget.given = input.floor(layer).min(remaining);
        remaining -= layer_budget.given;
    }
    for layer in [Layer::Message, Layer::Identity, Layer::Preferences] {
        let layer_budget = &mut layers[layer as usize];
        let more = (layer_budget.ideal - layer_budget.given).min(remaining);
        layer_budget.given += more;
        remaining -= more;
    }
    let mut by_priority = Layer::ALL;
    by_priority.sort_by_key(|layer| std::cmp::Reverse(layers[*layer as usize].priority));
    for layer in by_priority.into_iter().filter(|layer| layer.is_flexible()) {
        let layer_budget = &mut layers[layer as usize];
        layer_budget.given = layer_budget.minimum.min(remaining);
        remaining -= layer_budget.given;
    }
    remaining = distribute(&mut layers, remaining);
    for layer in by_priority {
        let layer_budget = &mut layers[layer as usize];
        let more = (layer_budget.maximum - layer_budget.given).min(remaining);
        layer_budget.given += more;
        remaining -= more;
    }
    Budget(layers)
}

impl Layer {
    const fn is_flexible(self) -> bool {
        !matches!(self, Self::Identity | Self::Preferences | Self::Message)
    }
}

/// Distributes tokens in proportion to missing tokens times priority, repeatedly, because no layer gets more than it
/// misses. Returns the remaining tokens.
fn distribute(layers: &mut [LayerBudget; 8], mut remaining: usize) -> usize {
    loop {
        let weight = |layer_budget: &LayerBudget| {
            (layer_budget.ideal - layer_budget.given.min(layer_budget.ideal)) * layer_budget.priority
        };
        let whole: usize = layers.iter().map(weight).sum();
        if whole == 0 || remaining == 0 {
            return remaining;
        }
        let round = remaining;
        for layer_budget in layers.iter_mut() {
            let missing = layer_budget.ideal - layer_budget.given.min(layer_budget.ideal);
            let more = (round * weight(layer_budget) / whole).min(missing).min(remaining);
            layer_budget.given += more;
            remaining -= more;
        }
        if remaining == round {
            // Every share rounds down to zero.
            return remaining;
        }
    }
}

/// Minimum, ideal, maximum and priority of a layer.
fn layer_bounds(layer: Layer, input: &BudgetInput) -> LayerBudget {
    let whole = input.tokens as f64;
    let depth = input.depth.factor();
    let pressure = (input.conversation_tokens as f64 / (0.7 * whole).max(1.0)).min(1.0);
    let (topics, entities) = (input.topic_count as f64, input.entity_count as f64);
    let (minimum, ideal, maximum) = match layer {
        Layer::Identity => (150.0, (0.02 * whole).min(400.0), 500.0),
        Layer::Preferences => (100.0, (0.03 * whole).min(600.0), 800.0),
        Layer::Topic if input.topic_count == 0 => (0.0, 0.0, 0.0),
        Layer::Topic => {
            let several = (1.0 + 0.3 * (topics - 1.0)).min(2.0);
            (300.0, 0.12 * whole * depth * several * (1.0 - 0.4 * pressure), 0.25 * whole)
        }
        Layer::Entity if input.entity_count == 0 => (0.0, 0.0, 0.0),
        Layer::Entity => {
            let several = (1.0 + 0.4 * (entities - 1.0)).min(2.0);
            (150.0, (0.06 * whole * several).min(400.0 * entities), 0.12 * whole)
        }
        Layer::Conversation => {
            let long = (input.message_count as f64 + 1.0).log2();
            (200.0, (150.0 * long * depth).min(0.15 * whole), 0.20 * whole)
        }
        Layer::JustInTime => {
            let bundled = input.topic_tokens as f64 / (0.15 * whole).max(1.0);
            (200.0, 0.10 * whole * (1.0 - bundled).max(0.3) * depth, 0.18 * whole)
        }
        Layer::History => history_bounds(input, whole),
        Layer::Message => {
            let message = input.message_tokens as f64;
            (message, message, message)
        }
    };
    // In a small prompt the shares fall below the minimum. Keep minimum ≤ ideal ≤ maximum.
    let maximum = maximum.min(whole).floor();
    let minimum = minimum.min(maximum).floor();
    let ideal = ideal.clamp(minimum, maximum).floor();
    LayerBudget {
        layer,
        minimum: minimum as usize,
        ideal: ideal as usize,
        maximum: maximum as usize,
        priority: priority(layer, input),
        given: 0,
    }
}

fn history_bounds(input: &BudgetInput, whole: f64) -> (f64, f64, f64) {
    let available = input.conversation_tokens as f64;
    let share = match input.conversation_tokens {
        0..=3_000 => available,
        3_001..=10_000 => 0.35 * whole,
        10_001..=50_000 => 0.30 * whole,
        _ => 0.25 * whole,
    };
    let preferred = if input.history_preferred { 1.3 } else { 1.0 };
    let heavy = if input.dialogue_heavy { 1.2 } else { 1.0 };
    let maximum = (0.60 * whole).min(available);
    (500_f64.min(available), (share * preferred * heavy).min(available), maximum)
}

const fn priority(layer: Layer, input: &BudgetInput) -> usize {
    match layer {
        Layer::Identity | Layer::Message => 100,
        Layer::Preferences => 95,
        Layer::Topic if input.topic_count >= 2 || matches!(input.depth, Depth::Deep) => 85,
        Layer::Topic => 70,
        Layer::Entity => 65,
        Layer::Conversation => 88,
        Layer::JustInTime => 75,
        Layer::History if input.message_count > 20 && input.history_preferred => 90,
        Layer::History => 80,
    }
}

#[cfg(test)]
mod tests;
