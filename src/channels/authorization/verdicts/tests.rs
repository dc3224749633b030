use parking_lot::Mutex;

use super::{entry::trace, *};
use crate::channels::Claimant;

const PROBED: Probed = Probed { read: Some((true, true)), write: None };
const NO: Probed = Probed { read: Some((false, false)), write: None };

fn pair(sub: &str, topic: &str) -> Pair {
    let claimant = Claimant {
        role: "authenticated".into(),
        claims: format!(r#"{{"sub":"{sub}"}}"#).into(),
        sub: Some(sub.into()),
        headers: "{}".into(),
        expires_at: jiff::Timestamp::MAX,
    };
    Pair { claimant: claimant.into(), topic: topic.into() }
}

#[derive(Default)]
struct Told(Mutex<Vec<Read>>);

impl RightsWatcher for Told {
    fn changed(&self, rights: Read) {
        self.0.lock().push(rights);
    }
}

fn listening() -> Verdicts {
    let mut verdicts = Verdicts::default();
    verdicts.listening();
    verdicts
}

/// The topics asked about next.
fn asked(verdicts: &mut Verdicts, line: Line) -> Vec<Question> {
    verdicts.take(line, 100)
}

fn topics(questions: &[Question]) -> Vec<&str> {
    questions.iter().map(|question| &*question.pair.topic).collect()
}

/// A pair that has joined and watches.
fn join(verdicts: &mut Verdicts, pair: &Pair) -> (Arc<Told>, Key, u64, Arc<KnownWrite>) {
    let waits = verdicts.read(pair.clone()).unwrap_err();
    let question = asked(verdicts, Line::Joins).pop().unwrap();
    verdicts.answered(question.key, Ok(PROBED));
    assert_eq!(waits.blocking_recv().unwrap(), Ok(ReadRights::ALL));
    let told = Arc::<Told>::default();
    let (key, id, known_write, news) = verdicts.watch(pair.clone(), ReadRights::ALL, told.clone());
    assert!(news.is_empty() && !verdicts.has(Line::Rechecks));
    (told, key, id, known_write)
}

#[test]
fn those_who_wait_for_the_same_answer_share_one_question_and_later_ones_need_none() {
    let mut verdicts = listening();
    let first = verdicts.read(pair("a", "room:1")).unwrap_err();
    let second = verdicts.read(pair("a", "room:1")).unwrap_err();
    let question = &asked(&mut verdicts, Line::Joins)[..];
    assert_eq!(topics(question), ["room:1"]);
    let third = verdicts.read(pair("a", "room:1")).unwrap_err();
    assert!(asked(&mut verdicts, Line::Joins).is_empty(), "it is being asked already");

    verdicts.answered(question[0].key, Ok(PROBED));
    for waits in [first, second, third] {
        assert_eq!(waits.blocking_recv().unwrap(), Ok(ReadRights::ALL));
    }
    assert_eq!(verdicts.read(pair("a", "room:1")).unwrap(), Ok(ReadRights::ALL));
    assert!(verdicts.read(pair("b", "room:1")).is_err(), "another caller is another question");
}

#[test]
fn a_no_is_asked_again() {
    let mut verdicts = listening();
    for answer in [NO, NO, PROBED] {
        let waits = verdicts.read(pair("a", "room:1")).unwrap_err();
        let question = asked(&mut verdicts, Line::Joins).pop().unwrap();
        verdicts.answered(question.key, Ok(answer));
        assert_eq!(waits.blocking_recv().unwrap().is_ok(), answer == PROBED);
    }
    assert!(verdicts.read(pair("a", "room:1")).is_ok());
}

#[test]
fn an_answer_that_a_change_overtook_is_asked_again_before_it_is_given() {
    let mut verdicts = listening();
    let waits = verdicts.read(pair("a", "room:1")).unwrap_err();
    let old = asked(&mut verdicts, Line::Joins).pop().unwrap();
    verdicts.void(&[]);
    verdicts.answered(old.key, Ok(PROBED));

    let new = asked(&mut verdicts, Line::Joins).pop().expect("it is asked again");
    verdicts.answered(new.key, Ok(NO));
    assert_eq!(waits.blocking_recv().unwrap(), Err(AuthorizationError::Unauthorized));
}

#[test]
fn changes_without_end_do_not_keep_an_answer_back_for_ever() {
    let mut verdicts = listening();
    let mut waits = verdicts.read(pair("a", "room:1")).unwrap_err();
    for _ in 0..=MOST_OVERTAKEN {
        assert!(waits.try_recv().is_err());
        let question = asked(&mut verdicts, Line::Joins).pop().unwrap();
        verdicts.void(&[]);
        verdicts.answered(question.key, Ok(PROBED));
    }
    assert_eq!(waits.try_recv().unwrap(), Ok(ReadRights::ALL));
    let told = Arc::<Told>::default();
    verdicts.watch(pair("a", "room:1"), ReadRights::ALL, told);
    assert_eq!(topics(&asked(&mut verdicts, Line::Rechecks)), ["room:1"], "but it is asked about at once");
}

#[test]
fn a_change_asks_everybody_who_watches_once_and_tells_only_who_lost() {
    let mut verdicts = listening();
    let (told_a, ..) = join(&mut verdicts, &pair("a", "room:1"));
    let (told_b, ..) = join(&mut verdicts, &pair("b", "room:1"));
    verdicts.void(&[]);
    verdicts.void(&[]);
    assert!(verdicts.begin_round());

    let questions = asked(&mut verdicts, Line::Rechecks);
    assert_eq!(questions.len(), 2);
    let mut news = Vec::new();
    for question in questions {
        let lost = question.pair.claimant.sub.as_deref() == Some("a");
        news.extend(verdicts.answered(question.key, Ok(if lost { NO } else { PROBED })));
    }
    news.into_iter().for_each(|(watcher, rights)| watcher.changed(rights));
    assert_eq!(*told_a.0.lock(), [Err(AuthorizationError::Unauthorized)]);
    assert!(told_b.0.lock().is_empty());
    assert!(!verdicts.begin_round(), "nothing is left to ask");
}

#[test]
fn traces_are_those_that_the_database_makes() {
    // left(encode(sha256(convert_to('room:1', 'UTF8')), 'hex'), 8)
    assert_eq!(trace("room:1"), 0x4217_a7ce);
}

#[test]
fn those_whom_a_change_names_are_asked_first() {
    let mut verdicts = listening();
    for n in 0..10 {
        join(&mut verdicts, &pair(&format!("user-{n}"), &format!("room:{n}")));
    }
    verdicts.void(&[trace("user-7"), trace("3"), trace("nobody")]);
    let mut first = asked(&mut verdicts, Line::Rechecks);
    first.sort_by(|a, b| a.pair.topic.cmp(&b.pair.topic));
    assert_eq!(topics(&first), ["room:3", "room:7"], "by a part of the topic, and by the user");
    assert!(verdicts.begin_round());
    assert_eq!(asked(&mut verdicts, Line::Rechecks).len(), 8, "and the others after them");
}

#[test]
fn rights_to_write_are_known_until_a_change_that_may_concern_them() {
    let mut verdicts = listening();
    let (_, key, _, known) = join(&mut verdicts, &pair("a", "room:1"));
    assert_eq!(known.get(), None);
    let waits = verdicts.write(pair("a", "room:1")).unwrap_err();
    let question = asked(&mut verdicts, Line::Joins).pop().unwrap();
    assert!(question.write && !question.read);
    let written = Probed { read: None, write: Some((true, false)) };
    verdicts.answered(question.key, Ok(written));
    let rights = WriteRights { broadcast: true, presence: false };
    assert_eq!(waits.blocking_recv().unwrap(), Ok(rights));
    assert_eq!(known.get(), Some(rights));

    verdicts.void(&[trace("somebody else")]);
    assert_eq!(known.get(), Some(rights), "it is asked again all the same, but nobody waits for it");
    assert!(verdicts.write(pair("a", "room:1")).is_err());
    verdicts.void(&[]);
    assert_eq!(known.get(), None);
    assert!(verdicts.begin_round());
    let question = asked(&mut verdicts, Line::Rechecks).pop().unwrap();
    assert!(question.read && question.write && question.key == key);
    verdicts.answered(key, Ok(Probed { read: Some((true, true)), write: Some((false, false)) }));
    assert_eq!(known.get(), Some(WriteRights::NONE));
}

#[test]
fn a_loss_is_believed_also_where_a_further_change_overtook_it_and_a_gain_is_not() {
    let mut verdicts = listening();
    let told = Arc::<Told>::default();
    let half = ReadRights { broadcast: true, presence: false };
    let (key, ..) = verdicts.watch(pair("a", "room:1"), half, told);
    for (answer, tells) in [((true, true), false), ((false, true), true)] {
        verdicts.void(&[]);
        verdicts.begin_round();
        assert_eq!(asked(&mut verdicts, Line::Rechecks).len(), 1);
        verdicts.void(&[]);
        let news = verdicts.answered(key, Ok(Probed { read: Some(answer), write: None }));
        assert_eq!(!news.is_empty(), tells);
        assert!(verdicts.wants_round(), "it is asked again");
    }
}

#[test]
fn deaf_nothing_is_answered_from_memory_and_afterwards_everybody_is_suspect() {
    let mut verdicts = listening();
    let (told, ..) = join(&mut verdicts, &pair("a", "room:1"));
    verdicts.deaf();
    let waits = verdicts.read(pair("a", "room:1")).unwrap_err();
    let question = asked(&mut verdicts, Line::Joins).pop().unwrap();
    verdicts.answered(question.key, Ok(PROBED));
    assert!(waits.blocking_recv().unwrap().is_ok());
    assert!(verdicts.read(pair("a", "room:1")).is_err(), "and not remembered");
    let question = asked(&mut verdicts, Line::Joins).pop().unwrap();
    verdicts.answered(question.key, Ok(PROBED));
    assert!(!verdicts.wants_round() && !verdicts.has(Line::Rechecks), "an answer would be void at once");

    verdicts.listening();
    assert!(verdicts.begin_round());
    let question = asked(&mut verdicts, Line::Rechecks).pop().unwrap();
    let news = verdicts.answered(question.key, Ok(NO));
    assert_eq!(news.len(), 1);
    news.into_iter().for_each(|(watcher, rights)| watcher.changed(rights));
    assert_eq!(told.0.lock().len(), 1);
}

#[test]
fn what_changed_between_joining_and_watching_is_told_when_watching_begins() {
    let mut verdicts = listening();
    let (_, key, ..) = join(&mut verdicts, &pair("a", "room:1"));
    verdicts.void(&[]);
    verdicts.begin_round();
    asked(&mut verdicts, Line::Rechecks);
    verdicts.answered(key, Ok(NO));
    // Another channel of the same caller joined just before that.
    let (_, _, _, news) = verdicts.watch(pair("a", "room:1"), ReadRights::ALL, Arc::<Told>::default());
    assert_eq!(news.len(), 1);
}

#[test]
fn a_question_without_an_end_is_asked_caller_by_caller_and_a_watcher_hears_of_the_third_time() {
    let mut verdicts = listening();
    let (_, slow, ..) = join(&mut verdicts, &pair("slow", "room:1"));
    let (_, quick, ..) = join(&mut verdicts, &pair("quick", "room:1"));
    verdicts.void(&[]);
    verdicts.begin_round();
    assert_eq!(asked(&mut verdicts, Line::Rechecks).len(), 2);
    verdicts.suspect(slow);
    verdicts.suspect(quick);
    for turn in 1..=3 {
        let question = verdicts.take(Line::Alone, 1).pop().unwrap();
        assert_eq!(question.key, slow);
        let news = verdicts.failed(slow, AuthorizationError::QueryCanceled);
        assert_eq!(news.len(), usize::from(turn == 3));
        if turn == 1 {
            assert_eq!(verdicts.take(Line::Alone, 1).pop().unwrap().key, quick);
            verdicts.answered(quick, Ok(PROBED));
        }
        verdicts.begin_round();
        assert!(asked(&mut verdicts, Line::Rechecks).is_empty(), "not in a batch again");
    }
}

#[test]
fn what_nobody_wants_is_forgotten_and_what_is_watched_is_not() {
    let mut verdicts = listening();
    let (_, key, id, _) = join(&mut verdicts, &pair("watched", "room:1"));
    for n in 0..MOST_IDLE + 10 {
        let _waits = verdicts.read(pair(&format!("user-{n}"), "room:1"));
        let question = asked(&mut verdicts, Line::Joins).pop().unwrap();
        verdicts.answered(question.key, Ok(PROBED));
    }
    assert_eq!(verdicts.by_pair.len(), MOST_IDLE + 1);
    assert!(verdicts.read(pair("watched", "room:1")).is_ok());
    verdicts.unwatch(key, id);
    assert_eq!((verdicts.watched(), verdicts.by_trace.len()), (0, 0));
}

#[test]
fn over_the_bound_whoever_comes_last_is_told_so() {
    let mut verdicts = listening();
    let waits: Vec<_> =
        (0..MOST_WAITING).map(|n| verdicts.read(pair(&format!("user-{n}"), "room:1")).unwrap_err()).collect();
    let last = verdicts.read(pair("last", "room:1")).unwrap_err();
    assert_eq!(last.blocking_recv().unwrap(), Err(AuthorizationError::PoolExhausted));
    drop(waits);
}

#[test]
fn a_room_is_settled_once_those_whom_a_change_names_were_asked_and_told() {
    let mut verdicts = listening();
    let (_told, key, ..) = join(&mut verdicts, &pair("a", "room:1"));
    join(&mut verdicts, &pair("b", "room:2"));
    assert!(verdicts.are_settled(&["room:1", "room:2"]));

    verdicts.void(&[trace("a")]);
    assert!(!verdicts.are_settled(&["room:1"]));
    assert!(verdicts.are_settled(&["room:2"]), "it concerns nobody there");
    let question = asked(&mut verdicts, Line::Rechecks).pop().expect("whoever is named is asked first");
    verdicts.void(&[trace("a")]);
    verdicts.answered(question.key, Ok(PROBED));
    verdicts.settle(&[question.key]);
    assert!(!verdicts.are_settled(&["room:1"]), "the answer is of before the second change");

    verdicts.begin_round();
    for question in asked(&mut verdicts, Line::Rechecks) {
        verdicts.answered(question.key, Ok(PROBED));
        assert!(!verdicts.are_settled(&["room:1"]), "nobody has been told yet");
    }
    verdicts.settle(&[key]);
    assert!(verdicts.are_settled(&["room:1"]));

    let (_told, key, id, _) = join(&mut verdicts, &pair("c", "room:3"));
    verdicts.void(&[]);
    assert!(!verdicts.are_settled(&["room:3"]), "changed policies concern everybody");
    verdicts.unwatch(key, id);
    assert!(verdicts.are_settled(&["room:3"]), "nobody is there any more");
}
