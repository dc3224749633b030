//! Search in units and memories: which rows are found among many, by words and by meaning.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use testkit::{
    cluster::connect,
    harness::{TestDatabase, User},
};
use tokio_postgres::Client;
use uuid::Uuid;

async fn connect_as(db: &TestDatabase, user: &User) -> Client {
    let sql = db.connect().await;
    let claims = json!({ "sub": user.id, "role": "authenticated" }).to_string();
    sql.execute(
        "select set_config('role', 'authenticated', false), set_config('request.jwt.claims', $1, false)",
        &[&claims],
    )
    .await
    .expect("acts");
    sql
}

/// Texts of the rows that match, best first, with their scores.
async fn matches(sql: &Client, kind: &str, text: &str) -> Vec<(String, f32)> {
    let select = "select coalesce(u.content, e.content), m.score
        from rollcall.match_words($1, $2, 10) with ordinality m (id, score, n)
        left join rollcall.atomic_chat_units u on u.id = m.id left join rollcall.memories e on e.id = m.id
        order by m.n";
    let rows = sql.query(select, &[&kind, &text]).await.expect("answers");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Words of a question may each be in thousands of rows. The rows with most of them are found wherever they are, and of
/// equal rows the newest.
#[testkit::test]
async fn the_best_rows_are_found_among_thousands_with_the_same_words(db: Arc<TestDatabase>) {
    let user = User::new();
    for (table, kind) in [("atomic_chat_units", "unit"), ("memories", "memory")] {
        let noise = format!(
            "insert into rollcall.{table} (user_id, content, created_at)
               select $u, w.text || ' number ' || n, now() - n * interval '1 hour'
               from generate_series(1, 1500) n,
                 (values ('Apollo plan'), ('Paid in kroner'), ('Monthly bill')) w (text);
             insert into rollcall.{table} (user_id, content, created_at)
               select $u, 'Other user ' || n, now() from generate_series(1, 10) n;
             insert into rollcall.{table} (user_id, content, created_at) values
               ($u, 'Apollo costs 400 kroner.', now() - interval '3 years'),
               ($u, 'The monthly fee of Apollo, in kroner.', now() - interval '2 years'),
               ($u, 'A monthly gamelan class.', now() - interval '4 years')"
        );
        db.execute(&noise, &[("u", user.id)]).await;
        let sql = connect_as(&db, &user).await;
        let found = matches(&sql, kind, "Apollo kroner?").await;
        let both = ["The monthly fee of Apollo, in kroner.", "Apollo costs 400 kroner."];
        assert_eq!([&found[0].0, &found[1].0], both, "{kind}: {found:?}");
        assert!(found[1].1 > 0.5 && found[2].1 < 0.35, "{kind}: {found:?}");
        let three = matches(&sql, kind, "monthly Apollo kroner").await;
        assert_eq!(three[0].0, both[0], "{kind}: {three:?}");
        let rare = matches(&sql, kind, "monthly gamelan").await;
        assert_eq!(rare[0].0, "A monthly gamelan class.", "{kind}: {rare:?}");
        // Of rows with one frequent word, the newest.
        let newest = matches(&sql, kind, "kroner").await;
        assert_eq!(newest[0].0, "Paid in kroner number 1", "{kind}: {newest:?}");
        assert_eq!(newest.len(), 10, "{kind}");
    }
}

/// The second was written after the search was tuned on the first.
const CORPORA: [&str; 2] =
    [include_str!("../fixtures/search_languages.txt"), include_str!("../fixtures/search_languages_2.txt")];

/// Texts by language, each with the question that it answers, if there is one.
fn texts_by_language(corpus: &'static str) -> BTreeMap<&'static str, Vec<(&'static str, &'static str)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let lines = corpus.lines();
    for line in lines.filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [language, text, question] = fields[..] else { panic!("three fields: {line}") };
        all.entry(language).or_default().push((text, question));
    }
    all
}

/// The baseline: texts by the cosine of their sets of three characters.
fn trigrams(text: &str) -> HashSet<[char; 3]> {
    let padded: Vec<char> = format!(" {} ", text.to_lowercase()).chars().collect();
    padded.windows(3).map(|three| [three[0], three[1], three[2]]).collect()
}

fn trigram_cosine(one: &str, other: &str) -> f64 {
    let (one, other) = (trigrams(one), trigrams(other));
    one.intersection(&other).count() as f64 / ((one.len() * other.len()) as f64).sqrt()
}

/// Texts that PostgreSQL's full-text search with a configuration finds first.
async fn found_by_full_text(
    db: &TestDatabase,
    user: &User,
    configuration: &str,
    question: &str,
) -> Option<String> {
    let select = "select u.content from rollcall.atomic_chat_units u, (
            select string_agg(quote_literal(l.lexeme), ' | ')::tsquery as query
            from unnest(to_tsvector($2::text::regconfig, $3)) l
        ) q
        where u.user_id = $1 and to_tsvector($2::text::regconfig, u.content) @@ q.query
        order by ts_rank(to_tsvector($2::text::regconfig, u.content), q.query) desc, u.content limit 1";
    let rows = db.sql.query(select, &[&user.id, &configuration, &question]).await.expect("answers");
    rows.first().map(|row| row.get(0))
}

/// Thirteen languages in eight scripts and over 200 questions, without embeddings: in each language at least as many
/// questions find their text first as by a search by character trigrams.
#[testkit::test]
async fn search_by_words_is_as_good_as_trigrams_in_every_language(db: Arc<TestDatabase>) {
    let (mut languages, mut all_questions) = (HashSet::new(), 0);
    for corpus in CORPORA {
        println!("| language | questions | found first | trigrams | full text, english | simple |");
        println!("| --- | ---: | ---: | ---: | ---: | ---: |");
        for (language, texts) in texts_by_language(corpus) {
            let (user, other) = (User::new(), User::new());
            for (text, _) in &texts {
                for owner in [&user, &other] {
                    let insert = "insert into rollcall.atomic_chat_units (user_id, content) values ($1, $2)";
                    db.sql.execute(insert, &[&owner.id, text]).await.expect("inserts");
                }
                let insert = "insert into rollcall.memories (user_id, content) values ($1, $2)";
                db.sql.execute(insert, &[&user.id, text]).await.expect("inserts");
            }
            let sql = connect_as(&db, &user).await;
            let (mut questions, mut found, mut by_trigrams, mut english, mut simple) = (0, 0, 0, 0, 0);
            for (text, question) in texts.iter().filter(|(_, question)| !question.is_empty()) {
                questions += 1;
                let best = matches(&sql, "unit", question).await;
                if best.first().is_some_and(|(first, _)| first == text) {
                    found += 1;
                } else {
                    println!("{language}: {question} found {:?}", best.first());
                }
                let memories = matches(&sql, "memory", question).await;
                assert_eq!(
                    best.first().map(|it| &it.0),
                    memories.first().map(|it| &it.0),
                    "units and memories"
                );
                assert!(best.len() <= texts.len(), "no rows of other users: {best:?}");
                let cosine = |it: &&(&str, &str)| (trigram_cosine(it.0, question) * 1e9) as u64;
                by_trigrams +=
                    usize::from(texts.iter().max_by_key(cosine).is_some_and(|best| best.0 == *text));
                let is_found = |it: Option<String>| usize::from(it.as_deref() == Some(*text));
                english += is_found(found_by_full_text(&db, &user, "english", question).await);
                simple += is_found(found_by_full_text(&db, &user, "simple", question).await);
            }
            println!("| {language} | {questions} | {found} | {by_trigrams} | {english} | {simple} |");
            assert!(questions >= 8 && found >= by_trigrams && found * 10 >= questions * 9, "{language}");
            languages.insert(language);
            all_questions += questions;
        }
    }
    assert!(languages.len() >= 8 && all_questions >= 200, "{all_questions} questions, {languages:?}");
}

/// A vector of a text without a model: how often each trigram occurs, in 256 places.
fn hashed_trigrams(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; 256];
    for gram in trigrams(text) {
        let hash = gram.iter().fold(5381_usize, |hash, c| hash.wrapping_mul(33) ^ *c as usize);
        vector[hash % 256] += 1.0;
    }
    vector
}

/// With pgvector: the merged search is at least as good as the nearest vectors in every language. The vectors are coarse
/// on purpose, so that words have something to add; an embedding of a model is not available to tests.
#[testkit::test]
async fn merged_search_is_as_good_as_cosine_in_every_language(db: Arc<TestDatabase>) {
    let admin = connect(&db.admin_url()).await;
    const AVAILABLE: &str = "select exists (select from pg_available_extensions where name = 'vector')";
    if !admin.query_one(AVAILABLE, &[]).await.expect("answers").get::<_, bool>(0) {
        return;
    }
    admin.batch_execute("create extension vector with schema public").await.expect("can be created");
    assert!(
        db.query_row("select rollcall_internal.prepare_vectors('test', 256)", &[]).await.get::<_, bool>(0)
    );
    println!("| language | questions | merged, first | cosine, first | merged, top 10 | cosine, top 10 |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (at, corpus) in CORPORA.into_iter().enumerate() {
        for (language, texts) in texts_by_language(corpus) {
            let user = User::new();
            for (text, _) in &texts {
                let id = Uuid::new_v4();
                let insert =
                    "insert into rollcall.atomic_chat_units (id, user_id, content) values ($1, $2, $3)";
                db.sql.execute(insert, &[&id, &user.id, text]).await.expect("inserts");
                let set =
                    "update rollcall_internal.vectors set vector = $2::real[]::public.vector where id = $1";
                db.sql.execute(set, &[&id, &hashed_trigrams(text)]).await.expect("stores");
            }
            let sql = connect_as(&db, &user).await;
            let mut counts = [0; 5];
            for (text, question) in texts.iter().filter(|(_, question)| !question.is_empty()) {
                let vector = format!("{:?}", hashed_trigrams(question));
                let merged =
                    "select found ->> 'content' from rollcall.search($1, $2, '{\"kind\": \"unit\"}', 10)";
                let cosine = "select u.content from rollcall.match_embeddings('unit', $1, 10) m
                    join rollcall.atomic_chat_units u on u.id = m.id order by m.score desc";
                let by_both = sql.query(merged, &[&question, &vector]).await.expect("answers");
                let by_cosine = sql.query(cosine, &[&vector]).await.expect("answers");
                let is_first = |rows: &[tokio_postgres::Row]| {
                    rows.first().is_some_and(|row| row.get::<_, &str>(0) == *text)
                };
                let is_among =
                    |rows: &[tokio_postgres::Row]| rows.iter().any(|row| row.get::<_, &str>(0) == *text);
                let found = [
                    true,
                    is_first(&by_both),
                    is_first(&by_cosine),
                    is_among(&by_both),
                    is_among(&by_cosine),
                ];
                for (count, is_found) in counts.iter_mut().zip(found) {
                    *count += usize::from(is_found);
                }
            }
            let [questions, merged, cosine, merged_ten, cosine_ten] = counts;
            println!("| {language} {at} | {questions} | {merged} | {cosine} | {merged_ten} | {cosine_ten} |");
            assert!(merged >= cosine && merged_ten >= cosine_ten, "{language}");
        }
    }
}

/// With pgvector; `tests/run meaning` runs it.
#[testkit::test]
async fn search_by_meaning_parses_its_vector_once_and_uses_an_index(db: Arc<TestDatabase>) {
    const DIMENSIONS: usize = 512;
    let admin = connect(&db.admin_url()).await;
    const AVAILABLE: &str = "select exists (select from pg_available_extensions where name = 'vector')";
    if !admin.query_one(AVAILABLE, &[]).await.expect("answers").get::<_, bool>(0) {
        return;
    }
    admin.batch_execute("create extension vector with schema public").await.expect("can be created");
    let prepare = format!("select rollcall_internal.prepare_vectors('test', {DIMENSIONS})");
    assert!(db.query_row(&prepare, &[]).await.get::<_, bool>(0));
    let index = "select count(*) from pg_indexes where tablename = 'vectors' and indexdef like '%hnsw%'";
    assert_eq!(db.query_row(index, &[]).await.get::<_, i64>(0), 2, "one for each kind");

    // 3,000 rows of one user are compared one by one, 4,500 of the other by the index.
    let (small, large) = (User::new(), User::new());
    let fill = "insert into rollcall_internal.vectors (kind, id, user_id, vector)
        select 'unit', gen_random_uuid(), $1,
          (select array_agg(sin(g * (i % 17 + 1)) + random() / 10) from generate_series(1, $3) i where g is not null)
            ::real[]::public.vector
        from generate_series(1, $2::int) g";
    let dimensions = DIMENSIONS as i32;
    db.sql.execute(fill, &[&small.id, &3_000_i32, &dimensions]).await.expect("fills");
    db.sql.execute(fill, &[&large.id, &4_500_i32, &dimensions]).await.expect("fills");
    for user in [small, large] {
        let own = "select id, vector::text from rollcall_internal.vectors where user_id = $1 limit 1";
        let row = db.query_row(own, &[&user.id]).await;
        let (id, vector): (Uuid, String) = (row.get(0), row.get(1));
        let exact = "select array(select v.id from rollcall_internal.vectors v where v.user_id = $1
            order by v.vector operator(public.<=>) $2::text::public.vector, v.id limit 10)";
        let nearest: Vec<Uuid> = db.query_row(exact, &[&user.id, &vector]).await.get(0);
        let sql = connect_as(&db, &user).await;
        let mut fastest = Duration::MAX;
        let mut found: Vec<Uuid> = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            let rows = sql
                .query("select id from rollcall.match_embeddings('unit', $1, 10)", &[&vector])
                .await
                .expect("answers");
            fastest = fastest.min(start.elapsed());
            found = rows.iter().map(|row| row.get(0)).collect();
        }
        assert_eq!((found[0], found.len()), (id, 10));
        let recalled = found.iter().filter(|id| nearest.contains(id)).count();
        assert!(recalled >= 8, "{recalled} of the 10 nearest");
        // Parsing 3,000 vectors takes over 150 ms, comparing them some milliseconds.
        assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    }
}
