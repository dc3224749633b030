//! The words of the domain: ids, statuses, faces, presences. Pure: no tokio, no SQL, no axum.

mod context;
mod device;
mod ids;
mod presence;
mod status;
mod text;

pub use context::{DeviceContext, InvalidLocalTime, LocalTime};
pub use device::{DeviceId, InvalidDeviceId};
pub use ids::{ConversationId, NodeId, NotebookId, PersonaId, UserId};
pub use presence::{Presence, TypingState, Typist};
pub use status::{Face, Reach, Status, UnknownStatus};
pub use text::neutralise;
