-- The subjects of the user's 200 bundles, in the format of rollcall.wanted_bundles. $1 user uuid. Returns one row.
select jsonb_build_array(jsonb_build_object('type', 'identity_core'), jsonb_build_object('type', 'global_prefs'),
    jsonb_build_object('type', 'conversation', 'ref', md5('c1')::uuid))
  || (select jsonb_agg(jsonb_build_object('type', 'topic', 'ref', t.id)) from rollcall.topic_profiles t where t.user_id = $1)
  || (select jsonb_agg(jsonb_build_object('type', 'entity', 'ref', e.id)) from rollcall.entity_profiles e where e.user_id = $1)
