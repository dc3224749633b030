use super::{super::pacing::UPDATE_BYTES, typing::typing_state, *};
use crate::model::{ConversationKey, Reach, Status, TypingUser};
use crate::pg::queries::presence::{Candidate, TypingRecord};

/// A face whose content depends on the version.
fn face(user: UserId, face: Face, version: i64) -> VersionedFace {
    let activity = Some(version.to_string());
    let presence =
        Presence { status: Status::Online, reach: Reach::Online, activity, ..Presence::hidden(user) };
    VersionedFace { face, version, digest: presence.digest(), presence: Arc::new(presence) }
}

fn visible(user: UserId, version: i64) -> Candidate {
    Candidate { user_id: user, related: true, visible_face: Some(face(user, Face::Public, version)) }
}

fn not_visible(user: UserId) -> Candidate {
    Candidate { user_id: user, related: true, visible_face: None }
}

fn lookup_state(candidates: Vec<Candidate>) -> LookupState {
    LookupState { candidates, typing_users: Vec::new() }
}

fn invalidate_all() -> Invalidation {
    Invalidation::All
}

fn invalidate_subject(user: UserId) -> Invalidation {
    Invalidation::Subjects(vec![user])
}

/// Adds a viewer and delivers its initial state.
fn viewer_with_initial_state(
    graph: &mut VisibilityGraph,
    conn: u32,
    candidates: Vec<Candidate>,
) -> (ViewerKey, ConnId, UserId) {
    let (conn, user) = (ConnId::for_test(conn), UserId::random());
    let key = graph.add_viewer(conn, user, Principal::for_user(user), Interest::default(), false);
    assert!(matches!(graph.begin_lookup(key), Some((_, _, None))), "a new viewer needs a full lookup");
    let updates = graph.apply_lookup(key, lookup_state(candidates));
    assert!(matches!(&updates[..], [GraphUpdate::InitialState(to, _, _)] if *to == conn));
    (key, conn, user)
}

fn hidden_update(user: UserId, conn: ConnId) -> GraphUpdate {
    GraphUpdate::Presence(Arc::new(Presence::hidden(user)), vec![conn])
}

#[test]
fn a_change_is_delivered_once_to_viewers_of_that_face() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let (_, one, _) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 1)]);
    viewer_with_initial_state(&mut graph, 2, vec![not_visible(ann)]);

    let faces = vec![face(ann, Face::Public, 2), face(ann, Face::Trusted, 3)];
    let updates = graph.apply_faces(&[ann], faces.clone());
    assert_eq!(updates, [GraphUpdate::Presence(faces[0].presence.clone(), vec![one])]);
    assert_eq!(graph.apply_faces(&[ann], faces), [], "the same state is not delivered again");
}

#[test]
fn nothing_is_delivered_on_an_invalid_edge_before_its_lookup() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let (key, conn, _) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 1)]);

    assert_eq!(graph.invalidate(&invalidate_subject(ann)), [key]);
    assert_eq!(graph.apply_faces(&[ann], vec![face(ann, Face::Public, 2)]), []);
    let (_, _, subjects) = graph.begin_lookup(key).expect("needs a lookup");
    assert_eq!(subjects, Some(vec![ann]));
    assert_eq!(
        graph.apply_faces(&[ann], vec![face(ann, Face::Public, 3)]),
        [],
        "subjects of a lookup in flight are invalid too"
    );

    assert_eq!(graph.apply_lookup(key, lookup_state(vec![not_visible(ann)])), [hidden_update(ann, conn)]);
    assert_eq!(graph.apply_faces(&[ann], vec![face(ann, Face::Public, 4)]), []);
}

#[test]
fn an_invalidation_during_a_lookup_causes_another_lookup() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let conn = ConnId::for_test(1);
    let user = UserId::random();
    let key = graph.add_viewer(conn, user, Principal::for_user(user), Interest::default(), false);
    graph.begin_lookup(key).expect("a new viewer needs a lookup");

    // The viewer has no edge to Ann yet but is returned: the lookup in flight may add an edge that is already invalid.
    assert_eq!(graph.invalidate(&invalidate_subject(ann)), [key]);
    graph.apply_lookup(key, lookup_state(vec![visible(ann, 1)]));

    assert!(graph.needs_lookup(key));
    assert_eq!(graph.apply_faces(&[ann], vec![face(ann, Face::Public, 2)]), []);
}

#[test]
fn a_former_candidate_is_hidden_and_removed() {
    let (mut graph, ann, bob) = (VisibilityGraph::default(), UserId::random(), UserId::random());
    let (key, conn, user) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 1), visible(bob, 1)]);

    graph.invalidate(&Invalidation::Viewers { viewers: vec![user], subjects: Some(vec![ann]) });
    graph.begin_lookup(key).expect("needs a lookup");
    assert_eq!(
        graph.apply_lookup(key, lookup_state(Vec::new())),
        [hidden_update(ann, conn)],
        "Bob was not looked up"
    );
    assert!(!graph.is_watched(ann) && graph.is_watched(bob));
    assert_eq!(graph.edge_count(), 1);
}

/// A change of a group reaches each pair of a user that moved and a member or another user that moved, in both
/// directions, and no other pair.
#[test]
fn a_changed_group_invalidates_moved_users_and_members_for_each_other() {
    let mut graph = VisibilityGraph::default();
    let [(member, _, of_member), (other, _, of_other)] =
        [1, 2].map(|conn| viewer_with_initial_state(&mut graph, conn, Vec::new()));
    let [(came, _, who_came), (left, _, who_left)] =
        [3, 4].map(|conn| viewer_with_initial_state(&mut graph, conn, Vec::new()));
    let (bystander, ..) = viewer_with_initial_state(&mut graph, 5, Vec::new());
    // Another node has the sockets of these.
    let [absent, moved_elsewhere] = [UserId::random(), UserId::random()];

    let members = vec![of_member, of_other, absent, who_came];
    let moved = vec![who_came, who_left, moved_elsewhere];
    let due = graph.invalidate(&Invalidation::Group { members: members.clone(), moved: moved.clone() });
    assert_eq!(HashSet::from_iter(&due), HashSet::from([&member, &other, &came, &left]));
    assert!(graph.begin_lookup(bystander).is_none());
    let mut scope = |key| {
        let (_, _, subjects) = graph.begin_lookup(key).expect("needs a lookup");
        HashSet::<UserId>::from_iter(subjects.expect("some subjects"))
    };
    let everyone = HashSet::from_iter(members.iter().chain(&moved).copied());
    assert_eq!(scope(member), HashSet::from_iter(moved.clone()));
    assert_eq!(scope(other), HashSet::from_iter(moved));
    assert_eq!(scope(came), everyone);
    assert_eq!(scope(left), everyone);
}

#[test]
fn a_new_member_of_a_large_group_is_looked_up_by_all_and_looks_up_everything() {
    let mut graph = VisibilityGraph::default();
    let (member, _, of_member) = viewer_with_initial_state(&mut graph, 1, Vec::new());
    let (new, _, of_new) = viewer_with_initial_state(&mut graph, 2, Vec::new());
    let mut members: Vec<UserId> = (0..5_000).map(|_| UserId::random()).collect();
    members.extend([of_member, of_new]);
    graph.invalidate(&Invalidation::Group { members, moved: vec![of_new] });
    let (_, _, subjects) = graph.begin_lookup(member).expect("needs a lookup");
    assert_eq!(subjects, Some(vec![of_new]));
    let (_, _, subjects) = graph.begin_lookup(new).expect("needs a lookup");
    assert_eq!(subjects, None);
}

/// The lookup in flight may have read the group before the change.
#[test]
fn a_changed_group_causes_another_lookup_of_viewers_with_a_lookup_in_flight() {
    let mut graph = VisibilityGraph::default();
    let (member, conn, of_member) = viewer_with_initial_state(&mut graph, 1, Vec::new());
    let new = UserId::random();
    graph.invalidate(&invalidate_all());
    graph.begin_lookup(member).expect("needs a lookup");
    let group = Invalidation::Group { members: vec![of_member, new], moved: vec![new] };
    assert_eq!(graph.invalidate(&group), [member]);
    assert_eq!(graph.apply_lookup(member, lookup_state(Vec::new())), []);
    let (_, _, subjects) = graph.begin_lookup(member).expect("needs another lookup");
    assert_eq!(subjects, Some(vec![new]));
    let updates = graph.apply_lookup(member, lookup_state(vec![visible(new, 1)]));
    assert!(matches!(&updates[..], [GraphUpdate::Presence(_, to)] if to[..] == [conn]), "{updates:?}");
}

#[test]
fn content_decides_what_is_new_not_the_version() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let (_, conn, _) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 7)]);
    // As after a restored backup.
    let restored = face(ann, Face::Public, 6);
    let update = GraphUpdate::Presence(restored.presence.clone(), vec![conn]);
    assert_eq!(graph.apply_faces(&[ann], vec![restored.clone()]), [update]);
    let renumbered = VersionedFace { version: 9, ..restored };
    assert_eq!(graph.apply_faces(&[ann], vec![renumbered]), []);
}

#[test]
fn an_erased_user_is_hidden() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let (_, conn, _) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 1)]);
    assert_eq!(graph.apply_faces(&[ann], Vec::new()), [hidden_update(ann, conn)]);
}

#[test]
fn a_policy_error_hides_all_users_from_that_viewer_only() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let (affected, one, _) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 1)]);
    let (_, other, user) = viewer_with_initial_state(&mut graph, 2, vec![visible(ann, 1)]);

    let affected_user =
        graph.viewers.iter().flat_map(|(_, viewer)| viewer).find(|viewer| viewer.user != user);
    let affected_user = affected_user.expect("the first viewer").user;
    graph.invalidate(&Invalidation::Viewers { viewers: vec![affected_user], subjects: None });
    graph.begin_lookup(affected).expect("needs a lookup");
    assert_eq!(graph.hide_all(affected), [hidden_update(ann, one)]);
    assert!(graph.needs_lookup(affected), "it is looked up again");

    let changed = face(ann, Face::Public, 2);
    assert_eq!(
        graph.apply_faces(&[ann], vec![changed.clone()]),
        [GraphUpdate::Presence(changed.presence, vec![other])]
    );
}

#[test]
fn a_removed_viewer_leaves_no_state() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let (key, conn, user) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 1)]);
    graph.invalidate(&invalidate_all());
    graph.begin_lookup(key).expect("needs a lookup");
    graph.remove_viewer(conn);

    assert_eq!(
        graph.apply_lookup(key, lookup_state(vec![visible(ann, 2)])),
        [],
        "the result arrives too late"
    );
    assert!(!graph.is_watched(ann) && graph.conn(key).is_none());
    assert_eq!(graph.edge_count(), 0);
    assert_eq!(graph.invalidate(&Invalidation::Viewers { viewers: vec![user], subjects: None }), []);
    assert_eq!(graph.invalidate(&invalidate_all()), []);
}

#[test]
fn typing_is_delivered_after_a_lookup_and_its_end_to_the_same_viewers() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let (key, conn, user) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 1)]);
    let typing_user = TypingUser { conversation_id: ConversationKey::stored("42", Some(true)), user_id: ann };
    let now = |since| TypingRecord { typing_user: typing_user.clone(), participants: vec![ann, user], since };

    let (updates, due) = graph.apply_typing(&[now(Some(1))]);
    assert_eq!((updates, due), (vec![], vec![key]));
    graph.begin_lookup(key).expect("needs a lookup");
    let updates = graph.apply_lookup(
        key,
        LookupState { candidates: vec![visible(ann, 1)], typing_users: vec![typing_user.clone()] },
    );
    assert_eq!(updates, [GraphUpdate::Typing(typing_state(typing_user.clone(), true), vec![conn])]);

    assert_eq!(graph.apply_typing(&[now(Some(1))]), (vec![], vec![]), "read again without a refresh");
    let (updates, due) = graph.apply_typing(&[now(Some(2))]);
    assert_eq!(
        (updates, due),
        (vec![GraphUpdate::Typing(typing_state(typing_user.clone(), true), vec![conn])], vec![]),
        "typing was refreshed"
    );
    let (updates, _) = graph.apply_typing(&[now(None)]);
    assert_eq!(updates, [GraphUpdate::Typing(typing_state(typing_user.clone(), false), vec![conn])]);
    assert_eq!(graph.apply_typing(&[now(None)]).0, []);
    let GraphUpdate::Typing(state, _) = &updates[0] else { panic!("{updates:?}") };
    assert_eq!(serde_json::to_value(&state.conversation_id).expect("serializes"), 42);
}

#[test]
fn typing_found_by_a_lookup_is_delivered_once() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let (key, conn, user) = viewer_with_initial_state(&mut graph, 1, vec![visible(ann, 1)]);
    let typing_user = TypingUser { conversation_id: ConversationKey::stored("42", Some(true)), user_id: ann };
    graph.invalidate(&invalidate_all());
    graph.begin_lookup(key).expect("needs a lookup");
    let updates = graph.apply_lookup(
        key,
        LookupState { candidates: vec![visible(ann, 1)], typing_users: vec![typing_user.clone()] },
    );
    assert_eq!(updates, [GraphUpdate::Typing(typing_state(typing_user.clone(), true), vec![conn])]);

    let record = TypingRecord { typing_user, participants: vec![ann, user], since: Some(1) };
    assert_eq!(graph.apply_typing(&[record]), (vec![], vec![]));
}

// Resuming ---------------------------------------------------------------------------------------------------------

const MB: usize = 1_000_000;

fn later(seconds: u64) -> tokio::time::Instant {
    tokio::time::Instant::now() + std::time::Duration::from_secs(seconds)
}

/// Adds a viewer that can be resumed, and returns the position of its initial state.
fn resumable_viewer(
    graph: &mut VisibilityGraph,
    conn: u32,
    user: UserId,
    candidates: Vec<Candidate>,
) -> (ViewerKey, Position) {
    let conn = ConnId::for_test(conn);
    let key = graph.add_viewer(conn, user, Principal::for_user(user), Interest::default(), true);
    graph.begin_lookup(key).expect("a new viewer needs a lookup");
    match &graph.apply_lookup(key, lookup_state(candidates))[..] {
        [GraphUpdate::InitialState(_, _, Some(state))] => (key, state.position),
        other => panic!("{other:?}"),
    }
}

fn resume(graph: &mut VisibilityGraph, conn: u32, user: UserId, position: Position) -> Option<Resumed> {
    graph.resume(ConnId::for_test(conn), &Principal::for_user(user), (user, position), (&[], 10))
}

/// The presences of the only update, a state, and its position.
fn state(updates: &[GraphUpdate]) -> (Vec<Arc<Presence>>, StatePosition) {
    match updates {
        [GraphUpdate::InitialState(_, presences, Some(position))] => (presences.clone(), *position),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_state_that_overtook_a_position_is_sent_again() {
    let (mut graph, viewer) = (VisibilityGraph::default(), UserId::random());
    let [ann, bob] = [UserId::random(), UserId::random()];
    let (_, first) = resumable_viewer(&mut graph, 1, viewer, vec![visible(ann, 1), visible(bob, 1)]);
    graph.apply_faces(&[ann, bob], vec![face(ann, Face::Public, 2), face(bob, Face::Public, 2)]);
    let [GraphUpdate::Position(_, second)] = graph.positions()[..] else { panic!("a position") };
    assert_eq!(graph.positions(), [], "nothing was told since");
    // Ann's newer state replaces the older one in the outbox, where it is behind the position.
    graph.apply_faces(&[ann], vec![face(ann, Face::Public, 3)]);
    graph.park(ConnId::for_test(1), later(60), MB);

    let resumed = resume(&mut graph, 2, viewer, second).expect("known");
    assert_eq!(resumed.updates, []);
    let (_, _, subjects) = graph.begin_lookup(resumed.key).expect("needs a lookup");
    assert_eq!(subjects, Some(vec![ann]));
    let (told, position) = state(&graph.apply_lookup(resumed.key, lookup_state(vec![visible(ann, 3)])));
    assert_eq!(told, [face(ann, Face::Public, 3).presence]);
    assert!(position.resumed);

    // From the first position, both are unknown.
    graph.park(ConnId::for_test(2), later(60), MB);
    let resumed = resume(&mut graph, 3, viewer, first).expect("known");
    graph.begin_lookup(resumed.key).expect("needs a lookup");
    let (told, _) =
        state(&graph.apply_lookup(resumed.key, lookup_state(vec![visible(ann, 3), not_visible(bob)])));
    assert_eq!(told, [face(ann, Face::Public, 3).presence, Arc::new(Presence::hidden(bob))]);
}

#[test]
fn a_subject_that_was_taken_back_without_the_client_knowing_is_taken_back_again() {
    let (mut graph, viewer, ann) = (VisibilityGraph::default(), UserId::random(), UserId::random());
    let (key, position) = resumable_viewer(&mut graph, 1, viewer, vec![visible(ann, 1)]);
    graph.invalidate(&Invalidation::Viewers { viewers: vec![viewer], subjects: Some(vec![ann]) });
    graph.begin_lookup(key).expect("needs a lookup");
    assert_eq!(graph.apply_lookup(key, lookup_state(Vec::new())).len(), 1);
    assert!(!graph.is_watched(ann));
    for conn in 2..4 {
        // No lookup is needed: she is nobody that the viewer is interested in.
        let resumed = resume(&mut graph, conn, viewer, position).expect("known");
        assert_eq!(resumed.replaced, Some(ConnId::for_test(conn - 1)));
        assert_eq!(state(&resumed.updates).0, [Arc::new(Presence::hidden(ann))]);
    }
    // She is of interest again, and hidden: an edge remembers what the list did.
    let key = {
        let resumed = resume(&mut graph, 4, viewer, position).expect("known");
        state(&resumed.updates);
        graph.invalidate(&Invalidation::Viewers { viewers: vec![viewer], subjects: Some(vec![ann]) });
        resumed.key
    };
    graph.begin_lookup(key).expect("needs a lookup");
    assert_eq!(graph.apply_lookup(key, lookup_state(vec![not_visible(ann)])), []);
    let resumed = resume(&mut graph, 5, viewer, position).expect("known");
    graph.begin_lookup(resumed.key).expect("needs a lookup");
    let (told, _) = state(&graph.apply_lookup(resumed.key, lookup_state(vec![not_visible(ann)])));
    assert_eq!(told, [Arc::new(Presence::hidden(ann))]);
}

#[test]
fn nothing_is_looked_up_or_delivered_while_a_viewer_is_parked() {
    let (mut graph, viewer, ann) = (VisibilityGraph::default(), UserId::random(), UserId::random());
    let (_, position) = resumable_viewer(&mut graph, 1, viewer, vec![visible(ann, 1)]);
    graph.park(ConnId::for_test(1), later(60), MB);
    assert!(graph.parked_bytes() > 0);
    assert_eq!(graph.apply_faces(&[ann], vec![face(ann, Face::Public, 2)]), []);
    for key in graph.invalidate(&invalidate_all()) {
        assert!(graph.begin_lookup(key).is_none() && !graph.needs_lookup(key));
    }
    let resumed = resume(&mut graph, 2, viewer, position).expect("known");
    assert_eq!(graph.parked_bytes(), 0);
    assert!(matches!(graph.begin_lookup(resumed.key), Some((_, _, None))));
    // A change before the first state waits for it.
    assert_eq!(graph.apply_faces(&[ann], vec![face(ann, Face::Public, 3)]), []);
    let (told, _) = state(&graph.apply_lookup(resumed.key, lookup_state(vec![visible(ann, 1)])));
    assert_eq!(told, []);
}

#[test]
fn parked_viewers_are_bounded_by_time_memory_and_user() {
    let (mut graph, ann) = (VisibilityGraph::default(), UserId::random());
    let users: Vec<UserId> = (0..4).map(|_| UserId::random()).collect();
    let positions: Vec<Position> = (0..4)
        .zip(&users)
        .map(|(conn, user)| resumable_viewer(&mut graph, conn, *user, vec![visible(ann, 1)]).1)
        .collect();
    graph.park(ConnId::for_test(0), later(1), MB);
    let one = graph.parked_bytes();
    graph.park(ConnId::for_test(1), later(60), MB);
    assert!(graph.expire_parked(later(2)).is_some_and(|due| due > later(2)));
    assert_eq!(graph.parked_bytes(), one);
    assert!(resume(&mut graph, 10, users[0], positions[0]).is_none(), "expired");
    graph.park(ConnId::for_test(2), later(60), one);
    assert_eq!(graph.parked_bytes(), one);
    assert!(resume(&mut graph, 10, users[1], positions[1]).is_none(), "the oldest made room");
    graph.park(ConnId::for_test(3), later(60), one - 1);
    assert!(resume(&mut graph, 10, users[3], positions[3]).is_none(), "too large");
    assert!(resume(&mut graph, 10, users[0], positions[2]).is_none(), "of another user");
    assert!(resume(&mut graph, 10, users[2], positions[2]).is_some());

    let user = UserId::random();
    let many: Vec<Position> = (20..30)
        .map(|conn| {
            let (_, position) = resumable_viewer(&mut graph, conn, user, vec![visible(ann, 1)]);
            graph.park(ConnId::for_test(conn), later(60), MB);
            position
        })
        .collect();
    assert_eq!(graph.parked_bytes(), 8 * one);
    assert!(
        resume(&mut graph, 40, user, many[1]).is_none() && resume(&mut graph, 40, user, many[2]).is_some()
    );
    for conn in 0..1_000 {
        graph.park(ConnId::for_test(40 + conn), later(60), MB);
        resume(&mut graph, 41 + conn, user, many[2]).expect("known");
    }
    assert!(graph.parked.queue.len() < 100, "entries of resumed viewers are removed");
}

#[test]
fn a_viewer_of_a_page_receives_its_users_and_once_who_left_it() {
    let (mut graph, ann, bob) = (VisibilityGraph::default(), UserId::random(), UserId::random());
    let (conn, user) = (ConnId::for_test(1), UserId::random());
    let on = |user, version, page: &str| {
        let mut face = face(user, Face::Public, version);
        let presence = Presence { current_page: Some(page.to_owned()), ..(*face.presence).clone() };
        face.presence = Arc::new(presence);
        face
    };
    let seen = |face: VersionedFace| Candidate {
        visible_face: Some(face.clone()),
        ..visible(face.presence.user_id, 1)
    };
    let interest = Interest { page: Some("/a".into()), ..Interest::default() };
    let key = graph.add_viewer(conn, user, Principal::for_user(user), interest, false);
    graph.begin_lookup(key).expect("a new viewer needs a lookup");
    let (on_page, elsewhere) = (on(ann, 1, "/a"), on(bob, 1, "/b"));
    let updates = graph.apply_lookup(key, lookup_state(vec![seen(on_page.clone()), seen(elsewhere)]));
    assert_eq!(updates, [GraphUpdate::InitialState(conn, vec![on_page.presence], None)]);

    let left = on(ann, 2, "/b");
    let expected = GraphUpdate::Presence(left.presence.clone(), vec![conn]);
    assert_eq!(graph.apply_faces(&[ann], vec![left]), [expected]);
    assert_eq!(graph.apply_faces(&[ann, bob], vec![on(ann, 3, "/c"), on(bob, 2, "/c")]), []);
    let back = on(ann, 4, "/a");
    let expected = GraphUpdate::Presence(back.presence.clone(), vec![conn]);
    assert_eq!(graph.apply_faces(&[ann], vec![back]), [expected]);

    // A former face that is not shown on the page is not hidden either.
    assert_eq!(graph.apply_faces(&[bob], Vec::new()), []);
    graph.set_page(conn, None).expect("a viewer");
    graph.begin_lookup(key).expect("all subjects are looked up again");
}

/// Updates that fit before the client has read in the tests below.
const PART: usize = 10;

/// A graph with a viewer that has read its initial state of these users.
fn paced_viewer(users: &[UserId]) -> (VisibilityGraph, ViewerKey, ConnId, UserId) {
    let limits = PacingLimits { initial_state_bytes: usize::MAX, update_bytes: PART * (UPDATE_BYTES + 8) };
    let mut graph = VisibilityGraph::new(limits);
    let candidates = users.iter().map(|user| visible(*user, 1)).collect();
    let (key, conn, user) = viewer_with_initial_state(&mut graph, 1, candidates);
    graph.take_waits();
    assert_eq!(graph.on_read(key), AfterRead::default());
    (graph, key, conn, user)
}

fn user_ids(count: usize) -> Vec<UserId> {
    (0..count).map(|_| UserId::random()).collect()
}

/// The users of updates, each for one connection.
fn updated_users(updates: &[GraphUpdate]) -> HashSet<UserId> {
    let user = |update: &GraphUpdate| match update {
        GraphUpdate::Presence(presence, to) if to.len() == 1 => presence.user_id,
        other => panic!("{other:?}"),
    };
    let users: HashSet<UserId> = updates.iter().map(user).collect();
    assert_eq!(users.len(), updates.len());
    users
}

#[test]
fn many_hidden_users_are_delivered_in_parts_as_the_client_reads() {
    let users = user_ids(20 * PART);
    let (mut graph, key, conn, _) = paced_viewer(&users);
    graph.invalidate(&invalidate_all());
    graph.begin_lookup(key).expect("needs a lookup");
    let mut updates = graph.apply_lookup(key, lookup_state(Vec::new()));
    let mut hidden = HashSet::new();
    while hidden.len() < users.len() {
        assert!((1..=PART).contains(&updates.len()), "{}", updates.len());
        hidden.extend(updated_users(&updates));
        let faces = users.iter().map(|user| face(*user, Face::Public, 2)).collect();
        assert_eq!(graph.apply_faces(&users, faces), [], "nobody is shown again");
        let waits = graph.take_waits();
        assert!(hidden.len() == users.len() || waits == [(key, conn)], "{waits:?}");
        let after = graph.on_read(key);
        assert_eq!((&after.users[..], after.needs_lookup), (&[][..], false));
        updates = after.updates;
    }
    assert_eq!(hidden, users.iter().copied().collect());
    assert_eq!((updates, graph.edge_count()), (vec![], 0));
}

#[test]
fn changes_of_many_users_are_read_again_as_the_client_reads() {
    let users = user_ids(20 * PART);
    let (mut graph, key, conn, _) = paced_viewer(&users);
    let faces =
        |users: &[UserId], version| users.iter().map(|user| face(*user, Face::Public, version)).collect();
    let mut updates = graph.apply_faces(&users, faces(&users, 2));
    let mut delivered = HashSet::new();
    let mut version = 2;
    while delivered.len() < users.len() {
        assert!((1..=PART).contains(&updates.len()), "{}", updates.len());
        let expected = version.to_string();
        for update in &updates {
            let GraphUpdate::Presence(presence, _) = update else { panic!("{update:?}") };
            assert_eq!(presence.activity.as_deref(), Some(&*expected), "the latest state");
        }
        delivered.extend(updated_users(&updates));
        let waits = graph.take_waits();
        assert!(delivered.len() == users.len() || waits == [(key, conn)], "{waits:?}");
        let after = graph.on_read(key);
        assert_eq!((&after.updates[..], after.needs_lookup), (&[][..], false));
        version += 1;
        updates = graph.apply_faces(&after.users, faces(&after.users, version));
    }
    assert_eq!(graph.on_read(key), AfterRead::default());
}

#[test]
fn a_user_who_is_hidden_while_a_change_is_held_back_is_not_shown() {
    let users = user_ids(2 * PART);
    let (mut graph, key, conn, _) = paced_viewer(&users);
    let faces: Vec<VersionedFace> = users.iter().map(|user| face(*user, Face::Public, 2)).collect();
    let shown = updated_users(&graph.apply_faces(&users, faces));
    let held: Vec<UserId> = users.iter().filter(|user| !shown.contains(user)).copied().collect();
    assert_eq!(held.len(), PART);
    graph.invalidate(&invalidate_all());
    graph.begin_lookup(key).expect("needs a lookup");
    let candidates = users.iter().map(|user| match held.contains(user) {
        true => not_visible(*user),
        false => visible(*user, 2),
    });
    assert_eq!(graph.apply_lookup(key, lookup_state(candidates.collect())), []);
    assert_eq!(graph.on_stalled(key), Some(conn), "a client that does not read is closed");
    let mut updates = Vec::new();
    while updates.len() < PART {
        let after = graph.on_read(key);
        assert!(!after.updates.is_empty() && after.users.is_empty(), "{after:?}");
        updates.extend(after.updates);
    }
    assert!(updates.iter().all(|update| {
        matches!(update, GraphUpdate::Presence(hidden, _) if **hidden == Presence::hidden(hidden.user_id))
    }));
    assert_eq!(updated_users(&updates), held.into_iter().collect());
}

#[test]
fn a_stalled_client_for_which_nothing_is_held_back_stays_open() {
    let (mut graph, key, conn, _) = paced_viewer(&user_ids(1));
    let users: Vec<UserId> = graph.by_id.keys().copied().collect();
    for version in 2..=7 {
        graph.apply_faces(&users, vec![face(users[0], Face::Public, version)]);
    }
    assert_eq!(graph.take_waits(), [(key, conn)]);
    assert_eq!(graph.on_stalled(key), None);
    assert_eq!(graph.take_waits(), [(key, conn)], "it is waited for again");
}

#[test]
fn typing_that_is_held_back_is_found_by_a_lookup() {
    let users = user_ids(2 * PART);
    let (mut graph, key, conn, viewer) = paced_viewer(&users);
    let typing_user =
        |user_id| TypingUser { conversation_id: ConversationKey::stored("42", Some(true)), user_id };
    let all: Vec<TypingUser> = users.iter().copied().map(typing_user).collect();
    let candidates = || users.iter().map(|user| visible(*user, 1)).collect();
    // Until all `count` changes are delivered, in parts.
    let look_up = |graph: &mut VisibilityGraph, typing_users: &[TypingUser], count: usize| {
        let mut delivered = 0;
        while delivered < count {
            graph.begin_lookup(key).expect("needs a lookup");
            let state = LookupState { candidates: candidates(), typing_users: typing_users.to_vec() };
            let updates = graph.apply_lookup(key, state);
            assert!((1..=PART).contains(&updates.len()), "{updates:?}");
            delivered += updates.len();
            assert_eq!(graph.on_read(key).needs_lookup, delivered < count);
        }
        assert_eq!(delivered, count);
    };
    graph.invalidate(&invalidate_all());
    look_up(&mut graph, &all, users.len());

    graph.take_waits();
    let ended = |typing_user: &TypingUser| TypingRecord {
        typing_user: typing_user.clone(),
        participants: vec![typing_user.user_id, viewer],
        since: None,
    };
    let (updates, _) = graph.apply_typing(&all.iter().map(ended).collect::<Vec<_>>());
    assert!((1..=PART).contains(&updates.len()), "{updates:?}");
    assert_eq!(graph.take_waits(), [(key, conn)]);
    assert!(graph.on_read(key).needs_lookup);
    look_up(&mut graph, &[], users.len() - updates.len());
    assert!(graph.typing.is_empty());
}

#[test]
fn a_changed_subject_is_looked_up_before_the_other_invalid_ones() {
    let (ann, bob) = (UserId::random(), UserId::random());
    let mut graph = VisibilityGraph::default();
    let candidates = vec![visible(ann, 1), visible(bob, 1)];
    let (key, conn, _) = viewer_with_initial_state(&mut graph, 1, candidates);
    graph.invalidate(&Invalidation::All);
    assert!(graph.take_urgent().is_empty() && graph.needs_full_lookup(key));

    assert_eq!(graph.apply_faces(&[ann], vec![face(ann, Face::Public, 2)]), [], "not before a lookup");
    assert_eq!(graph.take_urgent(), [key]);
    let (_, _, subjects) = graph.begin_urgent_lookup(key).expect("an urgent subject");
    assert_eq!(subjects, Some(vec![ann]));
    let changed = face(ann, Face::Public, 2);
    let updates = graph.apply_lookup(key, lookup_state(vec![visible(ann, 2)]));
    assert_eq!(updates, [GraphUpdate::Presence(changed.presence, vec![conn])]);

    // Known until the next change that may concern it.
    let next = face(ann, Face::Public, 3);
    let update = GraphUpdate::Presence(next.presence.clone(), vec![conn]);
    assert_eq!(graph.apply_faces(&[ann], vec![next]), [update]);
    assert!(graph.take_urgent().is_empty() && graph.needs_full_lookup(key), "bob is still invalid");
    graph.invalidate(&invalidate_subject(ann));
    assert_eq!(graph.apply_faces(&[ann], vec![face(ann, Face::Public, 4)]), []);
    assert_eq!(graph.take_urgent(), [key], "what the viewer sees of ann may have changed");
    graph.begin_urgent_lookup(key).expect("an urgent subject");
    graph.lookup_failed(key);
    assert_eq!(graph.take_urgent(), [key], "after a failure again");

    let (_, _, subjects) = graph.begin_lookup(key).expect("needs a lookup");
    assert_eq!(subjects, None);
    assert!(graph.begin_urgent_lookup(key).is_none(), "the lookup in flight includes ann");
    graph.apply_lookup(key, lookup_state(vec![visible(bob, 1)]));
    assert!(!graph.needs_lookup(key));
    assert_eq!(graph.apply_faces(&[ann], vec![face(ann, Face::Public, 5)]), [], "ann is hidden");
}
