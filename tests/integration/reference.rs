//! `docs/reference/sql.md`, generated from the functions, views and tables of the schemas `rollcall` and `realtime`.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use testkit::{
    harness::TestDatabase,
    pages::{assert_current, cell, files},
};

const PATH: &str = "docs/reference/sql.md";
const INTRODUCTION: &str = "\
# SQL functions, views and tables

<!-- Generated from the database. Change the comments in supabase/schemas, then run:
     UPDATE_DOCS=1 cargo test --test integration -- reference:: -->

Everything in the schema `rollcall`, and the functions in `realtime` that Rollcall provides where Supabase does not. \
[SQL](../sql.md) shows how they are used. *Who* says which roles may execute a function or select from a table; the owner \
of the schema may do everything. Row-level security applies to every role except the owner and `service_role`. \
`rollcall_internal` is not an interface and may change with every version.
";

/// Functions with arguments, result, roles and comment. Those of triggers, and of extensions, cannot be called.
const FUNCTIONS: &str = "
    select n.nspname || '.' || p.proname,
           pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
           (select string_agg(r.rolname, ', ' order by r.rolname) from pg_roles r
             where r.rolname in ('anon', 'authenticated', 'service_role') and has_function_privilege(r.oid, p.oid, 'execute')),
           coalesce(obj_description(p.oid, 'pg_proc'), '')
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = any ($1) and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
       and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
     order by 1, 2";
const RELATIONS: &str = "
    select n.nspname || '.' || c.relname, case c.relkind when 'v' then 'view' else 'table' end,
           (select string_agg(r.rolname, ', ' order by r.rolname) from pg_roles r
             where r.rolname in ('anon', 'authenticated', 'service_role')
               and (has_table_privilege(r.oid, c.oid, 'select') or has_any_column_privilege(r.oid, c.oid, 'select'))),
           coalesce(obj_description(c.oid, 'pg_class'), ''),
           (select string_agg('`' || a.attname || '`', ', ' order by a.attnum) from pg_attribute a
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'rollcall' and c.relkind in ('r', 'p', 'v') and not c.relispartition
     order by 1";

/// Types and tables are named without their schema where it is `rollcall`.
fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", cell(text).replace("rollcall.", "")) }
}

#[testkit::test]
async fn sql_page_is_current(db: Arc<TestDatabase>) {
    let mut page = INTRODUCTION.to_owned();
    let mut uncommented = Vec::new();
    for (title, schema) in [("Functions of rollcall", "rollcall"), ("Functions of realtime", "realtime")] {
        let _ = write!(page, "\n## {title}\n\n");
        for row in db.sql.query(FUNCTIONS, &[&vec![schema]]).await.expect("functions") {
            let (name, arguments, result, roles, comment): (String, String, String, Option<String>, String) =
                (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
            if comment.split_whitespace().count() < 4 {
                uncommented.push(name.clone());
            }
            let roles = roles.unwrap_or_else(|| "owner only".to_owned());
            let _ = write!(page, "### {name}\n\n{}\n\n", comment.trim());
            if !arguments.is_empty() {
                let _ = writeln!(page, "- Arguments: {}", code(&arguments));
            }
            let _ = write!(page, "- Returns: {}\n- Who: {roles}\n\n", code(&result));
        }
    }
    page.push_str(
        "## Views and tables\n\n| name | kind | who | meaning | columns |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in db.sql.query(RELATIONS, &[]).await.expect("relations") {
        let (name, kind, roles, comment, columns): (String, String, Option<String>, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        if comment.split_whitespace().count() < 4 {
            uncommented.push(name.clone());
        }
        let roles = roles.unwrap_or_else(|| "owner only".to_owned());
        let _ = writeln!(page, "| `{name}` | {kind} | {roles} | {} | {columns} |", cell(&comment));
    }
    assert!(uncommented.is_empty(), "without a comment of four words: {uncommented:?}");
    assert_current(PATH, &page, "--test integration -- reference::");
}

/// Every function, table and view that a page names in SQL or in its text exists.
#[testkit::test]
async fn pages_name_existing_sql(db: Arc<TestDatabase>) {
    let names = "select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                  where n.nspname in ('rollcall', 'realtime', 'rollcall_internal')
                 union select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where n.nspname in ('rollcall', 'realtime', 'rollcall_internal')
                 union select n.nspname || '.' || t.typname from pg_type t join pg_namespace n on n.oid = t.typnamespace
                  where n.nspname in ('rollcall', 'realtime', 'rollcall_internal')";
    let known: BTreeSet<String> =
        db.sql.query(names, &[]).await.expect("names").iter().map(|row| row.get(0)).collect();
    let mut unknown = BTreeSet::new();
    let mut named = 0;
    for path in files("docs", "md") {
        let text = std::fs::read_to_string(&path).expect("a page");
        for (at, _) in text.match_indices("rollcall.").chain(text.match_indices("realtime.")) {
            let is_inside = text[..at].ends_with(|c: char| c.is_alphanumeric() || "_./-@:".contains(c));
            let name: String =
                text[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || *c == '.').collect();
            let next = text[at + name.len()..].chars().next();
            // Files, hosts and patterns are not SQL.
            let is_other = next.is_some_and(|c| c.is_alphanumeric() || "*-/<…".contains(c))
                || [
                    "rollcall.json",
                    "rollcall.service",
                    "rollcall.env",
                    "rollcall.example.com",
                    "realtime.md",
                    "rollcall.fish",
                ]
                .iter()
                .any(|file| name.trim_end_matches('.') == *file);
            if is_inside || is_other {
                continue;
            }
            let mut parts = name.split('.');
            let (schema, object) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if object.is_empty() {
                continue;
            }
            named += 1;
            let name = format!("{schema}.{object}");
            if !known.contains(&name) {
                unknown.insert(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(named > 60, "{named}");
    assert!(unknown.is_empty(), "{unknown:#?}");
}
