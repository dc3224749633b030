//! Model test of `postgres_changes`. Each subscriber receives exactly the changed rows that `select` returns for it,
//! with the columns it may select; for deletes with RLS, the deleted rows that `select` returned before.
//!
//! Policies (comparisons, joins, functions, restrictive ones), grants, filters, subscribers and transactions are
//! random. `ROLLCALL_SEED` repeats a run.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rollcall::auth::Principal;
use serde_json::{Value, json};
use testkit::{
    cluster::connect,
    harness::{TestDatabase, principal},
};
use uuid::Uuid;

use crate::changes_harness::{ChangesHarness, Listener};

const TABLES: usize = 12;
const STEPS: usize = 8;
const IDS: std::ops::RangeInclusive<i32> = 1..=12;

const POLICIES: [&str; 22] = [
    "for select using (owner = auth.uid())",
    "for all to authenticated using ((select auth.uid()) = owner)",
    "for select to authenticated using (auth.uid()::text = owner::text)",
    "for select using (exists (select from public.members m where m.team = $table.team and m.user_id = auth.uid()))",
    "for select to authenticated using (team in (select m.team from public.members m where m.user_id = (select auth.uid())))",
    "for select using (level >= (auth.jwt() ->> 'level')::int)",
    "for select to anon, authenticated using (public.may_see(team))",
    "for select to service_role using (true)",
    "for select to anon using (body like 'a%')",
    // No column, the whole row, a system column.
    "for select using ((select auth.jwt() ->> 'role') = 'authenticated')",
    "for select using ($table is not null)",
    "for select using ($table.tableoid is not null and team < 3)",
    // A function in a schema that the role may not use; policies may call it anyway.
    "for select using (private.may_see(team))",
    "for select using (private.may_see(team) and exists (select from public.members m where m.user_id = auth.uid()))",
    // A volatile expression that always has the same value here.
    "for select using (random() >= 0 and level > 4)",
    "for select using (owner = auth.uid() or team = 2 or mood = 'so so')",
    "for select using ('a' = any (tags) or code = 'ab')",
    "for select using (seen_at < now() and price::text like '1%')",
    "for select using (case when level > 5 then owner = auth.uid() else team = 1 end)",
    "for select using (body collate \"C\" < 'b' or tags is null)",
    "for select using (exists (select from public.fence \"$table\" where \"$table\".n = level))",
    // A role that `authenticated` is a member of. Whether the policy applies depends on `inherit`.
    "for select to truth_members using (true)",
];
const RESTRICTIONS: [&str; 5] = [
    "as restrictive for select using (level < 7)",
    "as restrictive for select to authenticated using (body is not null)",
    "as restrictive for select using (team <> 3 or auth.uid() = owner)",
    "as restrictive for select using (mood is distinct from 'sad' and auth.jwt() ->> 'role' is not null)",
    "as restrictive for select using (team in (select 1 + (m.team - 1) % 4 from public.members m) or level < 5)",
];
/// A filter and the equivalent SQL condition.
const FILTERS: [(&str, &str); 14] = [
    ("", "true"),
    ("", "true"),
    ("team=eq.1", "team = 1"),
    ("level=gt.3,level=not.gt.6", "level > 3 and not level > 6"),
    ("level=in.(1,2,3,8)", "level in (1, 2, 3, 8)"),
    ("body=like.a%", "body like 'a%'"),
    ("body=ilike.A%", "body ilike 'A%'"),
    ("body=not.match.^[ab]", "not body ~ '^[ab]'"),
    ("body=is.null", "body is null"),
    ("body=gte.b", "body >= 'b'"),
    ("price=neq.1.50", "price <> 1.5"),
    ("price=isdistinct.2", "price is distinct from 2"),
    ("mood=eq.so so", "mood = 'so so'"),
    ("code=in.(ab,abc)", "code in ('ab', 'abc')"),
];
const BODIES: [&str; 6] = ["'apple'", "'Avocado'", "'berry'", "'a%'", "''", "null"];

struct Subscriber {
    principal: Arc<Principal>,
    condition: &'static str,
    listener: Listener,
    /// System messages about the table. Equal messages are not repeated soon.
    system_messages: Vec<(bool, String)>,
}

#[testkit::test]
async fn subscribers_receive_what_select_returns_for_them(db: Arc<TestDatabase>) {
    let seed =
        std::env::var("ROLLCALL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("ROLLCALL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let users: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
    let admin = connect(&db.admin_url()).await;
    let roles = "create role truth_members; grant truth_members to authenticated";
    admin.batch_execute(roles).await.expect("a superuser may");
    db
        .execute(
            "create table public.members (team int, user_id uuid, primary key (team, user_id)); alter table public.members enable row level security;
            grant select on public.members to anon, authenticated, service_role;
            create policy own on public.members for select using (user_id = auth.uid());
            create function public.may_see(p_team int) returns boolean language sql stable security definer set search_path = '' as
              $$ select p_team % 2 = 0 or exists (select from public.members m where m.team = p_team and m.user_id = auth.uid()) $$;
            create schema private; create function private.may_see(p_team int) returns boolean language sql stable
              as $$ select p_team % 2 = 1 $$;
            create type public.mood as enum ('sad', 'so so');
            create table public.fence (n int primary key); grant select on public.fence to anon, authenticated, service_role;
            alter publication supabase_realtime add table public.fence",
            &[],
        )
        .await;
    for user in &users {
        for team in 1..=4 {
            if random.random_bool(0.4) {
                db.execute(&format!("insert into members values ({team}, $user)"), &[("user", *user)]).await;
            }
        }
    }
    let harness = ChangesHarness::open(&db.url);
    let mut fence = 0;
    for number in 0..TABLES {
        let table = format!("t{number}");
        let deletes_are_secured = create_table(&db, &table, &mut random).await;
        let mut subscribers = subscribe(&harness, &table, &users, &mut random).await;
        for _ in 0..STEPS {
            fence += 1;
            if random.random_bool(0.25) {
                delete_rows(&db, &table, fence, deletes_are_secured, &mut subscribers, &mut random).await;
                continue;
            }
            let touched = apply_changes(&db, &table, fence, &users, &mut random).await;
            for subscriber in &mut subscribers {
                let expected = selected_rows(&db, &table, &touched, subscriber).await;
                let delivered = delivered_rows(subscriber, fence).await;
                assert_eq!(
                    delivered, expected,
                    "seed {seed}: {table} for {:?} with {}",
                    subscriber.principal, subscriber.condition
                );
            }
        }
    }
}

/// Returns whether deletes are limited to users who could see the row.
async fn create_table(db: &TestDatabase, table: &str, random: &mut StdRng) -> bool {
    let mut statements = format!(
        "create table public.{table} (id int primary key, owner uuid, team int, level int, price numeric, body text,
          tags text[], mood public.mood, seen_at timestamptz, code char(3));
        alter publication supabase_realtime add table public.{table}; revoke all on public.{table} from anon, authenticated;
        grant all on public.{table} to service_role;"
    );
    for role in ["anon", "authenticated"] {
        let columns = [
            "",
            " (id, owner, team, level, price, body, mood, code)",
            " (id, body, level, team, price, mood, code, tags)",
        ]
        .choose(random)
        .expect("one");
        statements += &format!("grant select{columns} on public.{table} to {role};");
    }
    if random.random_bool(0.85) {
        statements += &format!("alter table public.{table} enable row level security;");
    }
    let deletes_are_secured = random.random_bool(0.6);
    if deletes_are_secured {
        statements += &format!("insert into rollcall.change_settings values ('public.{table}', true);");
    }
    if deletes_are_secured || random.random_bool(0.3) {
        statements += &format!("alter table public.{table} replica identity full;");
    }
    let count = random.random_range(0..=2);
    let policies =
        POLICIES.choose_multiple(random, count).chain(RESTRICTIONS.choose_multiple(random, count / 2));
    for (number, policy) in policies.enumerate() {
        statements +=
            &format!("create policy p{number} on public.{table} {};", policy.replace("$table", table));
    }
    db.execute(&statements, &[]).await;
    deletes_are_secured
}

async fn subscribe(
    harness: &ChangesHarness,
    table: &str,
    users: &[Uuid],
    random: &mut StdRng,
) -> Vec<Subscriber> {
    let mut principals: Vec<_> = users.iter().map(|user| principal("authenticated", Some(*user))).collect();
    principals.extend([principal("anon", None), principal("service_role", None), principals[0].clone()]);
    let mut subscribers = Vec::new();
    for (number, subscriber) in principals.into_iter().enumerate() {
        let (filter, condition) = *FILTERS.choose(random).expect("one");
        let subscription = json!([
            {"event": "*", "schema": "public", "table": table, "filter": filter},
            {"event": "INSERT", "schema": "public", "table": "fence"},
        ]);
        let topic = format!("room {}", number % 3);
        subscribers.push(Subscriber {
            principal: subscriber.clone(),
            condition,
            listener: harness.subscribe_and_wait(&topic, subscriber, subscription).await,
            system_messages: Vec::new(),
        });
    }
    subscribers
}

/// Changes some rows once each, in one or several transactions. A row with the ID `fence` marks the end.
async fn apply_changes(
    db: &TestDatabase,
    table: &str,
    fence: i32,
    users: &[Uuid],
    random: &mut StdRng,
) -> Vec<i32> {
    let ids: Vec<i32> = IDS.collect();
    let count = random.random_range(1..=5);
    let touched: Vec<i32> = ids.choose_multiple(random, count).copied().collect();
    let mut statements = Vec::new();
    for id in &touched {
        let owner = users.choose(random).map_or_else(|| "null".to_owned(), |user| format!("'{user}'"));
        let (team, level) = (random.random_range(1..=4), random.random_range(0..10));
        let price = ["null", "1.5", "1.50", "2", "'NaN'"].choose(random).expect("one");
        let body = BODIES.choose(random).expect("one");
        let tags = ["null", "'{}'", "'{a,\"b c\"}'", "'{NULL,b}'"].choose(random).expect("one");
        let mood = ["null", "'sad'", "'so so'"].choose(random).expect("one");
        let seen_at = ["null", "now() - interval '1.5 days'", "'infinity'"].choose(random).expect("one");
        let code = ["null", "'ab'", "'abc'"].choose(random).expect("one");
        statements.push(format!(
            "insert into public.{table} values ({id}, {owner}, {team}, {level}, {price}, {body}, {tags}, {mood}, {seen_at}, {code})
             on conflict (id) do update set (owner, team, level, price, body, tags, mood, seen_at, code) = (excluded.owner,
             excluded.team, excluded.level, excluded.price, excluded.body, excluded.tags, excluded.mood, excluded.seen_at, excluded.code)"
        ));
    }
    // Memberships may change with the rows; the final state decides.
    if random.random_bool(0.3) {
        let user = users.choose(random).expect("one");
        statements.push(format!("insert into public.members values (1, '{user}') on conflict do nothing"));
    }
    statements.push(format!("insert into public.fence values ({fence})"));
    let together = random.random_bool(0.5);
    let text = statements.join("; ");
    db.execute(&if together { format!("begin; {text}; commit") } else { text }, &[]).await;
    touched
}

/// Deletes some rows. With secured deletes a subscriber receives those it could see before and that match its filter;
/// otherwise all that its filter can be evaluated on.
async fn delete_rows(
    db: &TestDatabase,
    table: &str,
    fence: i32,
    is_secured: bool,
    subscribers: &mut [Subscriber],
    random: &mut StdRng,
) {
    let ids: Vec<i32> = IDS.collect();
    let gone: Vec<i32> = ids.choose_multiple(random, 6).copied().collect();
    let is_full: bool = db
        .query_row("select relreplident = 'f' from pg_class where oid = $1::text::regclass", &[&table])
        .await
        .get(0);
    let mut expected = Vec::new();
    for subscriber in &mut *subscribers {
        let seen: Vec<i64> = if is_secured {
            selected_rows(db, table, &gone, subscriber).await.into_keys().collect()
        } else if is_full || subscriber.condition == "true" {
            let statement = format!(
                "select coalesce(array_agg(id::bigint order by id), '{{}}') from public.{table} where id = any($1) and ({})",
                subscriber.condition
            );
            db.query_row(&statement, &[&gone]).await.get(0)
        } else {
            Vec::new()
        };
        expected.push(seen);
    }
    let ids: Vec<String> = gone.iter().map(i32::to_string).collect();
    let statement = format!(
        "delete from public.{table} where id in ({}); insert into public.fence values ({fence})",
        ids.join(",")
    );
    db.execute(&statement, &[]).await;
    for (subscriber, expected) in subscribers.iter_mut().zip(expected) {
        let delivered: Vec<i64> = delivered_rows(subscriber, fence).await.into_keys().collect();
        subscriber.system_messages.extend(subscriber.listener.take_system_messages());
        // Policies that use functions of schemas the role may not use, or the row as a whole, cannot be checked for a
        // deleted row. The delete is then not delivered, and a system message says so.
        let cannot_be_asked = subscriber.system_messages.iter().any(|(_, text)| {
            text.contains("permission denied for schema private")
                || text.contains("policies take the row as a whole")
        });
        if delivered.is_empty() && cannot_be_asked {
            continue;
        }
        let Subscriber { principal, condition, system_messages: messages, .. } = subscriber;
        assert_eq!(
            delivered, expected,
            "deletes of {table} for {principal:?} with {condition}; system messages: {messages:?}"
        );
    }
}

/// The changed rows that the subscriber may see and that match its condition, with the columns it may select.
async fn selected_rows(
    db: &TestDatabase,
    table: &str,
    touched: &[i32],
    subscriber: &Subscriber,
) -> BTreeMap<i64, Value> {
    let Subscriber { principal, condition, .. } = subscriber;
    let columns: String = db
        .query_row(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
             where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and has_column_privilege($2::text, attrelid, attnum, 'select')",
            &[&table, &principal.role.as_str()],
        )
        .await
        .get(0);
    db.execute("begin", &[]).await;
    db.query_row(
        "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
        &[&principal.role.as_str(), &&*principal.claims],
    )
    .await;
    let statement = format!(
        "select coalesce(jsonb_agg(to_jsonb(shown)), '[]')::text from (select {columns} from public.{table} where id = any($1) and ({condition})) shown"
    );
    let rows: String = db.query_row(&statement, &[&touched]).await.get(0);
    db.execute("rollback", &[]).await;
    let rows: Vec<Value> = serde_json::from_str(&rows).expect("JSON");
    rows.into_iter().map(|row| (row["id"].as_i64().expect("an id"), row)).collect()
}

/// The changes delivered up to the fence.
async fn delivered_rows(subscriber: &mut Subscriber, fence: i32) -> BTreeMap<i64, Value> {
    let mut delivered = BTreeMap::new();
    loop {
        let mut data = subscriber.listener.next().await["data"].take();
        if data["table"] == "fence" {
            assert_eq!(data["record"]["n"], fence);
            return delivered;
        }
        let row = if data["type"] == "DELETE" { "old_record" } else { "record" };
        let record = data[row].take();
        let id = record["id"].as_i64().expect("an id");
        assert!(delivered.insert(id, record).is_none(), "delivered twice");
    }
}
