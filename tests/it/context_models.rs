//! What a model adds to background work where there is one, and that the work is done all the same where it fails.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Case,
    model::{Model, Mood},
    world::{Node, User, World},
};

pub fn cases() -> Vec<Case> {
    crate::cases![
        a_long_conversation_is_told_by_the_model_and_where_it_fails_by_what_was_said,
        a_models_hints_help_the_roll_up_and_what_it_makes_up_is_not_believed,
    ]
}

async fn with_model(world: &World, model: &Model) -> Arc<Node> {
    let url = model.url();
    world
        .node_with(|settings| {
            settings.llm_base_url = Some(url);
            settings.llm_model = Some("default-model".into());
            settings.llm_timeout = Some("1s".into());
            settings.context_requests_per_minute = Some("0".into());
        })
        .await
}

/// What the conversation's bundle says, once it is ready.
async fn told(world: &World, conversation: Uuid) -> String {
    const READY: &str = "select count(*) = 1 from public.context_bundles b
        where b.conversation_id = $c and rollcall.is_fresh(b)";
    world.until("the bundle is ready", READY, &[("c", conversation)]).await;
    const CONTENT: &str = "select content from public.context_bundles where conversation_id = $1";
    world.row(CONTENT, &[&conversation]).await.get(0)
}

async fn a_long_conversation_is_told_by_the_model_and_where_it_fails_by_what_was_said(world: Arc<World>) {
    let model = Model::start().await;
    let (user, conversation) = (User::new(), Uuid::new_v4());
    world
        .run(
            "insert into public.conversations (id, title, created_by) values ($c, 'The table', $u);
             insert into public.conversation_participants (conversation_id, user_id) values ($c, $u);
             insert into public.presence_devices (user_id, device_id, active_conversation_id, local_time) values ($u, 'web', $c, '14:30');
             insert into public.messages (conversation_id, user_id, content)
               select $c, $u, 'We spoke of the table, part ' || n || '.' from generate_series(1, 7) n;
             insert into public.messages (conversation_id, user_id, content) values
               ($c, $u, 'We decided to build the table from oak.'), ($c, $u, 'Which varnish should we take?')",
            &[("u", user.id), ("c", conversation)],
        )
        .await;
    model.will([Mood::Says("### What happened\n- A table is planned.\n\n### Decisions\n- Oak.\n\n### Open questions\n- The varnish."); 4]);
    let node = with_model(&world, &model).await;
    let warm_up = format!("/api/v1/context/warmup/{}", user.id);
    node.post(&user, &warm_up, json!({})).await.expect(200);
    let text = told(&world, conversation).await;
    assert!(
        text.contains("A table is planned.") && text.contains("### Open questions\n- The varnish."),
        "{text}"
    );
    model.recovers();
    let request = model.requests()[0].to_string();
    assert!(
        request.contains("decided to build the table from oak"),
        "it was asked about what was said: {request}"
    );

    // Rate-limited, broken, silent, ill: the bundle is made all the same, of what was said and of nothing else.
    for mood in [Mood::Status(429), Mood::Nonsense, Mood::Silent, Mood::Status(500)] {
        model.will([mood; 12]);
        world
            .run(
                "insert into public.messages (conversation_id, user_id, content) values ($c, $u, 'One more thing.')",
                &[("u", user.id), ("c", conversation)],
            )
            .await;
        let text = told(&world, conversation).await;
        for said in [
            "### Decisions\n- We decided to build the table from oak.",
            "### Open questions\n- Which varnish should we take?",
        ] {
            assert!(text.contains(said), "{mood:?}: {text}");
        }
        assert!(!text.contains("A table is planned."), "{mood:?}: {text}");
        model.recovers();
    }
}

/// Ten units about one thing, with two names.
async fn somebody_with_units(world: &World) -> User {
    let user = User::new();
    world
        .run(
            "insert into public.atomic_chat_units (user_id, content, created_at)
             select $u, case when n % 2 = 0 then 'The greenhouse heating failed again at Verdant, said Mara Lind.'
               else 'I asked Mara Lind about the greenhouse heating at Verdant.' end, now() - n * interval '1 hour'
             from generate_series(1, 10) n",
            &[("u", user.id)],
        )
        .await;
    user
}

async fn a_models_hints_help_the_roll_up_and_what_it_makes_up_is_not_believed(world: Arc<World>) {
    let model = Model::start().await;
    let node = with_model(&world, &model).await;
    let roll_up = async |user: &User| -> Value {
        let path = format!("/api/v1/context/rollup/{}", user.id);
        node.post(user, &path, json!({})).await.expect(200)["data"].clone()
    };
    const ENTITIES: &str = "select coalesce(array_agg(name || ' ' || entity_type order by name), '{}')
        from public.entity_profiles where user_id = $1";
    let hinted = somebody_with_units(&world).await;
    model.will([Mood::Says(
        "Here: {\"topics\": [\"greenhouse heating\", \"quantum gravity\"], \"entities\": [
          {\"name\": \"Verdant\", \"type\": \"project\"}, {\"name\": \"Mara Lind\", \"type\": \"person\"},
          {\"name\": \"Napoleon\", \"type\": \"person\"}]}",
    )]);
    assert_eq!(roll_up(&hinted).await["acusProcessed"], json!(10));
    let entities: Vec<String> = world.row(ENTITIES, &[&hinted.id]).await.get(0);
    assert_eq!(
        entities,
        ["Mara Lind person", "Verdant project"],
        "its type is the model's; Napoleon is in no unit"
    );
    let made_up =
        "select count(*) filter (where label ~* 'gravity'), count(*) filter (where label ~* 'greenhouse')
        from public.topic_profiles where user_id = $1";
    let topics = world.row(made_up, &[&hinted.id]).await;
    assert_eq!((topics.get::<_, i64>(0), topics.get::<_, i64>(1) > 0), (0, true));

    for mood in [Mood::Nonsense, Mood::Status(429), Mood::Silent, Mood::Says("I would rather not.")] {
        let user = somebody_with_units(&world).await;
        model.will([mood; 3]);
        let done = roll_up(&user).await;
        assert_eq!(done["acusProcessed"], json!(10), "{mood:?}: {done}");
        let entities: Vec<String> = world.row(ENTITIES, &[&user.id]).await.get(0);
        assert!(entities.iter().any(|name| name.starts_with("Mara Lind ")), "{mood:?}: {entities:?}");
        model.recovers();
    }
}
