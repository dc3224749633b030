//! Statements that run for each change and each viewer read large tables by index only.

use std::sync::Arc;

use serde_json::json;
use testkit::{cluster, harness::TestDatabase};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// 20,000 users with a contact each, and the first one with 51.
const USERS: &str = "
    set session_replication_role = replica;
    create table public.ring as select n, md5('user ' || n)::uuid as id from generate_series(1, 20000) n;
    insert into rollcall.user_presence (user_id, face, status, reach, last_seen)
      select r.id, f.face, 'online', 'online', now()
      from public.ring r, unnest(enum_range(null::rollcall.presence_face)) as f (face);
    insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
      select one.id, other.id, now() from public.ring one join public.ring other on other.n = one.n + 100;
    insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
      select one.id, other.id, now() from public.ring one, public.ring other where one.n = 1 and other.n between 2 and 51;
    analyze rollcall.user_presence, rollcall.contacts;";
const VIEWER: &str = "select md5('user 1')::uuid";
/// Scans of whole tables in this transaction.
const FULL_SCANS: &str = "select coalesce(sum(t.seq_scan), 0)::bigint from pg_stat_xact_all_tables t
    where t.schemaname = 'rollcall' and t.relname in ('user_presence', 'contacts')";

#[testkit::test]
async fn look_ups_scan_no_large_table(db: Arc<TestDatabase>) {
    let admin = cluster::connect(&db.admin_url()).await;
    admin.batch_execute(USERS).await.expect("users");
    let client = db.connect().await;
    client.batch_execute(include_str!("../../sql/node/plan_once.sql")).await.expect("settings");
    let viewer: Uuid = client.query_one(VIEWER, &[]).await.expect("a viewer").get(0);
    let claims = json!({ "sub": viewer, "role": "authenticated" }).to_string();
    let (none, ends) = (Vec::<Uuid>::new(), vec![0]);
    let look: [&(dyn ToSql + Sync); 7] =
        [&vec!["authenticated"], &vec![claims], &vec![true], &none, &ends, &none, &ends];
    let (no_snapshot, conversations) = (None::<String>, Vec::<String>::new());
    let pull: [&(dyn ToSql + Sync); 5] = [&vec![viewer], &no_snapshot, &false, &conversations, &none];
    let statements = [
        ("look.sql", include_str!("../../sql/presence/look.sql"), &look[..], 51),
        ("pull.sql", include_str!("../../sql/presence/pull.sql"), &pull[..], 2),
    ];
    for (name, statement, parameters, users) in statements {
        client.batch_execute("begin").await.expect("a transaction");
        let prepared = client.prepare(statement).await.expect("a statement");
        let rows = client.query(&prepared, parameters).await.expect("rows");
        let faces = rows.iter().filter(|row| row.get::<_, Option<Uuid>>("user_id").is_some()).count();
        assert_eq!(faces, users, "{name}");
        let full_scans: i64 = client.query_one(FULL_SCANS, &[]).await.expect("statistics").get(0);
        assert_eq!(full_scans, 0, "{name} scans a table");
        client.batch_execute("rollback").await.expect("the end");
    }
}
