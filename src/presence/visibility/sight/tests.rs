use super::*;
use crate::model::{ConversationId, Reach, Status};
use crate::pg::queries::presence::Sighting;

fn face(user: UserId, face: Face, version: i64) -> VersionedFace {
    let presence = Presence { status: Status::Online, reach: Reach::Online, ..Presence::taken_back(user) };
    VersionedFace { face, version, presence: Arc::new(presence) }
}

fn sees(user: UserId, version: i64) -> Sighting {
    Sighting { user_id: user, related: true, seen: Some(face(user, Face::Public, version)) }
}

fn sees_nothing_of(user: UserId) -> Sighting {
    Sighting { user_id: user, related: true, seen: None }
}

fn view(sightings: Vec<Sighting>) -> View {
    View { sightings, typists: Vec::new() }
}

fn everybody() -> Void {
    Void { viewers: None, subjects: None }
}

fn subject(user: UserId) -> Void {
    Void { viewers: None, subjects: Some(vec![user]) }
}

/// A viewer that has heard its initial state.
fn settled(sight: &mut Sight, conn: u32, sightings: Vec<Sighting>) -> (ViewerKey, ConnId, UserId) {
    let (conn, user) = (ConnId::for_test(conn), UserId::random());
    let key = sight.join(conn, user, Caller::vouched_for(user), Vec::new());
    assert!(matches!(sight.begin(key), Some((_, _, None))), "a new viewer is asked about everybody");
    let tells = sight.answered(key, view(sightings));
    assert!(matches!(&tells[..], [Tell::Initial(to, _)] if *to == conn));
    (key, conn, user)
}

fn taken_back(user: UserId, conn: ConnId) -> Tell {
    Tell::State(Arc::new(Presence::taken_back(user)), vec![conn])
}

#[test]
fn a_change_is_told_once_to_whoever_sees_that_face() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    let (_, one, _) = settled(&mut sight, 1, vec![sees(ann, 1)]);
    settled(&mut sight, 2, vec![sees_nothing_of(ann)]);

    let faces = vec![face(ann, Face::Public, 2), face(ann, Face::Trusted, 3)];
    let tells = sight.changed(&[ann], faces.clone());
    assert_eq!(tells, [Tell::State(faces[0].presence.clone(), vec![one])]);
    assert_eq!(sight.changed(&[ann], faces), [], "the same state is no news");
}

#[test]
fn nothing_is_delivered_on_a_void_edge_before_it_was_asked_about() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    let (key, conn, _) = settled(&mut sight, 1, vec![sees(ann, 1)]);

    assert_eq!(sight.void(&subject(ann)), [key]);
    assert_eq!(sight.changed(&[ann], vec![face(ann, Face::Public, 2)]), []);
    let (_, _, about) = sight.begin(key).expect("is due");
    assert_eq!(about, Some(vec![ann]));
    assert_eq!(sight.changed(&[ann], vec![face(ann, Face::Public, 3)]), [], "being asked about is void too");

    assert_eq!(sight.answered(key, view(vec![sees_nothing_of(ann)])), [taken_back(ann, conn)]);
    assert_eq!(sight.changed(&[ann], vec![face(ann, Face::Public, 4)]), []);
}

#[test]
fn a_change_that_overtakes_an_answer_under_way_is_asked_about_again() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    let conn = ConnId::for_test(1);
    let user = UserId::random();
    let key = sight.join(conn, user, Caller::vouched_for(user), Vec::new());
    sight.begin(key).expect("a new viewer is due");

    // The viewer has no edge to Ann yet, and still it is named: the answer may bring one that is already void.
    assert_eq!(sight.void(&subject(ann)), [key]);
    sight.answered(key, view(vec![sees(ann, 1)]));

    assert!(sight.is_due(key));
    assert_eq!(sight.changed(&[ann], vec![face(ann, Face::Public, 2)]), []);
}

#[test]
fn whoever_is_no_candidate_any_more_is_taken_back_and_forgotten() {
    let (mut sight, ann, bob) = (Sight::default(), UserId::random(), UserId::random());
    let (key, conn, user) = settled(&mut sight, 1, vec![sees(ann, 1), sees(bob, 1)]);

    sight.void(&Void { viewers: Some(vec![user]), subjects: Some(vec![ann]) });
    sight.begin(key).expect("is due");
    assert_eq!(sight.answered(key, view(Vec::new())), [taken_back(ann, conn)], "Bob was not asked about");
    assert!(!sight.is_watched(ann) && sight.is_watched(bob));
    assert_eq!(sight.edges(), 1);
}

#[test]
fn an_older_state_than_the_one_told_is_no_news() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    settled(&mut sight, 1, vec![sees(ann, 7)]);
    assert_eq!(sight.changed(&[ann], vec![face(ann, Face::Public, 6)]), []);
}

#[test]
fn an_erased_user_is_taken_back() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    let (_, conn, _) = settled(&mut sight, 1, vec![sees(ann, 1)]);
    assert_eq!(sight.changed(&[ann], Vec::new()), [taken_back(ann, conn)]);
}

#[test]
fn a_viewer_whose_policies_raise_sees_nobody_and_the_others_notice_nothing() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    let (blind, one, _) = settled(&mut sight, 1, vec![sees(ann, 1)]);
    let (_, other, user) = settled(&mut sight, 2, vec![sees(ann, 1)]);

    let blinded = sight.viewers.iter().flat_map(|(_, viewer)| viewer).find(|viewer| viewer.user != user);
    let blinded = blinded.expect("the first viewer").user;
    sight.void(&Void { viewers: Some(vec![blinded]), subjects: None });
    sight.begin(blind).expect("is due");
    assert_eq!(sight.blind(blind), [taken_back(ann, one)]);
    assert!(sight.is_due(blind), "it is asked again");

    let news = face(ann, Face::Public, 2);
    assert_eq!(sight.changed(&[ann], vec![news.clone()]), [Tell::State(news.presence, vec![other])]);
}

#[test]
fn a_viewer_that_left_leaves_nothing_behind() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    let (key, conn, user) = settled(&mut sight, 1, vec![sees(ann, 1)]);
    sight.void(&everybody());
    sight.begin(key).expect("is due");
    sight.leave(conn);

    assert_eq!(sight.answered(key, view(vec![sees(ann, 2)])), [], "its answer comes too late");
    assert!(!sight.is_watched(ann) && sight.conn(key).is_none());
    assert_eq!(sight.edges(), 0);
    assert_eq!(sight.void(&Void { viewers: Some(vec![user]), subjects: None }), []);
    assert_eq!(sight.void(&everybody()), []);
}

#[test]
fn typing_is_told_after_asking_and_ends_for_whoever_was_told() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    let (key, conn, user) = settled(&mut sight, 1, vec![sees(ann, 1)]);
    let typist = Typist { conversation_id: ConversationId::random(), user_id: ann };
    let now = |since| TypingNow { typist, participants: vec![ann, user], since };

    let (tells, due) = sight.typing_changed(&[now(Some(1))]);
    assert_eq!((tells, due), (vec![], vec![key]));
    sight.begin(key).expect("is due");
    let tells = sight.answered(key, View { sightings: vec![sees(ann, 1)], typists: vec![typist] });
    assert_eq!(tells, [Tell::Typing(state(typist, true), vec![conn])]);

    assert_eq!(sight.typing_changed(&[now(Some(1))]), (vec![], vec![]), "read again, not said again");
    let (tells, due) = sight.typing_changed(&[now(Some(2))]);
    assert_eq!((tells, due), (vec![Tell::Typing(state(typist, true), vec![conn])], vec![]), "it goes on");
    let (tells, _) = sight.typing_changed(&[now(None)]);
    assert_eq!(tells, [Tell::Typing(state(typist, false), vec![conn])]);
    assert_eq!(sight.typing_changed(&[now(None)]).0, []);
}

#[test]
fn typing_that_a_look_saw_first_is_told_once() {
    let (mut sight, ann) = (Sight::default(), UserId::random());
    let (key, conn, user) = settled(&mut sight, 1, vec![sees(ann, 1)]);
    let typist = Typist { conversation_id: ConversationId::random(), user_id: ann };
    sight.void(&everybody());
    sight.begin(key).expect("is due");
    let tells = sight.answered(key, View { sightings: vec![sees(ann, 1)], typists: vec![typist] });
    assert_eq!(tells, [Tell::Typing(state(typist, true), vec![conn])]);

    let heard = TypingNow { typist, participants: vec![ann, user], since: Some(1) };
    assert_eq!(sight.typing_changed(&[heard]), (vec![], vec![]));
}
