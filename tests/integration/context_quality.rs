//! Quality of roll-up and retrieval on hand-labelled units, compared with the reference method: a fixed list of
//! technology words for topics, a regular expression on lowercased text for entities, and random vectors.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use testkit::harness::{TestDatabase, User};
use uuid::Uuid;

struct Unit {
    id: Uuid,
    conversation: String,
    topics: BTreeSet<String>,
    entities: BTreeSet<String>,
    tags: BTreeSet<String>,
    text: String,
}

/// Units and questions by user.
fn corpus() -> BTreeMap<String, (Vec<Unit>, Vec<Unit>)> {
    let mut all: BTreeMap<String, (Vec<Unit>, Vec<Unit>)> = BTreeMap::new();
    let lines = include_str!("../fixtures/context_corpus.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [user, conversation, topics, entities, tags, text] = fields[..] else {
            panic!("six fields: {line}")
        };
        let set = |text: &str| {
            text.split(';').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
        };
        let unit = Unit {
            id: Uuid::new_v4(),
            conversation: conversation.to_owned(),
            topics: set(topics),
            entities: set(entities),
            tags: set(tags),
            text: text.to_owned(),
        };
        let (units, questions) = all.entry(user.to_owned()).or_default();
        if conversation == "?" { questions.push(unit) } else { units.push(unit) }
    }
    all
}

/// Counts for precision and recall.
#[derive(Default, Clone, Copy)]
struct Score {
    correct: usize,
    found: usize,
    expected: usize,
}

impl Score {
    fn add<T: Eq + std::hash::Hash>(&mut self, found: &HashSet<T>, there: &HashSet<T>) {
        self.correct += found.intersection(there).count();
        self.found += found.len();
        self.expected += there.len();
    }

    fn precision(self) -> f64 {
        if self.found == 0 { 0.0 } else { self.correct as f64 / self.found as f64 }
    }

    fn recall(self) -> f64 {
        if self.expected == 0 { 0.0 } else { self.correct as f64 / self.expected as f64 }
    }

    fn table_row(self, what: &str) -> String {
        format!(
            "| {what} | {:.2} | {:.2} | {} of {} found, {} expected |",
            self.precision(),
            self.recall(),
            self.correct,
            self.found,
            self.expected
        )
    }
}

/// Topics of the reference method: the first of 21 words that a unit contains.
fn reference_topic(text: &str) -> Option<&'static str> {
    const WORDS: [&str; 21] = [
        "javascript",
        "typescript",
        "python",
        "rust",
        "react",
        "node",
        "database",
        "sql",
        "api",
        "docker",
        "kubernetes",
        "aws",
        "machine learning",
        "ai",
        "frontend",
        "backend",
        "testing",
        "security",
        "performance",
        "algorithm",
        "git",
    ];
    let lower = text.to_lowercase();
    WORDS.into_iter().find(|word| lower.contains(word))
}

/// Prompts have the ten best units of at least this score.
const MIN_PROMPT_SCORE: f32 = 0.35;

#[testkit::test]
async fn extraction_quality_on_labelled_units(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("CONTEXT_REQUESTS_PER_MINUTE", "0")).await;
    let mut random = StdRng::seed_from_u64(1);
    let [mut topics, mut topics_original, mut entities, mut entities_original] = [Score::default(); 4];
    let [mut retrieval, mut retrieval_original, mut recall_at_ten, mut prompt_lines] = [Score::default(); 4];
    let mut noise_topics = 0;
    for (_, (units, questions)) in corpus() {
        let user = User::new();
        save_units(&db, &user, &units).await;
        for _ in 0..20 {
            let done = node
                .post(&user, &format!("/api/v1/context/rollup/{}", user.id), json!({"limit": 50}))
                .await
                .expect_status(200);
            if done["data"]["acusProcessed"] == json!(0) {
                break;
            }
        }
        noise_topics += score_topics(&db, &user, &units, &mut topics).await;
        score_entities(&db, &user, &units, &mut entities).await;
        // The words of the reference method are not labels. Each word counts as the label that most of its units have.
        let mut by_word: BTreeMap<&str, HashSet<Uuid>> = BTreeMap::new();
        for unit in &units {
            by_word.entry(reference_topic(&unit.text).unwrap_or_default()).or_default().insert(unit.id);
        }
        by_word.remove("");
        let found = by_word
            .into_iter()
            .filter(|(_, units)| units.len() >= 5)
            .map(|(word, units)| (word.to_owned(), units));
        add_by_best_label(&units, &found.collect(), &mut topics_original, |unit| &unit.topics);
        // Lowercased text has no capitals, so no entity is found.
        add_by_best_label(&units, &Vec::new(), &mut entities_original, |unit| &unit.entities);

        for question in &questions {
            let relevant: HashSet<Uuid> = units
                .iter()
                .filter(|unit| {
                    unit.topics == question.topics && unit.tags.intersection(&question.tags).count() > 0
                })
                .map(|unit| unit.id)
                .collect();
            let scored = retrieve(&db, &user, &question.text).await;
            let ranked: Vec<Uuid> = scored.iter().map(|(id, _)| *id).collect();
            let shown = scored.iter().filter(|(_, score)| *score >= MIN_PROMPT_SCORE).take(10);
            prompt_lines.add(&shown.map(|(id, _)| *id).collect(), &relevant);
            let found: HashSet<Uuid> = ranked.iter().take(relevant.len()).copied().collect();
            retrieval.add(&found, &relevant);
            recall_at_ten.add(&ranked.iter().take(10).copied().collect(), &relevant);
            // A random vector is equally near to all units.
            let found = units.choose_multiple(&mut random, relevant.len()).map(|unit| unit.id).collect();
            retrieval_original.add(&found, &relevant);
        }
    }
    println!("| what | precision | recall | |\n| --- | --- | --- | --- |");
    println!("{}", topics.table_row("units of topics, roll-up"));
    println!("{}", topics_original.table_row("units of topics, reference method"));
    println!("{}", entities.table_row("units of entities, roll-up"));
    println!("{}", entities_original.table_row("units of entities, reference method"));
    println!("{}", retrieval.table_row("relevant units at as many as there are, retrieval"));
    println!("{}", retrieval_original.table_row("the same, random vectors"));
    println!("{}", recall_at_ten.table_row("relevant units among ten, retrieval"));
    println!("{}", prompt_lines.table_row("relevant units among the lines of a prompt"));
    println!("{noise_topics} topics without a label");
    for (score, original, least) in [
        (topics, topics_original, 0.7),
        (entities, entities_original, 0.6),
        (retrieval, retrieval_original, 0.5),
    ] {
        assert!(score.precision() >= least && score.recall() >= least, "worse than before");
        assert!(score.precision() > original.precision() && score.recall() > original.recall());
    }
}

async fn save_units(db: &TestDatabase, user: &User, units: &[Unit]) {
    let mut conversations: BTreeMap<&str, Uuid> = BTreeMap::new();
    for (at, unit) in units.iter().enumerate() {
        let conversation = *conversations.entry(&unit.conversation).or_insert_with(Uuid::new_v4);
        let statement = "with c as (insert into rollcall.conversations (id, created_by) values ($3, $2) on conflict do nothing),
              p as (insert into rollcall.conversation_participants (conversation_id, user_id) values ($3, $2) on conflict do nothing)
            insert into rollcall.atomic_chat_units (id, user_id, conversation_id, content, created_at)
            values ($1, $2, $3, $4, now() - interval '20 days' + $5 * interval '1 hour')";
        db.sql
            .execute(statement, &[&unit.id, &user.id, &conversation, &unit.text, &(at as f64)])
            .await
            .expect("a unit");
    }
}

/// Scores found groups by the label that most of their units have. The other units are false positives, and labels
/// without a group are missed. Returns the number of found units without a label.
fn add_by_best_label(
    units: &[Unit],
    found: &Vec<(String, HashSet<Uuid>)>,
    score: &mut Score,
    labels: fn(&Unit) -> &BTreeSet<String>,
) -> usize {
    let all: BTreeSet<&String> = units.iter().flat_map(labels).collect();
    let of = |label: &String| -> HashSet<Uuid> {
        units.iter().filter(|unit| labels(unit).contains(label)).map(|unit| unit.id).collect()
    };
    let mut by_label: BTreeMap<&String, HashSet<Uuid>> = BTreeMap::new();
    let mut unlabelled = 0;
    for (_, members) in found {
        let best = all.iter().max_by_key(|label| of(label).intersection(members).count()).copied();
        match best.filter(|label| of(label).intersection(members).count() * 2 > members.len()) {
            Some(label) => by_label.entry(label).or_default().extend(members),
            None => {
                unlabelled += 1;
                score.found += members.len();
            }
        }
    }
    for label in all {
        score.add(by_label.get(label).unwrap_or(&HashSet::new()), &of(label));
    }
    unlabelled
}

async fn score_topics(db: &TestDatabase, user: &User, units: &[Unit], score: &mut Score) -> usize {
    let rows = db
        .sql
        .query(
            "select t.label || ' ' || t.aliases::text, array_agg(l.unit_id) from rollcall.topic_profiles t
         join rollcall.topic_units l on l.topic_id = t.id where t.user_id = $1 group by t.id",
            &[&user.id],
        )
        .await
        .expect("topics");
    let found: Vec<(String, HashSet<Uuid>)> =
        rows.iter().map(|row| (row.get(0), row.get::<_, Vec<Uuid>>(1).into_iter().collect())).collect();
    for (label, members) in &found {
        println!("topic {label}: {} units", members.len());
    }
    add_by_best_label(units, &found, score, |unit| &unit.topics)
}

async fn score_entities(db: &TestDatabase, user: &User, units: &[Unit], score: &mut Score) {
    let rows = db.sql.query(
        "select e.name || ' ' || e.entity_type || ' ' || coalesce(e.relationship, '-') || ' ' || e.aliases::text, array_agg(l.unit_id)
         from rollcall.entity_profiles e join rollcall.entity_units l on l.entity_id = e.id where e.user_id = $1 group by e.id",
        &[&user.id],
    ).await.expect("entities");
    let found: Vec<(String, HashSet<Uuid>)> =
        rows.iter().map(|row| (row.get(0), row.get::<_, Vec<Uuid>>(1).into_iter().collect())).collect();
    for (name, members) in &found {
        println!("entity {name}: {} units", members.len());
    }
    add_by_best_label(units, &found, score, |unit| &unit.entities);
}

/// Returns the units that retrieval finds for a message, best first.
async fn retrieve(db: &TestDatabase, user: &User, message: &str) -> Vec<(Uuid, f32)> {
    let sql = db.connect().await;
    let claims = json!({"sub": user.id, "role": "authenticated"}).to_string();
    sql.execute(
        "select set_config('role', 'authenticated', false), set_config('request.jwt.claims', $1, false)",
        &[&claims],
    )
    .await
    .expect("acts");
    let rows = sql
        .query(
            "select id, score from rollcall.match_words('unit', $1, 40) order by score desc, id",
            &[&message],
        )
        .await
        .expect("units");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
