use parking_lot::Mutex;

use super::{entry::value_hash, *};
use crate::channels::ChannelPrincipal;

const ALLOWED: ProbeResult = ProbeResult { read: Some((true, true)), write: None };
const DENIED: ProbeResult = ProbeResult { read: Some((false, false)), write: None };

fn cache_key(sub: &str, topic: &str) -> CacheKey {
    let claimant = ChannelPrincipal {
        role: "authenticated".into(),
        claims: format!(r#"{{"sub":"{sub}"}}"#).into(),
        sub: Some(sub.into()),
        headers: "{}".into(),
        expires_at: jiff::Timestamp::MAX,
    };
    CacheKey { principal: claimant.into(), topic: topic.into() }
}

#[derive(Default)]
struct RecordingSubscriber(Mutex<Vec<ReadResult>>);

impl RightsSubscriber for RecordingSubscriber {
    fn on_rights_changed(&self, rights: ReadResult) {
        self.0.lock().push(rights);
    }
}

fn connected_cache() -> AuthorizationCache {
    let mut verdicts = AuthorizationCache::default();
    verdicts.on_connected();
    verdicts
}

/// The topics asked about next.
fn take_checks(verdicts: &mut AuthorizationCache, line: QueueKind) -> Vec<RightsCheck> {
    verdicts.take_batch(line, 100)
}

fn topics(questions: &[RightsCheck]) -> Vec<&str> {
    questions.iter().map(|question| &*question.key.topic).collect()
}

/// A pair that has joined and watches.
fn join(
    verdicts: &mut AuthorizationCache,
    pair: &CacheKey,
) -> (Arc<RecordingSubscriber>, EntryId, u64, Arc<CachedWriteRights>) {
    let waits = verdicts.read_rights(pair.clone()).unwrap_err();
    let question = take_checks(verdicts, QueueKind::Joins).pop().unwrap();
    verdicts.on_result(question.entry, Ok(ALLOWED));
    assert_eq!(waits.blocking_recv().unwrap(), Ok(ReadRights::ALL));
    let told = Arc::<RecordingSubscriber>::default();
    let (key, id, known_write, news) = verdicts.subscribe(pair.clone(), ReadRights::ALL, told.clone());
    assert!(news.is_empty() && !verdicts.has_pending(QueueKind::Rechecks));
    (told, key, id, known_write)
}

#[test]
fn those_who_wait_for_the_same_answer_share_one_question_and_later_ones_need_none() {
    let mut verdicts = connected_cache();
    let first = verdicts.read_rights(cache_key("a", "room:1")).unwrap_err();
    let second = verdicts.read_rights(cache_key("a", "room:1")).unwrap_err();
    let question = &take_checks(&mut verdicts, QueueKind::Joins)[..];
    assert_eq!(topics(question), ["room:1"]);
    let third = verdicts.read_rights(cache_key("a", "room:1")).unwrap_err();
    assert!(take_checks(&mut verdicts, QueueKind::Joins).is_empty(), "it is being asked already");

    verdicts.on_result(question[0].entry, Ok(ALLOWED));
    for waits in [first, second, third] {
        assert_eq!(waits.blocking_recv().unwrap(), Ok(ReadRights::ALL));
    }
    assert_eq!(verdicts.read_rights(cache_key("a", "room:1")).unwrap(), Ok(ReadRights::ALL));
    assert!(verdicts.read_rights(cache_key("b", "room:1")).is_err(), "another caller is another question");
}

#[test]
fn a_no_is_asked_again() {
    let mut verdicts = connected_cache();
    for answer in [DENIED, DENIED, ALLOWED] {
        let waits = verdicts.read_rights(cache_key("a", "room:1")).unwrap_err();
        let question = take_checks(&mut verdicts, QueueKind::Joins).pop().unwrap();
        verdicts.on_result(question.entry, Ok(answer));
        assert_eq!(waits.blocking_recv().unwrap().is_ok(), answer == ALLOWED);
    }
    assert!(verdicts.read_rights(cache_key("a", "room:1")).is_ok());
}

#[test]
fn an_answer_that_a_change_overtook_is_asked_again_before_it_is_given() {
    let mut verdicts = connected_cache();
    let waits = verdicts.read_rights(cache_key("a", "room:1")).unwrap_err();
    let old = take_checks(&mut verdicts, QueueKind::Joins).pop().unwrap();
    verdicts.invalidate(&[]);
    verdicts.on_result(old.entry, Ok(ALLOWED));

    let new = take_checks(&mut verdicts, QueueKind::Joins).pop().expect("it is asked again");
    verdicts.on_result(new.entry, Ok(DENIED));
    assert_eq!(waits.blocking_recv().unwrap(), Err(AuthorizationError::Unauthorized));
}

#[test]
fn changes_without_end_do_not_keep_an_answer_back_for_ever() {
    let mut verdicts = connected_cache();
    let mut waits = verdicts.read_rights(cache_key("a", "room:1")).unwrap_err();
    for _ in 0..=MAX_SUPERSEDED {
        assert!(waits.try_recv().is_err());
        let question = take_checks(&mut verdicts, QueueKind::Joins).pop().unwrap();
        verdicts.invalidate(&[]);
        verdicts.on_result(question.entry, Ok(ALLOWED));
    }
    assert_eq!(waits.try_recv().unwrap(), Ok(ReadRights::ALL));
    let told = Arc::<RecordingSubscriber>::default();
    verdicts.subscribe(cache_key("a", "room:1"), ReadRights::ALL, told);
    assert_eq!(
        topics(&take_checks(&mut verdicts, QueueKind::Rechecks)),
        ["room:1"],
        "but it is asked about at once"
    );
}

#[test]
fn a_change_asks_everybody_who_watches_once_and_tells_only_who_lost() {
    let mut verdicts = connected_cache();
    let (told_a, ..) = join(&mut verdicts, &cache_key("a", "room:1"));
    let (told_b, ..) = join(&mut verdicts, &cache_key("b", "room:1"));
    verdicts.invalidate(&[]);
    verdicts.invalidate(&[]);
    assert!(verdicts.begin_round());

    let questions = take_checks(&mut verdicts, QueueKind::Rechecks);
    assert_eq!(questions.len(), 2);
    let mut news = Vec::new();
    for question in questions {
        let lost = question.key.principal.sub.as_deref() == Some("a");
        news.extend(verdicts.on_result(question.entry, Ok(if lost { DENIED } else { ALLOWED })));
    }
    news.into_iter().for_each(|(watcher, rights)| watcher.on_rights_changed(rights));
    assert_eq!(*told_a.0.lock(), [Err(AuthorizationError::Unauthorized)]);
    assert!(told_b.0.lock().is_empty());
    assert!(!verdicts.begin_round(), "nothing is left to ask");
}

#[test]
fn traces_are_those_that_the_database_makes() {
    // left(encode(sha256(convert_to('room:1', 'UTF8')), 'hex'), 8)
    assert_eq!(value_hash("room:1"), 0x4217_a7ce);
}

#[test]
fn those_whom_a_change_names_are_asked_first() {
    let mut verdicts = connected_cache();
    for n in 0..10 {
        join(&mut verdicts, &cache_key(&format!("user-{n}"), &format!("room:{n}")));
    }
    verdicts.invalidate(&[value_hash("user-7"), value_hash("3"), value_hash("nobody")]);
    let mut first = take_checks(&mut verdicts, QueueKind::Rechecks);
    first.sort_by(|a, b| a.key.topic.cmp(&b.key.topic));
    assert_eq!(topics(&first), ["room:3", "room:7"], "by a part of the topic, and by the user");
    assert!(verdicts.begin_round());
    assert_eq!(take_checks(&mut verdicts, QueueKind::Rechecks).len(), 8, "and the others after them");
}

#[test]
fn rights_to_write_are_known_until_a_change_that_may_concern_them() {
    let mut verdicts = connected_cache();
    let (_, key, _, known) = join(&mut verdicts, &cache_key("a", "room:1"));
    assert_eq!(known.get(), None);
    let waits = verdicts.write_rights(cache_key("a", "room:1")).unwrap_err();
    let question = take_checks(&mut verdicts, QueueKind::Joins).pop().unwrap();
    assert!(question.write && !question.read);
    let written = ProbeResult { read: None, write: Some((true, false)) };
    verdicts.on_result(question.entry, Ok(written));
    let rights = WriteRights { broadcast: true, presence: false };
    assert_eq!(waits.blocking_recv().unwrap(), Ok(rights));
    assert_eq!(known.get(), Some(rights));

    verdicts.invalidate(&[value_hash("somebody else")]);
    assert_eq!(known.get(), Some(rights), "it is asked again all the same, but nobody waits for it");
    assert!(verdicts.write_rights(cache_key("a", "room:1")).is_err());
    verdicts.invalidate(&[]);
    assert_eq!(known.get(), None);
    assert!(verdicts.begin_round());
    let question = take_checks(&mut verdicts, QueueKind::Rechecks).pop().unwrap();
    assert!(question.read && question.write && question.entry == key);
    verdicts.on_result(key, Ok(ProbeResult { read: Some((true, true)), write: Some((false, false)) }));
    assert_eq!(known.get(), Some(WriteRights::NONE));
}

#[test]
fn a_loss_is_believed_also_where_a_further_change_overtook_it_and_a_gain_is_not() {
    let mut verdicts = connected_cache();
    let told = Arc::<RecordingSubscriber>::default();
    let half = ReadRights { broadcast: true, presence: false };
    let (key, ..) = verdicts.subscribe(cache_key("a", "room:1"), half, told);
    for (answer, tells) in [((true, true), false), ((false, true), true)] {
        verdicts.invalidate(&[]);
        verdicts.begin_round();
        assert_eq!(take_checks(&mut verdicts, QueueKind::Rechecks).len(), 1);
        verdicts.invalidate(&[]);
        let news = verdicts.on_result(key, Ok(ProbeResult { read: Some(answer), write: None }));
        assert_eq!(!news.is_empty(), tells);
        assert!(verdicts.is_round_due(), "it is asked again");
    }
}

#[test]
fn deaf_nothing_is_answered_from_memory_and_afterwards_everybody_is_suspect() {
    let mut verdicts = connected_cache();
    let (told, ..) = join(&mut verdicts, &cache_key("a", "room:1"));
    verdicts.on_disconnected();
    let waits = verdicts.read_rights(cache_key("a", "room:1")).unwrap_err();
    let question = take_checks(&mut verdicts, QueueKind::Joins).pop().unwrap();
    verdicts.on_result(question.entry, Ok(ALLOWED));
    assert!(waits.blocking_recv().unwrap().is_ok());
    assert!(verdicts.read_rights(cache_key("a", "room:1")).is_err(), "and not remembered");
    let question = take_checks(&mut verdicts, QueueKind::Joins).pop().unwrap();
    verdicts.on_result(question.entry, Ok(ALLOWED));
    assert!(
        !verdicts.is_round_due() && !verdicts.has_pending(QueueKind::Rechecks),
        "an answer would be void at once"
    );

    verdicts.on_connected();
    assert!(verdicts.begin_round());
    let question = take_checks(&mut verdicts, QueueKind::Rechecks).pop().unwrap();
    let news = verdicts.on_result(question.entry, Ok(DENIED));
    assert_eq!(news.len(), 1);
    news.into_iter().for_each(|(watcher, rights)| watcher.on_rights_changed(rights));
    assert_eq!(told.0.lock().len(), 1);
}

#[test]
fn what_changed_between_joining_and_watching_is_told_when_watching_begins() {
    let mut verdicts = connected_cache();
    let (_, key, ..) = join(&mut verdicts, &cache_key("a", "room:1"));
    verdicts.invalidate(&[]);
    verdicts.begin_round();
    take_checks(&mut verdicts, QueueKind::Rechecks);
    verdicts.on_result(key, Ok(DENIED));
    // Another channel of the same caller joined just before that.
    let (_, _, _, news) =
        verdicts.subscribe(cache_key("a", "room:1"), ReadRights::ALL, Arc::<RecordingSubscriber>::default());
    assert_eq!(news.len(), 1);
}

#[test]
fn a_question_without_an_end_is_asked_caller_by_caller_and_a_watcher_hears_of_the_third_time() {
    let mut verdicts = connected_cache();
    let (_, slow, ..) = join(&mut verdicts, &cache_key("slow", "room:1"));
    let (_, quick, ..) = join(&mut verdicts, &cache_key("quick", "room:1"));
    verdicts.invalidate(&[]);
    verdicts.begin_round();
    assert_eq!(take_checks(&mut verdicts, QueueKind::Rechecks).len(), 2);
    verdicts.isolate(slow);
    verdicts.isolate(quick);
    for turn in 1..=3 {
        let question = verdicts.take_batch(QueueKind::Isolated, 1).pop().unwrap();
        assert_eq!(question.entry, slow);
        let news = verdicts.on_failure(slow, AuthorizationError::QueryCanceled);
        assert_eq!(news.len(), usize::from(turn == 3));
        if turn == 1 {
            assert_eq!(verdicts.take_batch(QueueKind::Isolated, 1).pop().unwrap().entry, quick);
            verdicts.on_result(quick, Ok(ALLOWED));
        }
        verdicts.begin_round();
        assert!(take_checks(&mut verdicts, QueueKind::Rechecks).is_empty(), "not in a batch again");
    }
}

#[test]
fn what_nobody_wants_is_forgotten_and_what_is_watched_is_not() {
    let mut verdicts = connected_cache();
    let (_, key, id, _) = join(&mut verdicts, &cache_key("watched", "room:1"));
    for n in 0..MAX_IDLE + 10 {
        let _waits = verdicts.read_rights(cache_key(&format!("user-{n}"), "room:1"));
        let question = take_checks(&mut verdicts, QueueKind::Joins).pop().unwrap();
        verdicts.on_result(question.entry, Ok(ALLOWED));
    }
    assert_eq!(verdicts.by_key.len(), MAX_IDLE + 1);
    assert!(verdicts.read_rights(cache_key("watched", "room:1")).is_ok());
    verdicts.unsubscribe(key, id);
    assert_eq!((verdicts.subscribed(), verdicts.by_value_hash.len()), (0, 0));
}

#[test]
fn over_the_bound_whoever_comes_last_is_told_so() {
    let mut verdicts = connected_cache();
    let waits: Vec<_> = (0..MAX_QUEUED)
        .map(|n| verdicts.read_rights(cache_key(&format!("user-{n}"), "room:1")).unwrap_err())
        .collect();
    let last = verdicts.read_rights(cache_key("last", "room:1")).unwrap_err();
    assert_eq!(last.blocking_recv().unwrap(), Err(AuthorizationError::PoolExhausted));
    drop(waits);
}

#[test]
fn a_room_is_settled_once_those_whom_a_change_names_were_asked_and_told() {
    let mut verdicts = connected_cache();
    let (_told, key, ..) = join(&mut verdicts, &cache_key("a", "room:1"));
    join(&mut verdicts, &cache_key("b", "room:2"));
    assert!(verdicts.are_settled(&["room:1", "room:2"]));

    verdicts.invalidate(&[value_hash("a")]);
    assert!(!verdicts.are_settled(&["room:1"]));
    assert!(verdicts.are_settled(&["room:2"]), "it concerns nobody there");
    let question =
        take_checks(&mut verdicts, QueueKind::Rechecks).pop().expect("whoever is named is asked first");
    verdicts.invalidate(&[value_hash("a")]);
    verdicts.on_result(question.entry, Ok(ALLOWED));
    verdicts.mark_settled(&[question.entry]);
    assert!(!verdicts.are_settled(&["room:1"]), "the answer is of before the second change");

    verdicts.begin_round();
    for question in take_checks(&mut verdicts, QueueKind::Rechecks) {
        verdicts.on_result(question.entry, Ok(ALLOWED));
        assert!(!verdicts.are_settled(&["room:1"]), "nobody has been told yet");
    }
    verdicts.mark_settled(&[key]);
    assert!(verdicts.are_settled(&["room:1"]));

    let (_told, key, id, _) = join(&mut verdicts, &cache_key("c", "room:3"));
    verdicts.invalidate(&[]);
    assert!(!verdicts.are_settled(&["room:3"]), "changed policies concern everybody");
    verdicts.unsubscribe(key, id);
    assert!(verdicts.are_settled(&["room:3"]), "nobody is there any more");
}
