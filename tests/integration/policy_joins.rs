//! Policies in which another table names whom a changed row concerns, and transactions that change both tables.

use std::sync::Arc;

use testkit::{
    client::Socket,
    harness::{TestDatabase, User},
};

/// Members of an open club see everybody whom they follow.
const CLUBS: &str = "
    create table public.clubs (id int primary key, is_open boolean not null default false);
    create table public.club_members (club int, member uuid, unique (club, member));
    grant select on public.clubs, public.club_members to authenticated;
    insert into public.clubs (id) values (1), (2);
    create policy clubs on rollcall.user_presence for select to authenticated using (face = 'public' and exists (
      select from public.clubs c join public.club_members m on m.club = c.id
      where c.is_open and m.member = (select auth.uid())))";
const OPEN: &str = "update public.clubs set is_open = true where id = 1";
const CLOSE: &str = "update public.clubs set is_open = false where id = 1";
const JOIN: &str = "insert into public.club_members values (1, $v)";
const LEAVE: &str = "delete from public.club_members where member = $v";
const JOIN_ANOTHER: &str = "update public.club_members set club = 2 where member = $v";

/// Executes both statements in transactions that overlap, and commits them in either order.
async fn overlap(
    db: &TestDatabase,
    (viewer, subject): (&User, &User),
    statements: [&str; 2],
    is_reversed: bool,
) {
    let mut transactions = Vec::new();
    for statement in statements {
        transactions.push(db.begin(&statement.replace("$v", &format!("'{}'", viewer.id))).await);
    }
    if is_reversed {
        transactions.reverse();
    }
    for transaction in transactions {
        transaction.commit().await;
        // Each node reads the log between the two commits.
        db.set_status(subject, "busy").await;
        db.set_status(subject, "online").await;
    }
}

async fn expect(socket: &mut Socket, subject: &User, shows: bool, what: &str) {
    socket
        .wait_until(
            what,
            |socket| if shows { socket.shows_online(subject.id) } else { socket.hides(subject.id) },
        )
        .await;
}

#[testkit::test]
async fn sockets_follow_a_row_whose_users_another_table_names(db: Arc<TestDatabase>) {
    let nodes = [db.start_server().await, db.start_server().await];
    let (viewer, subject) = (User::new(), User::new());
    let users = (&viewer, &subject);
    let execute = async |statement: &str| db.execute(statement, &[("v", viewer.id)]).await;
    db.set_status(&subject, "online").await;
    execute(CLUBS).await;
    let mut sockets = Vec::new();
    for node in &nodes {
        let mut socket = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
        socket.next_message().await;
        sockets.push(socket);
    }
    let mut expect_all = async |shows: bool, what: &str| {
        for socket in &mut sockets {
            expect(socket, &subject, shows, what).await;
        }
    };

    for (statement, shows) in [(JOIN, false), (OPEN, true), (CLOSE, false), (OPEN, true)] {
        execute(statement).await;
        if shows || statement == CLOSE {
            expect_all(shows, statement).await;
        }
    }
    // The club closes while the viewer leaves: neither transaction sees the other one.
    for is_reversed in [false, true] {
        for leave in [LEAVE, JOIN_ANOTHER] {
            overlap(&db, users, [CLOSE, leave], is_reversed).await;
            expect_all(false, "closed and left").await;
            execute(LEAVE).await;
            overlap(&db, users, [OPEN, JOIN], is_reversed).await;
            expect_all(true, "opened and joined").await;
        }
    }
    let narrow = db
        .query_row(
            "select count(*) filter (where policy_join is not null), count(*) filter (where
        policy_join is null and viewers is null and subjects is null and reason = 'public.clubs')
        from rollcall_internal.visibility_log",
            &[],
        )
        .await;
    assert!(narrow.get::<_, i64>(0) > 0, "clubs name no users");
    assert_eq!(narrow.get::<_, i64>(1), 0, "a change of a club asks nobody else");
}
