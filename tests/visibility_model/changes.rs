//! Random changes of relations and of who may see whom, as SQL.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use crate::oracle::Rule;

/// Kinds of changes: memberships of the team, and of the conversation.
const TEAM: u32 = 3;
const CONVERSATION: u32 = 4;

/// The users of a history, and the groups that they may be members of.
pub struct Relations {
    rule: Rule,
    users: Vec<Uuid>,
    team: Uuid,
    conversation: Uuid,
}

impl Relations {
    pub fn new(rule: Rule, users: Vec<Uuid>) -> Self {
        Self { rule, users, team: Uuid::new_v4(), conversation: Uuid::new_v4() }
    }

    /// ID of the conversation in the table of participants.
    pub fn conversation_id(&self) -> String {
        match self.rule {
            Rule::OwnTables => format!("room-{}", self.conversation),
            Rule::BuiltIn | Rule::ByGrant => self.conversation.to_string(),
        }
    }

    /// Creates the groups if they do not exist.
    pub fn groups(&self) -> String {
        let (team, conversation, owner) = (self.team, self.conversation, self.users[0]);
        format!(
            "insert into rollcall.teams (id, name, owner_id) values ('{team}', 't', '{owner}') on conflict do nothing;
             insert into rollcall.conversations (id, created_by) values ('{conversation}', '{owner}') on conflict do nothing;"
        )
    }

    /// A random change of a relation or a visibility setting.
    pub fn random_change(&self, rng: &mut StdRng) -> String {
        let user = rng.random_range(0..self.users.len());
        let kind = rng.random_range(0..if self.rule == Rule::ByGrant { 11 } else { 8 });
        self.change_of_kind(rng, kind, user)
    }

    fn change_of_kind(&self, rng: &mut StdRng, kind: u32, user: usize) -> String {
        let other = (user + rng.random_range(1..self.users.len())) % self.users.len();
        let (a, b) = (self.users[user], self.users[other]);
        let (team, conversation) = (self.team, self.conversation);
        let on = rng.random_bool(0.6);
        if self.rule == Rule::OwnTables && kind <= CONVERSATION {
            return self.change_of_own_tables(kind, a, b, on);
        }
        // A restored database may lack the groups.
        let groups = self.groups();
        match kind {
            0 | 1 if on => format!(
                "insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values ('{a}', '{b}', now())
                 on conflict do nothing;"
            ),
            0 | 1 => format!(
                "delete from rollcall.contacts where (requester_id, addressee_id) in (('{a}', '{b}'), ('{b}', '{a}'));"
            ),
            2 if rng.random_bool(0.5) => {
                format!("insert into rollcall.blocks (blocker_id, blocked_id) values ('{a}', '{b}') on conflict do nothing;")
            }
            2 => format!("delete from rollcall.blocks where blocker_id = '{a}';"),
            TEAM if on => {
                format!("{groups} insert into rollcall.team_members (team_id, user_id) values ('{team}', '{a}') on conflict do nothing;")
            }
            TEAM => format!("delete from rollcall.team_members where team_id = '{team}' and user_id = '{a}';"),
            CONVERSATION if on => format!(
                "{groups} insert into rollcall.conversation_participants (conversation_id, user_id)
                 values ('{conversation}', '{a}') on conflict do nothing;"
            ),
            CONVERSATION => format!(
                "delete from rollcall.conversation_participants where conversation_id = '{conversation}' and user_id = '{a}';"
            ),
            5 | 6 => {
                let visibility = ["nobody", "team", "contacts", "everyone"].choose(rng).expect("four");
                let [seen, custom, activity, typing] = std::array::from_fn(|_| rng.random_bool(0.7));
                format!(
                    "insert into rollcall.presence_settings
                       (user_id, visibility, show_last_seen, show_custom_status, show_activity, show_typing)
                     values ('{a}', '{visibility}', {seen}, {custom}, {activity}, {typing})
                     on conflict (user_id) do update set visibility = excluded.visibility,
                     show_last_seen = excluded.show_last_seen, show_custom_status = excluded.show_custom_status,
                     show_activity = excluded.show_activity, show_typing = excluded.show_typing;"
                )
            }
            7 if on => format!(
                "insert into rollcall.presence_visibility_list (user_id, viewer_id) values ('{a}', '{b}') on conflict do nothing;"
            ),
            7 => format!("delete from rollcall.presence_visibility_list where user_id = '{a}';"),
            _ if on => format!(
                "insert into public.test_grants (viewer_id, subject_id) values ('{a}', '{b}') on conflict do nothing;"
            ),
            _ => format!("delete from public.test_grants where viewer_id = '{a}' and subject_id = '{b}';"),
        }
    }

    /// Two changes for transactions that overlap; mostly of memberships of the same group.
    pub fn overlapping_changes(&self, rng: &mut StdRng) -> [String; 2] {
        if rng.random_bool(0.3) {
            return [self.random_change(rng), self.random_change(rng)];
        }
        let kind = if rng.random_bool(0.6) { TEAM } else { CONVERSATION };
        let one = rng.random_range(0..self.users.len());
        let other = (one + rng.random_range(1..self.users.len())) % self.users.len();
        [one, other].map(|user| self.change_of_kind(rng, kind, user))
    }

    /// As [`Self::random_change`], over the tables of the application.
    fn change_of_own_tables(&self, kind: u32, a: Uuid, b: Uuid, on: bool) -> String {
        let org = i64::try_from(self.team.as_u128() >> 66).expect("62 bits");
        let room = self.conversation_id();
        let state = if on { "friends" } else { "asked" };
        match kind {
            0 => format!(
                "insert into public.friendships (asker, target, state) values ('{a}', '{b}', '{state}')
                 on conflict (asker, target) do update set state = excluded.state;"
            ),
            1 if on => format!(
                "update public.friendships set asker = target, target = asker where asker = '{a}' and target = '{b}'
                   and not exists (select from public.friendships f where f.asker = '{b}' and f.target = '{a}');
                 update public.friendships set seen_at = now() where '{a}' in (asker, target);"
            ),
            1 => format!("delete from public.friendships where '{a}' in (asker, target) and '{b}' in (asker, target);"),
            2 if on => {
                format!("insert into public.mutes (who, whom) values ('{a}', '{b}') on conflict do nothing;")
            }
            2 => format!("delete from public.mutes where who = '{a}';"),
            TEAM if on => format!(
                "insert into public.org_members (org, member) values ({org}, '{a}')
                 on conflict (org, member) do update set left_at = null;"
            ),
            TEAM => format!("update public.org_members set left_at = now() where org = {org} and member = '{a}';"),
            _ if on => format!(
                "insert into public.room_members (room, member) values ('{room}', '{a}') on conflict do nothing;"
            ),
            _ => format!("delete from public.room_members where room = '{room}' and member = '{a}';"),
        }
    }
}
