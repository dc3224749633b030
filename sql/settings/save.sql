-- Sets the caller's settings. A null keeps what is set, or with $6 goes back to the default.
-- $1 visibility presence_visibility, $2 show last seen, $3 activity, $4 custom status, $5 typing bool, $6 reset bool.
-- Returns the settings as they are then, one row. Sockets of watchers follow by triggers.
insert into rollcall.presence_settings as s
  (user_id, visibility, show_last_seen, show_activity, show_custom_status, show_typing)
values (auth.uid(), coalesce($1::rollcall.presence_visibility, 'contacts'),
  coalesce($2::boolean, true), coalesce($3::boolean, true), coalesce($4::boolean, true), coalesce($5::boolean, true))
on conflict (user_id) do update set
  visibility = case when $6 then excluded.visibility else coalesce($1, s.visibility) end,
  show_last_seen = case when $6 then excluded.show_last_seen else coalesce($2, s.show_last_seen) end,
  show_activity = case when $6 then excluded.show_activity else coalesce($3, s.show_activity) end,
  show_custom_status = case when $6 then excluded.show_custom_status else coalesce($4, s.show_custom_status) end,
  show_typing = case when $6 then excluded.show_typing else coalesce($5, s.show_typing) end
returning visibility::text, show_last_seen, show_activity, show_custom_status, show_typing
