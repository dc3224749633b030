-- The caller's settings, or the defaults where none were ever set. Returns one row. Uses presence_settings_pkey.
select
  coalesce(s.visibility, 'contacts')::text as visibility,
  coalesce(s.show_last_seen, true) as show_last_seen,
  coalesce(s.show_activity, true) as show_activity,
  coalesce(s.show_custom_status, true) as show_custom_status,
  coalesce(s.show_typing, true) as show_typing
from (select auth.uid() as id) me
left join rollcall.presence_settings s on s.user_id = me.id
