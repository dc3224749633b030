//! Domain types: IDs, statuses, faces, presences. No dependencies on tokio, axum or SQL statements.

mod channel_id;
mod context;
mod conversation_key;
mod device;
mod event;
mod ids;
pub mod milliseconds;
mod module;
mod operator;
mod operator_state;
mod position;
mod presence;
mod relations;
mod secret;
mod settings;
mod sql;
mod status;
mod text;
mod topic;

pub use channel_id::ChannelId;
pub use context::{ContextVersion, DeviceContext, InvalidLocalTime, LocalTime};
pub use conversation_key::{ConversationKey, InvalidConversationKey};
pub use device::{Device, DeviceId, InvalidDeviceId};
pub use event::{Category, CustomEvent, UnknownCategory};
pub use ids::{ConversationId, InvalidUuid, NodeId, NotebookId, PersonaId, UserId};
pub use module::{Module, Modules};
pub use operator::{AuditEntry, NodeState, VisibilityExplanation};
pub use operator_state::{
    BindingState, ChannelState, ConnectionName, ConnectionState, InvalidConnectionName, LoadSample,
    MessageState, NodeReport, SubscriptionState,
};
pub use position::{InvalidPosition, Position};
pub use presence::{Presence, PresenceSummary, TypingState, TypingUser};
pub use relations::{Block, Contact, ContactStatus, Conversation};
pub use secret::Secret;
pub use settings::{Settings, SettingsUpdate, UnknownVisibility, Visibility};
pub use status::{Face, Reach, Status, UnknownStatus};
pub use text::sanitize;
pub use topic::Topic;
