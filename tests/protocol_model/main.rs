//! A model of the protocol between commits, notifications and sockets, checked exhaustively.
//!
//! Two users and two nodes: the subject writes a status through node B, which also relays notifications. The viewer has a
//! socket on node A. The actions carry the names of the code. Each history may contain one revocation, one crash of each
//! node, one lost LISTEN connection, one statement that gets no answer, and one fail-over to a standby that lacks the last
//! commits. [`Protocol`] can switch off two rules; then the checker must find the faults that they prevent.

use stateright::{Checker, Model, Property};

/// Statuses that the subject sets, numbered from one.
const WRITES: u8 = 2;

/// The rules of the protocol that can be switched off.
#[derive(Clone, Copy)]
struct Protocol {
    /// `VisibilityGraph` compares the content of faces. Otherwise it ignores faces whose version is not above the known one.
    compares_content: bool,
    /// `session::within` cancels a statement before its caller gives up. Otherwise the statement goes on.
    fences_writes: bool,
}

/// What commits change.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
struct Rows {
    /// The last status of the subject.
    status: u8,
    /// The subject has blocked the viewer.
    is_blocked: bool,
    /// Version of the subject's face.
    version: u8,
}

impl Rows {
    /// What `select` as the viewer returns.
    const fn seen(self) -> Option<u8> {
        if self.is_blocked { None } else { Some(self.status) }
    }

    const fn with_status(self, status: u8) -> Self {
        Self { status, version: self.version + 1, ..self }
    }
}

/// Node A: its LISTEN connection, its visibility task, and what the viewer's socket shows.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct ViewerNode {
    is_running: bool,
    is_listening: bool,
    /// Notifications on their way.
    notifications: u8,
    /// A snapshot has to be read.
    is_pending: bool,
    /// The snapshot that is being read.
    reading: Option<Rows>,
    shown: Option<u8>,
    /// Version of the face that is shown.
    version: u8,
}

/// Node B: the writer and the relay.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct WriterNode {
    /// The statement that was sent last and was not answered.
    statement: Option<u8>,
    /// A statement whose caller was answered with 503, and which still runs.
    late_statement: Option<u8>,
    /// The last status that was acknowledged.
    acknowledged: u8,
    next_status: u8,
    is_relaying: bool,
    /// Messages in the log that are not relayed.
    unrelayed: u8,
    /// The relay ended; what it had not relayed is replaced by a nudge to read everything.
    is_nudge_due: bool,
}

/// Faults and changes that may still occur.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Remaining {
    revocation: bool,
    lost_listener: bool,
    timeout: bool,
    relay_crash: bool,
    node_crash: bool,
    fail_over: bool,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct State {
    primary: Rows,
    standby: Rows,
    writer: WriterNode,
    viewer: ViewerNode,
    remaining: Remaining,
}

impl State {
    /// Nothing is on its way.
    const fn is_quiet(&self) -> bool {
        let (writer, viewer) = (&self.writer, &self.viewer);
        viewer.is_running
            && viewer.is_listening
            && viewer.notifications == 0
            && !viewer.is_pending
            && viewer.reading.is_none()
            && writer.statement.is_none()
            && writer.late_statement.is_none()
            && writer.unrelayed == 0
            && !writer.is_nudge_due
    }

    /// NOTIFY reaches only who listens.
    const fn notify(&mut self) {
        if self.viewer.is_running && self.viewer.is_listening {
            self.viewer.notifications += 1;
        }
    }

    fn commit_status(&mut self, status: u8) {
        self.primary = self.primary.with_status(status);
        // The writer notifies directly.
        self.notify();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// `Writer::apply`: a batch is sent.
    WriterApplies,
    /// `WriterTask::commit`: the batch commits, and its caller is answered.
    BatchCommits,
    /// `session::within` ends: the caller is answered with 503.
    StatementTimesOut,
    /// A statement that was given up commits.
    LateStatementCommits,
    /// A transaction of the application inserts into `rollcall.blocks`.
    ApplicationRevokes,
    /// The relay reads a message from the log and notifies.
    RelayNotifies,
    /// The relaying node ends. Later transactions notify by themselves.
    RelayEnds,
    /// Another relay starts and nudges all nodes to read again (`on_missed`).
    RelayTakesOver,
    /// `PendingChanges::on_notification`.
    NotificationArrives,
    /// The LISTEN connection ends.
    ListenerDisconnects,
    /// `on_connected`, which requests a snapshot.
    ListenerConnects,
    /// `read_snapshot` begins.
    SnapshotBegins,
    /// The visibility task applies the snapshot and sends the difference.
    SnapshotIsApplied,
    /// The standby receives all commits so far.
    StandbyFollows,
    /// The standby is promoted. Commits that it lacks are gone, and all connections end.
    StandbyIsPromoted,
    ViewerNodeCrashes,
    ViewerNodeStarts,
}

const ACTIONS: [Action; 17] = [
    Action::WriterApplies,
    Action::BatchCommits,
    Action::StatementTimesOut,
    Action::LateStatementCommits,
    Action::ApplicationRevokes,
    Action::RelayNotifies,
    Action::RelayEnds,
    Action::RelayTakesOver,
    Action::NotificationArrives,
    Action::ListenerDisconnects,
    Action::ListenerConnects,
    Action::SnapshotBegins,
    Action::SnapshotIsApplied,
    Action::StandbyFollows,
    Action::StandbyIsPromoted,
    Action::ViewerNodeCrashes,
    Action::ViewerNodeStarts,
];

impl Protocol {
    /// The state after an action, or `None` if it is not possible.
    fn after(self, mut state: State, action: Action) -> Option<State> {
        let State { primary, standby, writer, viewer, remaining } = &mut state;
        match action {
            Action::WriterApplies => {
                let is_free = writer.statement.is_none() && writer.next_status <= WRITES;
                is_free.then(|| {
                    writer.statement = Some(writer.next_status);
                    writer.next_status += 1;
                })?;
            }
            Action::BatchCommits => {
                let status = writer.statement.take()?;
                writer.acknowledged = status;
                state.commit_status(status);
            }
            Action::StatementTimesOut => {
                let status = writer.statement.filter(|_| remaining.timeout)?;
                remaining.timeout = false;
                writer.statement = None;
                writer.late_statement = (!self.fences_writes).then_some(status);
            }
            Action::LateStatementCommits => {
                let status = writer.late_statement.take()?;
                state.commit_status(status);
            }
            Action::ApplicationRevokes => {
                remaining.revocation.then_some(())?;
                remaining.revocation = false;
                let is_relaying = writer.is_relaying;
                state.primary.is_blocked = true;
                if is_relaying {
                    state.writer.unrelayed += 1;
                } else {
                    state.notify();
                }
            }
            Action::RelayNotifies => {
                (writer.is_relaying && writer.unrelayed > 0).then_some(())?;
                writer.unrelayed -= 1;
                state.notify();
            }
            Action::RelayEnds => {
                (remaining.relay_crash && writer.is_relaying).then_some(())?;
                remaining.relay_crash = false;
                (writer.is_relaying, writer.unrelayed, writer.is_nudge_due) = (false, 0, true);
            }
            Action::RelayTakesOver => {
                writer.is_nudge_due.then_some(())?;
                (writer.is_nudge_due, writer.is_relaying) = (false, true);
                viewer.is_pending |= viewer.is_running;
            }
            Action::NotificationArrives => {
                (viewer.notifications > 0).then_some(())?;
                viewer.notifications -= 1;
                viewer.is_pending = true;
            }
            Action::ListenerDisconnects => {
                (remaining.lost_listener && viewer.is_running && viewer.is_listening).then_some(())?;
                remaining.lost_listener = false;
                (viewer.is_listening, viewer.notifications) = (false, 0);
            }
            Action::ListenerConnects => {
                (viewer.is_running && !viewer.is_listening).then_some(())?;
                (viewer.is_listening, viewer.is_pending) = (true, true);
            }
            Action::SnapshotBegins => {
                (viewer.is_pending && viewer.reading.is_none()).then_some(())?;
                viewer.is_pending = false;
                viewer.reading = Some(*primary);
            }
            Action::SnapshotIsApplied => {
                let rows = viewer.reading.take()?;
                let is_newer = rows.version > viewer.version;
                if rows.is_blocked || viewer.shown.is_none() || self.compares_content || is_newer {
                    (viewer.shown, viewer.version) = (rows.seen(), rows.version);
                }
            }
            Action::StandbyFollows => {
                (standby != primary && remaining.fail_over).then_some(())?;
                *standby = *primary;
            }
            Action::StandbyIsPromoted => {
                remaining.fail_over.then_some(())?;
                remaining.fail_over = false;
                *primary = *standby;
                // What only the old primary had is lost, also if it was acknowledged.
                writer.acknowledged = writer.acknowledged.min(standby.status);
                (writer.statement, writer.late_statement, writer.unrelayed) = (None, None, 0);
                (writer.is_relaying, writer.is_nudge_due) = (false, true);
                (viewer.is_listening, viewer.notifications) = (false, 0);
            }
            Action::ViewerNodeCrashes => {
                (remaining.node_crash && viewer.is_running).then_some(())?;
                remaining.node_crash = false;
                *viewer = ViewerNode {
                    is_running: false,
                    is_listening: false,
                    notifications: 0,
                    is_pending: false,
                    reading: None,
                    shown: None,
                    version: 0,
                };
            }
            Action::ViewerNodeStarts => {
                (!viewer.is_running).then_some(())?;
                viewer.is_running = true;
            }
        }
        Some(state)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let rows = Rows::default();
        let writer = WriterNode {
            statement: None,
            late_statement: None,
            acknowledged: 0,
            next_status: 1,
            is_relaying: true,
            unrelayed: 0,
            is_nudge_due: false,
        };
        let viewer = ViewerNode {
            is_running: true,
            is_listening: true,
            notifications: 0,
            is_pending: false,
            reading: None,
            shown: rows.seen(),
            version: rows.version,
        };
        let remaining = Remaining {
            revocation: true,
            lost_listener: true,
            timeout: true,
            relay_crash: true,
            node_crash: true,
            fail_over: true,
        };
        vec![State { primary: rows, standby: rows, writer, viewer, remaining }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(ACTIONS.into_iter().filter(|action| self.after(*state, *action).is_some()));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.after(*state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TRUTH, |_, state: &State| {
                !state.is_quiet() || state.viewer.shown == state.primary.seen()
            }),
            Property::always(ORDER, |_, state: &State| state.primary.status >= state.writer.acknowledged),
            Property::sometimes("a fail-over loses commits", |_, state: &State| {
                !state.remaining.fail_over && state.viewer.version > state.primary.version
            }),
            Property::sometimes("a revocation takes back what was shown", |_, state: &State| {
                state.is_quiet() && state.primary.is_blocked && state.viewer.shown.is_none()
            }),
            Property::sometimes("all faults occur in one history", |_, state: &State| {
                let Remaining { revocation, lost_listener, timeout, relay_crash, node_crash, fail_over } =
                    state.remaining;
                state.is_quiet()
                    && !(revocation || lost_listener || timeout || relay_crash || node_crash || fail_over)
            }),
        ]
    }
}

const TRUTH: &str = "at every quiet point the socket shows what select returns";
const ORDER: &str = "no acknowledged write is overwritten by an earlier one";

#[test]
fn the_protocol_holds_in_all_histories() {
    let protocol = Protocol { compares_content: true, fences_writes: true };
    let checked = protocol.checker().threads(2).spawn_bfs().join();
    println!("{} states", checked.unique_state_count());
    checked.assert_properties();
}

#[test]
fn without_comparing_content_numbers_that_go_back_hide_changes() {
    let protocol = Protocol { compares_content: false, fences_writes: true };
    let path = protocol.checker().threads(2).spawn_bfs().join().assert_any_discovery(TRUTH).into_actions();
    assert!(path.contains(&Action::StandbyIsPromoted), "{path:?}");
}

#[test]
fn without_a_fence_a_late_write_overwrites_an_acknowledged_one() {
    let protocol = Protocol { compares_content: true, fences_writes: false };
    let path = protocol.checker().threads(2).spawn_bfs().join().assert_any_discovery(ORDER).into_actions();
    assert!(path.contains(&Action::StatementTimesOut), "{path:?}");
}
