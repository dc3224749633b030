-- Stores the predictions of a warm-up. $1 user uuid, $2 device text, $3 topics uuid[], $4 entities uuid[]. Returns nothing.
update rollcall.presence_devices d set predicted_topic_ids = $3, predicted_entity_ids = $4
where d.user_id = $1 and d.device_id = $2 and (d.predicted_topic_ids, d.predicted_entity_ids) is distinct from ($3, $4)
