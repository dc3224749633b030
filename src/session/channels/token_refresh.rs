//! Refreshed tokens of a channel. A refresh gets no reply; a rejected token closes the channel.

use std::sync::Arc;

use super::{
    background::Started,
    channel::{Joined, Stage},
    close_cause::CloseCause,
    events::{RefreshedToken, SessionEvent},
    state::{ChannelsSession, Services},
    token::{access_token, token_hash},
};
use crate::{
    auth::ChannelTokenError,
    model::{ChannelId, Topic},
    protocol::phoenix::{Payload, Push},
    transport::Connection,
};

impl ChannelsSession {
    /// Handles `access_token`.
    pub(super) async fn refresh_token(&mut self, index: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let Payload::Json(json) = push.payload else {
            return;
        };
        let (channel, Some(text)) = (&self.channels[index], access_token(json)) else {
            return;
        };
        let Stage::Joined(Joined { token_hash: current, principal, .. }) = &channel.stage else {
            return;
        };
        if *current == token_hash(&text) {
            return;
        }
        let (id, topic) = (channel.id, channel.topic.clone());
        let (services, headers) = (self.services.clone(), principal.headers.clone());
        let work = async move {
            SessionEvent::TokenRefreshed(id, verify_refresh(&services, &topic, &text, headers).await)
        };
        let fallback = SessionEvent::TokenRefreshed(id, Err(ChannelTokenError::Signer.into()));
        match self.start_work(work, fallback, conn) {
            Started::Done(event) => self.on_event(event, conn).await,
            Started::Running(work) => self.set_pending_work(index, work),
        }
    }

    /// Applies the result of a token refresh.
    pub(super) async fn on_token_refreshed(
        &mut self,
        id: ChannelId,
        result: Result<RefreshedToken, CloseCause>,
        conn: &Arc<Connection>,
    ) {
        let Some(index) = self.index_by_id(id) else {
            return;
        };
        let RefreshedToken { principal, token_hash, rights } = match result {
            Ok(refreshed) => refreshed,
            Err(cause) => return self.close_channel(index, cause, conn).await,
        };
        let channel = &mut self.channels[index];
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        joined.work = None;
        if let Some(subscription) = &mut joined.subscription {
            subscription.refresh_token(principal.clone());
        }
        if joined.principal.user_id != principal.user_id {
            joined.user_guard = principal.user_id.map(|user| self.services.users.register(user, conn.id()));
        }
        joined.principal = principal;
        joined.token_hash = token_hash;
        if let Some(private_access) = &joined.private_access {
            let before = private_access.rights;
            if (before.broadcast && !rights.broadcast) || (before.presence && !rights.presence) {
                let topic = channel.topic.name.clone();
                return self.close_channel(index, CloseCause::LostRight(topic), conn).await;
            }
            let allowed = private_access.allowed.clone();
            // Before the new subscription, which updates the rights at once if they have changed since.
            self.apply_rights(index, rights, conn).await;
            self.subscribe_rights(index, rights, allowed, conn);
        }
        self.arm_expiry_timer(conn);
        self.replay_held(id, conn).await;
    }
}

async fn verify_refresh(
    services: &Services,
    topic: &Topic,
    token: &str,
    headers: Arc<str>,
) -> Result<RefreshedToken, CloseCause> {
    let verified = services.verifier.verify_channel_token(token).await?;
    let principal = Arc::new(verified.with_headers(headers));
    let rights = services.authorizer.read_rights(&principal, topic).await;
    let rights = rights.map_err(|error| CloseCause::Rights(error, topic.name.clone()))?;
    Ok(RefreshedToken { principal, token_hash: token_hash(token), rights })
}
