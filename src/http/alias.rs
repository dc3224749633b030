//! Operations that are served at a second path.

use axum::routing::MethodRouter;
use utoipa_axum::router::OpenApiRouter;

/// A second path of an operation.
pub(super) struct Alias {
    /// The path at which the operation is described.
    pub of: &'static str,
    pub path: &'static str,
    /// ID of the operation at `path`, for the description of the API.
    pub operation_id: &'static str,
    /// Stands at `path` in place of the operation's own description.
    pub description: &'static str,
}

impl Alias {
    /// Serves `handler` at the second path, and describes it there like the operation at the first.
    ///
    /// # Panics
    ///
    /// If `router` does not describe the first path.
    pub(super) fn add_to<S>(&self, mut router: OpenApiRouter<S>, handler: MethodRouter<S>) -> OpenApiRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let paths = &mut router.get_openapi_mut().paths.paths;
        let mut item = paths.get(self.of).expect("the operation is described").clone();
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.operation_id = Some(self.operation_id.to_owned());
            operation.description = Some(self.description.to_owned());
        }
        paths.insert(self.path.to_owned(), item);
        router.route(self.path, handler)
    }
}
