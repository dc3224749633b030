use parking_lot::Mutex;

use super::{entry::value_hash, *};
use crate::auth::{Principal, Role};

const ALLOWED: ProbeResult = ProbeResult { read: Some((true, true)), write: None };
const DENIED: ProbeResult = ProbeResult { read: Some((false, false)), write: None };

fn cache_key(sub: &str, topic: &str) -> CacheKey {
    let claims = format!(r#"{{"sub":"{sub}"}}"#);
    let principal = Principal::with_claims(Role::Authenticated, Some(sub), claims.into());
    CacheKey { principal: principal.into(), topic: topic.into() }
}

#[derive(Default)]
struct RecordingSubscriber(Mutex<Vec<ReadResult>>);

impl RightsSubscriber for RecordingSubscriber {
    fn on_rights_changed(&self, rights: ReadResult) {
        self.0.lock().push(rights);
    }
}

fn connected_cache() -> AuthorizationCache {
    let mut cache = AuthorizationCache::default();
    cache.on_connected();
    cache
}

fn take_checks(cache: &mut AuthorizationCache, queue: QueueKind) -> Vec<RightsCheck> {
    cache.take_batch(queue, 100)
}

fn topics(checks: &[RightsCheck]) -> Vec<&str> {
    checks.iter().map(|check| &*check.key.topic).collect()
}

fn join(
    cache: &mut AuthorizationCache,
    cache_key: &CacheKey,
) -> (Arc<RecordingSubscriber>, EntryId, u64, Arc<CachedWriteRights>) {
    let receiver = cache.read_rights(cache_key.clone()).unwrap_err();
    let check = take_checks(cache, QueueKind::Joins).pop().unwrap();
    cache.on_result(check.entry, Ok(ALLOWED));
    assert_eq!(receiver.blocking_recv().unwrap(), Ok(ReadRights::ALL));
    let subscriber = Arc::<RecordingSubscriber>::default();
    let (entry, id, cached_write, updates) =
        cache.subscribe(cache_key.clone(), ReadRights::ALL, subscriber.clone());
    assert!(updates.is_empty() && !cache.has_pending(QueueKind::Rechecks));
    (subscriber, entry, id, cached_write)
}

#[test]
fn concurrent_requests_share_a_check_and_later_ones_are_cached() {
    let mut cache = connected_cache();
    let first = cache.read_rights(cache_key("a", "room:1")).unwrap_err();
    let second = cache.read_rights(cache_key("a", "room:1")).unwrap_err();
    let check = &take_checks(&mut cache, QueueKind::Joins)[..];
    assert_eq!(topics(check), ["room:1"]);
    let third = cache.read_rights(cache_key("a", "room:1")).unwrap_err();
    assert!(take_checks(&mut cache, QueueKind::Joins).is_empty(), "a check is running");

    cache.on_result(check[0].entry, Ok(ALLOWED));
    for receiver in [first, second, third] {
        assert_eq!(receiver.blocking_recv().unwrap(), Ok(ReadRights::ALL));
    }
    assert_eq!(cache.read_rights(cache_key("a", "room:1")).unwrap(), Ok(ReadRights::ALL));
    assert!(cache.read_rights(cache_key("b", "room:1")).is_err(), "another principal needs its own check");
}

#[test]
fn a_denial_is_not_cached() {
    let mut cache = connected_cache();
    for result in [DENIED, DENIED, ALLOWED] {
        let receiver = cache.read_rights(cache_key("a", "room:1")).unwrap_err();
        let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
        cache.on_result(check.entry, Ok(result));
        assert_eq!(receiver.blocking_recv().unwrap().is_ok(), result == ALLOWED);
    }
    assert!(cache.read_rights(cache_key("a", "room:1")).is_ok());
}

#[test]
fn an_overtaken_check_is_repeated_before_the_reply() {
    let mut cache = connected_cache();
    let receiver = cache.read_rights(cache_key("a", "room:1")).unwrap_err();
    let old = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
    cache.invalidate(&AffectedCallers::All);
    cache.on_result(old.entry, Ok(ALLOWED));

    let new = take_checks(&mut cache, QueueKind::Joins).pop().expect("it is checked again");
    cache.on_result(new.entry, Ok(DENIED));
    assert_eq!(receiver.blocking_recv().unwrap(), Err(AuthorizationError::Unauthorized));
}

#[test]
fn repetitions_of_overtaken_checks_are_bounded() {
    let mut cache = connected_cache();
    let mut receiver = cache.read_rights(cache_key("a", "room:1")).unwrap_err();
    for _ in 0..=MAX_SUPERSEDED {
        assert!(receiver.try_recv().is_err());
        let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
        cache.invalidate(&AffectedCallers::All);
        cache.on_result(check.entry, Ok(ALLOWED));
    }
    assert_eq!(receiver.try_recv().unwrap(), Ok(ReadRights::ALL));
    let subscriber = Arc::<RecordingSubscriber>::default();
    cache.subscribe(cache_key("a", "room:1"), ReadRights::ALL, subscriber);
    assert_eq!(topics(&take_checks(&mut cache, QueueKind::Rechecks)), ["room:1"], "a recheck is due at once");
}

#[test]
fn a_change_rechecks_each_subscription_once_and_notifies_only_losses() {
    let mut cache = connected_cache();
    let (subscriber_a, ..) = join(&mut cache, &cache_key("a", "room:1"));
    let (subscriber_b, ..) = join(&mut cache, &cache_key("b", "room:1"));
    cache.invalidate(&AffectedCallers::All);
    cache.invalidate(&AffectedCallers::All);
    assert!(cache.begin_round());

    let checks = take_checks(&mut cache, QueueKind::Rechecks);
    assert_eq!(checks.len(), 2);
    let mut updates = Vec::new();
    for check in checks {
        let lost = check.key.principal.sub.as_deref() == Some("a");
        updates.extend(cache.on_result(check.entry, Ok(if lost { DENIED } else { ALLOWED })));
    }
    updates.into_iter().for_each(|(subscriber, rights)| subscriber.on_rights_changed(rights));
    assert_eq!(*subscriber_a.0.lock(), [Err(AuthorizationError::Unauthorized)]);
    assert!(subscriber_b.0.lock().is_empty());
    assert!(!cache.begin_round(), "no recheck is left");
}

#[test]
fn value_hashes_equal_those_of_the_database() {
    // left(encode(sha256(convert_to('room:1', 'UTF8')), 'hex'), 8)
    assert_eq!(value_hash("room:1"), 0x4217_a7ce);
}

#[test]
fn entries_named_by_a_change_are_checked_first() {
    let mut cache = connected_cache();
    for n in 0..10 {
        join(&mut cache, &cache_key(&format!("user-{n}"), &format!("room:{n}")));
    }
    cache.invalidate(&AffectedCallers::Likely(vec![
        value_hash("user-7"),
        value_hash("3"),
        value_hash("nobody"),
    ]));
    let mut first = take_checks(&mut cache, QueueKind::Rechecks);
    first.sort_by(|a, b| a.key.topic.cmp(&b.key.topic));
    assert_eq!(topics(&first), ["room:3", "room:7"], "by a part of the topic and by the user");
    assert!(cache.begin_round());
    assert_eq!(take_checks(&mut cache, QueueKind::Rechecks).len(), 8, "then the others");
}

#[test]
fn a_change_that_concerns_no_others_leaves_their_results_valid() {
    let mut cache = connected_cache();
    for n in 0..10 {
        join(&mut cache, &cache_key(&format!("user-{n}"), &format!("room:{n}")));
    }
    // Without a subscription.
    let _receiver = cache.read_rights(cache_key("guest", "room:4")).unwrap_err();
    let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
    cache.on_result(check.entry, Ok(ALLOWED));

    cache.invalidate(&AffectedCallers::Only(vec![value_hash("room:7"), value_hash("guest")]));
    assert!(!cache.are_settled(&["room:7"]) && cache.are_settled(&["room:1", "room:4"]));
    assert_eq!(topics(&take_checks(&mut cache, QueueKind::Rechecks)), ["room:7"]);
    assert!(!cache.is_round_due(), "the others are not checked again");
    assert!(cache.read_rights(cache_key("user-1", "room:1")).is_ok());
    assert!(cache.read_rights(cache_key("guest", "room:4")).is_err(), "an unused entry is outdated too");

    cache.invalidate(&AffectedCallers::Only(vec![value_hash("nobody")]));
    assert!(cache.read_rights(cache_key("user-1", "room:1")).is_ok());
}

#[test]
fn a_check_in_flight_is_repeated_after_a_change_that_concerns_it() {
    let mut cache = connected_cache();
    let mut receiver = cache.read_rights(cache_key("a", "room:1")).unwrap_err();
    let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
    cache.invalidate(&AffectedCallers::Only(vec![value_hash("a")]));
    cache.on_result(check.entry, Ok(ALLOWED));
    assert!(receiver.try_recv().is_err(), "the result may be older than the change");
    let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
    cache.on_result(check.entry, Ok(DENIED));
    assert_eq!(receiver.blocking_recv().unwrap(), Err(AuthorizationError::Unauthorized));
}

#[test]
fn a_user_is_named_by_the_token_and_by_the_id_in_it() {
    let id = "A0000000-0000-4000-8000-00000000000B";
    let hashes = cache_key(id, "room").value_hashes();
    assert!(hashes.contains(&value_hash(id)) && hashes.contains(&value_hash(&id.to_lowercase())));
}

#[test]
fn write_rights_are_cached_until_a_change_that_concerns_them() {
    let mut cache = connected_cache();
    let (_, entry, _, cached) = join(&mut cache, &cache_key("a", "room:1"));
    assert_eq!(cached.get(), None);
    let receiver = cache.write_rights(cache_key("a", "room:1")).unwrap_err();
    let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
    assert!(check.write && !check.read);
    let result = ProbeResult { read: None, write: Some((true, false)) };
    cache.on_result(check.entry, Ok(result));
    let rights = WriteRights { broadcast: true, presence: false };
    assert_eq!(receiver.blocking_recv().unwrap(), Ok(rights));
    assert_eq!(cached.get(), Some(rights));

    cache.invalidate(&AffectedCallers::Likely(vec![value_hash("somebody else")]));
    assert_eq!(cached.get(), Some(rights), "a recheck runs in the background");
    assert!(cache.write_rights(cache_key("a", "room:1")).is_err());
    cache.invalidate(&AffectedCallers::All);
    assert_eq!(cached.get(), None);
    assert!(cache.begin_round());
    let check = take_checks(&mut cache, QueueKind::Rechecks).pop().unwrap();
    assert!(check.read && check.write && check.entry == entry);
    cache.on_result(entry, Ok(ProbeResult { read: Some((true, true)), write: Some((false, false)) }));
    assert_eq!(cached.get(), Some(WriteRights::NONE));
}

#[test]
fn an_overtaken_loss_is_applied_and_an_overtaken_gain_is_not() {
    let mut cache = connected_cache();
    let subscriber = Arc::<RecordingSubscriber>::default();
    let half = ReadRights { broadcast: true, presence: false };
    let (entry, ..) = cache.subscribe(cache_key("a", "room:1"), half, subscriber);
    for (result, notifies) in [((true, true), false), ((false, true), true)] {
        cache.invalidate(&AffectedCallers::All);
        cache.begin_round();
        assert_eq!(take_checks(&mut cache, QueueKind::Rechecks).len(), 1);
        cache.invalidate(&AffectedCallers::All);
        let updates = cache.on_result(entry, Ok(ProbeResult { read: Some(result), write: None }));
        assert_eq!(!updates.is_empty(), notifies);
        assert!(cache.is_round_due(), "it is checked again");
    }
}

#[test]
fn nothing_is_cached_while_disconnected_and_all_is_rechecked_after() {
    let mut cache = connected_cache();
    let (subscriber, ..) = join(&mut cache, &cache_key("a", "room:1"));
    cache.on_disconnected();
    let receiver = cache.read_rights(cache_key("a", "room:1")).unwrap_err();
    let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
    cache.on_result(check.entry, Ok(ALLOWED));
    assert!(receiver.blocking_recv().unwrap().is_ok());
    assert!(cache.read_rights(cache_key("a", "room:1")).is_err(), "not cached");
    let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
    cache.on_result(check.entry, Ok(ALLOWED));
    assert!(
        !cache.is_round_due() && !cache.has_pending(QueueKind::Rechecks),
        "a result would be outdated at once"
    );

    cache.on_connected();
    assert!(cache.begin_round());
    let check = take_checks(&mut cache, QueueKind::Rechecks).pop().unwrap();
    let updates = cache.on_result(check.entry, Ok(DENIED));
    assert_eq!(updates.len(), 1);
    updates.into_iter().for_each(|(subscriber, rights)| subscriber.on_rights_changed(rights));
    assert_eq!(subscriber.0.lock().len(), 1);
}

#[test]
fn a_change_between_join_and_subscription_is_notified_at_once() {
    let mut cache = connected_cache();
    let (_, entry, ..) = join(&mut cache, &cache_key("a", "room:1"));
    cache.invalidate(&AffectedCallers::All);
    cache.begin_round();
    take_checks(&mut cache, QueueKind::Rechecks);
    cache.on_result(entry, Ok(DENIED));
    // Another channel of the same principal joined just before the result.
    let (_, _, _, updates) =
        cache.subscribe(cache_key("a", "room:1"), ReadRights::ALL, Arc::<RecordingSubscriber>::default());
    assert_eq!(updates.len(), 1);
}

#[test]
fn a_timed_out_batch_is_checked_one_by_one_and_the_third_timeout_is_notified() {
    let mut cache = connected_cache();
    let (_, slow, ..) = join(&mut cache, &cache_key("slow", "room:1"));
    let (_, quick, ..) = join(&mut cache, &cache_key("quick", "room:1"));
    cache.invalidate(&AffectedCallers::All);
    cache.begin_round();
    assert_eq!(take_checks(&mut cache, QueueKind::Rechecks).len(), 2);
    cache.isolate(slow);
    cache.isolate(quick);
    for attempt in 1..=3 {
        let check = cache.take_batch(QueueKind::Isolated, 1).pop().unwrap();
        assert_eq!(check.entry, slow);
        let updates = cache.on_failure(slow, AuthorizationError::QueryCanceled);
        assert_eq!(updates.len(), usize::from(attempt == 3));
        if attempt == 1 {
            assert_eq!(cache.take_batch(QueueKind::Isolated, 1).pop().unwrap().entry, quick);
            cache.on_result(quick, Ok(ALLOWED));
        }
        cache.begin_round();
        assert!(take_checks(&mut cache, QueueKind::Rechecks).is_empty(), "not in a batch again");
    }
}

#[test]
fn unused_entries_are_evicted_and_subscribed_ones_are_not() {
    let mut cache = connected_cache();
    let (_, entry, id, _) = join(&mut cache, &cache_key("watched", "room:1"));
    for n in 0..MAX_IDLE + 10 {
        let _receiver = cache.read_rights(cache_key(&format!("user-{n}"), "room:1"));
        let check = take_checks(&mut cache, QueueKind::Joins).pop().unwrap();
        cache.on_result(check.entry, Ok(ALLOWED));
    }
    assert_eq!(cache.by_key.len(), MAX_IDLE + 1);
    assert!(cache.read_rights(cache_key("watched", "room:1")).is_ok());
    cache.unsubscribe(entry, id);
    assert_eq!(cache.subscribed(), 0);
    while !cache.idle.is_empty() {
        cache.evict_oldest();
    }
    assert_eq!((cache.by_key.len(), cache.by_value_hash.len()), (0, 0));
}

#[test]
fn a_request_beyond_the_queue_limit_fails() {
    let mut cache = connected_cache();
    let receivers: Vec<_> = (0..MAX_QUEUED)
        .map(|n| cache.read_rights(cache_key(&format!("user-{n}"), "room:1")).unwrap_err())
        .collect();
    let last = cache.read_rights(cache_key("last", "room:1")).unwrap_err();
    assert_eq!(last.blocking_recv().unwrap(), Err(AuthorizationError::PoolExhausted));
    drop(receivers);
}

#[test]
fn a_topic_is_settled_once_named_subscriptions_were_checked_and_notified() {
    let mut cache = connected_cache();
    let (_subscriber, entry, ..) = join(&mut cache, &cache_key("a", "room:1"));
    join(&mut cache, &cache_key("b", "room:2"));
    assert!(cache.are_settled(&["room:1", "room:2"]));

    cache.invalidate(&AffectedCallers::Likely(vec![value_hash("a")]));
    assert!(!cache.are_settled(&["room:1"]));
    assert!(cache.are_settled(&["room:2"]), "it concerns no subscription there");
    let check = take_checks(&mut cache, QueueKind::Rechecks).pop().expect("named entries are checked first");
    cache.invalidate(&AffectedCallers::Likely(vec![value_hash("a")]));
    cache.on_result(check.entry, Ok(ALLOWED));
    cache.mark_settled(&[check.entry]);
    assert!(!cache.are_settled(&["room:1"]), "the result is older than the second change");

    cache.begin_round();
    for check in take_checks(&mut cache, QueueKind::Rechecks) {
        cache.on_result(check.entry, Ok(ALLOWED));
        assert!(!cache.are_settled(&["room:1"]), "the subscriber was not notified yet");
    }
    cache.mark_settled(&[entry]);
    assert!(cache.are_settled(&["room:1"]));

    let (_subscriber, entry, id, _) = join(&mut cache, &cache_key("c", "room:3"));
    cache.invalidate(&AffectedCallers::All);
    assert!(!cache.are_settled(&["room:3"]), "changed policies concern all");
    cache.unsubscribe(entry, id);
    assert!(cache.are_settled(&["room:3"]), "no subscription is left");
}
