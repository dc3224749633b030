//! Builds the context domain: the engine and its background work.

use std::sync::Arc;

use super::dependencies::Dependencies;
use crate::{
    config::Config,
    context::{ContextEngine, ContextTasks, tokens},
    lifecycle::Tasks,
    model::{Module, Modules},
    pg::listener::NotificationHandler,
};

/// Background tasks of the context domain.
pub(super) struct ContextDomainTasks {
    engine: Arc<ContextEngine>,
    tasks: ContextTasks,
}

pub(super) fn new(
    config: &Config,
    deps: &Dependencies,
) -> anyhow::Result<(Arc<ContextEngine>, impl NotificationHandler + use<>, ContextDomainTasks)> {
    let Dependencies { database, hub, user_index, .. } = deps;
    let (engine, handler, tasks) =
        ContextEngine::new(database.clone(), hub.clone(), user_index.clone(), config.context.clone())?;
    Ok((engine.clone(), handler, ContextDomainTasks { engine, tasks }))
}

impl ContextDomainTasks {
    /// Spawns the tasks, if the module is installed.
    pub(super) fn spawn(self, tasks: &Tasks, modules: Modules) {
        if !modules.contains(Module::Context) {
            return;
        }
        // In a thread of its own: the server is ready without it.
        tokio::task::spawn_blocking(tokens::preload);
        let engine = self.engine;
        tasks.spawn_until_stopped("context engine", |stop| self.tasks.run(stop));
        tasks.spawn_until_stopped("context workers", |stop| engine.clone().run_workers(stop));
        tasks.spawn_until_stopped("context maintenance", |stop| engine.clone().run_maintenance(stop));
        tasks.spawn_until_stopped("context embeddings", |stop| engine.clone().run_embedding_worker(stop));
        tasks.spawn_until_stopped("learning", |stop| engine.clone().run_learning(stop));
        tasks.spawn_until_stopped("roll-ups", |stop| engine.clone().run_roll_ups(stop));
        tasks.spawn_until_stopped("chat turns", |stop| engine.drain_turns(stop));
    }
}
