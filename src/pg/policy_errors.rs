//! Names the policy that made a caller's statement fail. PostgreSQL's error does not.

use std::{sync::Arc, time::Duration};

use super::{Database, PgError, failing_policies::FailingPolicy};
use crate::auth::Principal;

/// Timeout of the evaluation.
const TIMEOUT: Duration = Duration::from_secs(1);
impl Database {
    /// Replaces the error by [`PgError::PolicyFailed`] if a policy raises the same one for this caller.
    pub(super) async fn name_failing_policy(&self, caller: &Principal, error: PgError) -> PgError {
        let state = match &error {
            // Data exceptions (class 22) are those of values.
            PgError::Failed(source) => source.code().filter(|state| !state.code().starts_with("22")).cloned(),
            // Such as a function that the caller's role may not execute. Row-level security has another message.
            PgError::PermissionDenied(source) => source
                .as_db_error()
                .filter(|source| source.message().starts_with("permission denied"))
                .map(|source| source.code().clone()),
            _ => None,
        };
        let Some(state) = state else { return error };
        let found = match self.failing_policies.claim() {
            Some(found) => found,
            None => self.evaluate_policies(caller).await,
        };
        let policy = found.iter().find(|policy| policy.state == state.code()).cloned();
        match (policy, error) {
            (Some(policy), PgError::Failed(source) | PgError::PermissionDenied(source)) => {
                PgError::PolicyFailed { policy, source }
            }
            (_, error) => error,
        }
    }

    async fn evaluate_policies(&self, caller: &Principal) -> Arc<[FailingPolicy]> {
        let (role, claims): (&str, &str) = (caller.role.as_str(), &caller.claims);
        let statement = include_str!("../../sql/visibility/failing_policies.sql");
        let Ok(rows) = self.query_and_roll_back(TIMEOUT, statement, &[&role, &claims]).await else {
            return Arc::from([]);
        };
        let found: Arc<[FailingPolicy]> = rows.iter().map(FailingPolicy::from).collect();
        for FailingPolicy { relation, policy, state, message } in found.iter() {
            tracing::warn!(
                relation,
                policy,
                role,
                sqlstate = state,
                error = message,
                "a policy raises an error"
            );
        }
        self.failing_policies.store(Arc::clone(&found));
        found
    }
}
