//! Members of teams and conversations that change in transactions that overlap, and members of large groups, in the
//! built-in tables and in tables of the application.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::Socket,
    harness::{OpenTransaction, TestDatabase, TestServer, User},
};
use uuid::Uuid;

/// A table of memberships, with `$g` for the group, `$u` for a user and `$n` for a number of further members.
struct Groups {
    /// Creates the table, if it is not built in, and a group.
    create: &'static str,
    join: &'static str,
    leave: &'static str,
    /// Ends a membership without deleting its row.
    suspend: Option<&'static str>,
    /// Adds random users.
    fill: &'static str,
    /// To whom the users of the tests show their public face.
    visibility: &'static str,
    /// Conversations: ID of the group for clients.
    conversation: fn(Uuid) -> Option<Value>,
}

const TEAMS: Groups = Groups {
    create: "insert into rollcall.teams (id, name, owner_id) values ($g, 'team', $g)",
    join: "insert into rollcall.team_members (team_id, user_id) values ($g, $u)",
    leave: "delete from rollcall.team_members where user_id = $u",
    suspend: Some("update rollcall.team_members set accepted_at = null where user_id = $u"),
    fill: "insert into rollcall.team_members (team_id, user_id)
        select $g, gen_random_uuid() from generate_series(1, $n)",
    visibility: "team",
    conversation: |_| None,
};

const CONVERSATIONS: Groups = Groups {
    create: "insert into rollcall.conversations (id, created_by) values ($g, $g)",
    join: "insert into rollcall.conversation_participants (conversation_id, user_id) values ($g, $u)",
    leave: "delete from rollcall.conversation_participants where user_id = $u",
    suspend: None,
    fill: "insert into rollcall.conversation_participants (conversation_id, user_id)
        select $g, gen_random_uuid() from generate_series(1, $n)",
    visibility: "everyone",
    conversation: |group| Some(json!(group)),
};

const OWN_TEAMS: Groups = Groups {
    create: "create table public.memberships (team uuid not null, member text not null, left_at timestamptz,
            primary key (team, member));
        create index on public.memberships (member);
        select rollcall.use_table('team_members', 'public.memberships', group_column => 'team', user_column => 'member',
          condition => 'left_at is null')",
    join: "insert into public.memberships (team, member) values ($g, $u)",
    leave: "delete from public.memberships where member = $u",
    suspend: Some("update public.memberships set left_at = now() where member = $u"),
    fill: "insert into public.memberships (team, member)
        select $g, gen_random_uuid() from generate_series(1, $n)",
    visibility: "team",
    conversation: |_| None,
};

const OWN_CONVERSATIONS: Groups = Groups {
    create: "create table public.room_members (room bigint not null, member uuid not null, primary key (room, member));
        create index on public.room_members (member);
        select rollcall.use_table('participants', 'public.room_members', group_column => 'room',
          user_column => 'member')",
    join: "insert into public.room_members (room, member) values (77, $u)",
    leave: "delete from public.room_members where member = $u",
    suspend: Some("update public.room_members set room = 78 where member = $u"),
    fill: "insert into public.room_members (room, member) select 77, gen_random_uuid() from generate_series(1, $n)",
    visibility: "everyone",
    conversation: |_| Some(json!(77)),
};

/// A group and two nodes.
struct Setup {
    db: Arc<TestDatabase>,
    groups: Groups,
    group: Uuid,
    nodes: [Arc<TestServer>; 2],
}

impl Setup {
    async fn new(db: Arc<TestDatabase>, groups: Groups) -> Self {
        let group = Uuid::new_v4();
        db.execute(groups.create, &[("g", group)]).await;
        let nodes = [db.start_server().await, db.start_server().await];
        Self { db, groups, group, nodes }
    }

    fn statement(&self, template: &str, user: &User) -> String {
        template.replace("$g", &format!("'{}'", self.group)).replace("$u", &format!("'{}'", user.id))
    }

    async fn execute(&self, template: &str, user: &User) {
        self.db.execute(&self.statement(template, user), &[]).await;
    }

    async fn fill(&self, count: usize) {
        let fill = self.groups.fill.replace("$n", &count.to_string());
        self.db.execute(&fill, &[("g", self.group)]).await;
    }

    async fn begin(&self, template: &str, user: &User) -> OpenTransaction {
        self.db.begin(&self.statement(template, user)).await
    }

    /// A user that is online and has a socket.
    async fn connect(&self, node: usize) -> (User, Socket) {
        let user = User::new();
        let settings = "insert into rollcall.presence_settings (user_id, visibility) values ($1, $2::text::rollcall.presence_visibility)";
        self.db.sql.execute(settings, &[&user.id, &self.groups.visibility]).await.expect("settings");
        self.db.set_status(&user, "online").await;
        let mut socket = self.nodes[node].socket(&user).await;
        socket.next_message().await;
        (user, socket)
    }

    async fn joins_that_overlap(self) {
        for reversed in [false, true] {
            let ((one, mut of_one), (other, mut of_other)) = (self.connect(0).await, self.connect(1).await);
            let mut transactions =
                vec![self.begin(self.groups.join, &one).await, self.begin(self.groups.join, &other).await];
            if reversed {
                transactions.reverse();
            }
            for transaction in transactions {
                transaction.commit().await;
                // Each node reads the log between the two commits.
                self.db.set_status(&one, "busy").await;
                self.db.set_status(&one, "online").await;
            }
            of_one.wait_until("the first sees the second", |socket| socket.shows_online(other.id)).await;
            of_other.wait_until("the second sees the first", |socket| socket.shows_online(one.id)).await;
            if let Some(conversation) = (self.groups.conversation)(self.group) {
                self.types(&one, &conversation, &mut of_other).await;
                self.types(&other, &conversation, &mut of_one).await;
            }
            for user in [&one, &other] {
                self.execute(self.groups.leave, user).await;
            }
            of_one.wait_until("both left", |socket| socket.hides(other.id)).await;
        }
    }

    async fn types(&self, user: &User, conversation: &Value, of_reader: &mut Socket) {
        for is_typing in [true, false] {
            let id = conversation.as_str().map_or_else(|| conversation.to_string(), str::to_owned);
            let path = format!("/api/conversations/{id}/typing");
            self.nodes[0].post(user, &path, json!({ "is_typing": is_typing })).await.expect_status(200);
            let frame = of_reader.find_message("typing", |frame| frame["type"] == "typing_update").await;
            let expected =
                json!({"user_id": user.id, "conversation_id": conversation, "is_typing": is_typing});
            assert_eq!(frame["data"], expected);
        }
    }

    async fn joins_while_another_leaves(self) {
        let leaves = [Some(self.groups.leave), self.groups.suspend];
        for leave in leaves.into_iter().flatten() {
            for joins_first in [true, false] {
                let (member, mut of_member) = self.connect(0).await;
                let (leaver, mut of_leaver) = self.connect(1).await;
                let (joiner, mut of_joiner) = self.connect(1).await;
                self.execute(self.groups.join, &member).await;
                self.execute(self.groups.join, &leaver).await;
                of_member.wait_until("members", |socket| socket.shows_online(leaver.id)).await;
                let joining = self.begin(self.groups.join, &joiner).await;
                let leaving = self.begin(leave, &leaver).await;
                if joins_first {
                    joining.commit().await;
                    of_joiner.wait_until("joined", |socket| socket.shows_online(leaver.id)).await;
                    leaving.commit().await;
                } else {
                    leaving.commit().await;
                    of_member.wait_until("left", |socket| socket.hides(leaver.id)).await;
                    joining.commit().await;
                }
                of_joiner.wait_until("one member", |socket| socket.shows_online(member.id)).await;
                of_joiner.wait_until("one left", |socket| socket.hides(leaver.id)).await;
                of_leaver
                    .wait_until("left", |socket| socket.hides(member.id) && socket.hides(joiner.id))
                    .await;
                of_member
                    .wait_until("two members", |socket| {
                        socket.shows_online(joiner.id) && socket.hides(leaver.id)
                    })
                    .await;
                for user in [&member, &joiner, &leaver] {
                    self.execute(self.groups.leave, user).await;
                }
            }
        }
    }

    /// More than 1,000 members, the maximum length of a list in the visibility log.
    async fn large_group(self) {
        self.fill(1_500).await;
        let mut members = Vec::new();
        for node in [0, 1, 0] {
            let (user, socket) = self.connect(node).await;
            self.execute(self.groups.join, &user).await;
            members.push((user, socket));
        }
        let (new, mut of_new) = self.connect(1).await;
        self.execute(self.groups.join, &new).await;
        for (member, socket) in &mut members {
            socket.wait_until("a new member", |socket| socket.shows_online(new.id)).await;
            of_new.wait_until("a member", |socket| socket.shows_online(member.id)).await;
        }
        self.execute(self.groups.suspend.unwrap_or(self.groups.leave), &new).await;
        for (member, socket) in &mut members {
            socket.wait_until("a former member", |socket| socket.hides(new.id)).await;
            of_new.wait_until("a member of a former team", |socket| socket.hides(member.id)).await;
        }
    }
}

/// Initial state and Visibility (docs/protocol/presence.md).
#[testkit::test]
async fn members_who_join_a_team_at_the_same_time_see_each_other(db: Arc<TestDatabase>) {
    Setup::new(db, TEAMS).await.joins_that_overlap().await;
}

#[testkit::test]
async fn members_who_join_a_conversation_at_the_same_time_see_each_other(db: Arc<TestDatabase>) {
    Setup::new(db, CONVERSATIONS).await.joins_that_overlap().await;
}

#[testkit::test]
async fn members_who_join_at_the_same_time_in_a_table_of_the_application_see_each_other(
    db: Arc<TestDatabase>,
) {
    Setup::new(db, OWN_TEAMS).await.joins_that_overlap().await;
}

#[testkit::test]
async fn participants_who_join_at_the_same_time_in_a_table_of_the_application_see_each_other(
    db: Arc<TestDatabase>,
) {
    Setup::new(db, OWN_CONVERSATIONS).await.joins_that_overlap().await;
}

#[testkit::test]
async fn a_member_who_joins_while_another_leaves_a_team_does_not_see_it(db: Arc<TestDatabase>) {
    Setup::new(db, TEAMS).await.joins_while_another_leaves().await;
}

#[testkit::test]
async fn a_participant_who_joins_while_another_leaves_does_not_see_it(db: Arc<TestDatabase>) {
    Setup::new(db, CONVERSATIONS).await.joins_while_another_leaves().await;
}

#[testkit::test]
async fn a_member_who_joins_while_another_leaves_a_table_of_the_application_does_not_see_it(
    db: Arc<TestDatabase>,
) {
    Setup::new(db, OWN_TEAMS).await.joins_while_another_leaves().await;
}

#[testkit::test]
async fn a_participant_who_joins_while_another_moves_to_another_group_does_not_see_it(db: Arc<TestDatabase>) {
    Setup::new(db, OWN_CONVERSATIONS).await.joins_while_another_leaves().await;
}

#[testkit::test]
async fn members_of_a_large_team_see_a_new_member(db: Arc<TestDatabase>) {
    Setup::new(db, TEAMS).await.large_group().await;
}

#[testkit::test]
async fn participants_of_a_large_conversation_see_a_new_one(db: Arc<TestDatabase>) {
    Setup::new(db, CONVERSATIONS).await.large_group().await;
}

#[testkit::test]
async fn members_of_a_large_team_of_the_application_see_a_new_member(db: Arc<TestDatabase>) {
    Setup::new(db, OWN_TEAMS).await.large_group().await;
}

/// A condition that raises an error for the rows of one group.
#[testkit::test]
async fn a_group_that_cannot_be_read_delays_no_others(db: Arc<TestDatabase>) {
    db.execute(
        "create table public.seats (team int not null, member uuid not null, seat int not null);
         create index on public.seats (team);
         create index on public.seats (member);
         select rollcall.use_table('team_members', 'public.seats', group_column => 'team', user_column => 'member',
           condition => '100 / seat > 0')",
        &[],
    )
    .await;
    let node = db.start_server().await;
    let (one, other, broken) = (User::new(), User::new(), User::new());
    db.add_contact(&one, &other).await;
    db.set_status(&other, "online").await;
    let mut socket = node.socket(&one).await;
    socket.wait_until("a contact", |socket| socket.shows_online(other.id)).await;
    db.execute("insert into public.seats values (1, $b, 0)", &[("b", broken.id)]).await;
    db.set_status(&other, "busy").await;
    socket
        .wait_until_within(Duration::from_secs(3), "a change", |socket| {
            socket.shows(other.id, "online", "busy")
        })
        .await;
}
