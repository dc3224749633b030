//! One function a statement in `sql/`. Row structs are private to their file and become words of the model.

pub mod context;
pub mod node;
pub mod presence;
pub mod typing;
