//! Rate limits per user and class of request, shared by REST and all sockets of the user.
//!
//! A generic cell rate algorithm (GCRA). Each user and class has one number: the time at which the allowance
//! is full again. Expired entries are removed as the map grows, so memory follows the users of the last
//! minute.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponseParts, ResponseParts},
};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    model::UserId,
    settings::{Limit, defaults, limit},
};

const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

const SHARD_COUNT: usize = 16;
/// Number of entries in a shard at which expired entries are first removed.
const MIN_SWEEP_THRESHOLD: usize = 256;

/// Class of requests with its own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitClass {
    PresenceUpdate,
    Heartbeat,
    Typing,
    Context,
    Chat,
    /// Writes to settings, visibility lists, contacts and similar resources; requests for what is known about a user.
    Manage,
}

/// Requests per minute, which is also the burst size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits (0 disables)")]
pub struct LimitSettings {
    /// Status updates per minute and user
    #[arg(long, env = "PRESENCE_UPDATES_PER_MINUTE", default_value = "10", value_parser = limit)]
    pub presence_updates_per_minute: Limit,
    /// Heartbeats per minute and user, of all devices together
    #[arg(long, env = "HEARTBEATS_PER_MINUTE", default_value = "600", value_parser = limit)]
    pub heartbeats_per_minute: Limit,
    /// Typing updates per minute and user
    #[arg(long, env = "TYPING_UPDATES_PER_MINUTE", default_value = "300", value_parser = limit)]
    pub typing_updates_per_minute: Limit,
    /// Context requests per minute and user
    #[arg(long, env = "CONTEXT_REQUESTS_PER_MINUTE", default_value = "30", value_parser = limit)]
    pub context_requests_per_minute: Limit,
    /// Chat requests per minute and user
    #[arg(long, env = "CHAT_REQUESTS_PER_MINUTE", default_value = "20", value_parser = limit)]
    pub chat_requests_per_minute: Limit,
    /// Writes to settings, contacts and similar resources per minute and user
    #[arg(long, env = "MANAGE_REQUESTS_PER_MINUTE", default_value = "120", value_parser = limit)]
    pub manage_requests_per_minute: Limit,
}

impl Default for LimitSettings {
    fn default() -> Self {
        defaults()
    }
}

/// The request is allowed. As part of a response it writes the `RateLimit-*` headers, if there is a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "add it to the response, so that clients see the remaining allowance"]
pub struct Allowance(Option<RateLimitState>);

/// State of one user's allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RateLimitState {
    limit: u32,
    remaining: u32,
    reset: Duration,
}

impl RateLimitState {
    fn write_headers(self, headers: &mut HeaderMap) {
        headers.insert(RATELIMIT_LIMIT, HeaderValue::from(self.limit));
        headers.insert(RATELIMIT_REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RATELIMIT_RESET, HeaderValue::from(whole_seconds(self.reset)));
    }
}

impl Allowance {
    /// Number of requests that are allowed now; `None` without a limit.
    #[must_use]
    pub fn remaining(self) -> Option<u32> {
        self.0.map(|level| level.remaining)
    }
}

impl IntoResponseParts for Allowance {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Self::Error> {
        if let Some(level) = self.0 {
            level.write_headers(response.headers_mut());
        }
        Ok(response)
    }
}

const RATE_LIMIT: &str = "rate limit exceeded";

/// The request exceeds the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}; retry in {} s", subject, whole_seconds(*retry_after))]
pub struct RateLimitExceeded {
    /// What the request exceeds, for the message.
    subject: &'static str,
    /// Time until the next request is allowed.
    pub retry_after: Duration,
    state: RateLimitState,
}

/// The detail of the error that `rollcall_internal.consume_quota` raises.
#[derive(Debug, Deserialize)]
struct ExceededInDatabase {
    limit: u32,
    retry_after_ms: u64,
    reset_ms: u64,
}

impl RateLimitExceeded {
    /// The limit that the database reports; `None` if the detail is not of this format.
    #[must_use]
    pub fn from_database(detail: &str) -> Option<Self> {
        let exceeded: ExceededInDatabase = serde_json::from_str(detail).ok()?;
        Some(Self {
            subject: RATE_LIMIT,
            retry_after: Duration::from_millis(exceeded.retry_after_ms),
            state: RateLimitState {
                limit: exceeded.limit,
                remaining: 0,
                reset: Duration::from_millis(exceeded.reset_ms),
            },
        })
    }

    /// The daily budget of tokens is used up; the next one begins after `retry_after`.
    #[must_use]
    pub const fn of_budget(limit: u32, retry_after: Duration) -> Self {
        let state = RateLimitState { limit, remaining: 0, reset: retry_after };
        Self { subject: "the budget of tokens of this day is used up", retry_after, state }
    }

    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        self.state.write_headers(headers);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(self.retry_after)));
    }
}

/// The rate limiter of one node. Share it in an [`std::sync::Arc`].
#[derive(Debug)]
pub struct RateLimiter {
    settings: LimitSettings,
    started: Instant,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARD_COUNT],
}

#[derive(Debug)]
struct Shard {
    /// Time at which the allowance is full again, in nanoseconds since `started`.
    replenished_at: HashMap<(LimitClass, UserId), u64>,
    /// Number of entries at which expired entries are removed.
    sweep_threshold: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { replenished_at: HashMap::new(), sweep_threshold: MIN_SWEEP_THRESHOLD }
    }
}

impl Shard {
    /// Removes expired entries. The threshold doubles, so the cost per entry is constant.
    fn sweep(&mut self, now: u64) {
        self.replenished_at.retain(|_, full_at| *full_at > now);
        self.sweep_threshold = (self.replenished_at.len() * 2).max(MIN_SWEEP_THRESHOLD);
        self.replenished_at.shrink_to(self.sweep_threshold);
    }
}

impl RateLimiter {
    /// Creates a limiter without recorded requests.
    #[must_use]
    pub fn new(settings: LimitSettings) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { settings, started: Instant::now(), hasher: RandomState::new(), shards }
    }

    /// Counts one request, if it is allowed.
    ///
    /// # Errors
    /// [`RateLimitExceeded`] holds the time to wait. A rejected request does not count.
    pub fn check(&self, class: LimitClass, user: UserId) -> Result<Allowance, RateLimitExceeded> {
        self.check_at(class, user, Instant::now())
    }

    /// [`Self::check`] at a given time.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_at(
        &self,
        class: LimitClass,
        user: UserId,
        now: Instant,
    ) -> Result<Allowance, RateLimitExceeded> {
        let Some(limit) = self.per_minute(class) else { return Ok(Allowance(None)) };
        let now = nanoseconds(now.saturating_duration_since(self.started));
        let interval = 60_000_000_000 / u64::from(limit.get());
        let burst = interval * u64::from(limit.get());

        let key = (class, user);
        let mut shard = self.shards[self.hasher.hash_one(key) as usize % SHARD_COUNT].lock();
        if shard.replenished_at.len() >= shard.sweep_threshold {
            shard.sweep(now);
        }
        let before = shard.replenished_at.get(&key).map_or(now, |full_at| now.max(*full_at));
        let after = before + interval;
        let level = |full_at: u64| RateLimitState {
            limit: limit.get(),
            remaining: u32::try_from(burst.saturating_sub(full_at - now) / interval).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(full_at - now),
        };
        if after - now > burst {
            let retry_after = Duration::from_nanos(after - now - burst);
            return Err(RateLimitExceeded {
                subject: RATE_LIMIT,
                retry_after,
                state: RateLimitState { remaining: 0, ..level(before) },
            });
        }
        shard.replenished_at.insert(key, after);
        Ok(Allowance(Some(level(after))))
    }

    const fn per_minute(&self, class: LimitClass) -> Option<NonZeroU32> {
        match class {
            LimitClass::PresenceUpdate => self.settings.presence_updates_per_minute,
            LimitClass::Heartbeat => self.settings.heartbeats_per_minute,
            LimitClass::Typing => self.settings.typing_updates_per_minute,
            LimitClass::Context => self.settings.context_requests_per_minute,
            LimitClass::Chat => self.settings.chat_requests_per_minute,
            LimitClass::Manage => self.settings.manage_requests_per_minute,
        }
    }
}

/// Seconds, rounded up so that a client does not retry too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn nanoseconds(time: Duration) -> u64 {
    // Overflows after 584 years.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_second(limits: &RateLimiter, seconds: f64) -> Instant {
        limits.started + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn allows_burst_of_ten_then_one_per_six_seconds() {
        let limits = RateLimiter::new(LimitSettings::default());
        let user = UserId::random();
        let check = |at: f64| limits.check_at(LimitClass::PresenceUpdate, user, at_second(&limits, at));
        for remaining in (0..10).rev() {
            assert_eq!(check(1.0).expect("is within the burst").remaining(), Some(remaining));
        }
        let limited = check(1.0).expect_err("is over it");
        assert_eq!(limited.retry_after, Duration::from_secs(6));
        assert_eq!(limited.state, RateLimitState { limit: 10, remaining: 0, reset: Duration::from_secs(60) });
        assert_eq!(check(6.5).expect_err("is still over it").retry_after, Duration::from_millis(500));
        assert!(check(7.0).is_ok());
        assert!(check(7.0).is_err());
        assert_eq!(check(1_000.0).expect("is full again").remaining(), Some(9));
    }

    #[test]
    fn users_and_classes_are_limited_separately() {
        let limits = RateLimiter::new(LimitSettings::default());
        let (user, other) = (UserId::random(), UserId::random());
        let now = at_second(&limits, 0.0);
        while limits.check_at(LimitClass::PresenceUpdate, user, now).is_ok() {}
        assert!(limits.check_at(LimitClass::Chat, user, now).is_ok());
        assert!(limits.check_at(LimitClass::PresenceUpdate, other, now).is_ok());
    }

    #[test]
    fn disabled_limit_stores_nothing() {
        let settings = LimitSettings { chat_requests_per_minute: None, ..LimitSettings::default() };
        let limits = RateLimiter::new(settings);
        let user = UserId::random();
        for _ in 0..1_000 {
            assert_eq!(limits.check(LimitClass::Chat, user), Ok(Allowance(None)));
        }
        assert!(limits.shards.iter().all(|shard| shard.lock().replenished_at.is_empty()));
    }

    #[test]
    fn idle_entries_are_removed() {
        let limits = RateLimiter::new(LimitSettings::default());
        for n in 0..200_000 {
            // 1,000 users per second, each with 6 s to wait: 6,000 entries are active at any time.
            let now = at_second(&limits, f64::from(n) / 1_000.0);
            assert!(limits.check_at(LimitClass::PresenceUpdate, UserId::random(), now).is_ok());
        }
        let entries: usize = limits.shards.iter().map(|shard| shard.lock().replenished_at.len()).sum();
        assert!(entries <= 4 * 6_000, "{entries} entries");
    }

    #[test]
    fn maximum_limit_does_not_overflow() {
        let settings =
            LimitSettings { chat_requests_per_minute: Some(NonZeroU32::MAX), ..LimitSettings::default() };
        assert!(RateLimiter::new(settings).check(LimitClass::Chat, UserId::random()).is_ok());
    }
}
