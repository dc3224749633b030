use super::*;
use crate::model::{ConversationId, Reach, Status};
use crate::pg::queries::presence::Candidate;

fn face(user: UserId, face: Face, version: i64) -> VersionedFace {
    let presence = Presence { status: Status::Online, reach: Reach::Online, ..Presence::hidden(user) };
    VersionedFace { face, version, presence: Arc::new(presence) }
}

fn visible(user: UserId, version: i64) -> Candidate {
    Candidate { user_id: user, related: true, visible_face: Some(face(user, Face::Public, version)) }
}

fn not_visible(user: UserId) -> Candidate {
    Candidate { user_id: user, related: true, visible_face: None }
}

fn view(sightings: Vec<Candidate>) -> LookupState {
    LookupState { candidates: sightings, typing_users: Vec::new() }
}

fn invalidate_all() -> Invalidation {
    Invalidation { viewers: None, subjects: None }
}

fn invalidate_subject(user: UserId) -> Invalidation {
    Invalidation { viewers: None, subjects: Some(vec![user]) }
}

/// A viewer that has heard its initial state.
fn viewer_with_initial_state(
    sight: &mut VisibilityGraph,
    conn: u32,
    sightings: Vec<Candidate>,
) -> (ViewerKey, ConnId, UserId) {
    let (conn, user) = (ConnId::for_test(conn), UserId::random());
    let key = sight.add_viewer(conn, user, Principal::for_user(user), Vec::new());
    assert!(matches!(sight.begin_lookup(key), Some((_, _, None))), "a new viewer is asked about everybody");
    let tells = sight.apply_lookup(key, view(sightings));
    assert!(matches!(&tells[..], [GraphUpdate::InitialState(to, _)] if *to == conn));
    (key, conn, user)
}

fn hidden_update(user: UserId, conn: ConnId) -> GraphUpdate {
    GraphUpdate::Presence(Arc::new(Presence::hidden(user)), vec![conn])
}

#[test]
fn a_change_is_delivered_once_to_viewers_of_that_face() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    let (_, one, _) = viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 1)]);
    viewer_with_initial_state(&mut sight, 2, vec![not_visible(ann)]);

    let faces = vec![face(ann, Face::Public, 2), face(ann, Face::Trusted, 3)];
    let tells = sight.apply_faces(&[ann], faces.clone());
    assert_eq!(tells, [GraphUpdate::Presence(faces[0].presence.clone(), vec![one])]);
    assert_eq!(sight.apply_faces(&[ann], faces), [], "the same state is no news");
}

#[test]
fn nothing_is_delivered_on_an_invalid_edge_before_its_lookup() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    let (key, conn, _) = viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 1)]);

    assert_eq!(sight.invalidate(&invalidate_subject(ann)), [key]);
    assert_eq!(sight.apply_faces(&[ann], vec![face(ann, Face::Public, 2)]), []);
    let (_, _, about) = sight.begin_lookup(key).expect("is due");
    assert_eq!(about, Some(vec![ann]));
    assert_eq!(
        sight.apply_faces(&[ann], vec![face(ann, Face::Public, 3)]),
        [],
        "being asked about is void too"
    );

    assert_eq!(sight.apply_lookup(key, view(vec![not_visible(ann)])), [hidden_update(ann, conn)]);
    assert_eq!(sight.apply_faces(&[ann], vec![face(ann, Face::Public, 4)]), []);
}

#[test]
fn an_invalidation_during_a_lookup_causes_another_lookup() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    let conn = ConnId::for_test(1);
    let user = UserId::random();
    let key = sight.add_viewer(conn, user, Principal::for_user(user), Vec::new());
    sight.begin_lookup(key).expect("a new viewer is due");

    // The viewer has no edge to Ann yet, and still it is named: the answer may bring one that is already void.
    assert_eq!(sight.invalidate(&invalidate_subject(ann)), [key]);
    sight.apply_lookup(key, view(vec![visible(ann, 1)]));

    assert!(sight.needs_lookup(key));
    assert_eq!(sight.apply_faces(&[ann], vec![face(ann, Face::Public, 2)]), []);
}

#[test]
fn a_former_candidate_is_hidden_and_removed() {
    let (mut sight, ann, bob) = (VisibilityGraph::default(), UserId::random(), UserId::random());
    let (key, conn, user) = viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 1), visible(bob, 1)]);

    sight.invalidate(&Invalidation { viewers: Some(vec![user]), subjects: Some(vec![ann]) });
    sight.begin_lookup(key).expect("is due");
    assert_eq!(
        sight.apply_lookup(key, view(Vec::new())),
        [hidden_update(ann, conn)],
        "Bob was not asked about"
    );
    assert!(!sight.is_watched(ann) && sight.is_watched(bob));
    assert_eq!(sight.edge_count(), 1);
}

#[test]
fn a_state_older_than_the_delivered_one_is_ignored() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 7)]);
    assert_eq!(sight.apply_faces(&[ann], vec![face(ann, Face::Public, 6)]), []);
}

#[test]
fn an_erased_user_is_hidden() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    let (_, conn, _) = viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 1)]);
    assert_eq!(sight.apply_faces(&[ann], Vec::new()), [hidden_update(ann, conn)]);
}

#[test]
fn a_policy_error_hides_all_users_from_that_viewer_only() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    let (blind, one, _) = viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 1)]);
    let (_, other, user) = viewer_with_initial_state(&mut sight, 2, vec![visible(ann, 1)]);

    let blinded = sight.viewers.iter().flat_map(|(_, viewer)| viewer).find(|viewer| viewer.user != user);
    let blinded = blinded.expect("the first viewer").user;
    sight.invalidate(&Invalidation { viewers: Some(vec![blinded]), subjects: None });
    sight.begin_lookup(blind).expect("is due");
    assert_eq!(sight.hide_all(blind), [hidden_update(ann, one)]);
    assert!(sight.needs_lookup(blind), "it is asked again");

    let news = face(ann, Face::Public, 2);
    assert_eq!(
        sight.apply_faces(&[ann], vec![news.clone()]),
        [GraphUpdate::Presence(news.presence, vec![other])]
    );
}

#[test]
fn a_removed_viewer_leaves_no_state() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    let (key, conn, user) = viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 1)]);
    sight.invalidate(&invalidate_all());
    sight.begin_lookup(key).expect("is due");
    sight.remove_viewer(conn);

    assert_eq!(sight.apply_lookup(key, view(vec![visible(ann, 2)])), [], "its answer comes too late");
    assert!(!sight.is_watched(ann) && sight.conn(key).is_none());
    assert_eq!(sight.edge_count(), 0);
    assert_eq!(sight.invalidate(&Invalidation { viewers: Some(vec![user]), subjects: None }), []);
    assert_eq!(sight.invalidate(&invalidate_all()), []);
}

#[test]
fn typing_is_delivered_after_a_lookup_and_its_end_to_the_same_viewers() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    let (key, conn, user) = viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 1)]);
    let typist = TypingUser { conversation_id: ConversationId::random(), user_id: ann };
    let now = |since| TypingRecord { typing_user: typist, participants: vec![ann, user], since };

    let (tells, due) = sight.apply_typing(&[now(Some(1))]);
    assert_eq!((tells, due), (vec![], vec![key]));
    sight.begin_lookup(key).expect("is due");
    let tells = sight
        .apply_lookup(key, LookupState { candidates: vec![visible(ann, 1)], typing_users: vec![typist] });
    assert_eq!(tells, [GraphUpdate::Typing(typing_state(typist, true), vec![conn])]);

    assert_eq!(sight.apply_typing(&[now(Some(1))]), (vec![], vec![]), "read again, not said again");
    let (tells, due) = sight.apply_typing(&[now(Some(2))]);
    assert_eq!(
        (tells, due),
        (vec![GraphUpdate::Typing(typing_state(typist, true), vec![conn])], vec![]),
        "it goes on"
    );
    let (tells, _) = sight.apply_typing(&[now(None)]);
    assert_eq!(tells, [GraphUpdate::Typing(typing_state(typist, false), vec![conn])]);
    assert_eq!(sight.apply_typing(&[now(None)]).0, []);
}

#[test]
fn typing_found_by_a_lookup_is_delivered_once() {
    let (mut sight, ann) = (VisibilityGraph::default(), UserId::random());
    let (key, conn, user) = viewer_with_initial_state(&mut sight, 1, vec![visible(ann, 1)]);
    let typist = TypingUser { conversation_id: ConversationId::random(), user_id: ann };
    sight.invalidate(&invalidate_all());
    sight.begin_lookup(key).expect("is due");
    let tells = sight
        .apply_lookup(key, LookupState { candidates: vec![visible(ann, 1)], typing_users: vec![typist] });
    assert_eq!(tells, [GraphUpdate::Typing(typing_state(typist, true), vec![conn])]);

    let heard = TypingRecord { typing_user: typist, participants: vec![ann, user], since: Some(1) };
    assert_eq!(sight.apply_typing(&[heard]), (vec![], vec![]));
}
